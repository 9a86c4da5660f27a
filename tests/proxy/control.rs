//! Without a control plane, and with a bad one.

use crate::world::*;
use paas::frame;
use paas::model::{FromProxy, Route, RouteChanges, ToProxy};
use paas::proxy;
use paas::proxy::ProxyLimits;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn the_control_plane_may_go_and_come_back() {
    let (old, new) = (App::start(1).await, App::start(2).await);
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&old])]).await;
    assert!(
        matches!(control.hello, FromProxy::Hello { version: 0, pid, tls: true, changes: true, loads: true, weights: true, sleep: true } if pid == std::process::id())
    );
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
async fn answers_are_counted_by_release_and_those_in_the_apps_place_too() {
    let (old, gone) = (App::start(1).await, App::start(2).await);
    gone.stop.cancel();
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&old])]).await;
    for _ in 0..3 {
        proxy.get("blog.localhost").await;
    }
    assert!(proxy.get("nobody.localhost").await.starts_with("HTTP/1.1 404 "));
    assert_eq!(control.counted(1, 3).await, 0);
    control.publish(2, vec![route("blog", &[&gone])]).await;
    assert!(proxy.get("blog.localhost").await.starts_with("HTTP/1.1 503 "));
    assert_eq!(control.counted(2, 1).await, 1, "nothing listens there");
    let crashed = Route { targets: Vec::new(), ..route("blog", &[&gone]) };
    let scaled = Route { outage: "H14".to_owned(), ..crashed.clone() };
    control.publish(3, vec![scaled]).await;
    assert!(proxy.get("blog.localhost").await.starts_with("HTTP/1.1 503 "), "which is as it should be");
    control.publish(4, vec![crashed]).await;
    // What happens while nobody listens is told later.
    drop(control);
    assert!(proxy.get("blog.localhost").await.starts_with("HTTP/1.1 503 "));
    let mut control = proxy.control().await;
    assert_eq!(control.counted(2, 1).await, 1);
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
async fn what_changes_is_changed_and_nothing_else() {
    let (blog, shop, new) = (App::start(1).await, App::start(2).await, App::start(3).await);
    let port = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap().local_addr().unwrap().port();
    let ported = Route { port: Some(port), ..route("shop", &[&shop]) };
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&blog]), ported]).await;
    control.change(2, &[("blog", Some(route("blog", &[&new])))]).await;
    assert_eq!(control.drained().await, blog.target());
    assert!(proxy.get("blog.localhost").await.contains("v3 GET /"));
    assert!(
        raw(([127, 0, 0, 1], port).into(), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .contains("v2 GET /")
    );
    let refused = control.change(3, &[("shop", None), ("news", Some(route("news", &[&blog])))]).await;
    assert!(refused.is_empty());
    assert_eq!(control.drained().await, shop.target());
    assert!(proxy.get("shop.localhost").await.starts_with("HTTP/1.1 404 "));
    assert!(proxy.get("news.localhost").await.contains("v1 GET /"));
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err(), "its port is closed");
    // What is changed is kept as well.
    let directory = proxy.stop().await;
    std::fs::remove_file(directory.path().join("proxy.sock")).unwrap();
    let proxy = Proxy::start_in(directory, ProxyLimits::default()).await;
    assert!(proxy.get("blog.localhost").await.contains("v3 GET /"));
    assert!(proxy.get("shop.localhost").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn changes_of_another_table_are_not_made() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let changes = RouteChanges { from: 7, version: 8, routes: [].into() };
    frame::write(&mut control.stream, &ToProxy::Changes(changes)).await.unwrap();
    let control = Control::accept(control.listener).await;
    assert!(matches!(control.hello, FromProxy::Hello { version: 1, .. }), "it comes back with its own");
    assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
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
    Choose another address with --http-listen or --https-listen, or free this one.
    ");

    let missing = options(Path::new("/proc/nowhere"), ProxyLimits::default(), None);
    let error = proxy::run(missing, CancellationToken::new()).await.unwrap_err();
    insta::assert_snapshot!(paas::model::Problem::from(&error), @r"
    The proxy did not start: no lock file
    /proc/nowhere/proxy.lock: No such file or directory (os error 2)
    Create that directory, writable for the user that runs the proxy.
    ");
}
