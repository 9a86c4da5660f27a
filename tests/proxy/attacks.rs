//! What nobody sends in good faith.

use crate::world::*;
use paas::proxy::ProxyLimits;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

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
