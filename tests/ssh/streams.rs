//! Bytes in both directions, cancelling, terminals.

use crate::site::*;
use sha2::{Digest, Sha256};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_slow_to_read_gets_all_of_it() {
    let site = Site::start().await;
    let data = noise(60 << 20);
    let expected = hex(&Sha256::digest(&data));
    let mut child = site.ssh(&[], &["sum", "1500"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&data).await.unwrap() });
    let output = timeout(Duration::from_secs(30), child.wait_with_output()).await.unwrap().unwrap();
    writing.await.unwrap();
    assert_eq!(stdout(&output), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_is_noticed_within_a_second() {
    let site = Site::start().await;
    let mut child = site.ssh(&[], &["wait"]).spawn().unwrap();
    site.until_waiting(&mut child).await;
    child.kill().await.unwrap();
    assert!(site.until_gone().await < Duration::from_secs(5));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(site.running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_killed_behind_much_unread_input_is_noticed() {
    let site = Site::start().await;
    let mut child = site.ssh(&[], &["wait"]).stdin(Stdio::piped()).spawn().unwrap();
    site.until_waiting(&mut child).await;
    let mut stdin = child.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&vec![0; 64 << 20]).await });
    sleep(Duration::from_millis(800)).await;
    child.kill().await.unwrap();
    assert!(site.until_gone().await < Duration::from_secs(5));
    let _ = writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_a_terminal_cancels_and_the_answer_arrives() {
    let site = Site::start().await;
    let mut child = site.ssh(&["-tt"], &["wait"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 9];
    child.stdout.as_mut().unwrap().read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"waiting\r\n");
    child.stdin.as_mut().unwrap().write_all(b"\x03").await.unwrap();
    assert!(site.until_gone().await < Duration::from_secs(5));
    let output = timeout(Duration::from_secs(5), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "cancelled\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_described_and_its_enter_is_a_line_end() {
    let site = Site::start().await;
    let mut command = site.ssh(&["-tt"], &["terminal"]);
    let mut child = command.env("TERM", "xterm").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"yes\r").await.unwrap();
    let output = timeout(Duration::from_secs(10), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(stdout(&output), "xterm 0x0 [121, 101, 115, 10]\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_megabytes_both_ways_at_once() {
    let site = Site::start().await;
    let data = noise(200 << 20);
    let expected = hex(&Sha256::digest(&data));
    let before = memory();
    let mut child = site.ssh(&[], &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&data).await.unwrap() });
    let (mut stdout, mut hash, mut buffer) = (child.stdout.take().unwrap(), Sha256::new(), vec![0; 1 << 16]);
    let start = Instant::now();
    let mut most = 0;
    loop {
        let count =
            timeout(Duration::from_secs(20), stdout.read(&mut buffer)).await.expect("deadlock").unwrap();
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        most = most.max(memory());
    }
    writing.await.unwrap();
    println!("200 MB there and back in {:?}, memory {before} → {most} MiB", start.elapsed());
    assert_eq!(hex(&hash.finalize()), expected);
    assert!(most < before + 100, "memory grew from {before} to {most} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_may_change_in_the_middle() {
    let site = Site::start().await;
    let data = noise(60 << 20);
    let expected = data.clone();
    let mut child = site.ssh(&["-o", "RekeyLimit=4M"], &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&data).await.unwrap() });
    let output = timeout(Duration::from_secs(30), child.wait_with_output()).await.unwrap().unwrap();
    writing.await.unwrap();
    assert!(output.stdout == expected);
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_push_and_a_real_clone() {
    let site = Site::start().await;
    let (bare, work, clone) = (site.path("app.git"), site.path("work"), site.path("clone"));
    let here = site.path("");
    site.git(&here, &["init", "-q", "--bare", "-b", "main", &bare]).await;
    site.git(&here, &["init", "-q", "-b", "main", &work]).await;
    let data = noise(12 << 20);
    std::fs::write(format!("{work}/large"), &data).unwrap();
    site.git(&work, &["config", "core.compression", "0"]).await;
    site.git(&work, &["add", "."]).await;
    let author = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
    site.git(&work, &[&author[..], &["commit", "-qm", "Large"]].concat()).await;
    let address = format!("ssh://paas@127.0.0.1{bare}");
    site.git(&work, &["push", "-q", &address, "main"]).await;
    site.git(&here, &["clone", "-q", &address, &clone]).await;
    assert!(std::fs::read(format!("{clone}/large")).unwrap() == data);
}
