//! HTTP/1.1 on a client's connection: hyper's while there are requests. One that rests
//! between two of them is only waited for, and costs a fiftieth.

use super::Shared;
use super::answers::Answer;
use super::client::Client;
use super::client_stream::ClientStream;
use super::forward;
use super::places::Place;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tracing::debug;

/// The longest request head, in bytes; longer ones get 431.
const HEAD_LIMIT: usize = 64 * 1024;
/// Without a request for so long, a connection rests.
const REST: Duration = Duration::from_millis(250);

/// What a client's connection is made of.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Its socket. Something new comes when there is something to read there, if all that
    /// had come before was read.
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<S: Wire>(shared: &Arc<Shared>, stream: S, client: Client, place: &Place) {
    let client = Arc::new(client);
    let resting = Arc::new(AtomicBool::new(false));
    let mut stream = ClientStream::new(stream, &shared.limits, Arc::clone(&resting));
    while let Some(rested) = Box::pin(converse(shared, stream, &client, place, &resting)).await {
        stream = rested;
        let next =
            tokio::time::timeout(shared.limits.idle.saturating_sub(REST), stream.wire().socket().readable());
        if !matches!(place.leave().run_until_cancelled(next).await, Some(Ok(Ok(())))) {
            // Its time is over, its place is needed, or we end.
            let end = tokio::time::timeout(shared.limits.send, stream.shutdown());
            let _ = shared.kill.run_until_cancelled(end).await;
            return;
        }
    }
}

/// Serves requests until the connection has ended; or until it rests: then it is given back.
async fn converse<S: Wire>(
    shared: &Arc<Shared>,
    stream: ClientStream<S>,
    client: &Arc<Client>,
    place: &Place,
    resting: &AtomicBool,
) -> Option<ClientStream<S>> {
    resting.store(false, Ordering::Relaxed);
    let served = Arc::clone(client);
    let service = service_fn(move |request| {
        let client = Arc::clone(&served);
        async move {
            let one = client.place.request();
            let response = forward::answer(&client, request, one.full).await;
            Ok::<_, Infallible>(response.map(|body| Answer { body, _request: one }))
        }
    });
    let mut connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.idle)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = place.leave().cancelled() => {
            pin::Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                ended = &mut connection => ended,
                () = shared.kill.cancelled() => return None,
            }
        }
        () = rests(place, resting) => {
            let parts = connection.into_parts()?;
            // Between two requests there may be empty lines, which nobody needs.
            let is_nothing = parts.read_buf.iter().all(|byte| b"\r\n".contains(byte));
            return is_nothing.then(|| parts.io.into_inner());
        }
    };
    if let Err(error) = ended {
        debug!(peer = %client.origin.client, %error, "a client's connection ended");
    }
    None
}

/// Until there was no request for a moment, and neither side has anything to do.
async fn rests(place: &Place, resting: &AtomicBool) {
    loop {
        place.idle_for(REST).await;
        if resting.load(Ordering::Relaxed) {
            return;
        }
        tokio::time::sleep(REST).await;
    }
}
