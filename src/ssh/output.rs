//! A command's output: into the channel's window, and an error once the client
//! has closed the channel instead of waiting for window that never comes.

use super::terminal::{Discipline, line_ends};
use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Most bytes rewritten for a terminal at a time.
const PIECE: usize = 16 << 10;

/// What the outputs of one connection want of its session loop.
#[derive(Default)]
pub(super) struct Traffic {
    written: Notify,
    blocked: AtomicUsize,
}

impl Traffic {
    /// Returns when something was written since the last call, perhaps.
    pub(super) async fn written(&self) {
        self.written.notified().await;
    }

    /// Whether an output waits for the client's window, of which only the
    /// session loop will hear.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(SeqCst) > 0
    }
}

/// Standard output or standard error of one command.
pub(super) struct Output {
    channel: Pin<Box<dyn AsyncWrite + Send>>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    traffic: Arc<Traffic>,
    blocked: bool,
    terminal: Option<Discipline>,
    /// Rewritten bytes on their way, and how many of the writer's they stand for.
    pending: Vec<u8>,
    sent: usize,
    accepted: usize,
}

impl Output {
    pub(super) fn new(
        channel: impl AsyncWrite + Send + 'static,
        closed: CancellationToken,
        traffic: Arc<Traffic>,
        terminal: Option<Discipline>,
    ) -> Self {
        let closed = Box::pin(closed.cancelled_owned());
        Self {
            channel: Box::pin(channel),
            closed,
            traffic,
            blocked: false,
            terminal,
            pending: Vec::new(),
            sent: 0,
            accepted: 0,
        }
    }

    fn set_blocked(&mut self, blocked: bool) {
        if blocked && !self.blocked {
            self.traffic.blocked.fetch_add(1, SeqCst);
        } else if !blocked && self.blocked {
            self.traffic.blocked.fetch_sub(1, SeqCst);
        }
        self.blocked = blocked;
    }

    /// The same bytes with `\r\n` line ends, as a raw terminal needs.
    fn write_rewritten(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        if self.accepted == 0 {
            self.accepted = data.len().min(PIECE);
            self.sent = 0;
            self.pending = line_ends(&data[..self.accepted]);
        }
        while self.sent < self.pending.len() {
            self.sent += ready!(self.channel.as_mut().poll_write(cx, &self.pending[self.sent..]))?;
        }
        Poll::Ready(Ok(std::mem::take(&mut self.accepted)))
    }
}

impl AsyncWrite for Output {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Error::new(ErrorKind::BrokenPipe, "the client has gone")));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = match self.terminal.as_ref().filter(|terminal| self.accepted > 0 || !terminal.is_raw())
        {
            Some(_) => self.write_rewritten(cx, data),
            None => self.channel.as_mut().poll_write(cx, data),
        };
        self.set_blocked(written.is_pending());
        self.traffic.written.notify_one();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.channel.as_mut().poll_flush(cx)
    }

    /// The channel's end is sent once, after the exit status.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.set_blocked(false);
    }
}
