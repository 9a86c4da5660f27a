//! The only place that starts a process.
//!
//! Fixed programs, typed arguments, an empty environment but for what is set
//! here, a process group of its own. There is no shell and no way to pass a
//! client's words as options.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// Where programs are looked for, whatever the environment says.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that git may know of the outside.
const GIT_ENVIRONMENT: [(&str, &str); 6] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C.UTF-8"),
];

/// A child with a clean environment, its own process group, and stdin closed.
#[allow(clippy::disallowed_methods)] // here and nowhere else
fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    command
}

/// `git` with the given fixed arguments.
pub fn git<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> Command {
    let mut command = clean("git");
    command.envs(GIT_ENVIRONMENT).args(arguments);
    command
}

/// `debootstrap --variant=minbase SUITE TARGET MIRROR`; needs root.
/// `proxy` are the administrator's proxy settings (`http_proxy`, …).
pub fn debootstrap(suite: &str, target: &Path, mirror: &str, proxy: &[(String, String)]) -> Command {
    let mut command = clean("debootstrap");
    command.envs(proxy.iter().map(|(key, value)| (key, value)));
    command.arg("--variant=minbase").arg(suite).arg(target).arg(mirror);
    command
}

/// `iptables -w 5 -t TABLE ACTION CHAIN RULE…`; needs root.
pub fn iptables(table: &str, action: &str, chain: &str, rule: &[&str]) -> Command {
    let mut command = clean("iptables");
    command.args(["-w", "5", "-t", table, action, chain]).args(rule);
    command
}

/// The administrator's program that writes DNS records: `PROGRAM PHASE NAME VALUE`.
/// The three are ours: a fixed word, a checked name, and letters of base64.
pub fn dns_hook(program: &Path, arguments: [&str; 3]) -> Command {
    let mut command = clean(program);
    command.args(arguments);
    command
}

/// This same binary as `paas proxy --data-dir DIR …`, which outlives us: its own
/// session, not killed on drop, output to the given files.
pub fn proxy(
    executable: &Path,
    arguments: &[&OsStr],
    log: std::fs::File,
) -> std::io::Result<tokio::process::Child> {
    let mut command = clean(executable);
    command.arg("proxy").args(arguments).kill_on_drop(false);
    command.stdout(Stdio::null()).stderr(log);
    command.spawn()
}

/// The same again, by a proxy that is to be succeeded: with its words, its
/// settings and its standard streams.
pub fn successor(
    executable: &Path,
    arguments: &[std::ffi::OsString],
    environment: Vec<(&'static str, String)>,
) -> std::io::Result<tokio::process::Child> {
    let mut command = clean(executable);
    command.args(arguments).envs(environment).kill_on_drop(false).spawn()
}

/// Asks a process to end.
pub fn terminate(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
}

/// Path of the running binary; if it was replaced since, of what is there now.
pub fn own_executable() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    // So Linux writes the path of a program whose file is gone.
    let replaced = path.to_str().and_then(|text| text.strip_suffix(" (deleted)"));
    Ok(replaced.map_or_else(|| path.clone(), PathBuf::from))
}

/// The same command, its child holding `descriptor` open for its whole life.
pub fn holding(mut command: Command, descriptor: std::os::fd::OwnedFd) -> Command {
    use command_fds::{CommandFdExt, FdMapping};
    // 3 is the first number that is no standard stream; git passes it on to its hooks.
    let mapping = FdMapping { parent_fd: descriptor, child_fd: 3 };
    // A collision needs the same number twice; there is one.
    let _ = command.fd_mappings(vec![mapping]);
    command
}

/// Ends a process group: SIGTERM so that git removes its lock files, and
/// SIGKILL shortly after for whoever stays.
pub fn end_group(group: Option<u32>) {
    use nix::sys::signal::{Signal, killpg};
    use nix::unistd::Pid;
    let Some(group) = group.and_then(|group| i32::try_from(group).ok()).map(Pid::from_raw) else { return };
    let _ = killpg(group, Signal::SIGTERM);
    std::thread::spawn(move || {
        for _ in 0..40 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            if killpg(group, None).is_err() {
                return;
            }
        }
        let _ = killpg(group, Signal::SIGKILL);
    });
}

/// Ends a process group at once.
pub fn kill_group(group: i32) {
    let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
}
