//! The Unix sockets: one for hooks and local commands, one for proxies.

mod local;
mod proxies;
pub mod wire;

pub use local::serve as serve_local;
pub use proxies::serve as serve_proxies;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::net::UnixListener;

/// Opens a socket that only our own user (and root) may connect to. A socket
/// that a killed server left is replaced; that no server is alive there is known
/// by the lock on the data directory.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Whether the process at the other end is ours or root's.
fn is_trusted(stream: &tokio::net::UnixStream) -> Option<u32> {
    let uid = stream.peer_cred().ok()?.uid();
    (uid == 0 || uid == nix::unistd::geteuid().as_raw()).then_some(uid)
}
