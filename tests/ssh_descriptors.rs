//! A server that runs out of file descriptors comes back by itself. In a
//! process of its own, because the limit holds for the whole process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_imports,
    clippy::disallowed_methods,
    missing_docs
)]

#[allow(dead_code)]
#[path = "ssh/site.rs"]
mod site;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use site::*;
use std::fs::File;
use std::process::Stdio;
use std::time::Duration;
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn no_descriptor_left_is_no_end() {
    let site = Site::start().await;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, most).unwrap();
    // Clients started before the shortage, connecting in the middle of it.
    let ssh = site.ssh(&[], &["exit", "6"]);
    let words = std::iter::once(ssh.as_std().get_program()).chain(ssh.as_std().get_args());
    let mut late = tokio::process::Command::new("sh");
    late.args(["-c", "sleep 1; exec \"$0\" \"$@\""]).args(words).stdin(Stdio::null());
    let mut client = late.kill_on_drop(true).spawn().unwrap();
    let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(hoard.len() > 10);
    logged(&["cannot accept an SSH connection"]).await;
    sleep(Duration::from_millis(500)).await;
    drop(hoard);
    let status = timeout(Duration::from_secs(10), client.wait()).await.expect("the client hangs").unwrap();
    assert_eq!(status.code(), Some(6));
}
