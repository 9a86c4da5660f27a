//! A command's output: into the channel's window, and an error once the client
//! has closed the channel instead of waiting for window that never comes.

use super::terminal::Discipline;
use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Most bytes rewritten for a terminal at a time.
const PIECE: usize = 16 << 10;

/// Standard output or standard error of one command.
pub(super) struct Output {
    channel: Pin<Box<dyn AsyncWrite + Send>>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Told of every write, so that nobody makes the session loop wait.
    traffic: Arc<Notify>,
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
        traffic: Arc<Notify>,
        terminal: Option<Discipline>,
    ) -> Self {
        let closed = Box::pin(closed.cancelled_owned());
        Self { channel: Box::pin(channel), closed, traffic, terminal, pending: Vec::new(), sent: 0, accepted: 0 }
    }

    /// The same bytes with `\r\n` line ends, as a raw terminal needs.
    fn write_rewritten(&mut self, cx: &mut Context<'_>, data: &[u8], terminal: &Discipline) -> Poll<Result<usize>> {
        if self.accepted == 0 {
            self.accepted = data.len().min(PIECE);
            self.sent = 0;
            self.pending = terminal.line_ends(&data[..self.accepted]);
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
        self.traffic.notify_one();
        match self.terminal.clone().filter(|terminal| self.accepted > 0 || !terminal.is_raw()) {
            Some(terminal) => self.write_rewritten(cx, data, &terminal),
            None => self.channel.as_mut().poll_write(cx, data),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.channel.as_mut().poll_flush(cx)
    }

    /// The channel's end is sent once, after the exit status.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}
