//! Bodies on their way through: streamed, counted, never collected.

use super::access::Record;
use super::headers;
use super::meter::Meter;
use super::upload::{Fault, Turn, Upload};
use super::upstream::{InFlight, Sender};
use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// Heroku's code for an answer that its app did not end, and what it means.
const CUT_OFF: (&str, &str) = ("H18", "Server Request Interrupted");

/// A request's body, from the client to a target.
pub(super) struct RequestBody {
    incoming: Option<Incoming>,
    ended: bool,
    /// How long its next part is waited for, if nobody else sees to that.
    patience: Option<Duration>,
    over: Option<Pin<Box<Sleep>>>,
    watch: Option<(Arc<Upload>, InFlight)>,
    /// So much of it may still come.
    left: u64,
    /// Of the app that it goes to.
    meter: Option<Arc<Meter>>,
}

impl RequestBody {
    /// The body as it comes from the client.
    pub(super) fn new(incoming: Incoming, patience: Option<Duration>) -> Self {
        let incoming = (!incoming.is_end_stream()).then_some(incoming);
        let (ended, over, watch) = (incoming.is_none(), None, None);
        Self { incoming, ended, patience, over, watch, left: u64::MAX, meter: None }
    }

    /// No body.
    pub(super) fn empty() -> Self {
        let (incoming, ended, patience, over, watch) = (None, true, None, None, None);
        Self { incoming, ended, patience, over, watch, left: u64::MAX, meter: None }
    }

    /// Whether there is no body at all.
    pub(super) fn is_empty(&self) -> bool {
        self.incoming.is_none()
    }

    /// It may have so many bytes, of which none have come so far. Whether its head does
    /// not say that there are more.
    pub(super) fn limit(&mut self, bytes: u64) -> bool {
        self.left = bytes;
        self.incoming.as_ref().is_none_or(|incoming| incoming.size_hint().lower() <= bytes)
    }

    /// Counts a part of it.
    fn counted(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Fault> {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        self.left = self.left.checked_sub(length).ok_or(Fault::TooLarge)?;
        Ok(cleaned(frame))
    }

    /// Counts its bytes as its app's.
    pub(super) fn count(&mut self, meter: &Arc<Meter>) {
        if !self.is_empty() {
            self.meter = Some(Arc::clone(meter));
        }
    }

    /// Counts the body as a part of the request in flight to a target.
    /// `None` if there is no body to wait for.
    pub(super) fn watch(&mut self, in_flight: &InFlight) -> Option<Arc<Upload>> {
        if self.is_empty() {
            return None;
        }
        let upload = Arc::new(Upload::default());
        self.watch = Some((Arc::clone(&upload), in_flight.part()));
        Some(upload)
    }

    fn turn(&self, turn: Turn) {
        if let Some((upload, _)) = &self.watch {
            upload.turn(turn);
        }
    }

    /// Nothing has come from the client; until when may it be so?
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(patience) = self.patience else { return Poll::Pending };
        let over = self.over.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        over.as_mut().poll(context)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(incoming) = self.incoming.as_mut() else {
            return Poll::Ready(None);
        };
        let frame = match Pin::new(incoming).poll_frame(context) {
            Poll::Ready(None) => Ok(None),
            Poll::Ready(Some(Ok(frame))) => self.counted(frame).map(Some),
            Poll::Ready(Some(Err(error))) => Err(Fault::of(&error)),
            Poll::Pending => {
                self.turn(Turn::Client);
                ready!(self.poll_patience(context));
                Err(Fault::Stalled)
            }
        };
        if let (Some(meter), Ok(Some(frame))) = (&self.meter, &frame) {
            meter.received(frame.data_ref().map_or(0, Buf::remaining));
        }
        self.over = None;
        self.ended |= matches!(frame, Ok(None));
        self.turn(match &frame {
            Ok(Some(_)) => Turn::App,
            Ok(None) => Turn::Ended,
            Err(fault) => Turn::Fault(*fault),
        });
        Poll::Ready(frame.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// What follows a body says nothing of where the request comes from.
fn cleaned(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        headers::clean_trailers(trailers);
    }
    frame
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if (self.ended || self.is_end_stream())
            && let Some((upload, _)) = &self.watch
        {
            upload.complete();
        }
    }
}

/// A response's body, to the client.
pub(super) enum ReplyBody {
    /// A page of our own.
    Page(Option<Bytes>),
    /// What a target answers.
    Relay(Box<Relay>),
}

/// A target's answer on its way to the client.
pub(super) struct Relay {
    /// The body.
    pub(super) incoming: Incoming,
    /// The connection that it comes from, to be used again after its end.
    pub(super) sender: Option<Sender>,
    /// The upload of the same request, if it has a body.
    pub(super) upload: Option<Arc<Upload>>,
    /// The request that it answers.
    pub(super) in_flight: InFlight,
    /// What is known of the request at its end.
    pub(super) record: Record,
    /// Whether the end of the body has been seen.
    pub(super) ended: bool,
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let relay = match &mut *self {
            Self::Page(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Relay(relay) => relay,
        };
        let frame = ready!(Pin::new(&mut relay.incoming).poll_frame(context));
        match &frame {
            None => relay.ended = true,
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Buf::remaining);
                relay.record.sent(length as u64);
            }
            Some(Err(_)) => relay.record.code = Some(CUT_OFF),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Page(text) => text.is_none(),
            Self::Relay(relay) => relay.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Page(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Relay(relay) => relay.incoming.size_hint(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let answered = self.ended || self.incoming.is_end_stream();
        let uploaded = self.upload.as_ref().is_none_or(|upload| upload.is_complete());
        if let Some(sender) = self.sender.take()
            && answered
            && uploaded
        {
            self.in_flight.upstream().give_back(sender);
        }
        self.record.finish();
    }
}
