//! HTTP/2 in front: each request becomes one of HTTP/1.1 and goes the same way
//! as any other.

use super::Shared;
use super::answers::{Answer, Answers};
use super::body::ReplyBody;
use super::client::Client;
use super::forward;
use super::frames::Metered;
use super::places::{Full, Place};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, COOKIE, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tracing::debug;

/// What a client begins with that speaks HTTP/2 without asking; no method of
/// HTTP/1 begins so.
const PREFACE: &[u8] = b"PRI ";
/// Before looking again for the rest of a preface; doubles each time.
const PAUSE: Duration = Duration::from_millis(10);
/// Requests of one connection at a time.
const STREAMS: u32 = 100;
/// The longest head, unpacked; as much as HTTP/1 may bring.
const HEAD_LIMIT: u32 = 64 * 1024;
/// What a client may send of one body, and of all of a connection, before the
/// apps have taken it.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// What is kept of a response that the client does not take.
const SEND_BUFFER: usize = 32 * 1024;
/// Requests that were reset before we have looked at them.
const PENDING_RESETS: usize = 20;
/// Resets of our own for what is no HTTP/2, until the connection ends.
const OWN_RESETS: usize = 64;
/// How often a client that has requests under way is asked whether it is there.
const PING: Duration = Duration::from_secs(20);
/// For a client to close when it has been told to make room for others.
const FAREWELL: Duration = Duration::from_secs(1);

/// Whether the client speaks HTTP/2 at once. Waits for its first bytes, and
/// leaves them where they are.
pub(super) async fn is_spoken(shared: &Shared, stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    let waiting = tokio::time::timeout(shared.limits.idle, stream.peek(&mut first));
    let mut length = waiting.await.map_err(|_| io::ErrorKind::TimedOut)??;
    let (mut waited, mut pause) = (Duration::ZERO, PAUSE);
    while length > 0 && length < PREFACE.len() && first[..length] == PREFACE[..length] {
        if waited > shared.limits.header {
            return Ok(false);
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause *= 2;
        length = stream.peek(&mut first).await?;
    }
    Ok(first == PREFACE)
}

/// Serves one connection to its end.
pub(super) async fn serve<S>(shared: &Arc<Shared>, stream: S, client: Client, place: &Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Metered::new(stream, Arc::clone(&client.place));
    let client = Arc::new(client);
    let answers = Arc::new(Answers::default());
    let (kept, number) = (Arc::clone(&answers), AtomicU64::new(0));
    let service = service_fn(move |request| {
        let (client, kept, one) = (Arc::clone(&client), Arc::clone(&kept), client.place.request());
        let number = number.fetch_add(1, Ordering::Relaxed);
        async move {
            let response = answer(&client, request, one.full).await;
            Ok::<_, Infallible>(response.map(|body| kept.add(number, Answer { body, _request: one })))
        }
    });
    let watch = answers.watch(shared.limits.send);
    tokio::pin!(watch);
    let connection = builder().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        never = watch.as_mut() => match never {},
        () = until_the_end(shared, place) => {
            // The client learns which of its requests are answered: nothing is lost.
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                never = watch.as_mut() => match never {},
                () = shared.kill.cancelled() => return,
                // It has nothing more to hear and does not go.
                () = gone(shared, place) => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a client's HTTP/2 connection ended");
    }
}

/// Until no more requests are taken, or none has come for long.
async fn until_the_end(shared: &Shared, place: &Place) {
    tokio::select! {
        () = shared.accepting.cancelled() => {}
        () = place.leave().cancelled() => {}
        () = place.idle_for(shared.limits.idle) => {}
    }
}

/// A while after its last request; a shorter one if its place is needed.
async fn gone(shared: &Shared, place: &Place) {
    let is_needed = place.leave().is_cancelled() && !shared.quit.is_cancelled();
    let time = if is_needed { FAREWELL } else { shared.limits.header };
    tokio::time::sleep(time).await;
    place.idle_for(time).await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_LIMIT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(OWN_RESETS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}

async fn answer(client: &Client, request: Request<Incoming>, full: Option<Full>) -> Response<ReplyBody> {
    let (mut parts, body) = request.into_parts();
    settle(&mut parts);
    let mut response = forward::answer(client, Request::from_parts(parts, body), full).await;
    // The connection is not a request's to end.
    response.headers_mut().remove(CONNECTION);
    response
}

/// A head as HTTP/1.1 has it: what `:authority` says is said by `Host`, and
/// cookies stand in one line. That the two agree if both are there is checked
/// with all the rest.
fn settle(parts: &mut Parts) {
    if !parts.headers.contains_key(HOST)
        && let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(HOST, host);
    }
    let cookies: Vec<&[u8]> = parts.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(cookies) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        parts.headers.insert(COOKIE, cookies);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settled(request: hyper::http::request::Builder) -> Parts {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        settle(&mut parts);
        parts
    }

    #[test]
    fn a_head_becomes_one_of_http_1() {
        let parts =
            settled(Request::get("http://a.localhost:1/x").header("cookie", "a=1").header("cookie", "b=2"));
        assert_eq!(parts.headers[HOST], "a.localhost:1");
        assert_eq!(parts.headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
        let parts = settled(Request::get("http://a.localhost/").header("host", "b.localhost"));
        assert_eq!(parts.headers[HOST], "b.localhost", "which is refused by and by");
    }
}
