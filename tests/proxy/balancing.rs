//! Which process takes a request, and who is asked next when one fails.

use crate::world::*;
use paas::model::{Target, Weights};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Answers a request for each permit.
async fn held(gate: &Arc<Semaphore>) -> App {
    let gate = Arc::clone(gate);
    App::raw(move |mut stream| {
        let gate = Arc::clone(&gate);
        async move {
            while !read_head(&mut stream).await.is_empty() {
                gate.acquire().await.unwrap().forget();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nheld").await;
            }
        }
    })
    .await
}

/// Takes each request and closes without an answer.
async fn silent() -> App {
    App::raw(|mut stream| async move {
        read_head(&mut stream).await;
    })
    .await
}

fn ask(address: SocketAddr, method: &str) -> impl Future<Output = String> + use<> {
    let request = format!(
        "{method} / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    raw(address, request)
}

async fn until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn requests_go_to_whoever_has_fewer_in_flight() {
    let gate = Arc::new(Semaphore::new(0));
    let (busy, free) = (held(&gate).await, App::start(1).await);
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&busy])]).await;
    let waiting: Vec<_> = (0..3).map(|_| tokio::spawn(ask(proxy.address, "GET"))).collect();
    until(|| busy.requests() == 3).await;
    control.publish(2, vec![route("blog", &[&busy, &free])]).await;
    for _ in 0..20 {
        assert!(ask(proxy.address, "GET").await.contains("v1 GET /"));
    }
    assert_eq!((busy.requests(), free.requests()), (3, 20));
    gate.add_permits(3);
    for waiting in waiting {
        assert!(waiting.await.unwrap().ends_with("held"));
    }
}

#[tokio::test]
async fn who_refuses_a_connection_gets_no_requests_for_a_moment() {
    let free = App::start(1).await;
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut blog = route("blog", &[&free]);
    blog.targets.push(Target { address, process: "web.2".to_owned(), release: 1 });
    let (proxy, mut control) = Proxy::with(vec![blog]).await;
    let refused = Instant::now();
    for _ in 0..2 {
        assert!(ask(proxy.address, "POST").await.contains("v1 POST /"), "another one takes it");
    }
    // It is back at once; but it was passed over for a second.
    let listener = TcpListener::bind(address).await.unwrap();
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let back = refused.elapsed();
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nback").await;
        back
    };
    let asking = async {
        let mut asked = 0;
        while !ask(proxy.address, "GET").await.ends_with("back") {
            asked += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        asked
    };
    let (back, asked) = tokio::join!(answering, asking);
    assert!(back >= Duration::from_millis(900) && asked >= 1, "{back:?} and {asked} requests later");
    assert_eq!(control.counted(1, 3 + asked).await, 0, "nobody was told of it");
}

#[tokio::test]
async fn what_was_lost_is_asked_of_one_other_process_if_it_may_be_repeated() {
    let (lost, answers) = (silent().await, App::start(1).await);
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&lost, &answers])]).await;
    let mut asked = 0;
    while lost.requests() == 0 {
        assert!(ask(proxy.address, "GET").await.contains("v1 GET /"));
        asked += 1;
    }
    assert_eq!(answers.requests(), asked);
    // Its answer may be all that was lost.
    let mut posts = Vec::new();
    for _ in 0..2 {
        posts.push(ask(proxy.address, "POST").await);
    }
    let failed = posts.iter().filter(|answer| answer.contains("x-paas-error: H13")).count();
    assert_eq!((lost.requests(), answers.requests()), (2, asked + 1), "{posts:?}");
    assert_eq!(failed, 1);
    assert_eq!(control.counted(1, asked + 2).await, 1);
    // What ends one process may end the next: not all of them are tried.
    let three = [silent().await, silent().await, silent().await];
    control.publish(2, vec![route("blog", &[&three[0], &three[1], &three[2]])]).await;
    assert!(ask(proxy.address, "GET").await.contains("x-paas-error: H13"));
    assert_eq!(three.iter().map(App::requests).sum::<u64>(), 2);
}

#[tokio::test]
async fn a_share_of_the_requests_goes_to_another_release_and_is_counted_apart() {
    let (old, new) = ([App::start(7).await, App::start(7).await], App::start(8).await);
    let mut blog = route("blog", &[&old[0], &old[1], &new]);
    blog.traffic.weights = Weights::share(10, &[new.target()], &[old[0].target(), old[1].target()]);
    blog.traffic.canary = Some(8);
    let (proxy, mut control) = Proxy::with(vec![blog]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    for _ in 0..200 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n").await.unwrap();
        let head = read_head(&mut stream).await;
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut vec![0; length]).await.unwrap();
    }
    assert!((17..=23).contains(&new.requests()), "{} of 200", new.requests());
    assert!(old[0].requests().abs_diff(old[1].requests()) < 40);
    assert_eq!(control.counted(8, new.requests()).await, 0);
    assert_eq!(control.counted(7, 200 - new.requests()).await, 0);
    // Its last process is gone: nobody notices.
    new.stop.cancel();
    for _ in 0..40 {
        assert!(proxy.get("blog.localhost").await.contains("v7 GET /"));
    }
}
