//! The Unix sockets: one for hooks and local commands, one for proxies.

mod local;
mod proxies;
pub mod wire;

pub use local::serve as serve_local;
pub use proxies::{Follows, serve as serve_proxies};

use crate::frame;
use std::io;
use std::path::Path;
use tokio::net::{UnixListener, UnixStream};

/// The user that the proxy has under systemd.
const PROXY_USER: &str = "paas-proxy";

/// Opens the socket for proxies: for our own user, and for the proxy's where
/// there is one and we may say so.
pub fn listen_for_proxies(path: &Path) -> io::Result<UnixListener> {
    let listener = frame::listen(path)?;
    if nix::unistd::geteuid().is_root()
        && let Some(uid) = proxy_user()
    {
        nix::unistd::chown(path, Some(uid.into()), None)?;
    }
    Ok(listener)
}

fn proxy_user() -> Option<u32> {
    nix::unistd::User::from_name(PROXY_USER).ok().flatten().map(|user| user.uid.as_raw())
}

/// Whether the process at the other end is ours or root's; its user.
fn is_trusted(stream: &UnixStream) -> Option<u32> {
    let uid = stream.peer_cred().ok()?.uid();
    (uid == 0 || uid == nix::unistd::geteuid().as_raw()).then_some(uid)
}

/// Whether the process at the other end may be a proxy of ours.
fn is_proxy(stream: &UnixStream) -> bool {
    let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
    is_trusted(stream).is_some() || uid.is_some() && uid == proxy_user()
}
