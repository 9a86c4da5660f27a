//! The proxy under test, its control plane, and apps behind it.

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use paas::frame;
use paas::model::{
    AccessLine, AccessLines, AccessLog, AppId, AppLoad, AppName, Count, Domain, FromProxy, HttpsPolicy,
    Route, RouteChanges, RouteTable, Target, ToProxy, Traffic,
};
use paas::proxy;
use paas::proxy::{Bound, ProxyError, ProxyLimits, ProxyOptions};
use paas::settings::Front;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

pub struct Proxy {
    pub address: SocketAddr,
    pub https: SocketAddr,
    pub metrics: SocketAddr,
    pub directory: TempDir,
    pub stop: CancellationToken,
    pub running: JoinHandle<Result<(), ProxyError>>,
}

impl Proxy {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), ProxyLimits::default()).await
    }

    pub async fn start_in(directory: TempDir, limits: ProxyLimits) -> Self {
        let (ready, bound) = oneshot::channel();
        let stop = CancellationToken::new();
        let options = options(directory.path(), limits, Some(ready));
        let running = tokio::spawn(proxy::run(options, stop.clone()));
        let Bound { http, https, metrics } = bound.await.expect("the proxy starts");
        Self { address: http, https: https.unwrap(), metrics: metrics.unwrap(), directory, stop, running }
    }

    /// A proxy with these in front of it.
    pub async fn behind(front: Front) -> Self {
        Self::behind_with(front, ProxyLimits::default()).await
    }

    pub async fn behind_with(front: Front, limits: ProxyLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (ready, bound) = oneshot::channel();
        let stop = CancellationToken::new();
        let options = ProxyOptions { front, ..options(directory.path(), limits, Some(ready)) };
        let running = tokio::spawn(proxy::run(options, stop.clone()));
        let Bound { http, https, metrics } = bound.await.unwrap();
        Self { address: http, https: https.unwrap(), metrics: metrics.unwrap(), directory, stop, running }
    }

    /// A proxy with these routes in force.
    pub async fn with(routes: Vec<Route>) -> (Self, Control) {
        let proxy = Self::start().await;
        let mut control = proxy.control().await;
        control.publish(1, routes).await;
        (proxy, control)
    }

    /// The control plane comes up, and the proxy with it.
    pub async fn control(&self) -> Control {
        let socket = self.directory.path().join("proxy.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        Control::accept(Arc::new(listener)).await
    }

    /// A proxy that takes over from the one of this directory.
    pub async fn upgrade(directory: &Path, limits: ProxyLimits, control: &Control) -> (Successor, Control) {
        let (ready, bound) = oneshot::channel();
        let stop = CancellationToken::new();
        let options = ProxyOptions { upgrade: true, ..options(directory, limits, Some(ready)) };
        let running = tokio::spawn(proxy::run(options, stop.clone()));
        let control = Control::accept(Arc::clone(&control.listener)).await;
        (Successor { bound, stop, running }, control)
    }

    pub async fn stop(self) -> TempDir {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
        self.directory
    }

    /// Everything that comes back for `request` until the connection ends.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        raw(self.address, request).await
    }

    pub async fn get(&self, host: &str) -> String {
        self.raw(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
    }
}

/// A proxy that takes over once it has a table.
pub struct Successor {
    pub bound: oneshot::Receiver<Bound>,
    pub stop: CancellationToken,
    pub running: JoinHandle<Result<(), ProxyError>>,
}

pub fn options(directory: &Path, limits: ProxyLimits, ready: Option<oneshot::Sender<Bound>>) -> ProxyOptions {
    ProxyOptions {
        http_listen: LOOPBACK.into(),
        https_listen: Some(LOOPBACK.into()),
        certificates: directory.join("certificates.snapshot"),
        snapshot: directory.join("routes.snapshot"),
        socket: directory.join("proxy.sock"),
        lock: directory.join("proxy.lock"),
        handover: directory.join("proxy.handover"),
        upgrade: false,
        metrics_listen: Some(LOOPBACK.into()),
        sockets: Vec::new(),
        front: Front::default(),
        limits,
        ready,
    }
}

pub async fn raw(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

pub struct Control {
    pub stream: UnixStream,
    pub hello: FromProxy,
    pub listener: Arc<UnixListener>,
    /// Answers and errors by release, as far as they were told.
    pub counted: BTreeMap<u32, (u64, u64)>,
    /// What it said of requests, until somebody asks.
    pub lines: Vec<AccessLines>,
    /// What it told of the apps.
    pub loads: Vec<AppLoad>,
    /// It said that it accepts no more.
    pub retiring: bool,
    /// Told before the acknowledgement that was waited for: the two come in any order.
    early: VecDeque<Target>,
}

impl Control {
    pub async fn accept(listener: Arc<UnixListener>) -> Self {
        let accepting = tokio::time::timeout(Duration::from_secs(5), listener.accept());
        let (mut stream, _) = accepting.await.expect("the proxy connects").unwrap();
        let hello = frame::read(&mut stream).await.unwrap().unwrap();
        Self {
            stream,
            hello,
            listener,
            counted: BTreeMap::new(),
            lines: Vec::new(),
            loads: Vec::new(),
            retiring: false,
            early: VecDeque::new(),
        }
    }

    /// The next message that is no numbers and no lines; those are kept.
    pub async fn next(&mut self) -> FromProxy {
        loop {
            let reading = tokio::time::timeout(Duration::from_secs(10), frame::read(&mut self.stream));
            match reading.await.expect("the proxy says something").unwrap().unwrap() {
                FromProxy::Counts { counts, loads } => self.add(counts, loads),
                FromProxy::Lines { apps } => self.lines.extend(apps),
                other => return other,
            }
        }
    }

    fn add(&mut self, counts: Vec<Count>, loads: Vec<AppLoad>) {
        self.loads.extend(loads);
        for count in counts {
            let sum = self.counted.entry(count.release).or_default();
            *sum = (sum.0 + count.answers, sum.1 + count.errors);
        }
    }

    /// Waits until so many answers of a release were told; with how many errors.
    pub async fn counted(&mut self, release: u32, answers: u64) -> u64 {
        loop {
            let (told, errors) = self.counted.get(&release).copied().unwrap_or_default();
            assert!(told <= answers, "{told} answers of v{release}");
            if told == answers {
                return errors;
            }
            let reading = tokio::time::timeout(Duration::from_secs(10), frame::read(&mut self.stream));
            match reading.await.expect("the proxy says something").unwrap().unwrap() {
                FromProxy::Counts { counts, loads } => self.add(counts, loads),
                FromProxy::Lines { apps } => self.lines.extend(apps),
                FromProxy::Drained { .. } => {}
                other => panic!("{other:?} instead of numbers"),
            }
        }
    }

    /// Waits until it has told of so many requests: their lines, and how many had none.
    pub async fn told(&mut self, count: u64) -> (Vec<AccessLine>, u64) {
        let (mut lines, mut left_out) = (Vec::new(), 0);
        loop {
            for told in self.lines.drain(..) {
                lines.extend(told.lines);
                left_out += told.left_out;
            }
            if lines.len() as u64 + left_out >= count {
                return (lines, left_out);
            }
            let reading = tokio::time::timeout(Duration::from_secs(10), frame::read(&mut self.stream));
            match reading.await.expect("the proxy says something").unwrap().unwrap() {
                FromProxy::Lines { apps } => self.lines = apps,
                FromProxy::Counts { counts, loads } => self.add(counts, loads),
                FromProxy::Drained { .. } => {}
                other => panic!("{other:?} instead of lines"),
            }
        }
    }

    /// Nothing more comes for a while, but for numbers.
    pub async fn silence(&mut self) {
        let silent = tokio::time::timeout(Duration::from_millis(200), self.next());
        if let Ok(said) = silent.await {
            panic!("the proxy said something unexpected: {said:?}");
        }
    }

    /// Publishes and waits for the acknowledgement; the ports refused.
    pub async fn publish(&mut self, version: u64, routes: Vec<Route>) -> BTreeMap<u16, String> {
        self.send(version, routes).await;
        self.acknowledged(version).await
    }

    /// Changes some routes (`None`: takes one out) and waits likewise.
    pub async fn change(&mut self, version: u64, routes: &[(&str, Option<Route>)]) -> BTreeMap<u16, String> {
        let named = |(app, route): &(&str, Option<Route>)| {
            (AppName::parse(app).unwrap(), route.clone().map(Arc::new))
        };
        let routes = routes.iter().map(named).collect();
        let message = ToProxy::Changes(RouteChanges { from: version - 1, version, routes });
        frame::write(&mut self.stream, &message).await.unwrap();
        self.acknowledged(version).await
    }

    async fn acknowledged(&mut self, version: u64) -> BTreeMap<u16, String> {
        loop {
            match self.next().await {
                FromProxy::Ack { version: acknowledged, refused_ports } => {
                    assert_eq!(acknowledged, version);
                    return refused_ports;
                }
                FromProxy::Drained { target } => self.early.push_back(target),
                FromProxy::Retiring => self.retiring = true,
                FromProxy::Wake { .. } | FromProxy::Idle { .. } => {}
                other => panic!("{other:?} instead of an acknowledgement"),
            }
        }
    }

    pub async fn send(&mut self, version: u64, routes: Vec<Route>) {
        let routes = routes.into_iter().map(|route| (route.app.clone(), Arc::new(route))).collect();
        let message = ToProxy::Table(RouteTable { version, routes });
        frame::write(&mut self.stream, &message).await.unwrap();
    }

    pub async fn drained(&mut self) -> Target {
        if let Some(target) = self.early.pop_front() {
            return target;
        }
        loop {
            match self.next().await {
                FromProxy::Drained { target } => return target,
                FromProxy::Retiring => self.retiring = true,
                other => panic!("{other:?} instead of a drained target"),
            }
        }
    }
}

pub fn route(app: &str, targets: &[&App]) -> Route {
    Route {
        app: AppName::parse(app).unwrap(),
        hosts: vec![Domain::parse(&format!("{app}.localhost")).unwrap()],
        https: HttpsPolicy::default(),
        traffic: Traffic::default(),
        port: None,
        release: targets.first().map_or(0, |target| target.release),
        targets: targets.iter().map(|target| target.target()).collect(),
        outage: "H10".to_owned(),
    }
}

/// The same with a log that is told of requests.
pub fn logged(app: &str, targets: &[&App]) -> Route {
    let mut route = route(app, targets);
    route.traffic.access_log = Some(AccessLog { app: AppId(7), per_second: 50 });
    route
}

pub struct App {
    pub address: SocketAddr,
    pub release: u32,
    pub requests: Arc<AtomicU64>,
    pub stop: CancellationToken,
}

impl App {
    /// An app that answers its release, the request's head and its body.
    pub async fn start(release: u32) -> Self {
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
    pub async fn raw<F, Fut>(serve: F) -> Self
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

    pub fn target(&self) -> Target {
        Target { address: self.address, process: "web.1".to_owned(), release: self.release }
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub async fn echo(
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
pub async fn read_head(stream: &mut TcpStream) -> String {
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
pub fn settled(response: &str) -> String {
    let lines = response.split("\r\n").filter(|line| !line.starts_with("date: "));
    lines.collect::<Vec<_>>().join("\n")
}
