//! From one proxy to the next, and sockets that others have opened.

use crate::world::*;
use paas::model::{FromProxy, Route};
use paas::proxy::{ProxyLimits, ProxyOptions};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

/// Short enough for a test to see the end of it.
fn limits() -> ProxyLimits {
    ProxyLimits { linger: Duration::from_millis(400), ..ProxyLimits::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_upgrades_under_load_lose_no_request_and_refuse_no_connection() {
    let app = App::start(1).await;
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_owned();
    let first = Proxy::start_in(directory, limits()).await;
    let mut control = first.control().await;
    control.publish(1, vec![route("blog", &[&app])]).await;
    let over = CancellationToken::new();
    let kept: Vec<_> = (0..4).map(|_| tokio::spawn(keep_asking(first.address, over.clone(), true))).collect();
    let new: Vec<_> = (0..4).map(|_| tokio::spawn(keep_asking(first.address, over.clone(), false))).collect();
    let (mut running, address) = (first.running, first.address);
    for version in 2..=11 {
        let (next, mut linked) = Proxy::upgrade(&place, limits(), &control).await;
        linked.publish(version, vec![route("blog", &[&app])]).await;
        assert_eq!(next.bound.await.unwrap().http, address);
        running.await.unwrap().unwrap();
        (running, control) = (next.running, linked);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    over.cancel();
    for client in kept.into_iter().chain(new) {
        let answered = client.await.unwrap();
        assert!(answered > 20, "{answered} requests");
    }
    running.abort();
}

/// One request after another, each on its own connection or as many as possible
/// on one, until the proxy says that it closes; all of them must be answered.
async fn keep_asking(address: std::net::SocketAddr, over: CancellationToken, keep: bool) -> u64 {
    let mut answered = 0;
    let mut stream = None;
    while !over.is_cancelled() {
        let mut open = match stream.take() {
            Some(open) => open,
            None => TcpStream::connect(address).await.expect("a connection"),
        };
        let connection = if keep { "keep-alive" } else { "close" };
        let request = format!("GET / HTTP/1.1\r\nHost: blog.localhost\r\nConnection: {connection}\r\n\r\n");
        open.write_all(request.as_bytes()).await.expect("a request is taken");
        let head = read_head(&mut open).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head:?} after {answered} answers");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        open.read_exact(&mut vec![0; length.parse().unwrap()]).await.expect("a whole answer");
        answered += 1;
        stream = (keep && !head.contains("connection: close")).then_some(open);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    answered
}

#[tokio::test]
async fn what_the_old_one_has_begun_it_finishes_and_the_control_plane_hears_of_it() {
    let old = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await.unwrap();
        let _ = stream.read_u8().await;
        stream.write_all(b" last").await.unwrap();
    })
    .await;
    let new = App::start(2).await;
    let (first, mut control) = Proxy::with(vec![route("blog", &[&old])]).await;
    let place = first.directory.path().to_owned();
    let mut slow = TcpStream::connect(first.address).await.unwrap();
    let request = "POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 1\r\n\r\n";
    slow.write_all(request.as_bytes()).await.unwrap();
    assert!(read_head(&mut slow).await.starts_with("HTTP/1.1 200 "));
    control.publish(2, vec![route("blog", &[&new])]).await;
    let (second, mut linked) = Proxy::upgrade(&place, limits(), &control).await;
    linked.publish(3, vec![route("blog", &[&new])]).await;
    assert_eq!(linked.drained().await, old.target(), "the new one sends it nothing");
    second.bound.await.unwrap();
    assert!(matches!(control.next().await, FromProxy::Retiring));
    // It still follows the table.
    control.publish(3, vec![route("blog", &[&new])]).await;
    assert!(raw(first.address, ASK).await.contains("v2 GET /"));
    control.silence().await;
    slow.write_all(b"x").await.unwrap();
    let mut rest = [0; 10];
    slow.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"first last");
    assert_eq!(control.drained().await, old.target());
    first.running.await.unwrap().unwrap();
    // The lock has gone over: nobody starts beside the new one.
    let third = options(&place, limits(), None);
    assert!(paas::proxy::run(third, CancellationToken::new()).await.is_err());
    second.stop.cancel();
    second.running.await.unwrap().unwrap();
}

const ASK: &str = "GET / HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn an_apps_own_port_is_handed_over_too() {
    let app = App::start(1).await;
    let port = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap().local_addr().unwrap().port();
    let ported = Route { port: Some(port), ..route("blog", &[&app]) };
    let (first, mut control) = Proxy::with(vec![ported.clone()]).await;
    let (second, mut linked) = Proxy::upgrade(first.directory.path(), limits(), &control).await;
    let refused = linked.publish(2, vec![ported]).await;
    assert!(refused.is_empty(), "{refused:?}");
    second.bound.await.unwrap();
    first.running.await.unwrap().unwrap();
    assert!(raw(([127, 0, 0, 1], port).into(), ASK).await.contains("v1 GET /"));
    linked.publish(3, vec![route("blog", &[&app])]).await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "closed by the new one");
    assert!(control.stream.read_u8().await.is_ok(), "the old one said goodbye");
    second.stop.cancel();
}

#[tokio::test]
async fn the_old_one_goes_on_if_the_new_one_dies_half_way() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let place = proxy.directory.path().join("proxy.handover");
    for said in [&b""[..], b"\0\0\0\x04{}{}", b"\0\0\0\x13{\"take\":{\"pid\":12}}"] {
        let mut stream = UnixStream::connect(&place).await.unwrap();
        stream.write_all(said).await.unwrap();
        if said.len() > 10 {
            // It has the offer in hand when it dies.
            assert!(stream.read_u32().await.unwrap() > 0);
        }
        drop(stream);
        assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
    }
    // Nor does one that hears nothing from the control plane and gives up do harm.
    let giving_up = ProxyOptions { upgrade: true, ..options(proxy.directory.path(), limits(), None) };
    let running = tokio::spawn(paas::proxy::run(giving_up, CancellationToken::new()));
    let linked = Control::accept(Arc::clone(&control.listener)).await;
    running.abort();
    drop(linked);
    control.publish(2, vec![route("shop", &[&app])]).await;
    assert!(proxy.get("shop.localhost").await.contains("v1 GET /"));
}

#[tokio::test]
async fn one_that_may_not_take_over_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let listener = tokio::net::UnixListener::bind(directory.path().join("proxy.handover")).unwrap();
    let refusing = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let refusal = serde_json::json!({"no": "it took too long"});
        paas::frame::write(&mut stream, &refusal).await.unwrap();
        stream
    });
    let options = ProxyOptions { upgrade: true, ..options(directory.path(), limits(), None) };
    let error = paas::proxy::run(options, CancellationToken::new()).await.unwrap_err();
    drop(refusing.await.unwrap());
    let told = paas::model::Problem::from(&error).to_string();
    insta::assert_snapshot!(told.replace(&directory.path().display().to_string(), "DIR"), @r"
    The proxy did not take over: the one that runs goes on
    DIR/proxy.handover: it took too long
    Try again; or restart it, which ends its connections.
    ");
}

#[tokio::test]
async fn an_upgrade_of_nothing_is_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let (ready, bound) = tokio::sync::oneshot::channel();
    let options = ProxyOptions { upgrade: true, ..options(directory.path(), limits(), Some(ready)) };
    let stop = CancellationToken::new();
    let running = tokio::spawn(paas::proxy::run(options, stop.clone()));
    assert!(raw(bound.await.unwrap().http, ASK).await.starts_with("HTTP/1.1 404 "));
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// The program itself, killed when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `paas proxy` with a socket that was opened for it, as systemd does it.
#[allow(clippy::disallowed_methods)]
fn activated(directory: &std::path::Path, socket: &std::net::TcpListener) -> Program {
    use command_fds::{CommandFdExt, FdMapping};
    // The process id is known to the process alone.
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" proxy --data-dir \"$1\" --http-listen 127.0.0.1:1";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_paas")]).arg(directory);
    let parent_fd = socket.as_fd().try_clone_to_owned().unwrap();
    command.fd_mappings(vec![FdMapping { parent_fd, child_fd: 3 }]).unwrap();
    Program(command.stderr(Stdio::piped()).spawn().unwrap())
}

fn pid_of(directory: &std::path::Path) -> Option<i32> {
    std::fs::read_to_string(directory.join("proxy.lock")).ok()?.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_takes_systemds_sockets_and_succeeds_itself_on_sighup() {
    use nix::sys::signal::{Signal, kill};
    let app = App::start(1).await;
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let table = serde_json::json!({"version": 1, "routes": {"blog": route("blog", &[&app])}});
    std::fs::write(place.join("routes.snapshot"), table.to_string()).unwrap();
    let socket = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let address = socket.local_addr().unwrap();
    let mut program = activated(place, &socket);
    let first = i32::try_from(program.0.id()).unwrap();
    let mut log = BufReader::new(program.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("proxy listening") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
    }
    let over = CancellationToken::new();
    let clients: Vec<_> =
        [true, false].map(|keep| tokio::spawn(keep_asking(address, over.clone(), keep))).into();
    tokio::time::sleep(Duration::from_millis(100)).await;
    kill(nix::unistd::Pid::from_raw(first), Signal::SIGHUP).unwrap();
    let before = Instant::now();
    while pid_of(place) == Some(first) {
        assert!(before.elapsed() < Duration::from_secs(20), "nobody takes over");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = nix::unistd::Pid::from_raw(pid_of(place).unwrap());
    tokio::time::sleep(Duration::from_millis(300)).await;
    over.cancel();
    for client in clients {
        assert!(client.await.unwrap() > 50);
    }
    kill(second, Signal::SIGTERM).unwrap();
    let status = program.0.wait().unwrap();
    assert!(status.success(), "the old one ends well: {status}");
    // The other end of its log closes when both are gone.
    while log.read_line(&mut line).unwrap() > 0 {}
}

#[tokio::test]
async fn the_program_goes_on_and_ends_when_nobody_takes_its_log() {
    use nix::sys::signal::{Signal, kill};
    let directory = tempfile::tempdir().unwrap();
    let socket = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let mut program = activated(directory.path(), &socket);
    let mut log = BufReader::new(program.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("proxy listening") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
    }
    drop(log);
    kill(nix::unistd::Pid::from_raw(i32::try_from(program.0.id()).unwrap()), Signal::SIGTERM).unwrap();
    let before = Instant::now();
    while program.0.try_wait().unwrap().is_none() {
        assert!(before.elapsed() < Duration::from_secs(20), "it goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(program.0.wait().unwrap().success());
}
