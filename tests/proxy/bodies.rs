//! Bodies, streams and tunnels.

use crate::world::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_websocket_is_a_tunnel_and_counts_as_in_flight() {
    let app = App::raw(|mut stream| async move {
        let head = read_head(&mut stream).await.to_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi ";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    })
    .await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nHost: blog.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\n\0early";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("upgrade: websocket"), "{answer}");
    let mut back = [0; 10];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hi \n\0early");
    control.publish(2, vec![]).await;
    control.silence().await;
    stream.write_all(b"late").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"late");
    assert_eq!(control.drained().await, app.target());
}

#[tokio::test]
async fn an_app_that_has_no_more_to_say_still_hears_all() {
    const LENGTH: usize = 16 * 1024 * 1024;
    let (told, heard) = tokio::sync::oneshot::channel();
    let told = std::sync::Arc::new(std::sync::Mutex::new(Some(told)));
    let app = App::raw(move |mut stream| {
        let told = std::sync::Arc::clone(&told);
        async move {
            read_head(&mut stream).await;
            let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            // By now there is more under way than fits in between.
            tokio::time::sleep(Duration::from_millis(500)).await;
            stream.shutdown().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            let all = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
            let told = told.lock().unwrap().take().unwrap();
            told.send(all).unwrap();
        }
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: blog.localhost\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    stream.write_all(&vec![b'x'; LENGTH]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(heard.await.unwrap(), LENGTH as u64);
}

#[tokio::test]
async fn an_upgrade_that_is_not_granted_ends_the_connection() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let answer = proxy
        .raw(
            "GET /a HTTP/1.1\r\nHost: blog.localhost\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nHost: blog.localhost\r\n\r\n",
        )
        .await;
    assert!(answer.contains("v1 GET /a") && answer.contains("connection: close"), "{answer}");
    assert_eq!(app.requests(), 1);
}

#[tokio::test]
async fn events_arrive_as_they_happen_and_trailers_at_the_end() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..3 {
            stream.write_all(b"6\r\ntick\n\n\r\n").await.unwrap();
            // The client answers each event's arrival; without it nothing goes on.
            assert_eq!(stream.read_u8().await.unwrap(), b'1');
            stream.read_exact(&mut [0; 5]).await.unwrap();
        }
        stream.write_all(b"0\r\nSum: 3\r\n\r\n").await.unwrap();
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head =
        "POST / HTTP/1.1\r\nHost: blog.localhost\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    for _ in 0..3 {
        let mut event = [0; 11];
        stream.read_exact(&mut event).await.unwrap();
        assert_eq!(&event, b"6\r\ntick\n\n\r\n");
        stream.write_all(b"1\r\nx\r\n").await.unwrap();
    }
    let mut end = [0; 13];
    stream.read_exact(&mut end).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&end), "0\r\nsum: 3\r\n\r\n");
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_once_an_app_is_there() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: blog.localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    let unknown = head.replace("blog", "nobody");
    assert!(raw(proxy.address, unknown).await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn head_has_a_length_and_no_body() {
    let app = App::raw(|mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    for _ in 0..3 {
        let answer = proxy.raw("HEAD / HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n").await;
        assert!(answer.contains("content-length: 1234") && answer.ends_with("\r\n\r\n"), "{answer}");
    }
    assert_eq!(app.requests(), 1, "one connection, used again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_bodies_stream_both_ways_in_little_memory() {
    const LENGTH: usize = 256 * 1024 * 1024;
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut (&mut reader).take(LENGTH as u64), &mut writer).await.unwrap();
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: {LENGTH}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let before = resident();
    let (mut reader, mut writer) = stream.into_split();
    let upload = tokio::spawn(async move {
        let part = vec![7; 64 * 1024];
        for _ in 0..LENGTH / part.len() {
            writer.write_all(&part).await.unwrap();
        }
        writer
    });
    let mut part = vec![0; 64 * 1024];
    let (mut length, mut most) = (0, 0);
    while length < LENGTH {
        let here = reader.read(&mut part).await.unwrap();
        assert!(here > 0, "cut off after {length} bytes");
        length += here;
        most = most.max(resident());
    }
    upload.await.unwrap();
    // Other tests run in this process too; a collected body would be 256 MiB.
    assert!(most - before < 128 * 1024, "{} KiB more", most - before);
}

/// Resident memory of this process in KiB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn trailers_that_the_client_did_not_ask_for_are_left_out() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n\
                      2\r\nok\r\n0\r\nSum: 3\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let answer = proxy.get("blog.localhost").await;
    assert!(answer.ends_with("\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_arrives_cut_off() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf").await.unwrap();
    })
    .await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let answer = proxy.get("blog.localhost").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    control.publish(2, vec![]).await;
    assert_eq!(control.drained().await, app.target());
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request() {
    let app = App::raw(|mut stream| async move {
        read_head(&mut stream).await;
        // The proxy closes when its client does.
        let _ = stream.read_u8().await;
    })
    .await;
    let (proxy, mut control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n").await.unwrap();
    while app.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    control.publish(2, vec![]).await;
    control.silence().await;
    drop(stream);
    assert_eq!(control.drained().await, app.target());
}
