//! `paas proxy`.

use super::{load, serve};
use crate::model::Problem;
use crate::proxy::{self, ProxyLimits, ProxyOptions};
use crate::settings::{self, Flags};
use crate::spawn;
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Runs the proxy; with `upgrade` in the place of the one that runs.
pub(super) fn proxy(flags: &Flags, upgrade: bool) -> ExitCode {
    let settings = match load(flags) {
        Ok(located) => located.settings,
        Err(code) => return code,
    };
    serve::log_to_stderr(settings.log_format);
    // A terminal's Ctrl-C and a session's end are meant for the server alone.
    let _ = nix::unistd::setsid();
    let (ready, listening) = oneshot::channel();
    let options = ProxyOptions {
        http_listen: settings.http_listen,
        https_listen: settings.https_listen,
        certificates: settings.certificate_snapshot(),
        snapshot: settings.route_snapshot(),
        socket: settings.proxy_socket(),
        lock: settings.proxy_lock(),
        handover: settings.proxy_handover(),
        upgrade,
        metrics_listen: settings.metrics_listen,
        sockets: inherited(),
        front: settings.front.clone(),
        limits: ProxyLimits::default(),
        ready: Some(ready),
    };
    let mark = settings.proxy_mark();
    let before = upgrade.then(|| std::fs::read_to_string(settings.proxy_lock()).ok()).flatten();
    serve::run(async move |stop| {
        tokio::spawn(async move {
            if listening.await.is_ok() {
                inherit_mark(&mark, before.as_deref());
                tell_systemd();
            }
        });
        tokio::spawn(upgrade_when_asked());
        proxy::run(options, stop).await.map_err(|error| Problem::from(&error))
    })
}

/// The sockets of systemd's that a `.socket` unit has opened for us.
fn inherited() -> Vec<std::net::TcpListener> {
    let mut given = listenfd::ListenFd::from_env();
    (0..given.len()).filter_map(|number| given.take_tcp_listener(number).ok().flatten()).collect()
}

/// A proxy in the place of one that a server has started is that server's, too.
fn inherit_mark(mark: &std::path::Path, before: Option<&str>) {
    let marked = std::fs::read_to_string(mark).ok();
    if let (Some(marked), Some(before)) = (marked, before)
        && marked.trim() == before.trim()
        && let Err(error) = std::fs::write(mark, std::process::id().to_string())
    {
        tracing::warn!(path = %mark.display(), %error, "a server will not know this proxy for its own");
    }
}

/// On SIGHUP the program that stands in our place on disk now takes over.
async fn upgrade_when_asked() {
    let Ok(mut asked) = signal(SignalKind::hangup()) else { return };
    while asked.recv().await.is_some() {
        tracing::info!("starting a proxy that takes over");
        let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        if !arguments.iter().any(|word| word == "--upgrade") {
            arguments.push("--upgrade".into());
        }
        let started = spawn::own_executable()
            .and_then(|path| spawn::successor(&path, &arguments, settings::proxy_environment()));
        match started {
            Ok(mut child) => {
                tokio::spawn(async move {
                    if let Ok(status) = child.wait().await {
                        tracing::warn!(%status, "the proxy that was to take over has ended");
                    }
                });
            }
            Err(error) => tracing::error!(%error, "no proxy to take over could be started"),
        }
    }
}

/// Tells systemd, if it has started us or the proxy before us, that we are its
/// main process and ready.
fn tell_systemd() {
    let Some(place) = settings::notify_socket() else { return };
    let bytes = place.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&place),
    };
    let text = format!("READY=1\nMAINPID={}\n", std::process::id());
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address));
    if let Err(error) = told {
        tracing::warn!(%error, "systemd was not told that the proxy is ready");
    }
}
