//! The SSH entrance against the real `ssh` client.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use paas::model::{Caller, KeyId, KeyName, Origin};
use paas::ssh::{Config, Door, Exec, Limits, host_key, serve};
use russh::keys::PublicKey;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// A door whose commands show what reached them.
#[derive(Default)]
struct TestDoor {
    keys: Mutex<Vec<PublicKey>>,
    running: Arc<AtomicUsize>,
    was_gone: Arc<AtomicBool>,
}

impl Door for TestDoor {
    fn admit(&self, key: &PublicKey, from: SocketAddr) -> BoxFuture<'_, Option<Caller>> {
        let known = self.keys.lock().unwrap().iter().any(|known| known.key_data() == key.key_data());
        let name = KeyName::parse("ada").unwrap();
        let caller = Caller { key: Some((KeyId(7), name)), origin: Origin::Ssh(from) };
        async move { known.then_some(caller) }.boxed()
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

async fn command(mut request: Exec, was_gone: &AtomicBool) -> u32 {
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
        "panic" => panic!("as asked"),
        other => {
            streams.stderr.write_all(format!("no {other}\n").as_bytes()).await.unwrap();
            1
        }
    }
}

/// A running server, and keys and files for clients.
struct Site {
    files: TempDir,
    address: SocketAddr,
    door: Arc<TestDoor>,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Site {
    async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
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

    fn path(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }

    async fn make_key(&self, name: &str, kind: &str) -> PublicKey {
        let path = self.path(name);
        let arguments = ["-q", "-t", kind, "-N", "", "-C", name, "-f", &path];
        assert!(Command::new("ssh-keygen").args(arguments).status().await.unwrap().success());
        let text = std::fs::read_to_string(format!("{path}.pub")).unwrap();
        PublicKey::from_openssh(&text).unwrap()
    }

    /// `ssh` with nothing of this machine's configuration.
    fn client(&self, program: &str, key: &str, options: &[&str]) -> Command {
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

    fn ssh(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = self.client("ssh", "id", options);
        command.arg("paas@127.0.0.1").args(words);
        command
    }

    /// Output of `ssh … words`, which must not hang.
    async fn run(&self, options: &[&str], words: &[&str]) -> Output {
        done(&mut self.ssh(options, words)).await
    }

    fn running(&self) -> usize {
        self.door.running.load(SeqCst)
    }

    async fn until_waiting(&self, child: &mut Child) {
        let mut line = [0; 8];
        child.stdout.as_mut().unwrap().read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"waiting\n");
    }

    /// Time until the command's `gone` was cancelled.
    async fn until_gone(&self) -> Duration {
        let start = Instant::now();
        while !self.door.was_gone.load(SeqCst) {
            assert!(start.elapsed() < Duration::from_secs(20), "the command was never told");
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }
}

async fn done(command: &mut Command) -> Output {
    timeout(Duration::from_secs(30), command.output()).await.expect("the client hangs").unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).replace('\r', "")
}

/// Bytes that don't repeat soon.
fn noise(length: usize) -> Vec<u8> {
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

fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_its_streams_and_exit_status() {
    let site = Site::start().await;
    let output = site.run(&[], &["both"]).await;
    assert_eq!((stdout(&output), stderr(&output)), ("out\n".into(), "err\n".into()));
    assert_eq!(output.status.code(), Some(3));
    for status in [0, 1, 130, 255] {
        assert_eq!(site.run(&[], &["exit", &status.to_string()]).await.status.code(), Some(status));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_panics_ends_with_one_line() {
    let site = Site::start().await;
    let output = site.run(&[], &["panic"]).await;
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stderr(&output), @"The server failed over this command: its log says more");
    assert_eq!(site.run(&[], &["exit", "0"]).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_the_identity_whatever_the_user_name() {
    let site = Site::start().await;
    for user in ["git", "root", "paas", "a b", "ж"] {
        let mut command = site.client("ssh", "id", &["-l", user, "127.0.0.1", "show"]);
        let output = done(&mut command).await;
        assert_eq!(stdout(&output), "[\"show\"] None ada\n", "{user} {}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strange_key_is_refused_and_told_nothing() {
    let site = Site::start().await;
    site.make_key("stranger", "ed25519").await;
    let output = done(&mut site.client("ssh", "stranger", &["paas@127.0.0.1", "show"])).await;
    assert_eq!(output.status.code(), Some(255));
    assert_eq!(stderr(&output), "paas@127.0.0.1: Permission denied (publickey).\n");
    assert_eq!(site.running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_public_key_without_its_secret_is_no_identity() {
    let site = Site::start().await;
    site.make_key("thief", "ed25519").await;
    // The client offers ada's public key and can only sign with its own.
    std::fs::copy(site.path("id.pub"), site.path("thief.pub")).unwrap();
    let output = done(&mut site.client("ssh", "thief", &["paas@127.0.0.1", "show"])).await;
    assert_eq!(output.status.code(), Some(255));
    assert!(stdout(&output).is_empty(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_kinds_of_keys_work_too() {
    let site = Site::start().await;
    for kind in ["rsa", "ecdsa"] {
        let key = site.make_key(kind, kind).await;
        site.door.keys.lock().unwrap().push(key);
        let output = done(&mut site.client("ssh", kind, &["paas@127.0.0.1", "exit", "4"])).await;
        assert_eq!(output.status.code(), Some(4), "{kind}: {}", stderr(&output));
    }
    let old = ["-o", "PubkeyAcceptedAlgorithms=ssh-rsa", "paas@127.0.0.1", "show"];
    let output = done(&mut site.client("ssh", "rsa", &old)).await;
    assert_eq!(output.status.code(), Some(255), "SHA-1 signatures are refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_split_and_never_expanded() {
    let site = Site::start().await;
    let output = site.run(&[], &["show 'a b' \"$HOME\" $(id) ; rm -rf / `id` ../x | y"]).await;
    insta::assert_snapshot!(stdout(&output), @r#"["show", "a b", "$HOME", "$(id)", ";", "rm", "-rf", "/", "`id`", "../x", "|", "y"] None ada"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_command_lines_get_one_line_and_status_1() {
    let site = Site::start().await;
    let long = "a".repeat(100_000);
    let mut said = String::new();
    for words in [&["apps 'x"][..], &[&long], &["   "], &[]] {
        let output = site.run(&[], words).await;
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        said.push_str(&stderr(&output));
    }
    let mut command = site.ssh(&[], &[]);
    command.arg(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff\xfe"));
    let output = done(&mut command).await;
    assert_eq!(output.status.code(), Some(1));
    said.push_str(&stderr(&output));
    insta::assert_snapshot!(said, @r#"
    The command has a quote that is never closed: check its ' and "
    The command has 100000 bytes, 65536 is the limit: use stdin
    Give a command: ssh paas help
    Give a command: ssh paas help
    The command is not UTF-8 text: write it in UTF-8
    "#);
    assert_eq!(site.running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_of_a_megabyte_ends_in_one_line() {
    let site = Site::start().await;
    let words = vec!["a".repeat(100_000); 10];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = site.run(&[], &words).await;
    assert_ne!(output.status.code(), Some(0));
    insta::assert_snapshot!(stderr(&output), @"Connection to 127.0.0.1 closed by remote host.");
    assert_eq!(site.run(&[], &["exit", "0"]).await.status.code(), Some(0), "others are served");
}

#[tokio::test(flavor = "multi_thread")]
async fn subsystems_and_terminals_without_a_command_are_answered() {
    let site = Site::start().await;
    let mut said = String::new();
    for (options, words) in [(&["-s"][..], &["sftp"][..]), (&["-tt"], &[]), (&["-T"], &[])] {
        let output = site.run(options, words).await;
        assert_eq!(output.status.code(), Some(1), "{options:?} {}", stderr(&output));
        said.push_str(&stderr(&output));
    }
    insta::assert_snapshot!(said, @r#"
    There is no "sftp" here: use git push, or ssh paas help
    Give a command: ssh paas help
    Give a command: ssh paas help
    "#);
    for (program, arguments) in [
        ("sftp", &["127.0.0.1"][..]),
        ("scp", &["/etc/hostname", "127.0.0.1:/tmp/x"]),
        ("scp", &["-O", "/etc/hostname", "127.0.0.1:/tmp/x"]),
    ] {
        let mut command = site.client(program, "id", arguments);
        let output = done(&mut command).await;
        assert_ne!(output.status.code(), Some(0), "{program}");
        assert!(!stderr(&output).is_empty(), "{program}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forwarded_and_nobody_hangs() {
    let site = Site::start().await;
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = format!("0:{}", target.local_addr().unwrap());
    for options in [
        &["-o", "ExitOnForwardFailure=yes", "-R", &remote][..],
        &["-o", "ExitOnForwardFailure=yes", "-R", "/tmp/paas-test.sock:/tmp/y"],
        &["-W", &target.local_addr().unwrap().to_string()],
    ] {
        let mut command = site.client("ssh", "id", options);
        let output =
            done(command.arg("paas@127.0.0.1").args(["exit", "0"][..].iter().filter(|_| options[0] != "-W")))
                .await;
        assert_eq!(output.status.code(), Some(255), "{options:?}");
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
    assert!(timeout(Duration::from_millis(100), target.accept()).await.is_err());
    for options in [&["-A"][..], &["-X"], &["-Y"]] {
        let mut command = site.ssh(options, &["exit", "5"]);
        let output = done(command.env("DISPLAY", ":0").env("SSH_AUTH_SOCK", "/tmp/none")).await;
        assert_eq!(output.status.code(), Some(5), "{options:?} {}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_environment_only_the_git_protocol_passes() {
    let site = Site::start().await;
    let mut seen = String::new();
    for setting in [
        "GIT_PROTOCOL=version=2",
        "GIT_PROTOCOL=version=3",
        "GIT_PROTOCOL=version=2:x=y",
        "GIT_CONFIG_PARAMETERS='core.pager=id'",
        "GIT_TRACE=/tmp/x",
        "LD_PRELOAD=/tmp/x.so",
    ] {
        let output = site.run(&["-o", &format!("SetEnv={setting}")], &["show"]).await;
        seen.push_str(&[setting, " ", &stdout(&output)].concat());
    }
    insta::assert_snapshot!(seen, @r#"
    GIT_PROTOCOL=version=2 ["show"] Some("version=2") ada
    GIT_PROTOCOL=version=3 ["show"] None ada
    GIT_PROTOCOL=version=2:x=y ["show"] None ada
    GIT_CONFIG_PARAMETERS='core.pager=id' ["show"] None ada
    GIT_TRACE=/tmp/x ["show"] None ada
    LD_PRELOAD=/tmp/x.so ["show"] None ada
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_megabytes_both_ways_at_once() {
    let site = Site::start().await;
    let data = noise(200 << 20);
    let expected = hex(&Sha256::digest(&data));
    let before = memory();
    let mut child = site.ssh(&[], &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&data).await.unwrap() });
    let (mut stdout, mut hash, mut buffer) = (child.stdout.take().unwrap(), Sha256::new(), vec![0; 1 << 16]);
    let start = Instant::now();
    let mut most = 0;
    loop {
        let count =
            timeout(Duration::from_secs(20), stdout.read(&mut buffer)).await.expect("deadlock").unwrap();
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        most = most.max(memory());
    }
    writing.await.unwrap();
    println!("200 MB there and back in {:?}, memory {before} → {most} MiB", start.elapsed());
    assert_eq!(hex(&hash.finalize()), expected);
    assert!(most < before + 100, "memory grew from {before} to {most} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_slow_to_read_gets_all_of_it() {
    let site = Site::start().await;
    let data = noise(60 << 20);
    let expected = hex(&Sha256::digest(&data));
    let mut child = site.ssh(&[], &["sum", "1500"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&data).await.unwrap() });
    let output = timeout(Duration::from_secs(30), child.wait_with_output()).await.unwrap().unwrap();
    writing.await.unwrap();
    assert_eq!(stdout(&output), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_is_noticed_within_a_second() {
    let site = Site::start().await;
    let mut child = site.ssh(&[], &["wait"]).spawn().unwrap();
    site.until_waiting(&mut child).await;
    child.kill().await.unwrap();
    assert!(site.until_gone().await < Duration::from_secs(1));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(site.running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_killed_behind_much_unread_input_is_noticed() {
    let site = Site::start().await;
    let mut child = site.ssh(&[], &["wait"]).stdin(Stdio::piped()).spawn().unwrap();
    site.until_waiting(&mut child).await;
    let mut stdin = child.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&vec![0; 64 << 20]).await });
    sleep(Duration::from_millis(800)).await;
    child.kill().await.unwrap();
    assert!(site.until_gone().await < Duration::from_secs(1));
    let _ = writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_a_terminal_cancels_and_the_answer_arrives() {
    let site = Site::start().await;
    let mut child = site.ssh(&["-tt"], &["wait"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 9];
    child.stdout.as_mut().unwrap().read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"waiting\r\n");
    child.stdin.as_mut().unwrap().write_all(b"\x03").await.unwrap();
    assert!(site.until_gone().await < Duration::from_secs(1));
    let output = timeout(Duration::from_secs(5), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "cancelled\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_described_and_its_enter_is_a_line_end() {
    let site = Site::start().await;
    let mut command = site.ssh(&["-tt"], &["terminal"]);
    let mut child = command.env("TERM", "xterm").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"yes\r").await.unwrap();
    let output = timeout(Duration::from_secs(10), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(stdout(&output), "xterm 0x0 [121, 101, 115, 10]\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_harms_nobody() {
    let site = Site::start().await;
    let before = memory();
    let stuck = site.ssh(&[], &["flood"]).spawn().unwrap();
    sleep(Duration::from_millis(1500)).await;
    assert!(memory() < before + 100, "memory grew from {before} to {} MiB", memory());
    let start = Instant::now();
    assert_eq!(site.run(&[], &["exit", "6"]).await.status.code(), Some(6));
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(site.running(), 1);
    drop(stuck);
    assert!(site.until_gone().await < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_session_leaves_others_of_its_connection_alone() {
    let site = Site::start().await;
    let control = site.path("control");
    let shared =
        ["-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o", &format!("ControlPath={control}")];
    let mut opened = site.ssh(&shared, &["exit", "0"]);
    opened.stderr(Stdio::null());
    assert!(timeout(Duration::from_secs(10), opened.status()).await.unwrap().unwrap().success());
    let stuck = site.ssh(&shared, &["flood"]).spawn().unwrap();
    sleep(Duration::from_millis(500)).await;
    for _ in 0..12 {
        assert_eq!(site.run(&shared, &["exit", "6"]).await.status.code(), Some(6));
    }
    drop(stuck);
    site.run(&[&shared[..], &["-O", "exit"]].concat(), &[]).await;
    assert!(site.until_gone().await < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_sessions_in_a_connection_and_no_more() {
    let site = Site::start().await;
    let control = site.path("control");
    let shared =
        ["-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o", &format!("ControlPath={control}")];
    let mut opened = site.ssh(&shared, &["exit", "0"]);
    assert!(
        timeout(Duration::from_secs(10), opened.stderr(Stdio::null()).status())
            .await
            .unwrap()
            .unwrap()
            .success()
    );
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let mut child = site.ssh(&shared, &["wait"]).spawn().unwrap();
        site.until_waiting(&mut child).await;
        waiting.push(child);
    }
    let output = site.run(&[&shared[..], &["-o", "ControlMaster=no"]].concat(), &["exit", "0"]).await;
    assert_eq!(site.running(), 10);
    assert!(stderr(&output).contains("refused") || stderr(&output).contains("open failed"), "{output:?}");
    site.run(&[&shared[..], &["-O", "exit"]].concat(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_ends_with_the_next_command() {
    let site = Site::start().await;
    let control = site.path("control");
    let shared =
        ["-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o", &format!("ControlPath={control}")];
    let mut opened = site.ssh(&shared, &["exit", "0"]);
    assert!(
        timeout(Duration::from_secs(10), opened.stderr(Stdio::null()).status())
            .await
            .unwrap()
            .unwrap()
            .success()
    );
    site.door.keys.lock().unwrap().clear();
    let output = site.run(&shared, &["show"]).await;
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stderr(&output), @"This key is not accepted any more: ask an administrator to add it");
    site.run(&[&shared[..], &["-O", "exit"]].concat(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_strangers_are_few_and_short_lived() {
    let limits = Limits { logins: 8, login_time: Duration::from_millis(700), ..Limits::default() };
    let site = Site::with(limits).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(site.address).await.unwrap());
    }
    let mut greeted = 0;
    for stream in &mut idle {
        let mut byte = [0];
        greeted += timeout(Duration::from_secs(2), stream.read(&mut byte)).await.unwrap().unwrap_or(0);
    }
    assert_eq!(greeted, 8, "the rest is closed at once");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(site.run(&[], &["exit", "0"]).await.status.code(), Some(0), "then others get in");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_at_a_time_is_no_login() {
    let limits = Limits { login_time: Duration::from_millis(600), ..Limits::default() };
    let site = Site::with(limits).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let start = Instant::now();
    for byte in b"SSH-2.0-slow".iter().cycle() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
        assert!(start.elapsed() < Duration::from_secs(3), "it stayed connected");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_command_lives_and_a_frozen_client_does_not() {
    let site = Site::with(Limits { keepalive: Duration::from_millis(300), ..Limits::default() }).await;
    let mut child = site.ssh(&[], &["wait"]).spawn().unwrap();
    site.until_waiting(&mut child).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(site.running(), 1, "silence alone ends nothing");
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGSTOP).unwrap();
    assert!(site.until_gone().await < Duration::from_secs(3));
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_tells_commands_and_waits_for_them() {
    let site = Site::with(Limits { grace: Duration::from_millis(300), ..Limits::default() }).await;
    let mut child = site.ssh(&[], &["wait"]).spawn().unwrap();
    site.until_waiting(&mut child).await;
    site.stop.cancel();
    let output = timeout(Duration::from_secs(10), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(130), "cancelled\n".into()));
    timeout(Duration::from_secs(5), site.server).await.expect("serve ends").unwrap();
    assert!(TcpStream::connect(site.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_in_the_spill_directory() {
    let site = Site::with(Limits { input_memory: 1 << 20, ..Limits::default() }).await;
    let mut child = site.ssh(&[], &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&noise(20 << 20)).await });
    sleep(Duration::from_millis(500)).await;
    let names: Vec<_> =
        Path::new(site.files.path()).read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "{names:?}: two keys, the public key, known_hosts");
    drop(child);
    let _ = writing.await.unwrap();
}
