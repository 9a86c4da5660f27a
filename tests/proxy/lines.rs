//! What the apps' logs are told of requests.

use crate::world::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A line without what changes from run to run.
fn settled(line: &str) -> String {
    let words = line.split(' ').map(|word| match word.split_once('=') {
        Some(("request_id", id)) => format!("request_id={}", if id.len() == 32 { "ID" } else { id }),
        Some((name @ ("service" | "connect"), time)) if time.ends_with("ms") => format!("{name}=MS"),
        Some(("host", host)) => format!("host={}", host.split(':').next().unwrap()),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn each_request_leaves_a_line() {
    let app = App::start(3).await;
    let silent = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    let broken = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
    })
    .await;
    let mut scaled = logged("none", &[]);
    scaled.outage = "H14".to_owned();
    let routes = vec![
        logged("blog", &[&app]),
        logged("silent", &[&silent]),
        logged("broken", &[&broken]),
        scaled,
        route("unlogged", &[&app]),
    ];
    let (proxy, mut control) = Proxy::with(routes).await;
    let secret = "Authorization: Basic aHVudGVyMg==\r\nCookie: hunter2=hunter2\r\nX-Request-Id: a\"b\r\n";
    let get = |host: &str, path: &str| {
        proxy.raw(format!(
            "GET {path} HTTP/1.1\r\nHost: {host}.localhost\r\n{secret}Connection: close\r\n\r\n"
        ))
    };
    let mut told = Vec::new();
    for (host, path) in
        [("blog", "/a%20b\"?c=d&e=f"), ("silent", "/"), ("broken", "/"), ("none", "/x"), ("unlogged", "/")]
    {
        get(host, path).await;
        if host != "unlogged" {
            let (lines, left_out) = control.told(1).await;
            assert_eq!((lines.len(), left_out), (1, 0));
            told.extend(lines);
        }
    }
    control.silence().await;
    assert!(control.lines.is_empty());
    assert_eq!((told[0].release, told[0].process.as_deref()), (3, Some("web.1")));
    assert_eq!((told[3].release, told[3].process.as_deref()), (0, None));
    let text: Vec<String> = told.iter().map(|line| settled(&line.text)).collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
    at=info method=GET path="/a%20b%22?c=d&e=f" host=blog.localhost request_id=ID fwd="127.0.0.1" process=web.1 connect=MS service=MS status=200 bytes=344 protocol=http
    at=error code=H13 desc="No answer" method=GET path="/" host=silent.localhost request_id=ID fwd="127.0.0.1" process=web.1 connect= service=MS status=503 bytes=72 protocol=http
    at=error code=H18 desc="Server Request Interrupted" method=GET path="/" host=broken.localhost request_id=ID fwd="127.0.0.1" process=web.1 connect=MS service=MS status=200 bytes=4 protocol=http
    at=error code=H14 desc="No web processes" method=GET path="/x" host=none.localhost request_id=ID fwd="127.0.0.1" process= connect= service=MS status=503 bytes=66 protocol=http
    "#);
}

#[tokio::test]
async fn an_upgraded_connection_leaves_its_line_at_its_end() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello";
        stream.write_all(head).await.unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    let (proxy, mut control) = Proxy::with(vec![logged("blog", &[&app])]).await;
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nHost: blog.localhost\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    read_head(&mut client).await;
    let mut hello = [0; 5];
    client.read_exact(&mut hello).await.unwrap();
    control.silence().await;
    assert!(control.lines.is_empty(), "not before it has ended");
    client.write_all(b"!").await.unwrap();
    drop(client);
    let (lines, _) = control.told(1).await;
    assert!(lines[0].text.contains(" status=101 bytes=5 "), "{}", lines[0].text);
}

#[tokio::test]
async fn a_flood_is_sampled_and_counted_and_no_request_waits_for_its_line() {
    const MANY: u64 = 400;
    let app = App::start(1).await;
    let mut route = logged("blog", &[&app]);
    route.traffic.access_log.as_mut().unwrap().per_second = 3;
    let (proxy, mut control) = Proxy::with(vec![route.clone()]).await;
    // Nobody reads what the proxy says.
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n";
    let answers = async {
        for _ in 0..MANY {
            client.write_all(request.as_bytes()).await.unwrap();
            assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
            let mut some = [0; 4096];
            assert!(client.read(&mut some).await.unwrap() > 0);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answers).await.unwrap();
    let (lines, left_out) = control.told(MANY).await;
    assert!(lines.len() < 100 && lines.len() as u64 + left_out == MANY, "{} and {left_out}", lines.len());
    // Away, and back: what went by meanwhile is a number.
    drop(control);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
    let mut control = proxy.control().await;
    control.publish(2, vec![route]).await;
    // In a second that had none of the flood.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(proxy.get("blog.localhost").await.contains("v1 GET /"));
    let (told, left_out) = control.told(2).await;
    assert_eq!((told.len(), left_out), (1, 1));
}
