//! What a client may ask for, and the answer to what it may not.

use crate::site::*;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_its_streams_and_exit_status() {
    let site = Site::start().await;
    let output = site.run(&[], &["both"]).await;
    assert_eq!((stdout(&output), stderr(&output)), ("out\n".into(), "err\n".into()));
    assert_eq!(output.status.code(), Some(3));
    for status in [0, 1, 130, 255] {
        assert_eq!(site.run(&[], &["exit", &status.to_string()]).await.status.code(), Some(status));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_panics_ends_with_one_line() {
    let site = Site::start().await;
    let output = site.run(&[], &["panic"]).await;
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stderr(&output), @"The server failed over this command: its log says more");
    assert_eq!(site.run(&[], &["exit", "0"]).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_split_and_never_expanded() {
    let site = Site::start().await;
    let output = site.run(&[], &["show 'a b' \"$HOME\" $(id) ; rm -rf / `id` ../x | y"]).await;
    insta::assert_snapshot!(stdout(&output), @r#"["show", "a b", "$HOME", "$(id)", ";", "rm", "-rf", "/", "`id`", "../x", "|", "y"] None ada"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_command_lines_get_one_line_and_status_1() {
    let site = Site::start().await;
    let long = "a".repeat(100_000);
    let mut said = String::new();
    for words in [&["apps 'x"][..], &[&long], &["   "], &[]] {
        let output = site.run(&[], words).await;
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        said.push_str(&stderr(&output));
    }
    let mut command = site.ssh(&[], &[]);
    command.arg(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff\xfe"));
    let output = done(&mut command).await;
    assert_eq!(output.status.code(), Some(1));
    said.push_str(&stderr(&output));
    insta::assert_snapshot!(said, @r#"
    The command has a quote that is never closed: check its ' and "
    The command has 100000 bytes, 65536 is the limit: use stdin
    Give a command: ssh paas help
    Give a command: ssh paas help
    The command is not UTF-8 text: write it in UTF-8
    "#);
    assert_eq!(site.running(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_of_a_megabyte_ends_in_one_line() {
    let site = Site::start().await;
    let words = vec!["a".repeat(100_000); 10];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = site.run(&[], &words).await;
    assert_ne!(output.status.code(), Some(0));
    insta::assert_snapshot!(stderr(&output), @"Connection to 127.0.0.1 closed by remote host.");
    assert_eq!(site.run(&[], &["exit", "0"]).await.status.code(), Some(0), "others are served");
    logged(&["connection ended", "1000"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subsystems_and_terminals_without_a_command_are_answered() {
    let site = Site::start().await;
    let mut said = String::new();
    for (options, words) in [(&["-s"][..], &["sftp"][..]), (&["-tt"], &[]), (&["-T"], &[])] {
        let output = site.run(options, words).await;
        assert_eq!(output.status.code(), Some(1), "{options:?} {}", stderr(&output));
        said.push_str(&stderr(&output));
    }
    insta::assert_snapshot!(said, @r#"
    There is no "sftp" here: use git push, or ssh paas help
    Give a command: ssh paas help
    Give a command: ssh paas help
    "#);
    for (program, arguments) in [
        ("sftp", &["127.0.0.1"][..]),
        ("scp", &["/etc/hostname", "127.0.0.1:/tmp/x"]),
        ("scp", &["-O", "/etc/hostname", "127.0.0.1:/tmp/x"]),
    ] {
        let mut command = site.client(program, "id", arguments);
        let output = done(&mut command).await;
        assert_ne!(output.status.code(), Some(0), "{program}");
        assert!(!stderr(&output).is_empty(), "{program}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forwarded_and_nobody_hangs() {
    let site = Site::start().await;
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = format!("0:{}", target.local_addr().unwrap());
    for options in [
        &["-o", "ExitOnForwardFailure=yes", "-R", &remote][..],
        &["-o", "ExitOnForwardFailure=yes", "-R", "/tmp/paas-test.sock:/tmp/y"],
        &["-W", &target.local_addr().unwrap().to_string()],
    ] {
        let mut command = site.client("ssh", "id", options);
        let output =
            done(command.arg("paas@127.0.0.1").args(["exit", "0"][..].iter().filter(|_| options[0] != "-W")))
                .await;
        assert_eq!(output.status.code(), Some(255), "{options:?}");
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
    assert!(timeout(Duration::from_millis(100), target.accept()).await.is_err());
    for what in ["remote port forwarding", "remote socket forwarding", "port forwarding"] {
        logged(&["request refused", what]).await;
    }
    for options in [&["-A"][..], &["-X"], &["-Y"]] {
        let mut command = site.ssh(options, &["exit", "5"]);
        let output = done(command.env("DISPLAY", ":0").env("SSH_AUTH_SOCK", "/tmp/none")).await;
        assert_eq!(output.status.code(), Some(5), "{options:?} {}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_environment_only_the_git_protocol_passes() {
    let site = Site::start().await;
    let mut seen = String::new();
    for setting in [
        "GIT_PROTOCOL=version=2",
        "GIT_PROTOCOL=version=3",
        "GIT_PROTOCOL=version=2:x=y",
        "GIT_CONFIG_PARAMETERS='core.pager=id'",
        "GIT_TRACE=/tmp/x",
        "LD_PRELOAD=/tmp/x.so",
    ] {
        let output = site.run(&["-o", &format!("SetEnv={setting}")], &["show"]).await;
        seen.push_str(&[setting, " ", &stdout(&output)].concat());
    }
    insta::assert_snapshot!(seen, @r#"
    GIT_PROTOCOL=version=2 ["show"] Some("version=2") ada
    GIT_PROTOCOL=version=3 ["show"] None ada
    GIT_PROTOCOL=version=2:x=y ["show"] None ada
    GIT_CONFIG_PARAMETERS='core.pager=id' ["show"] None ada
    GIT_TRACE=/tmp/x ["show"] None ada
    LD_PRELOAD=/tmp/x.so ["show"] None ada
    "#);
    for name in ["GIT_CONFIG_PARAMETERS", "GIT_TRACE", "LD_PRELOAD"] {
        logged(&["request refused", "environment variable", name]).await;
    }
}
