//! What the proxy says itself, and processes that do not answer.

use crate::world::*;
use paas::model::Maintenance;
use paas::proxy::ProxyLimits;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

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

#[tokio::test]
async fn in_maintenance_everybody_gets_the_page_and_the_app_nothing() {
    let app = App::start(1).await;
    let mut blog = logged("blog", &[&app]);
    blog.traffic.maintenance = Some(Maintenance::default());
    let mut own = route("own", &[]);
    own.traffic.maintenance = Some(Maintenance { page: Some("<h1>Soon ☃</h1>".into()) });
    let (proxy, mut control) = Proxy::with(vec![blog, own]).await;
    insta::assert_snapshot!(settled(&proxy.get("blog.localhost").await), @r"
    HTTP/1.1 503 Service Unavailable
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: H80
    retry-after: 60
    connection: close
    content-length: 75

    Maintenance (503 · H80)
    The app is being worked on; try again in a while.
    ");
    insta::assert_snapshot!(settled(&proxy.get("own.localhost").await), @r"
    HTTP/1.1 503 Service Unavailable
    content-type: text/html; charset=utf-8
    cache-control: no-store
    x-paas-error: H80
    retry-after: 60
    connection: close
    content-length: 17

    <h1>Soon ☃</h1>
    ");
    let (lines, _) = control.told(1).await;
    let start = "at=info code=H80 desc=\"Maintenance\" method=GET path=\"/\" host=blog.localhost ";
    assert!(lines[0].text.starts_with(start), "{}", lines[0].text);
    control.change(2, &[("blog", Some(route("blog", &[&app])))]).await;
    assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
    assert_eq!(app.requests(), 1);
    // None of it was an error of the release's.
    assert_eq!(control.counted(1, 1).await, 0);
}
