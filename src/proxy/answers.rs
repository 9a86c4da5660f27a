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
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What the client is offered at a time. That much of each answer has to move within the
/// time it has, however many there are at once.
const PIECE: usize = 16 * 1024;

/// Bytes in a second that a connection is taken to be good for: over a slow one, many
/// answers at once each wait for all others between two pieces of theirs.
const SLOWEST: u64 = 8 * 1024;

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
    /// Of the answer's last frame, what was not offered yet.
    rest: Bytes,
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
        self.lock().insert(number, UnderWay { answer, rest: Bytes::new(), offered: Some(clock()) });
        Part { number, answers: Arc::clone(self) }
    }

    /// Ends answers of which nothing was taken for `limit`, and for as long as a piece of
    /// each other one may take, again and again.
    pub(super) async fn watch(&self, limit: Duration) -> Infallible {
        loop {
            tokio::time::sleep(limit / 4).await;
            let now = clock();
            let mut under_way = self.lock();
            let limit = millis(limit + turn_of_others(under_way.len()));
            let is_over = |under_way: &UnderWay| {
                under_way.offered.is_some_and(|offered| now - offered.min(now) >= limit)
            };
            let over: Vec<_> = under_way.extract_if(|_, under_way| is_over(under_way)).collect();
            drop(under_way);
            drop(over);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an answer may have to wait for the others of its connection.
fn turn_of_others(answers: usize) -> Duration {
    let others = answers.saturating_sub(1) as u64;
    Duration::from_millis(others * PIECE as u64 * 1000 / SLOWEST)
}

impl UnderWay {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.rest.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut self.answer).poll_frame(context)?) else {
                return Poll::Ready(None);
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (answer, rest) = (self.answer.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = answer.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(answer.lower().saturating_add(rest));
        hint
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
        let frame = under_way.poll_frame(context);
        under_way.offered = frame.is_ready().then(clock);
        frame.map_err(io::Error::other)
    }

    fn is_end_stream(&self) -> bool {
        self.answers.lock().get(&self.number).is_some_and(UnderWay::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let under_way = self.answers.lock();
        under_way.get(&self.number).map_or_else(SizeHint::default, UnderWay::size_hint)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // First out of the lock: what ends with it takes others.
        let ended = self.answers.lock().remove(&self.number);
        drop(ended);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::peers::Peers;
    use super::super::places::Places;
    use super::*;
    use http_body_util::BodyExt;
    use std::net::{IpAddr, Ipv4Addr};
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn a_long_frame_is_offered_in_pieces() {
        const LENGTH: usize = 2 * PIECE + 5;
        let seat = Peers::new(1, 1).admit(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        let request = Places::new(1, 1).take(None, seat, CancellationToken::new()).request();
        let text: Vec<u8> = (0..LENGTH).map(|place| u8::try_from(place % 251).unwrap()).collect();
        let body = ReplyBody::Page(Some(text.clone().into()));
        let mut part = Arc::new(Answers::default()).add(0, Answer { body, _request: request });
        let (mut pieces, mut all) = (Vec::new(), Vec::new());
        while !part.is_end_stream() {
            assert_eq!(part.size_hint().exact(), Some((LENGTH - all.len()) as u64));
            let piece = part.frame().await.unwrap().unwrap().into_data().unwrap();
            pieces.push(piece.len());
            all.extend_from_slice(&piece);
        }
        assert_eq!(pieces, [PIECE, PIECE, 5]);
        assert_eq!(all, text);
        assert!(part.frame().await.is_none());
    }
}
