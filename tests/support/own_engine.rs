//! An engine of a test's own, which may be restarted while others use the machine's.
//!
//! The thread that starts it moves into a network of its own first, and so do
//! all processes that this thread starts from then on: two engines in one
//! network would undo each other's firewall rules. Its mounts are its own too.
//! Both vanish with the last of these processes.

use super::run::{Finished, run};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long it may take to start, and to stop what runs in it.
const LIMIT: Duration = Duration::from_secs(60);

/// A `dockerd` in a directory of its own.
pub struct OwnEngine {
    home: PathBuf,
    flags: Vec<String>,
    /// Its standard input tells it that we have ended.
    _reaper: Child,
}

impl OwnEngine {
    /// Moves this thread into a network of its own, and starts an engine there.
    pub fn start() -> Self {
        Self::with(Vec::new)
    }

    /// The same with further flags, which are made in that network.
    pub fn with(flags: impl FnOnce() -> Vec<String>) -> Self {
        enter_own_network();
        let flags = flags();
        let home = tempfile::Builder::new().prefix("paas-engine.").tempdir().unwrap().keep();
        let mut reaper = Command::new("sh")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/engine-reaper.sh"))
            .arg(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(reaper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let engine = Self { home, flags, _reaper: reaper };
        engine.start_again();
        engine
    }

    pub fn url(&self) -> String {
        format!("unix://{}/engine.sock", self.home.display())
    }

    /// `docker ARGS` with this engine.
    pub fn docker(&self, args: &[&str]) -> Finished {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.url()).args(args);
        run(command, b"")
    }

    /// Stops it as a supervisor does, which stops every container, and starts it again.
    pub fn restart(&self) {
        self.stop();
        self.start_again();
    }

    /// Stops it as a supervisor does, and every container with it.
    pub fn stop(&self) {
        self.signal(Signal::SIGTERM);
        super::eventually("the engine ends on SIGTERM", LIMIT, || !self.home.join("engine.pid").exists());
    }

    /// Kills it; what runs in it runs on until another is there.
    pub fn kill(&self) {
        let pid = self.signal(Signal::SIGKILL);
        super::eventually("the engine ends on SIGKILL", LIMIT, || {
            !Path::new(&format!("/proc/{pid}")).exists()
        });
        let _ = std::fs::remove_file(self.home.join("engine.pid"));
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.home.join("engine.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn signal(&self, signal: Signal) -> Pid {
        let pid = std::fs::read_to_string(self.home.join("engine.pid")).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap());
        kill(pid, signal).unwrap();
        pid
    }

    /// Starts it after `stop` or `kill`.
    pub fn start_again(&self) {
        let log = self.home.join("engine.log");
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let at = |name: &str| self.home.join(name).display().to_string();
        Command::new("setsid")
            .args(["--fork", "dockerd", "--host", &self.url(), "--bridge", "none"])
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("engine.pid")])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .status()
            .unwrap();
        super::eventually("the engine answers", LIMIT, || self.docker(&["version"]).code == 0);
    }
}

fn enter_own_network() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    // The system's containerd, if there is one, is not for this engine.
    let _ = mount(Some("none"), "/run/containerd", Some("tmpfs"), MsFlags::empty(), nothing);
    let mut command = Command::new("busybox");
    command.args(["ip", "link", "set", "lo", "up"]);
    run(command, b"").ok();
}
