//! Apps that sleep: requests that wait, and who is idle.

use crate::world::*;
use paas::model::{Domain, FromProxy, HostName, Maintenance, Redirect, Route, Sleeps, User};
use paas::password::PasswordHash;
use paas::proxy::ProxyLimits;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const PLAIN: &str = "GET / HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n";

fn that(sleeps: Sleeps, mut route: Route) -> Route {
    route.traffic.sleeps = sleeps;
    route
}

fn asleep() -> Route {
    that(Sleeps::Asleep, route("blog", &[]))
}

fn awake(app: &App) -> Route {
    that(Sleeps::Awake, route("blog", &[app]))
}

/// The next app that is to be woken.
async fn asked(control: &mut Control) -> String {
    loop {
        if let FromProxy::Wake { app } = control.next().await {
            return app.to_string();
        }
    }
}

/// Nothing more comes for a while, but for the same once more: it is said again by turns.
async fn says_no_more(control: &mut Control) {
    while let Ok(said) = tokio::time::timeout(Duration::from_millis(200), control.next()).await {
        assert!(matches!(said, FromProxy::Wake { .. }), "{said:?}");
    }
}

/// For how many seconds the app is idle, as it is told next.
async fn idle(control: &mut Control) -> u32 {
    loop {
        if let FromProxy::Idle { apps } = control.next().await {
            return *apps.values().next().unwrap();
        }
    }
}

async fn with(limits: ProxyLimits, route: Route) -> (Proxy, Control) {
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![route]).await;
    (proxy, control)
}

/// Clients that ask at once, each on its own connection.
fn crowd(proxy: &Proxy, count: usize) -> JoinSet<String> {
    let mut clients = JoinSet::new();
    let address = proxy.address;
    for _ in 0..count {
        clients.spawn(async move { raw(address, PLAIN).await });
    }
    clients
}

#[tokio::test]
async fn a_thousand_requests_wait_for_one_wake_and_all_are_answered() {
    let app = App::start(1).await;
    let limits = ProxyLimits { tell: Duration::from_secs(3600), ..ProxyLimits::default() };
    let (proxy, mut control) = with(limits, asleep()).await;
    let mut clients = crowd(&proxy, 1_000);
    assert_eq!(asked(&mut control).await, "blog");
    says_no_more(&mut control).await;
    assert!(clients.try_join_next().is_none(), "nobody is answered yet");
    control.change(2, &[("blog", Some(awake(&app)))]).await;
    let answers = clients.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.contains("v1 GET /")).count(), 1_000);
    assert_eq!(app.requests(), 1_000);
}

#[tokio::test]
async fn what_waits_comes_whole_and_only_once() {
    let app = App::start(1).await;
    let (proxy, mut control) = with(ProxyLimits::default(), asleep()).await;
    let post =
        "POST /form HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let address = proxy.address;
    let client = tokio::spawn(async move { raw(address, post).await });
    asked(&mut control).await;
    control.publish(2, vec![awake(&app)]).await;
    let answer = client.await.unwrap();
    assert!(answer.contains("v1 POST /form") && answer.ends_with("hello"), "{answer}");
    assert_eq!(app.requests(), 1);
}

#[tokio::test]
async fn who_can_not_be_woken_is_crashed() {
    let (proxy, mut control) = with(ProxyLimits::default(), asleep()).await;
    let clients = crowd(&proxy, 3);
    asked(&mut control).await;
    control.change(2, &[("blog", Some(route("blog", &[])))]).await;
    for answer in clients.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("x-paas-error: H10"), "{answer}");
    }
    assert_eq!(control.counted(0, 3).await, 3, "as of any app that has crashed");
}

#[tokio::test]
async fn who_does_not_wake_in_time_is_said_to_be_late_and_no_release_is_blamed() {
    let limits = ProxyLimits { wake: Duration::from_millis(150), ..ProxyLimits::default() };
    let (proxy, mut control) = with(limits, asleep()).await;
    let begun = Instant::now();
    let answer = proxy.get("blog.localhost").await;
    assert!(begun.elapsed() >= Duration::from_millis(150));
    insta::assert_snapshot!(settled(&answer), @r"
    HTTP/1.1 503 Service Unavailable
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: H20
    retry-after: 5
    connection: close
    content-length: 86

    App boot timeout (503 · H20)
    The app was asleep and did not wake in time; try again.
    ");
    asked(&mut control).await;
    says_no_more(&mut control).await;
    assert!(control.counted.is_empty(), "{:?}", control.counted);
}

#[tokio::test]
async fn requests_wait_while_the_control_plane_is_away() {
    let app = App::start(1).await;
    let (proxy, control) = with(ProxyLimits::default(), asleep()).await;
    drop(control);
    let clients = crowd(&proxy, 5);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut control = proxy.control().await;
    // An older one would not know the word: it is said to those that have apps that sleep.
    control.silence().await;
    control.publish(2, vec![asleep()]).await;
    assert_eq!(asked(&mut control).await, "blog");
    control.publish(3, vec![awake(&app)]).await;
    assert!(clients.join_all().await.iter().all(|answer| answer.contains("v1 GET /")));
}

#[tokio::test]
async fn it_is_said_again_while_somebody_waits_and_no_longer() {
    let limits = ProxyLimits { tell: Duration::from_millis(20), ..ProxyLimits::default() };
    let (proxy, mut control) = with(limits, asleep()).await;
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(PLAIN.as_bytes()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(asked(&mut control).await, "blog");
    }
    drop(client);
    // One may be on its way.
    let silent =
        async { while tokio::time::timeout(Duration::from_millis(200), control.next()).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(5), silent).await.expect("nobody waits any more");
}

#[tokio::test]
async fn crawlers_wake_nobody() {
    let (proxy, mut control) = with(ProxyLimits::default(), asleep()).await;
    let agents = [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
        "facebook-crawler",
        "Baiduspider+(+http://www.baidu.com/search/spider.htm)",
        "Mozilla/5.0 (compatible; Yahoo! Slurp)",
    ];
    for agent in agents {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: blog.localhost\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n"
        );
        let answer = proxy.raw(head).await;
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 3600"),
            "{agent}: {answer}"
        );
    }
    control.silence().await;
    let head = "GET / HTTP/1.1\r\nHost: blog.localhost\r\nUser-Agent: Mozilla/5.0 (Linux; Android 10; CUBOT P40) Robotics\r\n\r\n";
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(asked(&mut control).await, "blog", "a telephone");
}

#[tokio::test]
async fn an_app_with_a_stream_or_a_tunnel_open_is_in_use() {
    let (end, ended) = tokio::sync::watch::channel(());
    let app = App::raw(move |mut stream| {
        let mut ended = ended.clone();
        async move {
            read_head(&mut stream).await;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let _ = ended.changed().await;
        }
    })
    .await;
    let limits = ProxyLimits { tell: Duration::from_millis(100), ..ProxyLimits::default() };
    let (proxy, mut control) = with(limits, awake(&app)).await;
    let address = proxy.address;
    let client = tokio::spawn(async move { raw(address, PLAIN).await });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_600) {
        assert_eq!(idle(&mut control).await, 0);
    }
    let ended = Instant::now();
    end.send_replace(());
    assert!(client.await.unwrap().contains("data: 1"));
    while idle(&mut control).await < 1 {
        assert!(ended.elapsed() < Duration::from_secs(10));
    }
    assert!(ended.elapsed() >= Duration::from_millis(800));
}

/// The old one still has those that waited.
#[tokio::test]
async fn those_who_wait_are_answered_over_an_upgrade() {
    let app = App::start(1).await;
    let (proxy, mut control) = with(ProxyLimits::default(), asleep()).await;
    let clients = crowd(&proxy, 5);
    asked(&mut control).await;
    let directory = proxy.directory.path().to_owned();
    let (successor, mut second) = Proxy::upgrade(&directory, ProxyLimits::default(), &control).await;
    second.publish(1, vec![asleep()]).await;
    successor.bound.await.unwrap();
    let late = crowd(&proxy, 2);
    assert_eq!(asked(&mut second).await, "blog");
    control.change(2, &[("blog", Some(awake(&app)))]).await;
    second.change(2, &[("blog", Some(awake(&app)))]).await;
    let answers = [clients.join_all().await, late.join_all().await].concat();
    assert_eq!(answers.iter().filter(|answer| answer.contains("v1 GET /")).count(), 7);
    successor.stop.cancel();
}

/// What the app would never see.
#[tokio::test]
async fn who_is_answered_before_the_app_wakes_nobody_and_keeps_nobody_awake() {
    let mut blog = asleep();
    blog.hosts.push(Domain::parse("old.example").unwrap());
    blog.traffic.redirects = vec![Redirect {
        from: Domain::parse("old.example").unwrap(),
        to: HostName::parse("blog.example").unwrap(),
        code: 301,
    }];
    blog.traffic.users =
        vec![User { name: "alice".to_owned(), hash: PasswordHash::of("open sesame").unwrap().to_string() }];
    let mut closed = asleep();
    closed.traffic.maintenance = Some(Maintenance::default());
    let limits = ProxyLimits { tell: Duration::from_millis(100), ..ProxyLimits::default() };
    let (proxy, mut control) = with(limits, blog.clone()).await;
    assert!(proxy.get("old.example").await.starts_with("HTTP/1.1 301 "));
    assert!(proxy.get("blog.localhost").await.starts_with("HTTP/1.1 401 "));
    control.publish(2, vec![closed]).await;
    assert!(proxy.get("blog.localhost").await.contains("x-paas-error: H80"));
    control.silence().await;

    let app = App::start(1).await;
    let mut blog = that(Sleeps::Awake, Route { targets: vec![app.target()], ..blog });
    blog.traffic.users.clear();
    control.publish(3, vec![blog]).await;
    let begun = Instant::now();
    let crawler =
        "GET / HTTP/1.1\r\nHost: blog.localhost\r\nUser-Agent: Googlebot/2.1\r\nConnection: close\r\n\r\n";
    while idle(&mut control).await < 1 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(proxy.get("old.example").await.starts_with("HTTP/1.1 301 "));
        if begun.elapsed() < Duration::from_millis(800) {
            assert!(proxy.raw(crawler).await.contains("v1 GET /"), "it is awake, and answers whoever asks");
        }
    }
    assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
    let asked = Instant::now();
    while idle(&mut control).await > 0 {
        assert!(asked.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn who_waits_is_asked_for_a_password_that_is_set_meanwhile() {
    let (proxy, mut control) = with(ProxyLimits::default(), asleep()).await;
    let clients = crowd(&proxy, 3);
    asked(&mut control).await;
    let mut guarded = asleep();
    guarded.traffic.users =
        vec![User { name: "alice".to_owned(), hash: PasswordHash::of("open sesame").unwrap().to_string() }];
    control.change(2, &[("blog", Some(guarded))]).await;
    for answer in clients.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

#[tokio::test]
async fn who_waits_sees_the_page_of_an_app_that_goes_into_maintenance() {
    let (proxy, mut control) = with(ProxyLimits::default(), asleep()).await;
    let clients = crowd(&proxy, 3);
    asked(&mut control).await;
    let mut closed = asleep();
    closed.traffic.maintenance = Some(Maintenance::default());
    control.change(2, &[("blog", Some(closed))]).await;
    for answer in clients.join_all().await {
        assert!(answer.contains("x-paas-error: H80"), "{answer}");
    }
}

#[tokio::test]
async fn an_app_that_is_gone_is_waited_for_no_longer() {
    let (proxy, mut control) = with(ProxyLimits::default(), asleep()).await;
    let clients = crowd(&proxy, 2);
    asked(&mut control).await;
    control.change(2, &[("blog", None)]).await;
    for answer in clients.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }
}
