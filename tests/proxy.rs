//! The data plane from outside: a real proxy on real sockets, with a control
//! plane and apps made here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use paas::frame;
use paas::model::{AppName, FromProxy, HostName, Route, RouteTable, Target, ToProxy};
use paas::proxy::{self, ProxyError, ProxyLimits, ProxyOptions};
use std::collections::BTreeMap;
use std::convert::Infallible;
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

fn options(directory: &Path, limits: ProxyLimits, ready: Option<oneshot::Sender<SocketAddr>>) -> ProxyOptions {
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
        loop {
            match self.next().await {
                FromProxy::Ack { version: acknowledged, refused_ports } => {
                    assert_eq!(acknowledged, version);
                    return refused_ports;
                }
                FromProxy::Drained { target } => panic!("{target:?} drained before the acknowledgement"),
                hello @ FromProxy::Hello { .. } => panic!("a second {hello:?}"),
            }
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
        text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
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
    let clients: Vec<_> =
        (0..8).map(|_| tokio::spawn(keep_asking(proxy.address, over.clone()))).collect();
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
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
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
