//! What OpenSSH's client never does, done with the library's own.

use crate::site::*;
use russh::client::{Config, Handle, Handler, connect};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Sig};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

struct Trusting;

impl Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

async fn client(site: &Site) -> Handle<Trusting> {
    let key = PrivateKey::read_openssh_file(site.path("id")).unwrap();
    let mut client = connect(Arc::new(Config::default()), site.address, Trusting).await.unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    assert!(client.authenticate_publickey("paas", key).await.unwrap().success());
    client
}

/// Messages of a channel up to the one that is wanted.
async fn until(
    channel: &mut russh::Channel<russh::client::Msg>,
    wanted: fn(&ChannelMsg) -> bool,
) -> ChannelMsg {
    let wait = async {
        loop {
            let message = channel.wait().await.expect("the channel ended before");
            if wanted(&message) {
                return message;
            }
        }
    };
    timeout(Duration::from_secs(10), wait).await.expect("no answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_cancels_and_the_status_arrives() {
    let site = Site::start().await;
    let mut channel = client(&site).await.channel_open_session().await.unwrap();
    channel.exec(true, "wait").await.unwrap();
    until(&mut channel, |message| matches!(message, ChannelMsg::Data { .. })).await;
    channel.signal(Sig::USR1).await.unwrap();
    channel.signal(Sig::INT).await.unwrap();
    let status = until(&mut channel, |message| matches!(message, ChannelMsg::ExitStatus { .. })).await;
    assert!(matches!(status, ChannelMsg::ExitStatus { exit_status: 130 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_runs_one_command() {
    let site = Site::start().await;
    let mut channel = client(&site).await.channel_open_session().await.unwrap();
    let answered = |message: &ChannelMsg| matches!(message, ChannelMsg::Success | ChannelMsg::Failure);
    channel.exec(true, "wait").await.unwrap();
    assert!(matches!(until(&mut channel, answered).await, ChannelMsg::Success));
    for _ in 0..3 {
        channel.exec(true, "wait").await.unwrap();
        assert!(matches!(until(&mut channel, answered).await, ChannelMsg::Failure));
        channel.request_shell(true).await.unwrap();
        assert!(matches!(until(&mut channel, answered).await, ChannelMsg::Failure));
    }
    // The answer may be here before the command has begun.
    for _ in 0..500 {
        if site.running() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(site.running(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_the_channel_cancels_its_command() {
    let site = Site::start().await;
    let client = client(&site).await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "wait").await.unwrap();
    until(&mut channel, |message| matches!(message, ChannelMsg::Data { .. })).await;
    channel.close().await.unwrap();
    assert!(site.until_gone().await < Duration::from_secs(5));
    assert!(!client.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_may_hold_any_bytes() {
    let site = Site::start().await;
    let client = client(&site).await;
    for (line, words) in [
        (&b"apps\0"[..], "The command contains a NUL byte: remove it\n"),
        (b"\xff", "The command is not UTF-8 text: write it in UTF-8\n"),
        (b"", "Give a command: ssh paas help\n"),
    ] {
        let mut channel = client.channel_open_session().await.unwrap();
        channel.exec(true, line).await.unwrap();
        let said = until(&mut channel, |message| matches!(message, ChannelMsg::ExtendedData { .. })).await;
        assert!(matches!(&said, ChannelMsg::ExtendedData { data, ext: 1 } if data == words), "{said:?}");
        let status = until(&mut channel, |message| matches!(message, ChannelMsg::ExitStatus { .. })).await;
        assert!(matches!(status, ChannelMsg::ExitStatus { exit_status: 1 }));
    }
    assert_eq!(site.running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_without_a_command_ends_the_connection_when_memory_is_full() {
    let site = Site::start().await;
    let client = client(&site).await;
    let channel = client.channel_open_session().await.unwrap();
    // The library's client waits for window for ever, even without a connection.
    let sending = tokio::spawn(async move { channel.data(std::io::Cursor::new(vec![0; 20 << 20])).await });
    logged(&["connection closed", "does not read its input"]).await;
    let closed = async {
        while !client.is_closed() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), closed).await.expect("still connected");
    sending.abort();
}
