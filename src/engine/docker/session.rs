//! The connections of one build, cut together when it ends.
//!
//! A build has three: the request, and the two of its BuildKit session. The
//! client leaves the latter open for ever, on our side and the engine's. So each
//! build gets a client of its own, whose connections all end with its guard;
//! that also is what makes a dropped build stop at once.

use crate::engine::EngineError;
use bollard::{BollardRequest, ClientVersion, Docker};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// Where the engine listens.
#[derive(Debug, Clone)]
pub(super) enum Address {
    /// A socket on this machine.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl Address {
    /// A connection of its own.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Io>> {
        Ok(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp(host) => Box::new(TcpStream::connect(host).await?),
        })
    }
}

/// A client whose connections end when the guard is dropped.
pub(super) fn client(
    address: &Address,
    version: &ClientVersion,
    limit: u64,
) -> Result<(Docker, DropGuard), EngineError> {
    let end = CancellationToken::new();
    let (address, token) = (address.clone(), end.clone());
    let transport = move |request| send(address.clone(), token.clone(), request);
    let docker = Docker::connect_with_custom_transport(transport, Some("http://engine"), limit, version)
        .map_err(|source| EngineError::Api { doing: "build".to_owned(), source: source.into() })?;
    Ok((docker, end.drop_guard()))
}

/// Has the engine cancel a build by its id. That the build's own connection has
/// gone it notices at once only if it has read the request to its last byte,
/// which it need not have; a silent build then went on to its end.
pub(super) async fn cancel(address: Address, build: &str) -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = format!(
        "POST /build/cancel?id={build} HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let mut io = address.connect().await?;
    io.write_all(request.as_bytes()).await?;
    io.read_to_end(&mut Vec::new()).await.map(|_| ())
}

/// Sends one request over a connection of its own.
async fn send(
    address: Address,
    end: CancellationToken,
    mut request: BollardRequest,
) -> Result<Response<Incoming>, bollard::errors::Error> {
    let io = address.connect().await?;
    let io = TokioIo::new(Cut { io, end: Box::pin(end.cancelled_owned()), ended: false });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection.with_upgrades());
    // A connection, unlike a client, wants the request in the form of the wire.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>()?;
    request.headers_mut().insert(HOST, HeaderValue::from_static("engine"));
    Ok(sender.send_request(request).await?)
}

/// Either kind of socket.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A socket that says it has ended once its token is cancelled.
struct Cut {
    io: Box<dyn Io>,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl Cut {
    /// Whether it is over; wakes the task when it is.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.ended = self.ended || self.end.as_mut().poll(context).is_ready();
        self.ended
    }
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
