//! The proxies' socket: tables out, acknowledgements in. Nothing else.

use crate::deploy::Routes;
use crate::frame;
use crate::model::{FromProxy, ToProxy};
use std::io;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Serves proxies until `stop`.
pub async fn serve(listener: UnixListener, routes: Routes, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a proxy could not connect");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop.cancelled() => return,
        };
        if !super::is_proxy(&stream) {
            continue;
        }
        let (routes, stop) = (routes.clone(), stop.clone());
        tokio::spawn(async move {
            let result = tokio::select! {
                result = converse(stream, &routes) => result,
                () = stop.cancelled() => Ok(()),
            };
            if let Err(error) = result {
                tracing::warn!(%error, "the connection to a proxy was lost");
            }
        });
    }
}

async fn converse(stream: UnixStream, routes: &Routes) -> io::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let Some(FromProxy::Hello { pid, .. }) = frame::read(&mut from).await? else { return Ok(()) };
    tracing::debug!(pid, "a proxy has connected");
    let id = routes.join();
    let mut table = routes.subscribe();
    table.mark_changed();
    let send = async {
        while table.changed().await.is_ok() {
            let now = table.borrow_and_update().clone();
            frame::write(&mut to, &ToProxy::Table((*now).clone())).await?;
        }
        Ok::<_, io::Error>(())
    };
    let hear = async {
        while let Some(message) = frame::read(&mut from).await? {
            routes.hear(id, message);
        }
        Ok::<_, io::Error>(())
    };
    let result = tokio::select! {
        result = send => result,
        result = hear => result,
    };
    routes.leave(id);
    result
}
