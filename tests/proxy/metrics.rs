//! What monitoring reads, and what the control plane is told of the apps' load.

use crate::world::*;
use paas::model::{AppLoad, Load};
use paas::proxy::ProxyLimits;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn scrape(address: SocketAddr) -> String {
    raw(address, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await
}

/// The value of a line.
fn value(document: &str, line: &str) -> Option<String> {
    let found = document.lines().find_map(|there| there.strip_prefix(line));
    found.and_then(|rest| rest.strip_prefix(' ')).map(str::to_owned)
}

/// Asks until a line has this value: some numbers are only there when a request has ended.
async fn becomes(address: SocketAddr, line: &str, wanted: &str) {
    for _ in 0..200 {
        if value(&scrape(address).await, line).as_deref() == Some(wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no {line} {wanted} in\n{}", scrape(address).await);
}

#[tokio::test]
async fn monitoring_reads_what_apps_have_to_do() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app]), route("quiet", &[])]).await;
    let before = scrape(proxy.metrics).await;
    assert!(before.contains("content-type: text/plain; version=0.0.4"), "{before}");
    assert!(!before.contains("app=\""), "nobody has asked: {before}");
    assert_eq!(value(&before, "paas_proxy_route_table_version").as_deref(), Some("1"));
    assert_eq!(value(&before, "paas_proxy_routes").as_deref(), Some("2"));
    proxy.get("blog.localhost").await;
    let post =
        "POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let answer = proxy.raw(post).await;
    let sent = answer.split_once("\r\n\r\n").unwrap().1.len();
    proxy.get("quiet.localhost").await;
    proxy.get("nobody.localhost").await;
    proxy.raw("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    becomes(proxy.metrics, "paas_app_requests_total{app=\"blog\",code=\"2xx\"}", "2").await;
    becomes(proxy.metrics, "paas_app_requests_in_flight{app=\"blog\"}", "0").await;
    let document = scrape(proxy.metrics).await;
    let is =
        |line: &str, wanted: &str| assert_eq!(value(&document, line).as_deref(), Some(wanted), "{document}");
    is("paas_app_request_duration_seconds_count{app=\"blog\"}", "2");
    is("paas_app_request_duration_seconds_bucket{app=\"blog\",le=\"+Inf\"}", "2");
    is("paas_app_received_bytes_total{app=\"blog\"}", "5");
    is("paas_app_requests_total{app=\"quiet\",code=\"5xx\"}", "1");
    is("paas_app_error_pages_total{app=\"quiet\",error=\"H10\"}", "1");
    is("paas_proxy_stray_requests_total{code=\"4xx\"}", "2");
    let all: usize = value(&document, "paas_app_sent_bytes_total{app=\"blog\"}").unwrap().parse().unwrap();
    assert!(all > sent, "{all} bytes of two answers");
    // An app's numbers end with the app.
    control.change(2, &[("blog", None)]).await;
    let document = scrape(proxy.metrics).await;
    assert!(!document.contains("app=\"blog\"") && document.contains("app=\"quiet\""), "{document}");
    let other = raw(proxy.metrics, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(other.starts_with("HTTP/1.1 404"), "{other}");
    let post = raw(proxy.metrics, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405") && post.contains("allow: GET, HEAD"), "{post}");
}

#[tokio::test]
async fn requests_under_way_and_those_that_nobody_waited_for_are_seen() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.read_u8().await;
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n").await.unwrap();
    becomes(proxy.metrics, "paas_app_requests_in_flight{app=\"blog\"}", "1").await;
    becomes(proxy.metrics, "paas_proxy_connections{entry=\"http\"}", "1").await;
    drop(client);
    becomes(proxy.metrics, "paas_app_requests_in_flight{app=\"blog\"}", "0").await;
    becomes(proxy.metrics, "paas_app_requests_total{app=\"blog\",code=\"gone\"}", "1").await;
    becomes(proxy.metrics, "paas_proxy_connections{entry=\"http\"}", "0").await;
    becomes(proxy.metrics, "paas_proxy_connections_total{entry=\"http\"}", "1").await;
}

#[tokio::test]
async fn handshakes_and_certificates_are_seen() {
    let proxy = Proxy::start().await;
    let mut stream = TcpStream::connect(proxy.https).await.unwrap();
    stream.write_all(b"\x16\x03\x01\x00\x05hello").await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    becomes(proxy.metrics, "paas_proxy_tls_handshakes_total{result=\"failed\"}", "1").await;
    becomes(proxy.metrics, "paas_proxy_tls_handshakes_total{result=\"done\"}", "0").await;
}

#[tokio::test]
async fn the_control_plane_is_told_what_apps_have_to_do() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    for _ in 0..3 {
        proxy.get("blog.localhost").await;
    }
    // Acknowledgements go on meanwhile.
    control.publish(2, vec![route("blog", &[&app])]).await;
    while control.loads.is_empty() {
        let _ = tokio::time::timeout(Duration::from_secs(1), control.next()).await;
    }
    let mut all = Load::default();
    for AppLoad { app, in_flight, load } in &control.loads {
        assert_eq!((app.as_str(), *in_flight), ("blog", 0));
        all.add(load);
    }
    assert_eq!((all.answers.fine, all.answers.sum(), all.spread.count()), (3, 3, 3));
    assert!(all.sent > 0 && all.spread.within(0.99).unwrap() < Duration::from_secs(5), "{all:?}");
    // Another control plane is not told of what was before it came.
    proxy.get("blog.localhost").await;
    drop(control);
    let mut control = proxy.control().await;
    control.publish(3, vec![route("blog", &[&app])]).await;
    proxy.get("blog.localhost").await;
    while control.loads.is_empty() {
        let _ = tokio::time::timeout(Duration::from_secs(1), control.next()).await;
    }
    assert_eq!(control.loads[0].load.answers.sum(), 1, "{:?}", control.loads);
}

#[tokio::test]
async fn the_next_proxy_takes_over_the_address_for_monitoring() {
    let app = App::start(1).await;
    let (proxy, control) = Proxy::with(vec![route("blog", &[&app])]).await;
    proxy.get("blog.localhost").await;
    let (next, mut linked) = Proxy::upgrade(proxy.directory.path(), ProxyLimits::default(), &control).await;
    linked.publish(2, vec![route("blog", &[&app])]).await;
    let bound = next.bound.await.unwrap();
    assert_eq!(bound.metrics, Some(proxy.metrics));
    becomes(proxy.metrics, "paas_proxy_route_table_version", "2").await;
    assert!(!scrape(proxy.metrics).await.contains("app=\""), "its numbers begin with it");
    next.stop.cancel();
    next.running.await.unwrap().unwrap();
}
