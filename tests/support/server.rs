//! The server under test.

use super::app::TestApp;
use super::http::{self, Reply};
use super::run::{Finished, Running, run};
use nix::mount::MsFlags;
use std::fmt::Write as _;
use std::io::BufRead;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// The binary under test.
pub const PAAS: &str = env!("CARGO_BIN_EXE_paas");

/// How long the server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);

/// As users have them, but for the watch after a promotion: by default a test would
/// wait for a minute until the old processes are gone.
const SETTINGS: &str = "[deploy]\nwatch = \"2s\"\n";

/// `paas serve` in a directory of its own, with one key that may use it.
pub struct Server {
    pub home: PathBuf,
    pub ssh_port: u16,
    pub http_port: u16,
    api_port: u16,
    /// URL of its engine, if that is not the machine's.
    engine: Option<String>,
    serve: Mutex<Option<Child>>,
    /// Its standard input tells it that we have ended.
    _reaper: Child,
}

static SERVER: OnceLock<Server> = OnceLock::new();
static TURN: RwLock<()> = RwLock::new(());

/// The server of this test binary, with other tests beside this one.
pub fn shared() -> (&'static Server, RwLockReadGuard<'static, ()>) {
    (SERVER.get_or_init(|| Server::start(None)), TURN.read().unwrap_or_else(PoisonError::into_inner))
}

/// The server of this test binary, alone: for tests that kill it or that look
/// for everything that is left over.
pub fn alone() -> (&'static Server, RwLockWriteGuard<'static, ()>) {
    (SERVER.get_or_init(|| Server::start(None)), TURN.write().unwrap_or_else(PoisonError::into_inner))
}

/// A server that uses another engine than the machine's.
pub fn on_engine(url: &str) -> &'static Server {
    Box::leak(Box::new(Server::start(Some(url.to_owned()))))
}

/// A server whose data is on a disk of so many MiB.
pub fn on_small_disk(mib: u32) -> &'static Server {
    let server = Server::prepared(None, |home| {
        let data = home.join("data");
        std::fs::create_dir(&data).unwrap();
        let size = format!("size={mib}m,mode=700");
        // The reaper takes it away.
        nix::mount::mount(Some("tmpfs"), &data, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
            .unwrap();
    });
    Box::leak(Box::new(server))
}

/// A free loopback port below the ephemeral ones, so that no outgoing
/// connection takes it meanwhile.
pub fn free_port() -> u16 {
    let start = u16::try_from(std::process::id() % 2000).unwrap();
    static NEXT: Mutex<u16> = Mutex::new(0);
    let mut next = NEXT.lock().unwrap();
    loop {
        let port = 30_000 + (start + *next) % 2700;
        *next += 1;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Its holder's server is the only one of its lane on this machine; script/test has several.
fn lock() -> String {
    let lane = std::env::var("PAAS_TEST_LANE").map_or_else(|_| String::new(), |lane| format!("-{lane}"));
    format!("/tmp/paas-tests{lane}.lock")
}

impl Server {
    fn start(engine: Option<String>) -> Self {
        Self::prepared(engine, |_| {})
    }

    /// Starts it after something was done to its directory.
    fn prepared(engine: Option<String>, prepare: impl FnOnce(&Path)) -> Self {
        let home = tempfile::Builder::new().prefix("paas-test.").tempdir().unwrap().keep();
        let mut reaper = Command::new("flock")
            .args([&lock(), "sh"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/reaper.sh"))
            .arg(PAAS)
            .arg(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(reaper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        prepare(&home);
        let server = Self {
            home,
            ssh_port: free_port(),
            http_port: free_port(),
            api_port: free_port(),
            engine,
            serve: Mutex::new(None),
            _reaper: reaper,
        };
        std::fs::write(server.home.join("serve.sh"), server.serve_script()).unwrap();
        std::fs::write(server.home.join("server.toml"), SETTINGS).unwrap();
        server.spawn();
        server.add_key();
        server
    }

    /// `exec paas serve …`, in a file so that the reaper can do it too.
    fn serve_script(&self) -> String {
        let home = self.home.display();
        let mut script =
            format!("exec '{PAAS}' serve --data-dir '{home}/data' --config '{home}/server.toml'");
        for (flag, port) in [("ssh", self.ssh_port), ("http", self.http_port), ("api", self.api_port)] {
            write!(script, " --{flag}-listen 127.0.0.1:{port}").unwrap();
        }
        if let Some(url) = &self.engine {
            write!(script, " --engine '{url}'").unwrap();
        }
        script + " --domain localhost\n"
    }

    /// Starts `paas serve`.
    fn start_process(&self) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.home.join("serve.log")).unwrap();
        let child = Command::new("sh")
            .arg(self.home.join("serve.sh"))
            .env("PAAS_STOP_AT_FILE", self.home.join("stop-at"))
            .env("PAAS_CLOCK_FILE", self.home.join("clock"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        std::fs::write(self.home.join("serve.pid"), child.id().to_string()).unwrap();
        *self.serve.lock().unwrap() = Some(child);
    }

    /// Starts `paas serve` and waits until it answers.
    #[track_caller]
    fn spawn(&self) {
        self.start_process();
        let end = std::time::Instant::now() + START_LIMIT;
        while !self.answers() {
            let ended = self.serve.lock().unwrap().as_mut().unwrap().try_wait().unwrap().is_some();
            assert!(!ended && std::time::Instant::now() < end, "paas serve did not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the local socket and the SSH port answer.
    fn answers(&self) -> bool {
        std::net::TcpStream::connect(("127.0.0.1", self.ssh_port)).is_ok() && self.paas(&["status"]).code == 0
    }

    fn add_key(&self) {
        self.make_key("id");
        let key = std::fs::read(self.home.join("id.pub")).unwrap();
        self.paas_with(&["keys:add", "tester"], &key).ok();
    }

    /// An Ed25519 key pair at `home/NAME` and `home/NAME.pub`.
    pub fn make_key(&self, name: &str) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(self.home.join(name));
        run(command, b"").ok();
    }

    /// The end of the server's own log, for messages of failed tests.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.home.join("serve.log")).unwrap_or_default();
        let tail = log.len().saturating_sub(8000);
        String::from_utf8_lossy(&log[tail..]).into_owned()
    }

    /// `paas --data-dir … ARGS` on the server, over its local socket.
    pub fn paas(&self, args: &[&str]) -> Finished {
        self.paas_with(args, b"")
    }

    /// The same with something on standard input.
    pub fn paas_with(&self, args: &[&str], input: &[u8]) -> Finished {
        let mut command = Command::new(PAAS);
        command.arg("--data-dir").arg(self.home.join("data")).args(args);
        run(command, input)
    }

    /// What git is to use as its `ssh`: this key, no agent, no settings of the user's.
    pub fn ssh_options(&self, key: &str) -> Vec<String> {
        let home = self.home.display();
        let mut options: Vec<String> = ["-F", "/dev/null", "-i"].map(str::to_owned).into();
        options.push(format!("{home}/{key}"));
        let known_hosts = format!("UserKnownHostsFile={home}/known_hosts");
        let fixed =
            ["IdentitiesOnly=yes", "StrictHostKeyChecking=accept-new", "LogLevel=ERROR", "BatchMode=yes"];
        for option in fixed.into_iter().chain([known_hosts.as_str()]) {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    /// `ssh paas@server ARGS` with the key `key` and further options of ssh.
    pub fn ssh_command(&self, key: &str, options: &[&str], args: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.env_remove("SSH_AUTH_SOCK").args(self.ssh_options(key)).args(options);
        command.args(["-p", &self.ssh_port.to_string(), "paas@127.0.0.1"]).args(args);
        command
    }

    /// `ssh paas@server ARGS`.
    pub fn ssh(&self, args: &[&str]) -> Finished {
        self.ssh_with(args, b"")
    }

    /// The same with something on standard input.
    pub fn ssh_with(&self, args: &[&str], input: &[u8]) -> Finished {
        run(self.ssh_command("id", &[], args), input)
    }

    /// The same, left running.
    pub fn ssh_running(&self, args: &[&str]) -> Running {
        Running::start(self.ssh_command("id", &[], args), b"")
    }

    /// `ssh://paas@127.0.0.1:PORT/APP`
    pub fn remote(&self, app: &str) -> String {
        format!("ssh://paas@127.0.0.1:{}/{app}", self.ssh_port)
    }

    /// A GET over the proxy for this app's default host name.
    pub fn get(&self, app: &str, path: &str) -> Reply {
        self.try_get(app, path).unwrap_or_else(|error| panic!("GET {app}{path}: {error}\n{}", self.log()))
    }

    /// The same, with the connection's errors as a value.
    pub fn try_get(&self, app: &str, path: &str) -> std::io::Result<Reply> {
        http::get(self.http_port, &format!("{app}.localhost:{}", self.http_port), path)
    }

    /// The same with further lines in the request's head.
    pub fn try_get_with(&self, app: &str, path: &str, head: &[String]) -> std::io::Result<Reply> {
        http::get_with(self.http_port, &format!("{app}.localhost:{}", self.http_port), path, head)
    }

    /// An app of a unique name that begins with `prefix`; destroyed on drop.
    pub fn app(&'static self, prefix: &str) -> TestApp {
        TestApp::new(self, prefix)
    }

    /// SIGKILL to the control plane alone.
    pub fn kill9(&self) {
        let mut serve = self.serve.lock().unwrap();
        let child = serve.as_mut().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, as a supervisor stops it; it has 30 seconds.
    pub fn stop(&self) {
        let mut serve = self.serve.lock().unwrap();
        let child = serve.as_mut().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        super::eventually("serve ends on SIGTERM", Duration::from_secs(30), || {
            child.try_wait().unwrap().is_some()
        });
    }

    /// Starts it again after `kill9` or `stop`.
    #[track_caller]
    pub fn restart(&self) {
        self.spawn();
    }

    /// Starts it again with this server.toml.
    #[track_caller]
    pub fn configure(&self, settings: &str) {
        self.stop();
        std::fs::write(self.home.join("server.toml"), settings).unwrap();
        self.restart();
    }

    /// Starts it again where it may refuse; whether it serves.
    pub fn try_restart(&self) -> bool {
        self.start_process();
        let end = std::time::Instant::now() + START_LIMIT;
        while !self.answers() {
            if self.serve.lock().unwrap().as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            assert!(std::time::Instant::now() < end, "paas serve neither starts nor ends:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Sets the clock that the control plane sees, in seconds from the true time.
    pub fn set_clock_ahead(&self, seconds: i64) {
        std::fs::write(self.home.join("clock"), seconds.to_string()).unwrap();
    }

    /// Lets no proxy run until that is dropped. The server is killed and starts again.
    pub fn without_proxy(&self) -> std::fs::File {
        self.stop();
        let lock = std::fs::File::open(self.home.join("data/proxy.lock")).unwrap();
        lock.try_lock().unwrap();
        self.restart();
        lock
    }

    /// Makes the control plane stop at this place; see `src/failpoint.rs`.
    pub fn stop_at(&self, place: &str) {
        std::fs::write(self.home.join("stop-at"), place).unwrap();
    }

    /// Takes that back; one that has stopped goes on.
    pub fn stop_nowhere(&self) {
        let _ = std::fs::remove_file(self.home.join("stop-at"));
        let pid = nix::unistd::Pid::from_raw(self.pid().try_into().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT);
    }

    /// Waits until it has stopped there.
    #[track_caller]
    pub fn wait_stopped(&self) {
        let stat = format!("/proc/{}/stat", self.pid());
        super::eventually("the control plane stops where it shall", Duration::from_secs(60), || {
            std::fs::read_to_string(&stat).unwrap().rsplit(") ").next().unwrap().starts_with('T')
        });
    }

    /// SIGKILL to the stopped control plane; with `all`, first to everything that
    /// it has started, git and its hooks, but not to the proxy.
    pub fn kill_stopped(&self, all: bool) {
        let _ = std::fs::remove_file(self.home.join("stop-at"));
        if all {
            children_of(self.pid()).into_iter().for_each(kill_tree);
        }
        self.kill9();
    }

    fn pid(&self) -> u32 {
        self.serve.lock().unwrap().as_ref().unwrap().id()
    }

    /// Starts it again, to stop at the place that `stop_at` has named before it answers.
    pub fn restart_until_stopped(&self) {
        self.start_process();
        self.wait_stopped();
    }

    /// Resident memory of the control plane, in KiB.
    pub fn memory_kib(&self) -> u64 {
        let pid = self.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// Processes that this one has started, but for the proxy.
fn children_of(pid: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |child: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse::<u32>().ok());
        let line = std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        parent == Some(pid) && !line.split('\0').any(|word| word == "proxy")
    };
    all.filter(is_child).collect()
}

fn kill_tree(pid: u32) {
    let children = children_of(pid);
    let target = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
    let _ = nix::sys::signal::kill(target, nix::sys::signal::Signal::SIGKILL);
    children.into_iter().for_each(kill_tree);
}
