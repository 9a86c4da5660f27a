//! Who may come in.

use crate::site::*;
use std::process::Stdio;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_the_identity_whatever_the_user_name() {
    let site = Site::start().await;
    for user in ["git", "root", "paas", "a b", "ж"] {
        let mut command = site.client("ssh", "id", &["-l", user, "127.0.0.1", "show"]);
        let output = done(&mut command).await;
        assert_eq!(stdout(&output), "[\"show\"] None ada\n", "{user} {}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strange_key_is_refused_and_told_nothing() {
    let site = Site::start().await;
    let key = site.make_key("stranger", "ed25519").await;
    let output = done(&mut site.client("ssh", "stranger", &["paas@127.0.0.1", "show"])).await;
    assert_eq!(output.status.code(), Some(255));
    assert_eq!(stderr(&output), "paas@127.0.0.1: Permission denied (publickey).\n");
    assert_eq!(site.running(), 0);
    let fingerprint = key.fingerprint().to_owned();
    logged(&["login refused", &fingerprint, "127.0.0.1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_public_key_without_its_secret_is_no_identity() {
    let site = Site::start().await;
    site.make_key("thief", "ed25519").await;
    // The client offers ada's public key and can only sign with its own.
    std::fs::copy(site.path("id.pub"), site.path("thief.pub")).unwrap();
    let output = done(&mut site.client("ssh", "thief", &["paas@127.0.0.1", "show"])).await;
    assert_eq!(output.status.code(), Some(255));
    assert!(stdout(&output).is_empty(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_kinds_of_keys_work_too() {
    let site = Site::start().await;
    for kind in ["rsa", "ecdsa"] {
        let key = site.make_key(kind, kind).await;
        site.door.keys.lock().unwrap().push(key);
        let output = done(&mut site.client("ssh", kind, &["paas@127.0.0.1", "exit", "4"])).await;
        assert_eq!(output.status.code(), Some(4), "{kind}: {}", stderr(&output));
    }
    let old = ["-o", "PubkeyAcceptedAlgorithms=ssh-rsa", "paas@127.0.0.1", "show"];
    let output = done(&mut site.client("ssh", "rsa", &old)).await;
    assert_eq!(output.status.code(), Some(255), "SHA-1 signatures are refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_ends_with_the_next_command() {
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
    site.door.keys.lock().unwrap().clear();
    let output = site.run(&shared, &["show"]).await;
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stderr(&output), @"This key is not accepted any more: ask an administrator to add it");
    site.run(&[&shared[..], &["-O", "exit"]].concat(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_ends_what_it_runs() {
    let site = Site::start().await;
    let mut child = site.ssh(&[], &["wait"]).spawn().unwrap();
    site.until_waiting(&mut child).await;
    site.door.revoked.cancel();
    assert!(site.until_gone().await < Duration::from_secs(5));
    let output = timeout(Duration::from_secs(5), child.wait_with_output()).await.unwrap().unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(site.running(), 0);
}
