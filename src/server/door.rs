//! The SSH entrance's view of the platform: keys in, commands to their place.

use crate::command::{self, Invocation, Right};
use crate::deploy::{Authorship, Pipeline};
use crate::model::{AppName, Caller, Origin, PublicKey};
use crate::output::Streams;
use crate::ssh::{Door, Exec};
use crate::store;
use futures_util::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// What is behind the SSH server.
pub(super) struct PlatformDoor {
    pub pipeline: Arc<Pipeline>,
}

impl Door for PlatformDoor {
    fn admit(&self, key: &PublicKey, from: SocketAddr) -> BoxFuture<'_, Option<Caller>> {
        let key = key.clone();
        Box::pin(async move {
            let found = self.pipeline.workers.store.read(move |db| store::keys::find(db, &key)).await;
            match found {
                Ok(key) => key.map(|key| Caller { key: Some((key.id, key.name)), origin: Origin::Ssh(from) }),
                Err(error) => {
                    tracing::error!(%error, "a key could not be looked up");
                    None
                }
            }
        })
    }

    fn revoked(&self, key: &PublicKey) -> BoxFuture<'static, ()> {
        let (store, key) = (self.pipeline.workers.store.clone(), key.clone());
        Box::pin(async move { store.key_removed(key).await })
    }

    fn run(&self, request: Exec) -> BoxFuture<'static, u32> {
        let pipeline = self.pipeline.clone();
        Box::pin(async move {
            if let Some(service @ ("git-receive-pack" | "git-upload-pack")) =
                request.argv.first().map(String::as_str)
            {
                let receive = service == "git-receive-pack";
                git(&pipeline, request, receive).await
            } else {
                let Exec { caller, argv, streams, .. } = request;
                command::run(&pipeline, Invocation { caller, argv, streams }).await
            }
        })
    }
}

/// `git-receive-pack 'app'` and `git-upload-pack 'app'`. Nothing of the client's
/// words but the app's name goes further.
async fn git(pipeline: &Arc<Pipeline>, request: Exec, receive: bool) -> u32 {
    let Exec { caller, argv, git_protocol, streams, .. } = request;
    if !command::authorise(&caller, Right::App) {
        return refuse(streams, "Your key does not allow this.").await;
    }
    let [_, path] = &argv[..] else {
        return refuse(streams, "Give one repository: ssh://paas@HOST/APP").await;
    };
    let name = match repository_name(path) {
        Ok(name) => name,
        Err(why) => {
            tracing::info!(
                caller = caller.name(),
                path = path.escape_debug().to_string(),
                "not a repository"
            );
            return refuse(streams, &why).await;
        }
    };
    let protocol = git_protocol.as_deref();
    if receive {
        let by = Authorship { who: caller.name().to_owned() };
        pipeline.receive_pack(&name, by, protocol, streams).await
    } else {
        pipeline.upload_pack(&name, protocol, streams).await
    }
}

/// `app`, `/app`, `app.git` and `/app.git` name an app.
fn repository_name(path: &str) -> Result<AppName, String> {
    let name = path.strip_prefix('/').unwrap_or(path);
    let name = name.strip_suffix('/').unwrap_or(name);
    let name = name.strip_suffix(".git").unwrap_or(name);
    AppName::parse(name).map_err(|error| error.to_string())
}

async fn refuse(mut streams: Streams, why: &str) -> u32 {
    let _ = streams.stderr.write_all(format!("{}\n", crate::output::warning(why)).as_bytes()).await;
    let _ = streams.stderr.flush().await;
    1
}

#[cfg(test)]
mod tests {
    use super::repository_name;

    #[test]
    fn only_an_apps_name_is_a_repository() {
        for good in ["shop", "/shop", "shop.git", "/shop.git", "/shop.git/"] {
            assert_eq!(repository_name(good).map(|name| name.to_string()), Ok("shop".to_owned()));
        }
        for bad in ["../../etc", "//shop", "~/shop", "shop/x", "", "/", ".git", "-x", "сhop"] {
            assert!(repository_name(bad).is_err(), "{bad}");
        }
    }
}
