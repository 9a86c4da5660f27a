//! Answers on their way to a client, each until it has taken the last byte, or takes
//! no more of it.

use super::body::ReplyBody;
use super::places::Request;
use super::upstream::{clock, millis};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// An answer's body, while which its request is under way.
pub(super) struct Answer {
    /// The body.
    pub(super) body: ReplyBody,
    /// The request.
    pub(super) _request: Request,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answers of one HTTP/2 connection. They are kept here and not with their streams,
/// because a stream whose client opens no window is never looked at again.
#[derive(Default)]
pub(super) struct Answers {
    under_way: Mutex<HashMap<u64, UnderWay>>,
}

struct UnderWay {
    answer: Answer,
    /// By the [`clock`], since when it is the client's turn; none while it is the app's.
    offered: Option<u64>,
}

/// The stream's side of an answer.
pub(super) struct Part {
    number: u64,
    answers: Arc<Answers>,
}

impl Answers {
    /// One more, of a number of its own.
    pub(super) fn add(self: &Arc<Self>, number: u64, answer: Answer) -> Part {
        self.lock().insert(number, UnderWay { answer, offered: Some(clock()) });
        Part { number, answers: Arc::clone(self) }
    }

    /// Ends answers of which nothing was taken for `limit`, again and again.
    pub(super) async fn watch(&self, limit: Duration) -> Infallible {
        loop {
            tokio::time::sleep(limit / 4).await;
            let now = clock();
            let is_over = |under_way: &UnderWay| {
                under_way.offered.is_some_and(|offered| now - offered.min(now) >= millis(limit))
            };
            let over: Vec<_> = self.lock().extract_if(|_, under_way| is_over(under_way)).collect();
            drop(over);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Part {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut under_way = self.answers.lock();
        let Some(under_way) = under_way.get_mut(&self.number) else {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        };
        let frame = Pin::new(&mut under_way.answer).poll_frame(context);
        under_way.offered = frame.is_ready().then(clock);
        frame.map_err(io::Error::other)
    }

    fn is_end_stream(&self) -> bool {
        self.answers.lock().get(&self.number).is_some_and(|under_way| under_way.answer.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let under_way = self.answers.lock();
        under_way.get(&self.number).map_or_else(SizeHint::default, |under_way| under_way.answer.size_hint())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // First out of the lock: what ends with it takes others.
        let ended = self.answers.lock().remove(&self.number);
        drop(ended);
    }
}
