//! Connections that have changed their protocol: bytes both ways.

use super::access::Record;
use super::places::Request;
use super::upstream::InFlight;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tracing::debug;

/// Passes bytes both ways until both sides have ended or one has broken.
pub(super) async fn run(
    to_client: OnUpgrade,
    to_app: OnUpgrade,
    held: (InFlight, Request),
    mut record: Record,
) {
    match tokio::try_join!(to_client, to_app) {
        Ok((client, app)) => {
            let mut client = Counted { stream: TokioIo::new(client), record: &mut record };
            if let Err(error) = copy_bidirectional(&mut client, &mut TokioIo::new(app)).await {
                debug!(%error, "an upgraded connection broke");
            }
        }
        Err(error) => debug!(%error, "an upgrade did not come about"),
    }
    drop(held);
    record.finish();
}

/// The client's side, whose bytes are counted as they pass.
struct Counted<'a, S> {
    stream: S,
    record: &'a mut Record,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.record.received(buffer.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = written {
            self.record.sent(written as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
