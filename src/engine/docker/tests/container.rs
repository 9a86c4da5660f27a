//! Containers: limits, commands, ends.

use super::*;
use crate::model::Restart;

#[tokio::test]
async fn a_container_gets_limits_labels_and_no_rights() {
    let app = TestApp::new().await;
    let id = app.engine.start(&app.workload("sleep 1000")).await.unwrap();
    let seen = raw(&app, &id).await;
    assert_eq!(seen.name.unwrap(), format!("/paas-{}-web-1-1", app.name));
    let host = seen.host_config.unwrap();
    assert_eq!(
        (host.memory, host.memory_swap, host.nano_cpus, host.pids_limit),
        (Some(64 << 20), Some(64 << 20), Some(500_000_000), Some(50))
    );
    assert_eq!(host.ulimits.unwrap()[0].hard, Some(1000));
    assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
    assert_eq!(host.cap_add.unwrap_or_default(), [""; 0]);
    assert_eq!(host.security_opt.unwrap(), ["no-new-privileges:true"]);
    assert_eq!(host.init, Some(true));
    assert!(host.port_bindings.unwrap_or_default().is_empty());
    assert!(host.binds.unwrap_or_default().is_empty());
    let config = seen.config.unwrap();
    assert_eq!(config.hostname.as_deref(), Some("web.1"));
    let labels = config.labels.unwrap();
    assert_eq!((&labels[LABEL_RELEASE], &labels[LABEL_PROCESS]), (&"1".to_owned(), &"web.1".to_owned()));
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", seen.state.unwrap().pid.unwrap())).unwrap();
    assert!(status.contains("CapBnd:\t0000000000000000") && status.contains("NoNewPrivs:\t1"), "{status}");

    let state = app.engine.inspect(&id).await.unwrap();
    assert_eq!((state.app, state.running, state.exit_code), (app.id, true, None));
    assert_eq!(state.address, app.subnet.hosts().nth(4));
    assert!((jiff::Timestamp::now().as_second() - state.started_at).abs() < 60);
    assert_eq!(app.engine.processes(Some(app.id)).await.unwrap(), std::slice::from_ref(&state));
    assert!(app.engine.processes(None).await.unwrap().contains(&state));
}

#[tokio::test]
async fn an_image_that_wants_root_keeps_seven_capabilities() {
    let app = TestApp::new().await;
    let mut workload = app.workload("sleep 1000");
    workload.root = true;
    let id = app.engine.start(&workload).await.unwrap();
    let pid = raw(&app, &id).await.state.unwrap().pid.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, KILL 5, SETGID 6, SETUID 7, NET_BIND_SERVICE 10.
    assert!(status.contains("CapBnd:\t00000000000004eb"), "{status}");
}

#[tokio::test]
async fn a_crashing_process_is_restarted_and_its_exit_code_stays_visible() {
    let app = TestApp::new().await;
    let mut workload = app.workload("echo up; exit 3");
    workload.restart = Restart::Always;
    let id = app.engine.start(&workload).await.unwrap();
    let seen = until(SOON, || async {
        let state = app.engine.inspect(&id).await.unwrap();
        state.restarts >= 2 && !state.running && state.exit_code == Some(3)
    });
    assert!(seen.await, "{:?}", app.engine.inspect(&id).await);
    app.engine.stop(&id, Duration::from_secs(1)).await.unwrap();
    let state = app.engine.inspect(&id).await.unwrap();
    assert_eq!((state.running, state.exit_code), (false, Some(3)));
}

#[tokio::test]
async fn memory_beyond_the_limit_is_seen_as_such() {
    let app = TestApp::new().await;
    let id = app.engine.start(&app.workload("x=x; while true; do x=$x$x; done")).await.unwrap();
    assert!(until(SOON, || async { !app.engine.inspect(&id).await.unwrap().running }).await);
    let state = app.engine.inspect(&id).await.unwrap();
    assert!(state.oom_killed && state.exit_code == Some(137), "{state:?}");
}

#[tokio::test]
async fn sigterm_reaches_the_app_behind_a_shell_line() {
    let app = TestApp::new().await;
    let trap = "trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.05; done";
    for line in [format!("sh -c \"{trap}\""), format!("true && sh -c \"{trap}\"")] {
        let id = app.engine.start(&app.workload(&line)).await.unwrap();
        let mut log = app.engine.logs(&id, None, true);
        assert_eq!(log.next().await.unwrap().unwrap().text, "up");
        let stopping = Instant::now();
        app.engine.stop(&id, SOON).await.unwrap();
        assert!(stopping.elapsed() < Duration::from_secs(5), "{line}: {:?}", stopping.elapsed());
        let rest: Vec<String> = log.map(|line| line.unwrap().text).collect().await;
        assert!(rest.contains(&"bye".to_owned()), "{line}: {rest:?}");
    }
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_after_the_grace() {
    let app = TestApp::new().await;
    let id =
        app.engine.start(&app.workload("trap '' TERM; echo up; while true; do sleep 1; done")).await.unwrap();
    assert!(app.engine.logs(&id, None, true).next().await.is_some());
    let stopping = Instant::now();
    app.engine.stop(&id, Duration::from_secs(1)).await.unwrap();
    assert!((1..5).contains(&stopping.elapsed().as_secs()), "{:?}", stopping.elapsed());
    assert_eq!(app.engine.inspect(&id).await.unwrap().exit_code, Some(137));
    app.engine.remove(&id).await.unwrap();
    app.engine.remove(&id).await.unwrap();
    app.engine.stop(&id, SOON).await.unwrap();
    assert!(app.engine.inspect(&id).await.unwrap_err().is_missing());
}

#[tokio::test]
async fn words_and_the_images_own_command_are_run_as_they_are() {
    let app = TestApp::bare().await;
    app.engine.ensure_network(app.id, app.subnet).await.unwrap();
    let image =
        "FROM scratch\nCOPY root/ /\nENV PATH=/bin\nENTRYPOINT [\"echo\", \"own\"]\nCMD [\"$HOME\"]\n";
    app.build(image).await.1.unwrap();
    let words = ["echo", "a b", "$HOME", "*"].map(str::to_owned).to_vec();
    for (command, expected) in [(RunCommand::Exec(words), "a b $HOME *"), (RunCommand::Image, "own $HOME")] {
        let mut workload = app.workload("");
        workload.command = command;
        let id = app.engine.start(&workload).await.unwrap();
        let lines: Vec<String> =
            app.engine.logs(&id, None, true).map(|line| line.unwrap().text).collect().await;
        assert_eq!(lines, [expected]);
    }
}

#[tokio::test]
async fn a_leftover_of_the_same_name_is_replaced() {
    let app = TestApp::new().await;
    let first = app.engine.start(&app.workload("sleep 1000")).await.unwrap();
    let second = app.engine.start(&app.workload("sleep 1000")).await.unwrap();
    assert_ne!(first, second);
    let all = app.engine.processes(Some(app.id)).await.unwrap();
    assert_eq!(all.iter().map(|state| &state.container).collect::<Vec<_>>(), [&second]);
}

#[tokio::test]
async fn a_container_that_cannot_start_leaves_nothing() {
    let app = TestApp::new().await;
    let mut workload = app.workload("sleep 1000");
    workload.address = std::net::Ipv4Addr::new(10, 199, 0, 9);
    let result = app.engine.start(&workload).await;
    assert!(matches!(result, Err(EngineError::Api { .. })), "{result:?}");
    assert!(until(SOON, || async { app.engine.processes(Some(app.id)).await.unwrap().is_empty() }).await);
}

#[tokio::test]
async fn a_release_command_gives_its_code_and_is_removed() {
    let app = TestApp::new().await;
    let mut workload = app.workload("echo migrating; exit 5");
    workload.process = ProcessName::parse("release.1").unwrap();
    let (sender, receiver) = mpsc::channel(16);
    let run = app.engine.run_once(&workload, sender, CancellationToken::new(), SOON);
    let (code, lines) = tokio::join!(run, drain(receiver));
    assert_eq!(code.unwrap(), 5);
    assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["migrating"]);
    assert!(app.engine.processes(Some(app.id)).await.unwrap().is_empty());

    let (sender, _gone) = mpsc::channel(16);
    let endless = app.workload("sleep 1000");
    let limit = Duration::from_millis(300);
    let result = app.engine.run_once(&endless, sender.clone(), CancellationToken::new(), limit).await;
    assert!(matches!(result, Err(EngineError::TimedOut { what: "command", .. })), "{result:?}");
    assert!(app.engine.processes(Some(app.id)).await.unwrap().is_empty());

    let cancel = CancellationToken::new();
    cancel.clone().cancel();
    let result = app.engine.run_once(&endless, sender, cancel, SOON).await;
    assert!(matches!(result, Err(EngineError::Cancelled)), "{result:?}");
}

#[tokio::test]
async fn a_dropped_start_leaves_nothing() {
    let app = TestApp::new().await;
    for wait in [1, 5, 20, 60, 120, 200] {
        let workload = app.workload("sleep 1000");
        let _ = tokio::time::timeout(Duration::from_millis(wait), async {
            let id = app.engine.start(&workload).await.unwrap();
            app.engine.remove(&id).await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
    }
    assert!(until(SOON, || async { app.engine.processes(Some(app.id)).await.unwrap().is_empty() }).await);
}
