//! The data plane from outside: a real proxy on real sockets, with a control
//! plane and apps made here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use paas::frame;
use paas::model::{AppName, FromProxy, HostName, Route, RouteTable, Target, ToProxy};
use paas::proxy::{self, ProxyError, ProxyLimits, ProxyOptions};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

// The proxy under test, and its control plane.

struct Proxy {
    address: SocketAddr,
    directory: TempDir,
    stop: CancellationToken,
    running: JoinHandle<Result<(), ProxyError>>,
}

impl Proxy {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), ProxyLimits::default()).await
    }

    async fn start_in(directory: TempDir, limits: ProxyLimits) -> Self {
        let (ready, bound) = oneshot::channel();
        let stop = CancellationToken::new();
        let options = options(directory.path(), limits, Some(ready));
        let running = tokio::spawn(proxy::run(options, stop.clone()));
        let address = bound.await.expect("the proxy starts");
        Self { address, directory, stop, running }
    }

    /// A proxy with these routes in force.
    async fn with(routes: Vec<Route>) -> (Self, Control) {
        let proxy = Self::start().await;
        let mut control = proxy.control().await;
        control.publish(1, routes).await;
        (proxy, control)
    }

    /// The control plane comes up, and the proxy with it.
    async fn control(&self) -> Control {
        let socket = self.directory.path().join("proxy.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        Control::accept(listener).await
    }

    async fn stop(self) -> TempDir {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
        self.directory
    }

    /// Everything that comes back for `request` until the connection ends.
    async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        raw(self.address, request).await
    }

    async fn get(&self, host: &str) -> String {
        self.raw(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
    }
}

fn options(
    directory: &Path,
    limits: ProxyLimits,
    ready: Option<oneshot::Sender<SocketAddr>>,
) -> ProxyOptions {
    ProxyOptions {
        http_listen: LOOPBACK.into(),
        snapshot: directory.join("routes.snapshot"),
        socket: directory.join("proxy.sock"),
        lock: directory.join("proxy.lock"),
        limits,
        ready,
    }
}

async fn raw(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

struct Control {
    stream: UnixStream,
    hello: FromProxy,
    listener: UnixListener,
}

impl Control {
    async fn accept(listener: UnixListener) -> Self {
        let accepting = tokio::time::timeout(Duration::from_secs(5), listener.accept());
        let (mut stream, _) = accepting.await.expect("the proxy connects").unwrap();
        let hello = frame::read(&mut stream).await.unwrap().unwrap();
        Self { stream, hello, listener }
    }

    async fn next(&mut self) -> FromProxy {
        let reading = tokio::time::timeout(Duration::from_secs(10), frame::read(&mut self.stream));
        reading.await.expect("the proxy says something").unwrap().unwrap()
    }

    /// Nothing more comes for a while.
    async fn silence(&mut self) {
        let mut byte = [0];
        let reading = tokio::time::timeout(Duration::from_millis(200), self.stream.read(&mut byte));
        assert!(reading.await.is_err(), "the proxy said something unexpected");
    }

    /// Publishes and waits for the acknowledgement; the ports refused.
    async fn publish(&mut self, version: u64, routes: Vec<Route>) -> BTreeMap<u16, String> {
        self.send(version, routes).await;
        match self.next().await {
            FromProxy::Ack { version: acknowledged, refused_ports } => {
                assert_eq!(acknowledged, version);
                refused_ports
            }
            other => panic!("{other:?} instead of an acknowledgement"),
        }
    }

    async fn send(&mut self, version: u64, routes: Vec<Route>) {
        let routes = routes.into_iter().map(|route| (route.app.clone(), route)).collect();
        let message = ToProxy::Table(RouteTable { version, routes });
        frame::write(&mut self.stream, &message).await.unwrap();
    }

    async fn drained(&mut self) -> Target {
        match self.next().await {
            FromProxy::Drained { target } => target,
            other => panic!("{other:?} instead of a drained target"),
        }
    }
}

fn route(app: &str, targets: &[&App]) -> Route {
    Route {
        app: AppName::parse(app).unwrap(),
        hosts: vec![HostName::parse(&format!("{app}.localhost")).unwrap()],
        port: None,
        targets: targets.iter().map(|target| target.target()).collect(),
        outage: "H10".to_owned(),
    }
}

// Apps.

struct App {
    address: SocketAddr,
    release: u32,
    requests: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl App {
    /// An app that answers its release, the request's head and its body.
    async fn start(release: u32) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let app = Self {
            address: listener.local_addr().unwrap(),
            release,
            requests: Arc::default(),
            stop: CancellationToken::new(),
        };
        let (stop, requests) = (app.stop.clone(), Arc::clone(&app.requests));
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let requests = Arc::clone(&requests);
                let service = service_fn(move |request| echo(request, release, Arc::clone(&requests)));
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
            }
        }));
        app
    }

    /// An app made of one function per connection.
    async fn raw<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let app = Self {
            address: listener.local_addr().unwrap(),
            release: 1,
            requests: Arc::default(),
            stop: CancellationToken::new(),
        };
        let requests = Arc::clone(&app.requests);
        tokio::spawn(app.stop.clone().run_until_cancelled_owned(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                requests.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        }));
        app
    }

    fn target(&self) -> Target {
        Target { address: self.address, process: "web.1".to_owned(), release: self.release }
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn echo(
    request: Request<Incoming>,
    release: u32,
    requests: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    requests.fetch_add(1, Ordering::SeqCst);
    let mut text = format!("v{release} {} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes())).unwrap();
    }
    let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    text += &String::from_utf8_lossy(&body);
    Ok(Response::new(Full::new(Bytes::from(text))))
}

/// Reads a request's head, byte by byte so that nothing after it is lost.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// The response without what changes from run to run.
fn settled(response: &str) -> String {
    let lines = response.split("\r\n").filter(|line| !line.starts_with("date: "));
    lines.collect::<Vec<_>>().join("\n")
}

// Routing.

#[tokio::test]
async fn requests_go_to_the_app_that_their_host_names() {
    let (blog, shop) = (App::start(1).await, App::start(2).await);
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&blog]), route("shop", &[&shop])]).await;
    for host in ["blog.localhost", "BLOG.localhost:8080", "blog.localhost."] {
        assert!(proxy.get(host).await.contains("v1 GET /"), "{host}");
    }
    assert!(proxy.get("shop.localhost").await.contains("v2 GET /"));
    assert_eq!((blog.requests(), shop.requests()), (3, 1));
}

#[tokio::test]
async fn the_app_learns_the_clients_origin_and_no_claims_about_it() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let answer = proxy
        .raw(
            "GET /a%20b?c=d HTTP/1.1\r\nHost: blog.localhost:80\r\nX-Forwarded-For: 6.6.6.6\r\n\
             X-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\r\n\
             X-Request-Id: mine\r\nX-Request-Start: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\n\
             X-Secret: hop\r\nCookie: a=b\r\nConnection: close, X-Secret, cookie\r\n\r\n",
        )
        .await;
    let port = proxy.address.port();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut body: Vec<_> = body.lines().filter(|line| !line.starts_with("x-request-")).collect();
    body[1..].sort_unstable();
    assert_eq!(
        body,
        [
            "v1 GET /a%20b?c=d",
            "cookie: a=b",
            "host: blog.localhost:80",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: blog.localhost:80",
            &format!("x-forwarded-port: {port}"),
            "x-forwarded-proto: http",
        ]
    );
    assert!(!answer.contains("x-request-id: mine") && !answer.contains("x-request-start: 1\n"));
    assert!(answer.contains("x-request-id: ") && answer.contains("x-request-start: 1"));
}

// Swaps.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_swaps_under_load_lose_no_request() {
    let mut app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let over = CancellationToken::new();
    let clients: Vec<_> = (0..8).map(|_| tokio::spawn(keep_asking(proxy.address, over.clone()))).collect();
    for release in 2..=51 {
        let next = App::start(release).await;
        control.publish(u64::from(release), vec![route("blog", &[&next])]).await;
        assert_eq!(control.drained().await, app.target());
        // Gone for good, as a stopped container is.
        app = next;
    }
    over.cancel();
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    assert!(answered > 500, "{answered} requests");
}

/// Alternates a `GET` and a `POST` on one connection; each must be answered.
async fn keep_asking(address: SocketAddr, over: CancellationToken) -> u64 {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut answered = 0;
    while !over.is_cancelled() {
        let request = Request::builder().uri("/").header("host", "blog.localhost");
        let (method, body) = if answered % 2 == 0 { ("GET", "") } else { ("POST", "body") };
        let request = request.method(method).body(Full::new(Bytes::from(body))).unwrap();
        let response = sender.send_request(request).await.expect("an answer");
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
        assert!(body.starts_with(b"v"));
        answered += 1;
    }
    answered
}

#[tokio::test]
async fn a_request_in_flight_finishes_on_the_old_release() {
    let old = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        stream.write_all(b" last").await.unwrap();
    })
    .await;
    let new = App::start(2).await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&old])]).await;
    let address = proxy.address;
    let slow =
        tokio::spawn(raw(address, "GET / HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n"));
    while old.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    control.publish(2, vec![route("blog", &[&new])]).await;
    control.silence().await;
    assert!(proxy.get("blog.localhost").await.contains("v2 GET /"));
    assert!(slow.await.unwrap().ends_with("first last"));
    assert_eq!(control.drained().await, old.target());
    control.silence().await;
}

#[tokio::test]
async fn half_a_body_keeps_the_old_release() {
    let (old, new) = (App::start(1).await, App::start(2).await);
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&old])]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 9\r\n\r\nhalf ";
    stream.write_all(head).await.unwrap();
    while old.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    control.publish(2, vec![route("blog", &[&new])]).await;
    control.silence().await;
    stream.write_all(b"body").await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.contains("v1 POST /") && answer.ends_with("half body"), "{answer}");
    assert_eq!(control.drained().await, old.target());
}

#[tokio::test]
async fn a_target_that_comes_back_is_not_reported() {
    let (first, second) = (App::start(1).await, App::start(2).await);
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&first])]).await;
    control.publish(2, vec![route("blog", &[&second])]).await;
    assert_eq!(control.drained().await, first.target());
    // A lower version: the control plane is right.
    control.publish(1, vec![route("blog", &[&first, &second])]).await;
    control.silence().await;
    for _ in 0..4 {
        proxy.get("blog.localhost").await;
    }
    assert_eq!((first.requests(), second.requests()), (2, 2));
    control.publish(3, vec![route("blog", &[&second])]).await;
    assert_eq!(control.drained().await, first.target());
}

// Without a control plane.

#[tokio::test]
async fn the_control_plane_may_go_and_come_back() {
    let (old, new) = (App::start(1).await, App::start(2).await);
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&old])]).await;
    assert!(matches!(control.hello, FromProxy::Hello { version: 0, pid } if pid == std::process::id()));
    control.publish(2, vec![route("blog", &[&new])]).await;
    assert_eq!(control.drained().await, old.target());
    drop(control);
    assert!(proxy.get("blog.localhost").await.contains("v2 GET /"));
    let before = Instant::now();
    let mut control = proxy.control().await;
    assert!(before.elapsed() < Duration::from_secs(2));
    assert!(matches!(control.hello, FromProxy::Hello { version: 2, .. }));
    control.publish(2, vec![route("blog", &[&new])]).await;
    assert_eq!(control.drained().await, old.target(), "what is gone is said again");
    control.silence().await;
}

#[tokio::test]
async fn rubbish_from_the_control_plane_changes_nothing() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    control.stream.write_all(&[0, 0, 0, 2, b'{', b'}']).await.unwrap();
    let mut control = Control::accept(control.listener).await;
    assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
    control.publish(2, vec![]).await;
    assert_eq!(control.drained().await, app.target());
}

#[tokio::test]
async fn it_starts_from_the_stored_table() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let directory = proxy.stop().await;
    std::fs::remove_file(directory.path().join("proxy.sock")).unwrap();
    let proxy = Proxy::start_in(directory, ProxyLimits::default()).await;
    assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
    let control = proxy.control().await;
    assert!(matches!(control.hello, FromProxy::Hello { version: 1, .. }));
}

#[tokio::test]
async fn a_damaged_stored_table_is_none() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("routes.snapshot"), "{\"version\": 7, \"rou").unwrap();
    let proxy = Proxy::start_in(directory, ProxyLimits::default()).await;
    assert!(proxy.get("blog.localhost").await.starts_with("HTTP/1.1 404 "));
    let mut control = proxy.control().await;
    assert!(matches!(control.hello, FromProxy::Hello { version: 0, .. }));
    let app = App::start(1).await;
    control.publish(8, vec![route("blog", &[&app])]).await;
    assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said() {
    let proxy = Proxy::start().await;
    let second = options(proxy.directory.path(), ProxyLimits::default(), None);
    let error = proxy::run(second, CancellationToken::new()).await.unwrap_err();
    let told = paas::model::Problem::from(&error).to_string();
    let place = proxy.directory.path().display().to_string();
    let told = told.replace(&place, "DIR").replace(&std::process::id().to_string(), "PID");
    insta::assert_snapshot!(told, @r"
    The proxy did not start: another one is running
    Process PID holds DIR/proxy.lock.
    Stop that one first, or give this server a data directory of its own.
    ");

    let other = tempfile::tempdir().unwrap();
    let mut taken = options(other.path(), ProxyLimits::default(), None);
    taken.http_listen = proxy.address;
    let error = proxy::run(taken, CancellationToken::new()).await.unwrap_err();
    let told = paas::model::Problem::from(&error).to_string();
    insta::assert_snapshot!(told.replace(&proxy.address.to_string(), "ADDRESS"), @r"
    The proxy did not start: can't listen on ADDRESS
    Another program listens there already.
    Choose another address with --http-listen, or free this one.
    ");

    let missing = options(Path::new("/proc/nowhere"), ProxyLimits::default(), None);
    let error = proxy::run(missing, CancellationToken::new()).await.unwrap_err();
    insta::assert_snapshot!(paas::model::Problem::from(&error), @r"
    The proxy did not start: no lock file
    /proc/nowhere/proxy.lock: No such file or directory (os error 2)
    Create that directory, writable for the user that runs the proxy.
    ");
}

// Pages.

#[tokio::test]
async fn pages_of_our_own() {
    let (proxy, mut control) = Proxy::with(vec![route("crashed", &[])]).await;
    insta::assert_snapshot!(settled(&proxy.get("nobody.localhost").await), @r#"
    HTTP/1.1 404 Not Found
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: unknown-host
    connection: close
    content-length: 59

    No such app (404)
    No app answers to nobody.localhost here.
    "#);
    insta::assert_snapshot!(settled(&proxy.get("crashed.localhost").await), @r#"
    HTTP/1.1 503 Service Unavailable
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: H10
    connection: close
    content-length: 67

    App crashed (503 · H10)
    The app has crashed or is still starting.
    "#);
    let mut scaled = route("blog", &[]);
    scaled.outage = "H14".to_owned();
    control.publish(2, vec![scaled]).await;
    insta::assert_snapshot!(settled(&proxy.get("blog.localhost").await), @r#"
    HTTP/1.1 503 Service Unavailable
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: H14
    connection: close
    content-length: 66

    No web processes (503 · H14)
    The app has no web process running.
    "#);
    let html =
        "GET / HTTP/1.1\r\nHost: nobody.localhost\r\nAccept: text/html,*/*\r\nConnection: close\r\n\r\n";
    insta::assert_snapshot!(settled(&proxy.raw(html).await), @r#"
    HTTP/1.1 404 Not Found
    content-type: text/html; charset=utf-8
    cache-control: no-store
    x-paas-error: unknown-host
    connection: close
    content-length: 376

    <!doctype html>
    <html lang="en">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>No such app</title>
    <style>body{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:20vh auto 0;padding:0 1rem}small{color:#767676}</style>
    <h1>No such app</h1>
    <p>No app answers to nobody.localhost here.</p>
    <small>404</small>
    </html>
    "#);
}

#[tokio::test]
async fn a_host_is_never_reflected_unescaped() {
    let proxy = Proxy::start().await;
    let answer =
        proxy.raw("GET / HTTP/1.1\r\nHost: <script>alert(1)</script>\r\nAccept: text/html\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && !answer.contains("<script>"), "{answer}");
}

#[tokio::test]
async fn an_app_that_closes_without_an_answer_is_h13() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    insta::assert_snapshot!(settled(&proxy.get("blog.localhost").await), @r#"
    HTTP/1.1 503 Service Unavailable
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: H13
    connection: close
    content-length: 72

    No answer (503 · H13)
    The app closed the connection without an answer.
    "#);
    assert_eq!(app.requests(), 1, "the app may have worked on it: not repeated");
}

#[tokio::test]
async fn an_app_that_does_not_answer_is_h12() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
    })
    .await;
    let limits = ProxyLimits { first_byte: Duration::from_millis(100), ..ProxyLimits::default() };
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![route("blog", &[&app])]).await;
    insta::assert_snapshot!(settled(&proxy.get("blog.localhost").await), @r#"
    HTTP/1.1 503 Service Unavailable
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: H12
    connection: close
    content-length: 61

    Request timeout (503 · H12)
    The app did not answer in time.
    "#);
}

#[tokio::test]
async fn a_process_that_refuses_is_passed_by_and_waited_for() {
    let (dead, alive) = (App::start(1).await, App::start(2).await);
    dead.stop.cancel();
    while TcpStream::connect(dead.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&dead, &alive])]).await;
    for _ in 0..6 {
        assert!(proxy.get("blog.localhost").await.contains("v2 GET /"));
    }
    // All by itself it is tried for a while; meanwhile a table may help.
    control.publish(2, vec![route("blog", &[&dead])]).await;
    control.drained().await;
    let address = proxy.address;
    let waiting =
        tokio::spawn(raw(address, "GET / HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    control.publish(3, vec![route("blog", &[&alive])]).await;
    assert!(waiting.await.unwrap().contains("v2 GET /"));
    assert_eq!(control.drained().await, dead.target());
    control.publish(4, vec![route("blog", &[&dead])]).await;
    let before = Instant::now();
    assert!(proxy.get("blog.localhost").await.contains("x-paas-error: H10"));
    assert!(before.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_pooled_connection_that_dies_is_replaced_unseen() {
    // Each connection answers one request and breaks in the middle of the next.
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        read_head(&mut stream).await;
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    for _ in 0..5 {
        assert!(proxy.get("blog.localhost").await.ends_with("\r\n\r\nok"));
    }
    assert_eq!(app.requests(), 5);
}

// Bodies.

#[tokio::test]
async fn a_websocket_is_a_tunnel_and_counts_as_in_flight() {
    let app = App::raw(|mut stream| async move {
        let head = read_head(&mut stream).await.to_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi ";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    })
    .await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nHost: blog.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\n\0early";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("upgrade: websocket"), "{answer}");
    let mut back = [0; 10];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hi \n\0early");
    control.publish(2, vec![]).await;
    control.silence().await;
    stream.write_all(b"late").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"late");
    assert_eq!(control.drained().await, app.target());
}

#[tokio::test]
async fn an_upgrade_that_is_not_granted_ends_the_connection() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let answer = proxy
        .raw(
            "GET /a HTTP/1.1\r\nHost: blog.localhost\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nHost: blog.localhost\r\n\r\n",
        )
        .await;
    assert!(answer.contains("v1 GET /a") && answer.contains("connection: close"), "{answer}");
    assert_eq!(app.requests(), 1);
}

#[tokio::test]
async fn events_arrive_as_they_happen_and_trailers_at_the_end() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..3 {
            stream.write_all(b"6\r\ntick\n\n\r\n").await.unwrap();
            // The client answers each event's arrival; without it nothing goes on.
            assert_eq!(stream.read_u8().await.unwrap(), b'1');
            stream.read_exact(&mut [0; 5]).await.unwrap();
        }
        stream.write_all(b"0\r\nSum: 3\r\n\r\n").await.unwrap();
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head =
        "POST / HTTP/1.1\r\nHost: blog.localhost\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    for _ in 0..3 {
        let mut event = [0; 11];
        stream.read_exact(&mut event).await.unwrap();
        assert_eq!(&event, b"6\r\ntick\n\n\r\n");
        stream.write_all(b"1\r\nx\r\n").await.unwrap();
    }
    let mut end = [0; 13];
    stream.read_exact(&mut end).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&end), "0\r\nsum: 3\r\n\r\n");
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_once_an_app_is_there() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: blog.localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    let unknown = head.replace("blog", "nobody");
    assert!(raw(proxy.address, unknown).await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn head_has_a_length_and_no_body() {
    let app = App::raw(|mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    for _ in 0..3 {
        let answer = proxy.raw("HEAD / HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n").await;
        assert!(answer.contains("content-length: 1234") && answer.ends_with("\r\n\r\n"), "{answer}");
    }
    assert_eq!(app.requests(), 1, "one connection, used again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_bodies_stream_both_ways_in_little_memory() {
    const LENGTH: usize = 256 * 1024 * 1024;
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut (&mut reader).take(LENGTH as u64), &mut writer).await.unwrap();
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: {LENGTH}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let before = resident();
    let (mut reader, mut writer) = stream.into_split();
    let upload = tokio::spawn(async move {
        let part = vec![7; 64 * 1024];
        for _ in 0..LENGTH / part.len() {
            writer.write_all(&part).await.unwrap();
        }
        writer
    });
    let mut part = vec![0; 64 * 1024];
    let (mut length, mut most) = (0, 0);
    while length < LENGTH {
        let here = reader.read(&mut part).await.unwrap();
        assert!(here > 0, "cut off after {length} bytes");
        length += here;
        most = most.max(resident());
    }
    upload.await.unwrap();
    // Other tests run in this process too; a collected body would be 256 MiB.
    assert!(most - before < 128 * 1024, "{} KiB more", most - before);
}

/// Resident memory of this process in KiB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn trailers_that_the_client_did_not_ask_for_are_left_out() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n\
                      2\r\nok\r\n0\r\nSum: 3\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let answer = proxy.get("blog.localhost").await;
    assert!(answer.ends_with("\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_arrives_cut_off() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf").await.unwrap();
    })
    .await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let answer = proxy.get("blog.localhost").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    control.publish(2, vec![]).await;
    assert_eq!(control.drained().await, app.target());
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        // The proxy closes when its client does.
        let _ = stream.read_u8().await;
    })
    .await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n").await.unwrap();
    while app.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    control.publish(2, vec![]).await;
    control.silence().await;
    drop(stream);
    assert_eq!(control.drained().await, app.target());
}

// Attacks.

#[tokio::test]
async fn requests_that_can_be_read_two_ways_are_refused() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let cases = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: blog.localhost\r\nHost: blog.localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: blog.localhost, x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: me@blog.localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: blog.localhost:99999\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: blog.localhost/x\r\n\r\n",
        "GET http://other.localhost/ HTTP/1.1\r\nHost: blog.localhost\r\n\r\n",
        "GET http://me@blog.localhost/ HTTP/1.1\r\nHost: blog.localhost\r\n\r\n",
        "GET ftp://blog.localhost/ HTTP/1.1\r\nHost: blog.localhost\r\n\r\n",
        "GET blog.localhost:80 HTTP/1.1\r\nHost: blog.localhost\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: blog.localhost\r\n\r\n",
        "CONNECT blog.localhost:80 HTTP/1.1\r\nHost: blog.localhost:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: blog.localhost\r\nExpect: 200-ok\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: blog.localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: blog.localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: blog.localhost\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: blog.localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\nHost: blog.localhost\n\n",
        "GET / HTTP/1.1\r\nHost: blog.localhost\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: blog.localhost\r\nX: y\r\n z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: blog.localhost\r\nX: y\rz\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: blog.localhost\r\nX : y\r\n\r\n",
    ];
    for case in cases {
        let answer = proxy.raw(case).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("connection: close"),
            "{case:?}: {answer}"
        );
    }
    assert_eq!(app.requests(), 0);
    let absolute =
        "GET http://BLOG.localhost/x HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n";
    assert!(proxy.raw(absolute).await.contains("v1 GET /x"));
    let server = "OPTIONS * HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n";
    assert!(proxy.raw(server).await.contains("v1 OPTIONS *"));
}

#[tokio::test]
async fn heads_are_bounded_in_size_and_number() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let many = "X: y\r\n".repeat(200);
    let long = format!("X: {}\r\n", "y".repeat(60_000)).repeat(2);
    for bomb in [many, long] {
        let answer = proxy.raw(format!("GET / HTTP/1.1\r\nHost: blog.localhost\r\n{bomb}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    assert_eq!(app.requests(), 0);
}

#[tokio::test]
async fn slow_clients_are_not_waited_for() {
    let app = App::start(1).await;
    let limits = ProxyLimits {
        header: Duration::from_millis(200),
        body: Duration::from_millis(200),
        idle: Duration::from_millis(400),
        ..ProxyLimits::default()
    };
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![route("blog", &[&app])]).await;
    assert!(proxy.raw("GET / HTTP/1.1\r\nHost: bl").await.starts_with("HTTP/1.1 408 "));
    // One byte at a time does not buy more time.
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let before = Instant::now();
    while stream.write_all(b"G").await.is_ok() {
        assert!(before.elapsed() < Duration::from_secs(3), "still being read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(proxy.raw("").await, "", "nothing said, nothing answered");
    proxy.raw("POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 9\r\n\r\nhalf").await;
    assert!(before.elapsed() < Duration::from_secs(6));
}

// Ports.

#[tokio::test]
async fn ports_open_and_close_with_the_table() {
    let (blog, shop) = (App::start(1).await, App::start(2).await);
    let (proxy, mut control) = Proxy::with(vec![]).await;
    let (port, other) = (free_port().await, free_port().await);
    let at = |app: &str, target: &App, port| Route { port: Some(port), ..route(app, &[target]) };
    let refused = control.publish(2, vec![at("blog", &blog, port)]).await;
    assert_eq!(refused, BTreeMap::new());
    let any_host = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert!(raw(address, any_host).await.contains("v1 GET /"));

    // A connection that is open stays, whatever happens to the port.
    let mut kept = TcpStream::connect(address).await.unwrap();
    kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(read_head(&mut kept).await.starts_with("HTTP/1.1 200 "));
    let taken = TcpListener::bind(LOOPBACK).await.unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let routes = vec![at("blog", &blog, taken_port), at("shop", &shop, other)];
    let refused = control.publish(3, routes).await;
    assert_eq!(refused, BTreeMap::from([(taken_port, "another program listens there".to_owned())]));
    assert!(TcpStream::connect(address).await.is_err());
    assert!(raw((Ipv4Addr::LOCALHOST, other).into(), any_host).await.contains("v2 GET /"));

    // The port goes to another app, and back at once; and serves from the start.
    control.publish(4, vec![at("shop", &shop, port)]).await;
    assert!(raw(address, any_host).await.contains("v2 GET /"));
    let _ = control.drained().await;
    drop(taken);
    assert_eq!(control.publish(5, vec![at("blog", &blog, port)]).await, BTreeMap::new());
    let directory = proxy.stop().await;
    let _proxy = Proxy::start_in(directory, ProxyLimits::default()).await;
    assert!(raw(address, any_host).await.contains("v1 GET /"));
}

async fn free_port() -> u16 {
    TcpListener::bind(LOOPBACK).await.unwrap().local_addr().unwrap().port()
}

// Stopping.

#[tokio::test]
async fn a_stopped_proxy_finishes_what_it_has_begun() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let address = proxy.address;
    let _silent = TcpStream::connect(address).await.unwrap();
    let slow = tokio::spawn(raw(address, "GET / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n"));
    while app.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = Instant::now();
    proxy.stop().await;
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    assert!(slow.await.unwrap().ends_with("\r\n\r\nok"));
    assert!(TcpStream::connect(address).await.is_err());
}
