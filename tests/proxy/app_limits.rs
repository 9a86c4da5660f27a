//! What `[http]` of an app's paas.toml says.

use crate::world::*;
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use paas::model::{ByteSize, HttpSettings, Route};
use paas::proxy::ProxyLimits;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

fn with(http: HttpSettings, apps: &[&App]) -> Route {
    let mut route = route("blog", apps);
    route.traffic.http = http;
    if http.sticky {
        route.traffic.sticky_key = Some(paas::model::StickyKey("of the blog".to_owned()));
    }
    route
}

async fn serving(http: HttpSettings, apps: &[&App]) -> (Proxy, Control) {
    Proxy::with(vec![with(http, apps)]).await
}

async fn until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_app_has_its_own_time_until_an_answer_begins() {
    let slow = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow").await;
    })
    .await;
    // Only until then: what follows may take as long as it likes.
    let streams = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfirst").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        stream.write_all(b"!").await.unwrap();
    })
    .await;
    let limits = ProxyLimits { first_byte: Duration::from_millis(200), ..ProxyLimits::default() };
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![route("blog", &[&slow])]).await;
    assert!(proxy.get("blog.localhost").await.contains("x-paas-error: H12"), "the proxy's own");
    let seconds = |first_byte| HttpSettings { first_byte: Some(first_byte), ..HttpSettings::default() };
    control.publish(2, vec![with(seconds(5), &[&slow])]).await;
    assert!(proxy.get("blog.localhost").await.ends_with("slow"));
    control.publish(3, vec![with(seconds(1), &[&slow])]).await;
    assert!(proxy.get("blog.localhost").await.contains("x-paas-error: H12"));
    control.publish(4, vec![with(seconds(1), &[&streams])]).await;
    assert!(proxy.get("blog.localhost").await.ends_with("first!"));
}

fn at_most(bytes: u64) -> HttpSettings {
    HttpSettings { body_limit: Some(ByteSize(bytes)), ..HttpSettings::default() }
}

const POST: &str = "POST / HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n";

#[tokio::test]
async fn a_body_that_says_that_it_is_too_long_is_refused_before_the_app_is_asked() {
    let app = App::start(1).await;
    let (proxy, mut control) = serving(at_most(8), &[&app]).await;
    let sent = |length: usize| format!("{POST}Content-Length: {length}\r\n\r\n{}", "x".repeat(length));
    assert!(proxy.raw(sent(8)).await.ends_with("\nxxxxxxxx"));
    insta::assert_snapshot!(settled(&proxy.raw(sent(9)).await), @r"
    HTTP/1.1 413 Payload Too Large
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: too-large
    connection: close
    content-length: 74

    Request too large (413)
    The request's body is larger than this app takes.
    ");
    // Who waits to be told to go on is not.
    let expects = format!("{POST}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n");
    assert!(proxy.raw(expects).await.starts_with("HTTP/1.1 413 "));
    assert_eq!(app.requests(), 1);
    // Without limits of its own the app has the proxy's.
    let limits = ProxyLimits { body_limit: 5, ..ProxyLimits::default() };
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let mut other = proxy.control().await;
    other.publish(1, vec![route("blog", &[&app])]).await;
    assert!(proxy.raw(sent(6)).await.starts_with("HTTP/1.1 413 "));
    other.publish(2, vec![with(at_most(8), &[&app])]).await;
    assert!(proxy.raw(sent(6)).await.ends_with("\nxxxxxx"));
    assert_eq!(control.counted(1, 1).await, 0, "no fault of the release");
}

#[tokio::test]
async fn a_body_of_unknown_length_is_counted_on_its_way() {
    let app = App::start(1).await;
    let (proxy, mut control) = serving(at_most(8), &[&app]).await;
    let chunked = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    let good = proxy.raw(format!("{chunked}4\r\nbody\r\n4\r\nbody\r\n0\r\n\r\n")).await;
    assert!(good.ends_with("\nbodybody"), "{good}");
    let long = proxy.raw(format!("{chunked}4\r\nbody\r\n5\r\nbody!\r\n0\r\n\r\n")).await;
    assert!(long.starts_with("HTTP/1.1 413 ") && long.contains("x-paas-error: too-large"), "{long}");
    // The same over HTTP/2, for a stream that has no end.
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let part = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"body")));
    let parts = futures_util::stream::repeat_with(part).take(3).chain(futures_util::stream::pending());
    let request =
        Request::post("http://blog.localhost/").body(BodyExt::boxed(StreamBody::new(parts))).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(10), client.send_request(request)).await.unwrap();
    assert_eq!(answer.unwrap().status(), 413);
    let request =
        Request::post("http://blog.localhost/").body(BodyExt::boxed(Full::new(Bytes::from("body"))));
    assert_eq!(client.send_request(request.unwrap()).await.unwrap().status(), 200);
    assert_eq!(control.counted(1, 2).await, 0, "no fault of the release");
}

/// An app that answers when it is told to, and what it was asked.
struct Held {
    app: App,
    gate: Arc<Semaphore>,
    asked: Arc<Mutex<Vec<String>>>,
    at_once: Arc<AtomicUsize>,
}

impl Held {
    async fn start() -> Self {
        let (gate, asked) = (Arc::new(Semaphore::new(0)), Arc::<Mutex<Vec<String>>>::default());
        let (now, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (kept, told, at_once) = (Arc::clone(&gate), Arc::clone(&asked), Arc::clone(&most));
        let app = App::raw(move |mut stream| {
            let (gate, asked) = (Arc::clone(&kept), Arc::clone(&told));
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                loop {
                    let head = read_head(&mut stream).await;
                    let Some(path) = head.split(' ').nth(1) else { return };
                    asked.lock().unwrap().push(path.to_owned());
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                    now.fetch_sub(1, Ordering::SeqCst);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nheld").await;
                }
            }
        })
        .await;
        Self { app, gate, asked, at_once }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn one_at_a_time(queue: u16) -> HttpSettings {
    HttpSettings { max_concurrency: Some(1), queue: Some(queue), ..HttpSettings::default() }
}

/// A request that has been read by the proxy when this returns.
async fn begin(proxy: &Proxy, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    stream
}

async fn end(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    let reading = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer));
    reading.await.expect("the answer ends").unwrap();
    answer
}

#[tokio::test]
async fn requests_wait_in_order_until_a_process_has_time() {
    let held = Held::start().await;
    let (proxy, mut control) = serving(one_at_a_time(3), &[&held.app]).await;
    let mut asked = Vec::new();
    for path in ["/1", "/2", "/3", "/4"] {
        asked.push(begin(&proxy, path).await);
    }
    assert_eq!(held.asked(), ["/1"]);
    // One more than may wait is told at once.
    insta::assert_snapshot!(settled(&end(begin(&proxy, "/5").await).await), @r"
    HTTP/1.1 503 Service Unavailable
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: H11
    retry-after: 1
    connection: close
    content-length: 100

    Backlog too deep (503 · H11)
    The app has as many requests as it takes, and others wait; try again.
    ");
    // Who leaves gives his place to somebody else.
    drop(asked.remove(1));
    let sixth = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            let mut sixth = begin(&proxy, "/6").await;
            let mut byte = [0];
            if tokio::time::timeout(Duration::from_millis(100), sixth.read(&mut byte)).await.is_err() {
                return sixth;
            }
        }
    });
    asked.push(sixth.await.expect("a place"));
    held.gate.add_permits(4);
    for stream in asked {
        assert!(end(stream).await.ends_with("held"));
    }
    assert_eq!(held.asked(), ["/1", "/3", "/4", "/6"]);
    assert_eq!(held.at_once.load(Ordering::SeqCst), 1);
    assert_eq!(control.counted(1, 4).await, 0, "a full line is no fault of the release");
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let held = Held::start().await;
    let limits = ProxyLimits { queue: Duration::from_millis(300), ..ProxyLimits::default() };
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![with(one_at_a_time(9), &[&held.app])]).await;
    let first = begin(&proxy, "/1").await;
    let begun = Instant::now();
    assert!(end(begin(&proxy, "/2").await).await.contains("x-paas-error: H11"));
    assert!(begun.elapsed() < Duration::from_secs(3));
    held.gate.add_permits(2);
    assert!(end(first).await.ends_with("held"));
    assert!(end(begin(&proxy, "/3").await).await.ends_with("held"), "its place is free again");
    assert_eq!(held.asked(), ["/1", "/3"]);
}

#[tokio::test]
async fn who_waits_goes_to_processes_that_come() {
    let (held, other) = (Held::start().await, App::start(2).await);
    let (proxy, mut control) = serving(one_at_a_time(9), &[&held.app]).await;
    let _first = begin(&proxy, "/1").await;
    let (second, third) = (begin(&proxy, "/2").await, begin(&proxy, "/3").await);
    // Another release, the same app.
    control.publish(2, vec![with(one_at_a_time(9), &[&other])]).await;
    for waiting in [second, third] {
        assert!(end(waiting).await.contains("v2 GET /"));
    }
    // And when there is no limit any more.
    control.publish(3, vec![with(one_at_a_time(9), &[&held.app])]).await;
    let (fourth, fifth) = (begin(&proxy, "/4").await, begin(&proxy, "/5").await);
    control.publish(4, vec![route("blog", &[&held.app])]).await;
    until(|| held.asked().len() == 3).await;
    held.gate.add_permits(3);
    for waiting in [fourth, fifth] {
        assert!(end(waiting).await.ends_with("held"));
    }
    assert_eq!(control.counted(2, 2).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_process_has_more_than_it_may_and_none_is_idle() {
    let apps = [Held::start().await, Held::start().await];
    apps.iter().for_each(|held| held.gate.add_permits(10_000));
    let http = HttpSettings { max_concurrency: Some(3), queue: Some(200), ..HttpSettings::default() };
    let (proxy, mut control) = serving(http, &[&apps[0].app, &apps[1].app]).await;
    let address = proxy.address;
    let clients = (0..40).map(|_| {
        tokio::spawn(async move {
            for number in 0..20 {
                let request =
                    format!("GET /{number} HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n");
                assert!(raw(address, request).await.ends_with("held"));
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for client in clients {
        client.await.unwrap();
    }
    for held in &apps {
        assert!(held.at_once.load(Ordering::SeqCst) <= 3);
        assert!(held.asked().len() > 200, "{}", held.asked().len());
    }
    assert_eq!(control.counted(1, 800).await, 0);
}

fn cookie(answer: &str) -> Option<String> {
    let line = answer.lines().find_map(|line| line.strip_prefix("set-cookie: paas_sticky="))?;
    Some(line.split(';').next().unwrap().to_owned())
}

async fn with_cookie(proxy: &Proxy, word: &str) -> String {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: blog.localhost\r\nCookie: a=b; paas_sticky={word}\r\nConnection: close\r\n\r\n"
    );
    proxy.raw(request).await
}

#[tokio::test]
async fn a_cookie_brings_a_browser_back_to_its_process() {
    let apps = [App::start(1).await, App::start(1).await, App::start(1).await];
    let sticky = HttpSettings { sticky: true, ..HttpSettings::default() };
    let named = |apps: &[&App]| {
        let mut route = with(sticky, apps);
        for (number, target) in route.targets.iter_mut().enumerate() {
            target.process = format!("web.{}", number + 1);
        }
        route
    };
    let (proxy, mut control) = Proxy::with(vec![named(&[&apps[0], &apps[1], &apps[2]])]).await;
    let first = proxy.get("blog.localhost").await;
    let line = first.lines().find(|line| line.starts_with("set-cookie: ")).unwrap().to_owned();
    let word = cookie(&first).unwrap();
    assert!(word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit()), "{word}");
    assert_eq!(line, format!("set-cookie: paas_sticky={word}; Path=/; HttpOnly; SameSite=Lax"));
    let its = apps.iter().position(|app| app.requests() == 1).unwrap();
    for _ in 0..10 {
        assert_eq!(cookie(&with_cookie(&proxy, &word).await), None, "it has it already");
    }
    assert_eq!(apps[its].requests(), 11);
    for foreign in ["", "x", &word[1..], &"0".repeat(32)] {
        assert!(cookie(&with_cookie(&proxy, foreign).await).is_some());
    }
    // In a proxy that has just begun, too.
    let directory = proxy.stop().await;
    let proxy = Proxy::start_in(directory, ProxyLimits::default()).await;
    control = Control::accept(Arc::clone(&control.listener)).await;
    control.publish(2, vec![named(&[&apps[0], &apps[1], &apps[2]])]).await;
    let before = apps[its].requests();
    for _ in 0..5 {
        with_cookie(&proxy, &word).await;
    }
    assert_eq!(apps[its].requests(), before + 5);
    // Its process is gone, at first without the proxy's knowledge.
    apps[its].stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let answer = with_cookie(&proxy, &word).await;
    let other = cookie(&answer).expect("another process's");
    assert!(answer.contains("v1 GET /") && other != word, "{answer}");
    let left: Vec<&App> = apps.iter().filter(|app| app.address != apps[its].address).collect();
    let mut route = named(&[&apps[0], &apps[1], &apps[2]]);
    route.targets.remove(its);
    control.publish(3, vec![route]).await;
    let before: Vec<u64> = left.iter().map(|app| app.requests()).collect();
    for _ in 0..5 {
        assert_eq!(cookie(&with_cookie(&proxy, &other).await), None);
    }
    let now: Vec<u64> = left.iter().map(|app| app.requests()).collect();
    assert!(now.iter().zip(&before).any(|(now, before)| *now == before + 5), "{before:?} {now:?}");
}

#[tokio::test]
async fn the_cookie_of_a_secure_connection_stays_there() {
    let app = App::start(1).await;
    let sticky = HttpSettings { sticky: true, ..HttpSettings::default() };
    let front = paas::settings::Front { trusted: vec!["127.0.0.0/8".parse().unwrap()], protocol: false };
    let proxy = Proxy::behind(front).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![with(sticky, &[&app])]).await;
    let request =
        "GET / HTTP/1.1\r\nHost: blog.localhost\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n";
    let answer = proxy.raw(request).await;
    assert!(answer.contains("; Path=/; HttpOnly; SameSite=Lax; Secure\r\n"), "{answer}");
}
