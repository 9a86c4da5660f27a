//! A client's connection as hyper sees it: only bytes whose framing is beyond
//! doubt, and only as long as they keep coming.

use super::ProxyLimits;
use super::framing::{Framing, Phase};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tracing::debug;

/// What hyper gets instead of a line of a head that it might forgive: no head can
/// hold it, so hyper itself answers 400, in order, and closes.
const POISON: &[u8] = b"\0";

/// The answer to a client that never ends its first head.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What is still read of a request that was answered before its end, and for how long:
/// closing on unread bytes would reset the connection, and the answer might be lost.
const LEFTOVERS: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// A client's connection.
pub(super) struct ClientStream<S> {
    stream: S,
    framing: Framing,
    /// A violation was seen, there; nothing more is read.
    violated: Option<Phase>,
    /// Whether anything was answered, so that a last word would be out of order.
    written: bool,
    header: Duration,
    body: Duration,
    send: Duration,
    waiting: Option<Waiting>,
    /// While the client does not take what there is for it.
    unsent: Option<Pin<Box<Sleep>>>,
    /// All has been sent, and so much of what is still coming was passed over.
    passed_over: Option<usize>,
    linger: Option<Pin<Box<Sleep>>>,
    /// Set while everything that came was a whole request and is answered, and more was
    /// asked for in vain.
    resting: Arc<AtomicBool>,
}

/// For what the client is waited for, and for how long still.
struct Waiting {
    phase: Phase,
    over: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientStream<S> {
    /// Wraps an accepted connection, plain or past its handshake.
    pub(super) fn new(stream: S, limits: &ProxyLimits, resting: Arc<AtomicBool>) -> Self {
        Self {
            stream,
            framing: Framing::new(),
            violated: None,
            written: false,
            header: limits.header,
            body: limits.body,
            send: limits.send,
            waiting: None,
            unsent: None,
            passed_over: None,
            linger: None,
            resting,
        }
    }

    /// The connection itself.
    pub(super) fn wire(&self) -> &S {
        &self.stream
    }

    fn rest(&self, rests: bool) {
        self.resting.store(rests, Ordering::Relaxed);
    }

    /// Nothing has come: for a head all of it is waited for, for a body the
    /// next byte; hyper's own timer has the time between requests.
    fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let phase = self.framing.phase();
        let limit = match phase {
            Phase::Idle => {
                self.waiting = None;
                self.rest(self.unsent.is_none() && self.violated.is_none());
                return Poll::Pending;
            }
            Phase::Head => self.header,
            Phase::Body => self.body,
        };
        let waiting = match &mut self.waiting {
            Some(waiting) if waiting.phase == phase => waiting,
            other => other.insert(Waiting { phase, over: Box::pin(tokio::time::sleep(limit)) }),
        };
        if waiting.over.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        if phase == Phase::Head && !self.written {
            let _ = Pin::new(&mut self.stream).poll_write(context, TOO_SLOW);
            let _ = Pin::new(&mut self.stream).poll_flush(context);
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Passes over what the client still sends, until it ends or has had its time.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 4096];
        while self.passed_over.is_some_and(|passed_over| passed_over < LEFTOVERS) {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.passed_over = self.passed_over.map(|before| before + buffer.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if self.violated.is_none() && self.framing.phase() == Phase::Idle => {
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    let over = self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
                    return over.as_mut().poll(context);
                }
            }
        }
        Poll::Ready(())
    }

    /// What an attempt to send has brought; nothing for too long is an error.
    fn sent<T>(&mut self, result: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.unsent = None;
            return result;
        }
        let send = self.send;
        let over = self.unsent.get_or_insert_with(|| Box::pin(tokio::time::sleep(send)));
        ready!(over.as_mut().poll(context));
        debug!("a client does not take its answer");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Lets pass what comes before a violation. In its place a head is given what
    /// spoils it; a body ends with an error, so that the app gets no byte too many.
    fn check(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let refused = self.framing.read(&buffer.filled()[before..]);
        let phase = self.framing.phase();
        if phase != Phase::Head {
            self.waiting = None;
        }
        let Err(refused) = refused else { return Ok(()) };
        debug!(why = refused.violation.0, "a request was refused for its framing");
        self.violated = Some(phase);
        buffer.set_filled(before + refused.good);
        match phase {
            Phase::Body if refused.good == 0 => return Err(io::ErrorKind::InvalidData.into()),
            Phase::Body => {}
            Phase::Idle | Phase::Head => buffer.put_slice(POISON),
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.violated {
            None => {}
            Some(Phase::Body) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            Some(Phase::Idle | Phase::Head) => return Poll::Ready(Ok(())),
        }
        let before = buffer.filled().len();
        self.rest(false);
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => Poll::Ready(self.check(buffer, before)),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_wait(context),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written = true;
        self.rest(false);
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.written = true;
        self.rest(false);
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.sent(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.sent(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.passed_over.is_none() {
            let shut = ready!(Pin::new(&mut self.stream).poll_shutdown(context));
            if shut.is_err() {
                return Poll::Ready(shut);
            }
            self.passed_over = Some(0);
        }
        // The app's end of a tunnel is not the client's: what still comes is the app's.
        if self.framing.is_raw() {
            return Poll::Ready(Ok(()));
        }
        self.poll_linger(context).map(Ok)
    }
}
