//! A TCP connection that we can cut off from outside the SSH library, which
//! has no time-outs of its own in some states.

use nix::sys::socket::{Shutdown, shutdown, sockopt::TcpUserTimeout};
use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long a client may take to close its side after we have closed ours.
const CLOSING: Duration = Duration::from_secs(5);
/// Unacknowledged data older than this ends the connection, milliseconds.
const UNACKNOWLEDGED: u32 = 60_000;
/// A client that has sent less at once may be holding more back until that arrived.
const SHORT: usize = 4096;
/// How often a client is looked at while nothing is read from it.
const GLANCE: Duration = Duration::from_millis(250);

/// The stream that the SSH library works on.
pub(super) struct Socket {
    tcp: Arc<TcpStream>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    closing: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Fails from the moment that `cut` is cancelled.
    pub(super) fn new(tcp: Arc<TcpStream>, cut: CancellationToken) -> Self {
        if let Err(error) = tcp.set_nodelay(true).and_then(|()| time_out(&tcp)) {
            tracing::debug!(%error, "socket options");
        }
        Self { tcp, cut: Box::pin(cut.cancelled_owned()), closing: None }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let late = self.closing.as_mut().is_some_and(|time| time.as_mut().poll(cx).is_ready());
        if late || self.cut.as_mut().poll(cx).is_ready() {
            return Err(Error::from(ErrorKind::ConnectionAborted));
        }
        Ok(())
    }
}

impl Socket {
    /// Says at once that data has arrived. OpenSSH's client sends the second message
    /// of a key exchange when the first is acknowledged, and the kernel would take
    /// its time (40 ms) because it waits for an answer of ours to go along with.
    fn acknowledge(&self) {
        // What cannot be hastened comes later.
        let _ = self.tcp.set_quickack(true);
    }
}

fn time_out(tcp: &TcpStream) -> Result<()> {
    Ok(nix::sys::socket::setsockopt(tcp, TcpUserTimeout, &UNACKNOWLEDGED)?)
}

/// Returns when the client has closed the connection, even while there is data
/// that nobody has read yet.
pub(super) async fn hung_up(tcp: &TcpStream) {
    loop {
        match tcp.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(GLANCE).await,
            _ => return,
        }
    }
}

/// Closes our side and discards what is under way, so that a client in the
/// middle of sending reads that we closed and not that the network broke.
pub(super) async fn linger(tcp: &TcpStream) {
    let mut scrap = [0; 8192];
    let discard = async {
        while tcp.readable().await.is_ok() {
            match tcp.try_read(&mut scrap) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(count) if count > 0 => {}
                _ => return,
            }
        }
    };
    if shutdown(tcp.as_raw_fd(), Shutdown::Write).is_ok() {
        let _ = tokio::time::timeout(CLOSING / 5, discard).await;
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.check(cx)?;
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            match self.tcp.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    if count < SHORT {
                        self.acknowledge();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        self.check(cx)?;
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write(data) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSING)));
        match shutdown(self.tcp.as_raw_fd(), Shutdown::Write) {
            Ok(()) | Err(nix::errno::Errno::ENOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
