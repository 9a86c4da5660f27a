//! What a client of HTTP/2 sends beside requests: counted, because each of these
//! frames costs it nothing and us something.
//!
//! Resets, pings, settings, priorities and empty pieces of bodies are all of use
//! now and then; a client that sends them by the thousand is no client.

use super::places::Place;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

/// Before the first frame.
const PREFACE: usize = 24;
/// The head of a frame.
const HEAD: usize = 9;
/// As many such frames at once, and one more in each pause.
const ALLOWANCE: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// So many bytes of answers allow for one more window.
const WINDOW: usize = 512;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// On the last piece of a body.
const END_STREAM: u8 = 1;
/// On frames whose content begins with the length of what only fills it.
const PADDED: u8 = 8;

/// Follows the frames of one connection.
struct Meter {
    /// What is left of the preface or of a frame's content.
    skip: usize,
    head: [u8; HEAD],
    /// How much of the head has come.
    filled: usize,
    /// The frame's content begins with the length of its padding, which is to come.
    padded: bool,
    /// Bytes sent that no window has been charged to yet.
    sent: usize,
    left: u32,
    since: Instant,
}

impl Meter {
    fn new(now: Instant) -> Self {
        let head = [0; HEAD];
        Self { skip: PREFACE, head, filled: 0, padded: false, sent: 0, left: ALLOWANCE, since: now }
    }

    /// Reads on; `bytes` may be cut anywhere. `false` when there was too much.
    fn read(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.padded) {
                // Nothing but padding is an empty piece, too.
                let content = self.skip.saturating_sub(1 + usize::from(bytes[0]));
                if !self.pay(DATA, self.head[4], content, now) {
                    return false;
                }
            }
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD {
                self.filled = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.padded = kind == DATA && flags & PADDED != 0 && self.skip > 0;
                if !self.padded && !self.pay(kind, flags, self.skip, now) {
                    return false;
                }
            }
        }
        true
    }

    /// Charges for a frame with so much content. `false` when there was too much.
    fn pay(&mut self, kind: u8, flags: u8, length: usize, now: Instant) -> bool {
        if kind == WINDOW_UPDATE && self.sent >= WINDOW {
            self.sent -= WINDOW;
            return true;
        }
        !is_beside_the_point(kind, flags, length) || self.spend(now)
    }

    fn spend(&mut self, now: Instant) -> bool {
        if self.left == 0 {
            let pauses = now.duration_since(self.since).as_millis() / PAUSE.as_millis();
            self.left = u32::try_from(pauses).unwrap_or(ALLOWANCE).min(ALLOWANCE);
            self.since = now;
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}

/// All but requests and bodies; room for more than there are answers. h2 itself bounds
/// heads that come in pieces.
fn is_beside_the_point(kind: u8, flags: u8, length: usize) -> bool {
    match kind {
        DATA => length == 0 && flags & END_STREAM == 0,
        HEADERS | CONTINUATION => false,
        _ => true,
    }
}

/// A connection whose frames are counted on their way in.
pub(super) struct Metered<S> {
    stream: S,
    meter: Meter,
    place: Arc<Place>,
}

impl<S> Metered<S> {
    /// From the preface on.
    pub(super) fn new(stream: S, place: Arc<Place>) -> Self {
        Self { stream, meter: Meter::new(Instant::now()), place }
    }

    fn count(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(written)) = written {
            self.meter.sent = self.meter.sent.saturating_add(*written);
            // Less than that may be nothing but the answers to pings.
            if *written >= WINDOW {
                self.place.wrote();
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = read
            && !self.meter.read(&buffer.filled()[before..], Instant::now())
        {
            debug!("a flood of frames ends a connection");
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + usize::from(length), kind);
        frame
    }

    fn padded(length: u8, padding: u8) -> Vec<u8> {
        let mut frame = frame(DATA, PADDED, length);
        frame[HEAD] = padding;
        frame
    }

    #[test]
    fn windows_are_free_as_far_as_there_are_answers() {
        let (mut meter, now) = meter();
        meter.sent = WINDOW * 5000;
        assert!((0..5000).all(|_| meter.read(&frame(WINDOW_UPDATE, 0, 4), now)));
        assert!(!(0..=ALLOWANCE).all(|_| meter.read(&frame(WINDOW_UPDATE, 0, 4), now)));
    }

    fn meter() -> (Meter, Instant) {
        let now = Instant::now();
        let mut meter = Meter::new(now);
        assert!(meter.read(&[b'x'; PREFACE], now));
        (meter, now)
    }

    #[test]
    fn requests_and_bodies_cost_nothing_and_the_rest_does() {
        let cases = [
            (frame(DATA, 0, 200), true),
            (frame(DATA, END_STREAM, 0), true),
            (frame(HEADERS, 0, 20), true),
            (frame(WINDOW_UPDATE, 0, 4), false),
            (frame(DATA, 0, 0), false),
            (padded(3, 2), false),
            (padded(1, 0), false),
            (padded(3, 1), true),
            (frame(2, 0, 5), false),
            (frame(3, 0, 4), false),
            (frame(4, 0, 0), false),
            (frame(6, 0, 8), false),
            (frame(77, 0, 3), false),
        ];
        for (frame, free) in cases {
            let (mut meter, now) = meter();
            let all = (0..2000).all(|_| meter.read(&frame, now));
            assert_eq!(all, free, "{frame:?}");
        }
    }

    #[test]
    fn what_is_spread_over_time_is_fine() {
        let (mut meter, now) = meter();
        for turn in 0..5000 {
            assert!(meter.read(&frame(6, 0, 8), now + PAUSE * 2 * turn));
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_bytes_are_cut(
            frames in proptest::collection::vec((0..10u8, 0..9u8), 1..30),
            size in 1..40usize,
        ) {
            let (mut whole, now) = meter();
            let (mut cut, _) = meter();
            let bytes: Vec<u8> = frames.iter().flat_map(|&(kind, length)| frame(kind, 0, length)).collect();
            prop_assert!(whole.read(&bytes, now));
            prop_assert!(bytes.chunks(size).all(|piece| cut.read(piece, now)));
            prop_assert_eq!((whole.left, whole.skip, whole.filled), (cut.left, cut.skip, cut.filled));
            prop_assert_eq!((whole.skip, whole.filled), (0, 0));
        }
    }
}
