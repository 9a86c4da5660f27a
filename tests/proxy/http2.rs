//! HTTP/2 by its preface: what a client of it may do, and what none would.

use crate::world::*;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use paas::proxy::ProxyLimits;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

type Body = BoxBody<Bytes, Infallible>;

async fn connect(address: SocketAddr) -> SendRequest<Body> {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<Body> {
    Request::get(format!("http://blog.localhost{path}")).body(Empty::new().boxed()).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_request_becomes_one_of_http_1() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut client = connect(proxy.address).await;
    let mut request = get("/a?b");
    request.headers_mut().append("cookie", "a=1".parse().unwrap());
    request.headers_mut().append("cookie", "b=2".parse().unwrap());
    request.headers_mut().append("x-forwarded-for", "192.0.2.1".parse().unwrap());
    let response = client.send_request(request).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, hyper::Version::HTTP_2));
    let text = text(response).await;
    for line in
        ["v1 GET /a?b\n", "host: blog.localhost\n", "cookie: a=1; b=2\n", "x-forwarded-for: 127.0.0.1\n"]
    {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    let body = Full::new(Bytes::from("a body")).boxed();
    let request = Request::post("http://blog.localhost/").body(body).unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert!(self::text(answer).await.ends_with("a body"));
    let nobody = Request::get("http://nobody.localhost/").body(Empty::new().boxed()).unwrap();
    assert_eq!(client.send_request(nobody).await.unwrap().status(), 404);
    let other = Request::get("http://blog.localhost/").header("host", "other.localhost");
    let other = client.send_request(other.body(Empty::new().boxed()).unwrap()).await.unwrap();
    assert_eq!(other.status(), 400);
    assert!(other.headers().get("connection").is_none());
    assert_eq!(client.send_request(get("/still")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn many_requests_at_a_time_each_get_their_own_answer() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let client = connect(proxy.address).await;
    let asking: Vec<_> = (0..300)
        .map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let answer = client.send_request(get(&format!("/{number}"))).await.unwrap();
                assert!(text(answer).await.starts_with(&format!("v1 GET /{number}\n")));
            })
        })
        .collect();
    for asked in asking {
        asked.await.unwrap();
    }
}

#[tokio::test]
async fn head_and_trailers_pass() {
    let app = App::raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let answer: &[u8] = if head.starts_with("HEAD") {
            b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
        } else {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n2\r\nok\r\n0\r\nSum: 3\r\n\r\n"
        };
        stream.write_all(answer).await.unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut client = connect(proxy.address).await;
    let request = Request::head("http://blog.localhost/").body(Empty::new().boxed()).unwrap();
    let head = client.send_request(request).await.unwrap();
    assert_eq!(head.headers()["content-length"], "1234");
    assert_eq!(text(head).await, "");
    let mut request = get("/");
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let collected = client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["sum"], "3");
    assert_eq!(collected.to_bytes(), "ok");
}

#[tokio::test]
async fn a_bodys_trailers_reach_the_app() {
    let app = App::raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            body.push(stream.read_u8().await.unwrap());
        }
        let body = String::from_utf8(body).unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut client = connect(proxy.address).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("sum", "3".parse().unwrap());
    let frames = [Frame::data(Bytes::from("ok")), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let body = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
    let request = Request::post("http://blog.localhost/").header("trailer", "sum").body(body).unwrap();
    let answer = text(client.send_request(request).await.unwrap()).await;
    assert_eq!(answer, "2\r\nok\r\n0\r\nsum: 3\r\n\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_and_swaps_lose_no_request() {
    let mut app = App::start(1).await;
    let limits = ProxyLimits { linger: Duration::from_millis(300), ..ProxyLimits::default() };
    let first = Proxy::start_in(tempfile::tempdir().unwrap(), limits.clone()).await;
    let mut control = first.control().await;
    control.publish(1, vec![route("blog", &[&app])]).await;
    let over = CancellationToken::new();
    let asking: Vec<_> = (0..4).map(|_| tokio::spawn(keep_asking(first.address, over.clone()))).collect();
    let (place, mut running) = (first.directory.path().to_owned(), first.running);
    for release in 2..=5 {
        let next_app = App::start(release).await;
        let (next, mut linked) = Proxy::upgrade(&place, limits.clone(), &control).await;
        linked.publish(u64::from(release) * 2, vec![route("blog", &[&app])]).await;
        next.bound.await.unwrap();
        running.await.unwrap().unwrap();
        linked.publish(u64::from(release) * 2 + 1, vec![route("blog", &[&next_app])]).await;
        // Those of before are told again: a new proxy knows no better.
        while linked.drained().await != app.target() {}
        (running, control, app) = (next.running, linked, next_app);
    }
    over.cancel();
    for client in asking {
        assert!(client.await.unwrap() > 0);
    }
    running.abort();
}

/// As a browser does: on one connection as long as it takes requests.
async fn keep_asking(address: SocketAddr, over: CancellationToken) -> u64 {
    let (mut client, mut answered) = (connect(address).await, 0);
    while !over.is_cancelled() {
        // Not sent at all after the connection's goodbye: that is no lost request.
        if client.ready().await.is_err() {
            client = connect(address).await;
            continue;
        }
        match client.try_send_request(get("/")).await {
            Ok(response) => {
                assert_eq!(response.status(), 200);
                assert!(text(response).await.starts_with('v'));
                answered += 1;
            }
            Err(mut error) => {
                assert!(error.take_message().is_some() || is_refused(error.error()), "{:?}", error.error());
                client = connect(address).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    answered
}

/// The proxy has said that it has not looked at the request: to be sent again.
fn is_refused(error: &hyper::Error) -> bool {
    let text = format!("{error:?}");
    text.contains("REFUSED_STREAM") || text.contains("NO_ERROR")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_bodies_stream_both_ways() {
    const LENGTH: usize = 64 * 1024 * 1024;
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut (&mut reader).take(LENGTH as u64), &mut writer).await.unwrap();
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut client = connect(proxy.address).await;
    let part = Bytes::from(vec![7; 64 * 1024]);
    let parts = (0..LENGTH / part.len()).map(move |_| Ok::<_, Infallible>(Frame::data(part.clone())));
    let body = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(parts)));
    let request =
        Request::post("http://blog.localhost/").header("content-length", LENGTH).body(body).unwrap();
    let mut body = client.send_request(request).await.unwrap().into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert_eq!(length, LENGTH);
}

/// A client made by hand.
struct Raw {
    stream: TcpStream,
}

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const RESET: u8 = 3;
const HEADERS: u8 = 1;
const DATA: u8 = 0;
const CONTINUATION: u8 = 9;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(content.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(content);
    frame
}

/// Literal fields, neither indexed nor packed.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "blog.localhost")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<u8> {
    fields(&[&GET[..], more].concat())
}

impl Raw {
    async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self { stream }
    }

    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The next frame: kind, stream, content; none at the connection's end.
    async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let reading = async {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, _, stream @ ..] = head;
            let mut content = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut content).await.ok()?;
            Some((kind, u32::from_be_bytes(stream), content))
        };
        tokio::time::timeout(Duration::from_secs(20), reading).await.expect("a frame or the end")
    }

    /// How one request ends, in words.
    async fn outcome(&mut self, stream: u32) -> String {
        while let Some((kind, of, content)) = self.next().await {
            let code = |at: usize| u32::from_be_bytes(content[at..at + 4].try_into().unwrap());
            match kind {
                // The status is packed by the static table.
                HEADERS if of == stream => {
                    return match content[0] {
                        0x88 => "200".into(),
                        0x8c => "400".into(),
                        0x8d => "404".into(),
                        other => format!("status {other:#x} {:?}", &content[..content.len().min(6)]),
                    };
                }
                RESET if of == stream => return format!("reset {}", code(0)),
                GOAWAY if code(4) != 0 => return format!("goaway {}", code(4)),
                _ => {}
            }
        }
        "closed".into()
    }
}

#[tokio::test]
async fn heads_that_are_none_are_refused_and_the_app_hears_nothing() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let no_authority = fields(&GET[..3]);
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("no authority", no_authority, &["400"]),
        ("another host", with(&[("host", "other.localhost")]), &["400"]),
        ("two hosts", with(&[("host", "blog.localhost"), ("host", "blog.localhost")]), &["400"]),
        (
            "a user in the authority",
            fields(&[GET[0], GET[1], GET[2], (":authority", "me@blog.localhost")]),
            &["400"],
        ),
        ("another scheme", fields(&[GET[0], (":scheme", "ftp"), GET[2], GET[3]]), &["400"]),
        ("an unknown expectation", with(&[("expect", "200-ok")]), &["400"]),
        ("CONNECT", fields(&[(":method", "CONNECT"), (":authority", "blog.localhost:80")]), &["400"]),
        ("no path", fields(&[GET[0], GET[1], GET[3]]), &["reset 1"]),
        ("an empty path", fields(&[GET[0], GET[1], (":path", ""), GET[3]]), &["reset 1"]),
        ("a path without a slash", fields(&[GET[0], GET[1], (":path", "x"), GET[3]]), &["reset 1", "400"]),
        ("no method", fields(&GET[1..]), &["reset 1"]),
        ("two paths", with(&[(":path", "/")]), &["reset 1", "goaway 1"]),
        ("a field in upper case", with(&[("X-Y", "z")]), &["reset 1", "goaway 1"]),
        ("a pseudo-field of responses", with(&[(":status", "200")]), &["reset 1", "goaway 1"]),
        (
            "a pseudo-field after the fields",
            fields(&[GET[0], GET[1], GET[2], ("x", "y"), GET[3]]),
            &["reset 1", "goaway 1"],
        ),
        ("a connection's field", with(&[("connection", "close")]), &["reset 1"]),
        ("an upgrade", with(&[("upgrade", "websocket")]), &["reset 1"]),
        ("a transfer coding", with(&[("transfer-encoding", "chunked")]), &["reset 1"]),
        ("a TE beyond trailers", with(&[("te", "gzip")]), &["reset 1"]),
        ("a line end in a value", with(&[("x", "a\r\nb: c")]), &["reset 1", "goaway 1"]),
        (
            "a line end in a path",
            fields(&[GET[0], GET[1], (":path", "/ HTTP/1.1\r\nx: y"), GET[3]]),
            &["reset 1"],
        ),
        ("a blank in a name", with(&[("x y", "z")]), &["reset 1", "goaway 1"]),
        ("a length that is none", with(&[("content-length", "-1")]), &["reset 1"]),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "1")]), &["reset 1", "400"]),
        ("a length without a body", with(&[("content-length", "5")]), &["reset 1"]),
        ("an index that is none", vec![0xff, 0xff, 0x03], &["goaway 9", "goaway 1"]),
    ];
    for (what, block, outcomes) in cases {
        let mut client = Raw::connect(proxy.address).await;
        client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)).await;
        let outcome = client.outcome(1).await;
        assert!(outcomes.contains(&outcome.as_str()), "{what}: {outcome}");
    }
    assert_eq!(app.requests(), 0);
}

#[tokio::test]
async fn frames_that_are_none_end_the_connection() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let begin = frame(HEADERS, END_HEADERS, 1, &fields(&[(":method", "POST"), GET[1], GET[2], GET[3]]));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a body of no request", frame(DATA, 0, 1, b"x")),
        ("a body of the connection", frame(DATA, 0, 0, b"x")),
        ("a request of the server's", frame(HEADERS, END_STREAM | END_HEADERS, 2, &with(&[]))),
        ("a request of the connection", frame(HEADERS, END_STREAM | END_HEADERS, 0, &with(&[]))),
        ("a frame that is too long", frame(DATA, 0, 1, &vec![0; 20_000])),
        ("a ping that is too short", frame(PING, 0, 0, b"1234")),
        ("half a setting", frame(SETTINGS, 0, 0, b"12345")),
        ("a window beyond all bounds", frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())),
        ("no more window", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("the rest of no head", frame(CONTINUATION, END_HEADERS, 1, &with(&[]))),
        ("a head within a head", [frame(HEADERS, 0, 1, &with(&[])), frame(PING, 0, 0, &[0; 8])].concat()),
        (
            "an older request",
            [
                frame(HEADERS, END_STREAM | END_HEADERS, 5, &with(&[])),
                frame(HEADERS, END_STREAM | END_HEADERS, 3, &with(&[])),
            ]
            .concat(),
        ),
        ("more than its length", [begin.clone(), frame(DATA, 0, 3, b"x")].concat()),
    ];
    for (what, bytes) in cases {
        let mut client = Raw::connect(proxy.address).await;
        client.send(&bytes).await;
        let mut outcome = client.outcome(u32::MAX).await;
        if outcome == "closed" {
            outcome = "goaway".into();
        }
        assert!(outcome.starts_with("goaway"), "{what}: {outcome}");
    }
    assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
}

#[tokio::test]
async fn floods_end_their_connection_and_nobody_elses() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut other = connect(proxy.address).await;
    let request = |stream: u32| frame(HEADERS, END_STREAM | END_HEADERS, stream, &with(&[]));
    type Attack = Box<dyn Fn(u32) -> Vec<u8>>;
    let attacks: Vec<(&str, Attack)> = vec![
        ("pings", Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        ("settings", Box::new(|_| frame(SETTINGS, 0, 0, &[]))),
        ("priorities", Box::new(|turn| frame(2, 0, turn * 2 + 1, &[0, 0, 0, 0, 1]))),
        ("unknown frames", Box::new(|_| frame(99, 0, 0, b"x"))),
        (
            "resets",
            Box::new(move |turn| {
                [request(turn * 2 + 1), frame(RESET, 0, turn * 2 + 1, &[0, 0, 0, 8])].concat()
            }),
        ),
        (
            "empty bodies",
            Box::new(|turn| {
                let post = fields(&[(":method", "POST"), GET[1], GET[2], GET[3]]);
                let begin = if turn == 0 { frame(HEADERS, END_HEADERS, 1, &post) } else { Vec::new() };
                [begin, frame(DATA, 0, 1, &[])].concat()
            }),
        ),
        (
            "a head without end",
            Box::new(|turn| {
                let begin = if turn == 0 { frame(HEADERS, 0, 1, &with(&[])) } else { Vec::new() };
                [begin, frame(CONTINUATION, 0, 1, &fields(&[("x", "y")]).repeat(100))].concat()
            }),
        ),
    ];
    for (what, attack) in attacks {
        let mut client = Raw::connect(proxy.address).await;
        let (mut reader, mut writer) = client.stream.split();
        let sending = async {
            for turn in 0..200_000 {
                if writer.write_all(&attack(turn)).await.is_err() {
                    return turn;
                }
            }
            200_000
        };
        let mut sink = tokio::io::sink();
        let reading = tokio::io::copy(&mut reader, &mut sink);
        let (sent, _) = tokio::join!(tokio::time::timeout(Duration::from_secs(20), sending), reading);
        let sent = sent.unwrap_or_else(|_| panic!("{what} go on and on"));
        assert!(sent < 100_000, "{what}: {sent}");
        let answer = other.send_request(get("/")).await.unwrap();
        assert_eq!(answer.status(), 200, "during {what}");
    }
    assert!(app.requests() < 1000, "{} requests", app.requests());
}

#[tokio::test]
async fn heads_are_bounded_and_more_requests_at_a_time_are_refused() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        // Never answers.
        let _ = stream.read_u8().await;
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut client = Raw::connect(proxy.address).await;
    let name = "x".repeat(100);
    // 60 fields are no more than HTTP/1 may bring; five thousand by reference are.
    let big = with(&[(name.as_str(), name.as_str()); 60]);
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &big)).await;
    wait_for(&app, 1).await;
    let mut indexed = vec![0x40, 1, b'y', 100];
    indexed.extend([b'z'; 100]);
    indexed.extend([0xbe; 5000]);
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &[with(&[]), indexed].concat())).await;
    let outcome = client.outcome(3).await;
    assert!(["status 0x48", "goaway", "reset"].iter().any(|end| outcome.starts_with(end)), "{outcome}");
    let mut client = Raw::connect(proxy.address).await;
    for number in 0..130 {
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &with(&[]))).await;
    }
    assert_eq!(client.outcome(259).await, "reset 7");
    wait_for(&app, 101).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(app.requests(), 101, "100 at a time, and the one with the big head");
}

async fn wait_for(app: &App, requests: u64) {
    let waiting = async {
        while app.requests() < requests {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    assert!(waited.is_ok(), "{} of {requests} requests", app.requests());
}

#[tokio::test]
async fn a_client_that_says_nothing_is_not_waited_for() {
    let app = App::start(1).await;
    let limits = ProxyLimits {
        header: Duration::from_millis(200),
        idle: Duration::from_millis(300),
        ..ProxyLimits::default()
    };
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![route("blog", &[&app])]).await;
    let mut client = Raw::connect(proxy.address).await;
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &with(&[]))).await;
    assert_eq!(client.outcome(1).await, "200");
    assert_eq!(client.outcome(3).await, "closed", "after a goodbye without an error");
    // Half a preface, piece by piece, is still one.
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    for piece in [&b"P"[..], b"RI", b" * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut client = Raw { stream };
    client.send(&frame(SETTINGS, 0, 0, &[])).await;
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &with(&[]))).await;
    assert_eq!(client.outcome(1).await, "200");
    assert!(proxy.raw("PR").await.starts_with("HTTP/1.1 408 "));
    let neither = proxy.raw("PRI * HTTP/1.1\r\nHost: blog.localhost\r\n\r\n").await;
    assert!(!neither.contains("HTTP/1.1"), "{neither}");
}

/// A client's side of a line that brings so many bytes in a tick and no more.
struct Slow {
    stream: TcpStream,
    tick: tokio::time::Interval,
    left: usize,
}

impl Slow {
    const BYTES: usize = 40 * 1024;
    const TICK: Duration = Duration::from_millis(10);

    async fn connect(address: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(32 * 1024).unwrap();
        let stream = socket.connect(address).await.unwrap();
        Self { stream, tick: tokio::time::interval(Self::TICK), left: 0 }
    }
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            std::task::ready!(self.tick.poll_tick(context));
            self.left = Self::BYTES;
        }
        let mut some = vec![0; self.left.min(buffer.remaining())];
        let mut some = ReadBuf::new(&mut some);
        let read = Pin::new(&mut self.stream).poll_read(context, &mut some);
        buffer.put_slice(some.filled());
        self.left -= some.filled().len();
        read
    }
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Each of many answers waits for all others between two pieces of it: longer than one
/// that is alone may let us wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_answers_share_a_slow_line() {
    const LENGTH: usize = 400 * 1024;
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let _ = stream.write_all(&vec![b'x'; LENGTH]).await;
    })
    .await;
    let limits = ProxyLimits { send: Duration::from_millis(100), ..ProxyLimits::default() };
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![route("blog", &[&app])]).await;
    let slow = TokioIo::new(Slow::connect(proxy.address).await);
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), slow).await.unwrap();
    tokio::spawn(connection);
    let asking: Vec<_> = (0..40)
        .map(|_| {
            let mut client: SendRequest<Body> = client.clone();
            tokio::spawn(async move {
                let answer = client.send_request(get("/")).await.unwrap();
                answer.into_body().collect().await.map(|body| body.to_bytes().len())
            })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap().expect("all of the answer"), LENGTH);
    }
}
