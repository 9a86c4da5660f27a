//! The private address where monitoring reads the numbers.

use super::Shared;
use super::exposition;
use super::listener::listen;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// Connections at a time: monitoring has one or two.
const CONNECTIONS: usize = 16;
/// For the next request's head; monitoring that asks more rarely connects again.
const PATIENCE: Duration = Duration::from_secs(75);
/// After a failed `accept`.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket that the proxy before us had, if it is for this address; or a new one. Without it
/// there is a proxy all the same.
pub(super) fn open(
    address: Option<SocketAddr>,
    before: Option<Arc<TcpListener>>,
) -> Option<Arc<TcpListener>> {
    let address = address?;
    let bound = before.as_ref().and_then(|socket| socket.local_addr().ok());
    let is_same =
        |bound: SocketAddr| bound.ip() == address.ip() && [0, bound.port()].contains(&address.port());
    if bound.is_some_and(is_same) {
        return before;
    }
    drop(before);
    listen(address)
        .inspect_err(|error| warn!(%address, %error, "the metrics can't be listened for; going on without"))
        .ok()
        .map(Arc::new)
}

/// Answers there until another proxy does.
pub(super) async fn serve(shared: Arc<Shared>, listener: Arc<TcpListener>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let accepting = async {
        shared.begin.cancelled().await;
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        converse(shared, stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    debug!(%error, "can't accept a connection for metrics");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    shared.accepting.run_until_cancelled(accepting).await;
}

async fn converse(shared: Arc<Shared>, stream: TcpStream) {
    let leaving = shared.accepting.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&shared, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = leaving.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection for metrics ended");
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "There is only /metrics here.\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "The metrics can only be read.\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = Response::new(Full::new(Bytes::from(exposition::document(shared))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(exposition::CONTENT_TYPE));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
