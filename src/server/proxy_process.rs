//! The proxy as a process of its own, where nothing else runs it.

use super::ServerError;
use crate::settings::Settings;
use crate::spawn;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;
use tokio::process::Child;

/// The proxy that this server started, or adopted from a server that was killed.
pub(super) enum ProxyProcess {
    /// Started by us.
    Started(Child),
    /// Started by a former server of this data directory, or in the place of ours.
    Adopted,
    /// Somebody else's (systemd): not ours to stop.
    Foreign,
}

/// How long a proxy may drain.
const PATIENCE: Duration = Duration::from_secs(35);

/// Uses the proxy that runs, or starts one.
pub(super) fn ensure(settings: &Settings, executable: &Path) -> Result<ProxyProcess, ServerError> {
    match holder(&settings.proxy_lock())? {
        Some(pid) if marked(settings) == Some(pid) => Ok(ProxyProcess::Adopted),
        Some(_) => Ok(ProxyProcess::Foreign),
        None => start_marked(settings, executable),
    }
}

/// The proxy that a server has started, or that has taken over from that one.
fn marked(settings: &Settings) -> Option<i32> {
    std::fs::read_to_string(settings.proxy_mark()).ok()?.trim().parse().ok()
}

fn start_marked(settings: &Settings, executable: &Path) -> Result<ProxyProcess, ServerError> {
    let mark = settings.proxy_mark();
    let child = start(settings, executable)?;
    let pid = child.id().unwrap_or_default();
    std::fs::write(&mark, pid.to_string()).map_err(|cause| ServerError::File {
        what: "write",
        path: mark,
        cause,
    })?;
    Ok(ProxyProcess::Started(child))
}

fn start(settings: &Settings, executable: &Path) -> Result<Child, ServerError> {
    let path = settings.data_dir.join("proxy.log");
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|cause| ServerError::File { what: "write", path, cause })?;
    let listen = settings.http_listen.to_string();
    let mut arguments = vec![
        OsStr::new("--data-dir"),
        settings.data_dir.as_os_str(),
        OsStr::new("--http-listen"),
        OsStr::new(&listen),
    ];
    let https = settings.https_listen.map(|address| address.to_string());
    let tls = match &https {
        Some(address) => [OsStr::new("--https-listen"), OsStr::new(address)],
        None => [OsStr::new("--tls"), OsStr::new("off")],
    };
    arguments.extend(tls);
    let metrics = settings.metrics_listen.map(|address| address.to_string());
    if let Some(address) = &metrics {
        arguments.extend([OsStr::new("--metrics-listen"), OsStr::new(address)]);
    }
    if let Some(file) = &settings.file {
        arguments.extend([OsStr::new("--config"), file.as_os_str()]);
    }
    spawn::proxy(executable, &arguments, log).map_err(|error| ServerError::Proxy(error.to_string()))
}

/// The process that holds the proxy's lock.
fn holder(lock: &Path) -> Result<Option<i32>, ServerError> {
    let file = match File::open(lock) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(ServerError::File { what: "read", path: lock.to_owned(), cause }),
    };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let text = std::fs::read_to_string(lock).unwrap_or_default();
            Ok(Some(text.trim().parse().unwrap_or(0)))
        }
        _ => Ok(None),
    }
}

impl ProxyProcess {
    /// Why it ended, if it is ours and has.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self {
            Self::Started(child) => child.try_wait().ok().flatten().map(|status| status.to_string()),
            _ => None,
        }
    }

    /// Starts it again if it is ours and has ended, or has handed over to one that has.
    pub(super) fn revive(&mut self, settings: &Settings, executable: &Path) {
        if matches!(self, Self::Foreign) {
            return;
        }
        match holder(&settings.proxy_lock()) {
            Ok(None) => {}
            // One that was upgraded is still ours.
            Ok(Some(pid)) if self.has_ended() && marked(settings) == Some(pid) => {
                *self = Self::Adopted;
                return;
            }
            _ => return,
        }
        tracing::error!("the proxy has ended; starting it again");
        match start_marked(settings, executable) {
            Ok(process) => *self = process,
            Err(error) => tracing::error!(%error, "the proxy cannot be started"),
        }
    }

    fn has_ended(&mut self) -> bool {
        match self {
            Self::Started(child) => matches!(child.try_wait(), Ok(Some(_))),
            Self::Adopted | Self::Foreign => false,
        }
    }

    /// Stops it, if it is ours: SIGTERM, and it drains. And the one that has taken
    /// over from it.
    pub(super) async fn stop(self, settings: &Settings) {
        if matches!(self, Self::Foreign) {
            return;
        }
        let successor =
            holder(&settings.proxy_lock()).ok().flatten().filter(|&pid| marked(settings) == Some(pid));
        if let Some(pid) = successor {
            spawn::terminate(pid);
        }
        if let Self::Started(mut child) = self {
            if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                spawn::terminate(pid);
            }
            let _ = tokio::time::timeout(PATIENCE, child.wait()).await;
        }
        let ended = async {
            while matches!(holder(&settings.proxy_lock()), Ok(Some(_))) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, ended).await;
        let _ = std::fs::remove_file(settings.proxy_mark());
    }
}
