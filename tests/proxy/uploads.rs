//! Requests that do not come to their end: whose doing it is, and who is told what.

use crate::world::*;
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use paas::proxy::ProxyLimits;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn with_limits(limits: ProxyLimits, app: &App) -> (Proxy, Control) {
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![route("blog", &[app])]).await;
    (proxy, control)
}

/// Sends the parts with a pause between them; what comes back.
async fn in_parts(proxy: &Proxy, parts: &[&[u8]], pause: Duration) -> String {
    to_the_end(send_parts(proxy, parts, pause).await).await
}

async fn send_parts(proxy: &Proxy, parts: &[&[u8]], pause: Duration) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            tokio::time::sleep(pause).await;
        }
        stream.write_all(part).await.unwrap();
    }
    stream
}

async fn to_the_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
    let _ = reading.await.expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

const PAUSE: Duration = Duration::from_millis(50);

#[tokio::test]
async fn uploads_that_clients_break_off_are_not_the_releases_errors() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut answers = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let part = b"POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 9\r\n\r\nx";
        let mut stream = send_parts(&proxy, &[part], PAUSE).await;
        stream.shutdown().await.unwrap();
        answers.insert(settled(&to_the_end(stream).await));
    }
    assert_eq!(answers.len(), 1);
    insta::assert_snapshot!(answers.pop_first().unwrap(), @r"
    HTTP/1.1 400 Bad Request
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: H27
    connection: close
    content-length: 61

    Request cut off (400 · H27)
    The request's body ended early.
    ");
    assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
    assert_eq!(control.counted(1, 1).await, 0);
}

#[tokio::test]
async fn a_client_that_stalls_is_told_so_and_the_app_is_not_blamed() {
    let app = App::start(1).await;
    let limits = ProxyLimits {
        first_byte: Duration::from_secs(1),
        body: Duration::from_millis(1500),
        ..ProxyLimits::default()
    };
    let (proxy, mut control) = with_limits(limits, &app).await;
    let head = "POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 9\r\n\r\n";
    insta::assert_snapshot!(settled(&proxy.raw(head).await), @r"
    HTTP/1.1 408 Request Timeout
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: H28
    connection: close
    content-length: 83

    Request too slow (408 · H28)
    The rest of the request's body did not come in time.
    ");
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let asking = (0..10).map(|_| {
        let never = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let request = Request::post("http://blog.localhost/").body(BodyExt::boxed(StreamBody::new(never)));
        let mut client = client.clone();
        tokio::spawn(async move { client.send_request(request.unwrap()).await.unwrap().status().as_u16() })
    });
    let asking: Vec<_> = asking.collect();
    for asked in asking {
        let answered = tokio::time::timeout(Duration::from_secs(15), asked);
        assert_eq!(answered.await.expect("an answer").unwrap(), 408);
    }
    assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
    assert_eq!(control.counted(1, 1).await, 0);
}

#[tokio::test]
async fn the_apps_time_begins_when_it_has_the_whole_request() {
    let app = App::start(1).await;
    let limits = ProxyLimits { first_byte: Duration::from_millis(200), ..ProxyLimits::default() };
    let (proxy, _control) = with_limits(limits.clone(), &app).await;
    let head: &[u8] =
        b"POST / HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\nContent-Length: 3\r\n\r\n";
    let answer = in_parts(&proxy, &[head, b"a", b"b", b"c"], Duration::from_millis(300)).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\nabc"), "{answer}");
    let silent = App::raw(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let (proxy, mut control) = with_limits(limits, &silent).await;
    let before = Instant::now();
    let answer = in_parts(&proxy, &[head, b"abc"], Duration::from_millis(100)).await;
    assert!(answer.contains("x-paas-error: H12"), "{answer}");
    assert!(before.elapsed() < Duration::from_secs(3));
    assert_eq!(control.counted(1, 1).await, 1);
}

#[tokio::test]
async fn what_comes_before_a_violation_is_not_spoilt_by_it() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let post: &[u8] = b"POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 1\r\n\r\n";
    let answer = in_parts(&proxy, &[post, b"xGET / HTTP/1.1\nHost"], PAUSE).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\nxHTTP/1.1 400 "), "{answer}");
    let pipelined = [post, b"xGET / HTTP/1.1\nHost"].concat();
    let answer = in_parts(&proxy, &[&pipelined], PAUSE).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\nxHTTP/1.1 400 "), "{answer}");
    let chunked: &[u8] = b"POST / HTTP/1.1\r\nHost: blog.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    for bad in [&b"+1\r\na\r\n"[..], b"1\r\nab\r\n", b"1\nx", b"1\r\na\r\n0\r\nX: a\nb\r\n\r\n"] {
        let answer = in_parts(&proxy, &[chunked, bad], PAUSE).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer}");
        assert!(answer.contains("connection: close"), "{bad:?}: {answer}");
    }
    assert_eq!(control.counted(1, 2).await, 0);
}

#[tokio::test]
async fn a_body_reaches_the_app_whatever_the_method() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    for method in ["GET", "POST", "DELETE", "OPTIONS"] {
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\
             Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
        );
        let answer = proxy.raw(request).await;
        assert!(answer.ends_with("\nbody") && answer.contains("transfer-encoding: chunked"), "{answer}");
    }
    let none = proxy.get("blog.localhost").await;
    assert!(!none.contains("transfer-encoding") && !none.contains("content-length: 0"), "{none}");
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_sends() {
    let proxy = Proxy::start().await;
    let head = b"POST / HTTP/1.1\r\nHost: nobody.localhost\r\nContent-Length: 160000\r\n\r\n";
    let parts: Vec<&[u8]> = std::iter::once(&head[..]).chain([&[b'x'; 16_000][..]; 10]).collect();
    let before = Instant::now();
    let answer = in_parts(&proxy, &parts, Duration::from_millis(20)).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(before.elapsed() < Duration::from_secs(10));
}
