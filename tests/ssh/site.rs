//! A server in this process, and real clients for it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use paas::model::{Caller, KeyId, KeyName, Origin, PublicKey};
use paas::output::Streams;
use paas::ssh::{Config, Door, Exec, Limits, host_key, serve};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// A door whose commands show what reached them.
#[derive(Default)]
pub struct TestDoor {
    pub keys: Mutex<Vec<PublicKey>>,
    /// Cancelled: the keys in use are told to have been removed.
    pub revoked: CancellationToken,
    running: Arc<AtomicUsize>,
    was_gone: Arc<AtomicBool>,
}

impl Door for TestDoor {
    fn admit(&self, key: &PublicKey, from: SocketAddr) -> BoxFuture<'_, Option<Caller>> {
        let known = self.keys.lock().unwrap().iter().any(|known| known == key);
        let name = KeyName::parse("ada").unwrap();
        let caller = Caller { key: Some((KeyId(7), name)), origin: Origin::Ssh(from) };
        async move { known.then_some(caller) }.boxed()
    }

    fn revoked(&self, _key: &PublicKey) -> BoxFuture<'static, ()> {
        self.revoked.clone().cancelled_owned().boxed()
    }

    fn run(&self, request: Exec) -> BoxFuture<'static, u32> {
        let (running, was_gone) = (Arc::clone(&self.running), Arc::clone(&self.was_gone));
        async move {
            running.fetch_add(1, SeqCst);
            let status = command(request, &was_gone).await;
            running.fetch_sub(1, SeqCst);
            status
        }
        .boxed()
    }
}

pub async fn command(mut request: Exec, was_gone: &AtomicBool) -> u32 {
    let mut streams = request.streams;
    match request.argv[0].as_str() {
        "cat" => match tokio::io::copy(&mut streams.stdin, &mut streams.stdout).await {
            Ok(_) => 0,
            Err(_) => 9,
        },
        "sum" => {
            let delay = request.argv.get(1).map_or(0, |delay| delay.parse().unwrap());
            sleep(Duration::from_millis(delay)).await;
            let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
            loop {
                match streams.stdin.read(&mut buffer).await {
                    Ok(0) => break,
                    Ok(count) => hash.update(&buffer[..count]),
                    Err(_) => return 9,
                }
            }
            let sum = hex(&hash.finalize());
            streams.stdout.write_all(sum.as_bytes()).await.unwrap();
            0
        }
        "exit" => request.argv[1].parse().unwrap(),
        "both" => {
            streams.stdout.write_all(b"out\n").await.unwrap();
            streams.stderr.write_all(b"err\n").await.unwrap();
            3
        }
        "show" => {
            let text = format!("{:?} {:?} {}\n", request.argv, request.git_protocol, request.caller.name());
            streams.stdout.write_all(text.as_bytes()).await.unwrap();
            0
        }
        "terminal" => {
            let terminal = request.terminal.as_mut().unwrap();
            let mut line = [0; 4];
            streams.stdin.read_exact(&mut line).await.unwrap();
            let text = format!("{} {}x{} {line:?}\n", terminal.name, terminal.columns, terminal.rows);
            streams.stdout.write_all(text.as_bytes()).await.unwrap();
            0
        }
        "wait" => {
            streams.stdout.write_all(b"waiting\n").await.unwrap();
            streams.gone.cancelled().await;
            was_gone.store(true, SeqCst);
            let _ = streams.stderr.write_all(b"cancelled\n").await;
            130
        }
        "flood" => {
            let piece = vec![b'x'; 1 << 20];
            while streams.stdout.write_all(&piece).await.is_ok() {}
            was_gone.store(true, SeqCst);
            1
        }
        "git-receive-pack" | "git-upload-pack" => git(&request.argv, streams).await,
        "panic" => panic!("as asked"),
        other => {
            streams.stderr.write_all(format!("no {other}\n").as_bytes()).await.unwrap();
            1
        }
    }
}

/// Git itself, its streams joined to the client's.
async fn git(argv: &[String], mut streams: Streams) -> u32 {
    let mut command = Command::new(&argv[0]);
    command.arg(&argv[1]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let writing = tokio::spawn(async move { tokio::io::copy(&mut streams.stdin, &mut stdin).await });
    tokio::io::copy(&mut stdout, &mut streams.stdout).await.unwrap();
    let status = child.wait().await.unwrap();
    writing.abort();
    u32::try_from(status.code().unwrap()).unwrap()
}

/// A running server, and keys and files for clients.
pub struct Site {
    pub files: TempDir,
    pub address: SocketAddr,
    pub door: Arc<TestDoor>,
    pub stop: CancellationToken,
    pub server: JoinHandle<()>,
}

impl Site {
    pub async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        SERVER_LOG.get_or_init(Record::start);
        let files = tempfile::tempdir().unwrap();
        let key = host_key(&files.path().join("host_key")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = Arc::<TestDoor>::default();
        let stop = CancellationToken::new();
        let config = Config { limits, ..Config::new(key, files.path().to_owned()) };
        let serving = serve(listener, config, Arc::clone(&door), stop.clone());
        let server = tokio::spawn(async { serving.await.unwrap() });
        let site = Self { files, address, door, stop, server };
        let known = site.make_key("id", "ed25519").await;
        site.door.keys.lock().unwrap().push(known);
        site
    }

    pub fn path(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }

    pub async fn make_key(&self, name: &str, kind: &str) -> PublicKey {
        let path = self.path(name);
        let arguments = ["-q", "-t", kind, "-N", "", "-C", name, "-f", &path];
        assert!(Command::new("ssh-keygen").args(arguments).status().await.unwrap().success());
        let text = std::fs::read_to_string(format!("{path}.pub")).unwrap();
        PublicKey::parse(&text).unwrap()
    }

    /// `ssh` with nothing of this machine's configuration.
    pub fn client(&self, program: &str, key: &str, options: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.files.path());
        command.args(["-F", "/dev/null", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]);
        command.args(["-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]);
        command.args(["-o", &format!("UserKnownHostsFile={}", self.path("known_hosts"))]);
        command.args(["-o", &format!("Port={}", self.address.port())]);
        command.args(["-i", &self.path(key)]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub fn ssh(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = self.client("ssh", "id", options);
        command.arg("paas@127.0.0.1").args(words);
        command
    }

    /// Output of `ssh … words`, which must not hang.
    pub async fn run(&self, options: &[&str], words: &[&str]) -> Output {
        done(&mut self.ssh(options, words)).await
    }

    /// `git words` in `directory`, with our client for SSH.
    pub async fn git(&self, directory: &str, words: &[&str]) -> Output {
        let ssh = self.client("ssh", "id", &[]);
        let ssh = std::iter::once("ssh").chain(ssh.as_std().get_args().map(|word| word.to_str().unwrap()));
        let mut command = Command::new("git");
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.files.path());
        command.env("GIT_SSH_COMMAND", shell_words::join(ssh)).args(["-C", directory]).args(words);
        let output = timeout(Duration::from_secs(60), command.output()).await.expect("git hangs").unwrap();
        assert!(output.status.success(), "git {words:?}: {}", stderr(&output));
        output
    }

    pub fn running(&self) -> usize {
        self.door.running.load(SeqCst)
    }

    pub async fn until_waiting(&self, child: &mut Child) {
        let mut line = [0; 8];
        child.stdout.as_mut().unwrap().read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"waiting\n");
    }

    /// Time until the command's `gone` was cancelled.
    pub async fn until_gone(&self) -> Duration {
        let start = Instant::now();
        while !self.door.was_gone.load(SeqCst) {
            assert!(start.elapsed() < Duration::from_secs(20), "the command was never told");
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }
}

pub async fn done(command: &mut Command) -> Output {
    timeout(Duration::from_secs(30), command.output()).await.expect("the client hangs").unwrap()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).replace('\r', "")
}

/// Bytes that don't repeat soon.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// What the servers of this process log, for people to read.
static SERVER_LOG: OnceLock<Record> = OnceLock::new();

#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<u8>>>);

impl Record {
    fn start() -> Self {
        let record = Self::default();
        let writer = record.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        log.with_max_level(tracing::Level::INFO).init();
        record
    }
}

impl std::io::Write for Record {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Waits for a line of the servers' log in which all these words are.
pub async fn logged(words: &[&str]) {
    let start = Instant::now();
    loop {
        let log = String::from_utf8(SERVER_LOG.get().unwrap().0.lock().unwrap().clone()).unwrap();
        if log.lines().any(|line| words.iter().all(|word| line.contains(word))) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{words:?} are not in:\n{log}");
        sleep(Duration::from_millis(20)).await;
    }
}
