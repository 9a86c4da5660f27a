//! A build's secrets: a BuildKit session that answers for them, and for nothing
//! else that a client could be asked for.
//!
//! The engine turns a connection of ours around and calls us over it, by gRPC.
//! Two of its methods are known here; their messages have one field each, so
//! they are read and written by hand.

use super::session::{Address, Io};
use crate::engine::{BuildLine, EngineError};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::{CancellationToken, DropGuard};

const GET_SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// gRPC's numbers for how a call ended.
const OK: u8 = 0;
const NOT_FOUND: u8 = 5;
const UNIMPLEMENTED: u8 = 12;

/// Longest question, and longest head of the engine's agreement.
const QUESTION: usize = 4096;

type Body = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

/// Opens a session of this id that gives the secrets out. It lasts as long as
/// the guard.
pub(super) async fn session(
    address: &Address,
    id: &str,
    secrets: BTreeMap<String, String>,
) -> io::Result<DropGuard> {
    let mut io = address.connect().await?;
    let request = format!(
        "POST /session HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nX-Docker-Expose-Session-Uuid: {id}\r\nX-Docker-Expose-Session-Name: paas\r\nX-Docker-Expose-Session-Grpc-Method: {GET_SECRET}\r\nX-Docker-Expose-Session-Grpc-Method: {HEALTH}\r\n\r\n"
    );
    io.write_all(request.as_bytes()).await?;
    agreement(&mut io).await?;
    let end = CancellationToken::new();
    let ended = end.clone();
    let secrets = Arc::new(secrets);
    tokio::spawn(async move {
        let service = service_fn(move |request| answer(request, secrets.clone()));
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(io), service);
        tokio::select! {
            _ = connection => {}
            () = ended.cancelled() => {}
        }
    });
    Ok(end.drop_guard())
}

/// Reads the head of `101 Switching Protocols`, and not a byte more.
async fn agreement(io: &mut Box<dyn Io>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > QUESTION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.push(io.read_u8().await?);
    }
    if head.starts_with(b"HTTP/1.1 101") {
        return Ok(());
    }
    let status = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    Err(io::Error::other(format!("the engine opens no session: {status}")))
}

async fn answer(
    request: Request<Incoming>,
    secrets: Arc<BTreeMap<String, String>>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let question = Limited::new(request.into_body(), QUESTION).collect().await;
    let question = question.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let (status, message) = match path.as_str() {
        GET_SECRET => match asked(&question).and_then(|name| secrets.get(name)) {
            Some(value) => (OK, field(value.as_bytes())),
            None => (NOT_FOUND, Bytes::new()),
        },
        // { status: SERVING }
        HEALTH => (OK, Bytes::from_static(&[0x08, 0x01])),
        _ => (UNIMPLEMENTED, Bytes::new()),
    };
    Ok(response(status, &message))
}

fn response(status: u8, message: &Bytes) -> Response<Body> {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0); // not compressed
    framed.put_u32(u32::try_from(message.len()).unwrap_or_default());
    framed.put_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    let mut frames = vec![Ok(Frame::trailers(trailers))];
    if status == OK {
        frames.insert(0, Ok(Frame::data(framed.freeze())));
    }
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The name in a framed `{ ID: string, … }`: a secret's is at most 256 bytes.
fn asked(question: &[u8]) -> Option<&str> {
    let message = question.get(5..)?.strip_prefix(&[0x0a])?;
    let (length, rest) = varint(message)?;
    std::str::from_utf8(rest.get(..length)?).ok()
}

fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (low, rest) = bytes.split_first()?;
    if low & 0x80 == 0 {
        return Some((usize::from(*low), rest));
    }
    let (high, rest) = rest.split_first()?;
    (high & 0x80 == 0).then(|| (usize::from(low & 0x7f) | usize::from(*high) << 7, rest))
}

/// `{ data: bytes }`.
fn field(value: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(value.len() + 6);
    message.put_u8(0x0a);
    let mut rest = value.len();
    while rest > 0x7f {
        message.put_u8(0x80 | u8::try_from(rest & 0x7f).unwrap_or_default());
        rest >>= 7;
    }
    message.put_u8(u8::try_from(rest).unwrap_or_default());
    message.put_slice(value);
    message.freeze()
}

/// Values that a build must not print. Short ones would be found in anything.
pub(super) struct Hidden(Vec<(String, String)>);

/// The shortest that is looked for.
const SHORTEST: usize = 6;

impl Hidden {
    pub fn of(secrets: &BTreeMap<String, String>) -> Self {
        let each = secrets.iter().flat_map(|(name, value)| {
            let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST);
            lines.map(move |line| (line.to_owned(), format!("[{name}]")))
        });
        Self(each.collect())
    }

    fn text(&self, text: String) -> String {
        self.0.iter().fold(
            text,
            |text, (value, name)| {
                if text.contains(value) { text.replace(value, name) } else { text }
            },
        )
    }

    /// Lines of a build without them.
    pub fn lines(&self, lines: Vec<BuildLine>) -> Vec<BuildLine> {
        if self.0.is_empty() {
            return lines;
        }
        let each = lines.into_iter().map(|line| match line {
            BuildLine::Output(text) => BuildLine::Output(self.text(text)),
            other => other,
        });
        each.collect()
    }

    /// The same for what a build ended with.
    pub fn error(&self, error: EngineError) -> EngineError {
        let EngineError::Build(mut failure) = error else { return error };
        failure.lines = std::mem::take(&mut failure.lines).into_iter().map(|line| self.text(line)).collect();
        failure.message = self.text(std::mem::take(&mut failure.message));
        EngineError::Build(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_protocol_buffers() {
        let name = "N".repeat(200);
        let mut question = vec![0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01];
        question.extend(name.as_bytes());
        question.extend([0x12, 0x00]);
        assert_eq!(asked(&question), Some(name.as_str()));
        assert_eq!(asked(&question[..100]), None);
        assert_eq!(asked(&[]), None);
        assert_eq!(&field(&[7; 300])[..4], [0x0a, 0xac, 0x02, 7]);
        assert_eq!(&field(b"")[..], [0x0a, 0]);
    }
}
