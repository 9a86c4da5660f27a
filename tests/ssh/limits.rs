//! Numbers and times.

use crate::site::*;
use paas::ssh::Limits;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_harms_nobody() {
    let site = Site::start().await;
    let before = memory();
    let stuck = site.ssh(&[], &["flood"]).spawn().unwrap();
    sleep(Duration::from_millis(1500)).await;
    assert!(memory() < before + 100, "memory grew from {before} to {} MiB", memory());
    let start = Instant::now();
    assert_eq!(site.run(&[], &["exit", "6"]).await.status.code(), Some(6));
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(site.running(), 1);
    drop(stuck);
    assert!(site.until_gone().await < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_session_leaves_others_of_its_connection_alone() {
    let site = Site::start().await;
    let control = site.path("control");
    let shared =
        ["-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o", &format!("ControlPath={control}")];
    let mut opened = site.ssh(&shared, &["exit", "0"]);
    opened.stderr(Stdio::null());
    assert!(timeout(Duration::from_secs(10), opened.status()).await.unwrap().unwrap().success());
    let stuck = site.ssh(&shared, &["flood"]).spawn().unwrap();
    sleep(Duration::from_millis(500)).await;
    for _ in 0..12 {
        assert_eq!(site.run(&shared, &["exit", "6"]).await.status.code(), Some(6));
    }
    drop(stuck);
    site.run(&[&shared[..], &["-O", "exit"]].concat(), &[]).await;
    assert!(site.until_gone().await < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_sessions_in_a_connection_and_no_more() {
    let site = Site::start().await;
    let control = site.path("control");
    let shared =
        ["-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o", &format!("ControlPath={control}")];
    let mut opened = site.ssh(&shared, &["exit", "0"]);
    assert!(
        timeout(Duration::from_secs(10), opened.stderr(Stdio::null()).status())
            .await
            .unwrap()
            .unwrap()
            .success()
    );
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let mut child = site.ssh(&shared, &["wait"]).spawn().unwrap();
        site.until_waiting(&mut child).await;
        waiting.push(child);
    }
    let output = site.run(&[&shared[..], &["-o", "ControlMaster=no"]].concat(), &["exit", "0"]).await;
    assert_eq!(site.running(), 10);
    assert!(stderr(&output).contains("refused") || stderr(&output).contains("open failed"), "{output:?}");
    site.run(&[&shared[..], &["-O", "exit"]].concat(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_strangers_are_few_and_keep_nobody_out() {
    let site = Site::with(Limits { logins: 8, ..Limits::default() }).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(site.address).await.unwrap());
    }
    assert_eq!(site.run(&[], &["exit", "0"]).await.status.code(), Some(0), "{}", idle.len());
    let mut open = 0;
    for stream in &mut idle {
        let mut greeting = Vec::new();
        let reading = stream.read_to_end(&mut greeting);
        open += usize::from(timeout(Duration::from_millis(100), reading).await.is_err());
    }
    assert_eq!(open, 7, "the client took the place of an eighth");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_its_share_and_no_more() {
    let site = Site::with(Limits { connections_per_address: 3, ..Limits::default() }).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut child = site.ssh(&[], &["wait"]).spawn().unwrap();
        site.until_waiting(&mut child).await;
        clients.push(child);
    }
    assert_eq!(site.run(&[], &["exit", "0"]).await.status.code(), Some(255));
    logged(&["connection refused: too many"]).await;
    clients.pop();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(site.run(&[], &["exit", "0"]).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_at_a_time_is_no_login() {
    let limits = Limits { login_time: Duration::from_millis(600), ..Limits::default() };
    let site = Site::with(limits).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let start = Instant::now();
    for byte in b"SSH-2.0-slow".iter().cycle() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
        assert!(start.elapsed() < Duration::from_secs(3), "it stayed connected");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_command_lives_and_a_frozen_client_does_not() {
    let site = Site::with(Limits { keepalive: Duration::from_millis(300), ..Limits::default() }).await;
    let mut child = site.ssh(&[], &["wait"]).spawn().unwrap();
    site.until_waiting(&mut child).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(site.running(), 1, "silence alone ends nothing");
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGSTOP).unwrap();
    assert!(site.until_gone().await < Duration::from_secs(3));
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_tells_commands_and_waits_for_them() {
    let site = Site::with(Limits { grace: Duration::from_millis(300), ..Limits::default() }).await;
    let mut child = site.ssh(&[], &["wait"]).spawn().unwrap();
    site.until_waiting(&mut child).await;
    site.stop.cancel();
    let output = timeout(Duration::from_secs(10), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(130), "cancelled\n".into()));
    timeout(Duration::from_secs(5), site.server).await.expect("serve ends").unwrap();
    assert!(TcpStream::connect(site.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_in_the_spill_directory() {
    let site = Site::with(Limits { input_memory: 1 << 20, ..Limits::default() }).await;
    let mut child = site.ssh(&[], &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&noise(20 << 20)).await });
    sleep(Duration::from_millis(500)).await;
    let names: Vec<_> =
        Path::new(site.files.path()).read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "{names:?}: two keys, the public key, known_hosts");
    drop(child);
    let _ = writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_disk_the_client_waits() {
    let site = Site::with(Limits { input_disk: 0, ..Limits::default() }).await;
    let data = noise(40 << 20);
    let expected = hex(&Sha256::digest(&data));
    let mut child = site.ssh(&[], &["sum", "1500"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = tokio::spawn(async move { stdin.write_all(&data).await.unwrap() });
    sleep(Duration::from_millis(800)).await;
    assert!(!writing.is_finished(), "40 MB have no place to be");
    let output = timeout(Duration::from_secs(30), child.wait_with_output()).await.unwrap().unwrap();
    writing.await.unwrap();
    assert_eq!(stdout(&output), expected);
}
