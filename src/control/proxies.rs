//! The proxies' socket: routes and certificates out, acknowledgements in. Nothing else.

use crate::deploy::{AccessLogs, Certificates, Routes};
use crate::frame;
use crate::model::{FromProxy, ToProxy};
use std::io;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// What proxies are told of.
#[derive(Clone)]
pub struct Follows {
    /// Routes.
    pub routes: Routes,
    /// Certificates and challenges.
    pub certificates: Certificates,
    /// Where their access lines go.
    pub access: AccessLogs,
}

/// Serves proxies until `stop`.
pub async fn serve(listener: UnixListener, follows: Follows, stop: CancellationToken) {
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
        let (follows, stop) = (follows.clone(), stop.clone());
        tokio::spawn(async move {
            let result = tokio::select! {
                result = converse(stream, &follows) => result,
                () = stop.cancelled() => Ok(()),
            };
            if let Err(error) = result {
                tracing::warn!(%error, "the connection to a proxy was lost");
            }
        });
    }
}

async fn converse(stream: UnixStream, follows: &Follows) -> io::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let Some(hello) = frame::read(&mut from).await? else { return Ok(()) };
    let FromProxy::Hello { pid, tls, changes, loads, .. } = hello else { return Ok(()) };
    tracing::debug!(pid, tls, "a proxy has connected");
    let Follows { routes, certificates, access } = follows;
    let id = routes.join();
    routes.hear(id, hello);
    if tls {
        certificates.join(id);
    }
    if loads {
        routes.loads.join(id);
    }
    let hear = async {
        while let Some(message) = frame::read(&mut from).await? {
            match message {
                FromProxy::Lines { apps } => access.write(apps),
                message => {
                    certificates.hear(id, &message);
                    routes.hear(id, message);
                }
            }
        }
        Ok::<_, io::Error>(())
    };
    let result = tokio::select! {
        result = tell(&mut to, follows, tls, changes) => result,
        result = hear => result,
    };
    routes.leave(id);
    certificates.leave(id);
    result
}

fn is_too_long(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// Everything as it is now, and then whatever changes. Certificates come first, so
/// that no route is sent on to HTTPS before there is one.
async fn tell(to: &mut OwnedWriteHalf, follows: &Follows, tls: bool, changes: bool) -> io::Result<()> {
    let mut told = None;
    let mut table = follows.routes.subscribe();
    let mut certificates = follows.certificates.subscribe();
    let mut challenges = follows.certificates.subscribe_challenges();
    table.mark_changed();
    certificates.mark_changed();
    challenges.mark_changed();
    loop {
        let message = tokio::select! {
            biased;
            Ok(()) = certificates.changed(), if tls => {
                ToProxy::Certificates((*certificates.borrow_and_update().clone()).clone())
            }
            Ok(()) = challenges.changed(), if tls => {
                ToProxy::Challenges((*challenges.borrow_and_update().clone()).clone())
            }
            Ok(()) = table.changed() => {
                let table = table.borrow_and_update();
                let news = follows.routes.news(&table, told);
                told = changes.then_some(table.version);
                news
            }
            else => return Ok(()),
        };
        match frame::write(to, &message).await {
            // More than a message holds, of which nothing was sent: the routes go on.
            Err(error) if is_too_long(&error) && matches!(message, ToProxy::Certificates(_)) => {
                tracing::error!(%error, "the proxies show older certificates: there are too many of them");
            }
            written => written?,
        }
    }
}
