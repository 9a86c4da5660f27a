//! One release after another, and the end of the proxy itself.

use crate::world::*;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

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
    // The faster the swaps, the fewer requests.
    assert!(answered > 50, "{answered} requests");
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
