//! What clients and apps may hold, and for how long.

use crate::world::*;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use paas::model::Target;
use paas::proxy::ProxyLimits;
use paas::settings::Front;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n";

async fn with_limits(limits: ProxyLimits, app: &App) -> (Proxy, Control) {
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![route("blog", &[app])]).await;
    (proxy, control)
}

/// Load balancers here, which name their clients.
fn balancer() -> Front {
    Front { trusted: vec!["127.0.0.1/32".parse().unwrap()], protocol: true }
}

async fn from(proxy: &Proxy, address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let preamble = format!("PROXY TCP4 {address} 192.0.2.9 1 80\r\n");
    stream.write_all(preamble.as_bytes()).await.unwrap();
    stream
}

async fn free_port() -> u16 {
    TcpListener::bind(LOOPBACK).await.unwrap().local_addr().unwrap().port()
}

/// Reads until there is nothing more; how much there was.
async fn drain(stream: &mut TcpStream) -> usize {
    let mut bytes = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes));
    let _ = reading.await.expect("the connection ends");
    bytes.len()
}

#[tokio::test]
async fn ports_on_which_nobody_calls_hold_no_places() {
    let app = App::start(1).await;
    let proxy = Proxy::start_in(
        tempfile::tempdir().unwrap(),
        ProxyLimits { connections: 2, ..ProxyLimits::default() },
    )
    .await;
    let mut control = proxy.control().await;
    let mut routes = Vec::new();
    for name in ["blog", "shop", "wiki"] {
        let mut route = route(name, &[&app]);
        route.port = Some(free_port().await);
        routes.push(route);
    }
    let port = routes[2].port.unwrap();
    assert!(control.publish(1, routes).await.is_empty());
    for _ in 0..3 {
        assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let asked = raw(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(asked.contains("v1 GET /"), "{asked}");
    }
}

#[tokio::test]
async fn idle_connections_make_room_and_busy_ones_stay() {
    let app = App::raw(|mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(2500)).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let (proxy, _control) =
        with_limits(ProxyLimits { connections: 10, ..ProxyLimits::default() }, &app).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(proxy.address).await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut busy = TcpStream::connect(proxy.address).await.unwrap();
    busy.write_all(GET).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let mut more = Vec::new();
    for _ in 0..6 {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n").await.unwrap();
        let answered = tokio::time::timeout(Duration::from_secs(5), read_head(&mut stream)).await;
        assert!(answered.expect("a place").starts_with("HTTP/1.1 404 "));
        more.push(stream);
    }
    assert_eq!(drain(&mut idle[0]).await, 0, "the first has made room");
    assert!(read_head(&mut busy).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn whom_a_load_balancer_names_has_a_limit_of_his_own() {
    let app = App::start(1).await;
    let limits = ProxyLimits { connections_per_peer: 2, ..ProxyLimits::default() };
    let proxy = Proxy::behind_with(balancer(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![route("blog", &[&app])]).await;
    let mut streams = Vec::new();
    for (address, served) in
        [("192.0.2.1", true), ("192.0.2.1", true), ("192.0.2.1", false), ("192.0.2.2", true)]
    {
        let mut stream = from(&proxy, address).await;
        let _ = stream.write_all(GET).await;
        assert_eq!(stream.read_u8().await.is_ok(), served, "{address}");
        streams.push(stream);
    }
}

/// Asks for so much at once on one connection; how many were answered and how many refused.
async fn ask_at_once(proxy: &Proxy, requests: usize, refused: &Arc<AtomicUsize>) -> (usize, usize) {
    refused.store(0, Ordering::SeqCst);
    let io = TokioIo::new(from(proxy, "192.0.2.1").await);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let asking = (0..requests).map(|_| {
        let request = Request::get("http://blog.localhost/").body(Empty::<Bytes>::new()).unwrap();
        let (mut client, refused) = (client.clone(), Arc::clone(refused));
        tokio::spawn(async move {
            let answer = client.send_request(request).await.unwrap();
            let status = answer.status().as_u16();
            let is_refused = status == 429 && answer.headers().contains_key("retry-after");
            assert!(is_refused || status == 200, "{answer:?}");
            refused.fetch_add(usize::from(is_refused), Ordering::SeqCst);
        })
    });
    let asking: Vec<_> = asking.collect();
    for asked in asking {
        asked.await.unwrap();
    }
    let refused = refused.load(Ordering::SeqCst);
    (requests - refused, refused)
}

#[tokio::test]
async fn requests_of_one_address_have_a_limit_over_all_its_streams() {
    let refused = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&refused);
    // Answers once those are refused that were too many.
    let app = App::raw(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            read_head(&mut stream).await;
            while seen.load(Ordering::SeqCst) < 7 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            let _ = stream.read_u8().await;
        }
    })
    .await;
    let limits = ProxyLimits { requests_per_peer: 5, ..ProxyLimits::default() };
    let proxy = Proxy::behind_with(balancer(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![route("blog", &[&app])]).await;
    assert_eq!(ask_at_once(&proxy, 12, &refused).await, (5, 7));
    // All of it is given back, a moment after the answers are there.
    let given_back = async {
        let mut answered = 5;
        loop {
            let (some, _) = ask_at_once(&proxy, 12, &refused).await;
            answered += some as u64;
            if some == 5 {
                return answered;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answered = tokio::time::timeout(Duration::from_secs(20), given_back).await.unwrap();
    assert_eq!(control.counted(1, answered).await, 0);
}

#[tokio::test]
async fn the_proxy_as_a_whole_has_its_fill_too() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.read_u8().await;
    })
    .await;
    let (proxy, mut control) = with_limits(ProxyLimits { requests: 1, ..ProxyLimits::default() }, &app).await;
    let mut first = TcpStream::connect(proxy.address).await.unwrap();
    first.write_all(GET).await.unwrap();
    while app.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    insta::assert_snapshot!(settled(&proxy.get("blog.localhost").await), @r"
    HTTP/1.1 503 Service Unavailable
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: H99
    retry-after: 1
    connection: close
    content-length: 88

    Platform too busy (503 · H99)
    The platform has too many requests under way; try again.
    ");
    drop(first);
    control.silence().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_holds_no_app_for_ever() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 8 * 1024]).await.is_ok() {}
    })
    .await;
    let limits = ProxyLimits { send: Duration::from_millis(400), ..ProxyLimits::default() };
    let (proxy, mut control) = with_limits(limits, &app).await;
    let mut one = TcpStream::connect(proxy.address).await.unwrap();
    one.write_all(GET).await.unwrap();
    // Over HTTP/2 it is the stream's window that stays shut, while the client is there.
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://blog.localhost/").body(Empty::<Bytes>::new()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    control.publish(2, vec![]).await;
    let drained = tokio::time::timeout(Duration::from_secs(5), control.drained());
    assert_eq!(drained.await.expect("both have ended"), app.target());
    drop((one, answer));
}

/// A process whose queue of connections is full.
async fn busy() -> (TcpListener, Vec<TcpStream>, Target) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(LOOPBACK.into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut streams = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        streams.push(connected.unwrap());
    }
    (listener, streams, Target { address, process: "web.1".to_owned(), release: 1 })
}

#[tokio::test]
async fn a_process_that_is_busy_is_no_crash() {
    let (listener, queue, target) = busy().await;
    let mut blog = route("blog", &[]);
    (blog.targets, blog.release) = (vec![target.clone()], 1);
    let limits = ProxyLimits { connect_last: Duration::from_millis(1500), ..ProxyLimits::default() };
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![blog.clone()]).await;
    insta::assert_snapshot!(settled(&proxy.get("blog.localhost").await), @r"
    HTTP/1.1 503 Service Unavailable
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: H19
    connection: close
    content-length: 62

    App too busy (503 · H19)
    The app took no connection in time.
    ");
    // It has others: those are asked without delay.
    let other = App::start(1).await;
    blog.targets.push(other.target());
    control.publish(2, vec![blog.clone()]).await;
    let before = Instant::now();
    for _ in 0..4 {
        assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
    }
    assert!(before.elapsed() < Duration::from_millis(1400), "{:?}", before.elapsed());
    // By itself again, and free again after a moment.
    blog.targets.pop();
    control.publish(3, vec![blog]).await;
    let address = proxy.address;
    let asking =
        tokio::spawn(raw(address, "GET / HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(queue);
    let serving = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                if read_head(&mut stream).await.starts_with("GET") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                }
            });
        }
    };
    let answer = tokio::select! { () = serving => unreachable!(), answer = asking => answer.unwrap() };
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(control.counted(1, 5).await, 0, "errors of the release");
}

#[tokio::test]
async fn one_that_takes_connections_is_found_among_many_that_do_not() {
    let mut blog = route("blog", &[]);
    blog.release = 1;
    let mut held = Vec::new();
    for _ in 0..5 {
        let (listener, queue, target) = busy().await;
        blog.targets.push(target);
        held.push((listener, queue));
    }
    // So long that the first may be asked again before the last has been.
    let limits = ProxyLimits {
        connect: Duration::from_millis(400),
        connect_last: Duration::from_secs(5),
        ..ProxyLimits::default()
    };
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![blog.clone()]).await;
    let answered = tokio::time::timeout(Duration::from_secs(30), proxy.get("blog.localhost"));
    assert!(answered.await.expect("an end").contains("x-paas-error: H19"));
    let other = App::start(1).await;
    blog.targets.push(other.target());
    control.publish(2, vec![blog]).await;
    for _ in 0..3 {
        assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
    }
}

/// One request's answer on a connection that goes on.
async fn ask(stream: &mut TcpStream, request: &[u8]) -> u16 {
    stream.write_all(request).await.unwrap();
    let head = read_head(stream).await.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_connection_that_rests_takes_more_requests_and_ends_in_its_time() {
    let app = App::start(1).await;
    let limits = ProxyLimits { idle: Duration::from_secs(3), ..ProxyLimits::default() };
    let (proxy, _control) = with_limits(limits, &app).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let post = b"POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 5\r\n\r\nhello";
    for request in [GET, &post[..], b"\r\nGET / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n", GET] {
        assert_eq!(ask(&mut stream, request).await, 200);
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    // Half a request wakes it, too.
    stream.write_all(&GET[..9]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(ask(&mut stream, &GET[9..]).await, 200);
    // What is no request is refused as ever.
    let mut other = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut other, GET).await, 200);
    tokio::time::sleep(Duration::from_millis(600)).await;
    other.write_all(b"GET / HTTP/1.1\nHost: blog.localhost\n\n").await.unwrap();
    assert!(read_head(&mut other).await.starts_with("HTTP/1.1 400"));
    let begun = Instant::now();
    assert_eq!(drain(&mut stream).await, 0);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(app.requests(), 6);
}
