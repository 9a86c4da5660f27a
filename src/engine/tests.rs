//! The engine's promises, tried on the real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::testing::{TestApp, drain, until};
use super::*;
use crate::model::{BaseImage, ImageSource, Problem, ProcessName, Recipe, RunCommand};
use crate::settings::{BuildSettings, ImageSourceChoice};
use bollard::models::ContainerInspectResponse;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(10);

fn output(lines: &[BuildLine]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| if let BuildLine::Output(text) = line { Some(text.as_str()) } else { None })
        .collect()
}

async fn raw(app: &TestApp, container: &str) -> ContainerInspectResponse {
    app.engine.docker.inspect_container(container, None).await.unwrap()
}

#[tokio::test]
async fn a_build_says_what_it_does_and_what_came_of_it() {
    let app = TestApp::bare().await;
    let dockerfile = "FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN echo one; echo two >&2\n\
        EXPOSE 9000 80/tcp 53/udp\nUSER 1000:1000\nCMD [\"sh\"]\n";
    // Not from the cache of an earlier run.
    let dockerfile = &dockerfile.replace("PATH=", &format!("RUN={} PATH=", app.name));
    let (lines, built) = app.build(dockerfile).await;
    let built = built.unwrap();
    assert_eq!(
        (built.exposed_ports.as_slice(), built.user.as_str(), built.has_command),
        ([80, 9000].as_slice(), "1000:1000", true)
    );
    assert!(built.id.starts_with("sha256:") && built.size > 1_000_000);
    let steps: Vec<&str> = lines
        .iter()
        .filter_map(|line| if let BuildLine::Step { name, .. } = line { Some(name.as_str()) } else { None })
        .collect();
    assert!(steps.iter().any(|step| step.contains("RUN echo one")), "{steps:?}");
    assert!(!steps.iter().any(|step| step.contains("[internal]")), "{steps:?}");
    let mut printed = output(&lines);
    printed.sort_unstable();
    assert_eq!(printed, ["one", "two"]);

    let (lines, again) = app.build(dockerfile).await;
    assert_eq!(again.unwrap().id, built.id);
    let cached = |line: &BuildLine| matches!(line, BuildLine::Step { name, cached: true } if name.contains("RUN echo one"));
    assert!(lines.iter().any(cached), "{lines:?}");
    let images = app.engine.app_images(&app.name).await.unwrap();
    assert_eq!(images.iter().map(|image| &image.reference).collect::<Vec<_>>(), [&app.image()]);
}

#[tokio::test]
async fn a_failed_build_names_its_step_and_leaves_no_image() {
    let app = TestApp::bare().await;
    let dockerfile =
        "FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN for i in $(seq 30); do echo line $i; done; exit 42\n";
    let (lines, built) = app.build(dockerfile).await;
    let Err(EngineError::Build(failure)) = built else { panic!("{built:?}") };
    assert!(failure.step.as_deref().unwrap().contains("exit 42"), "{failure:?}");
    assert_eq!(failure.exit_code, Some(42));
    assert_eq!(failure.lines.last().unwrap(), "line 30");
    assert_eq!(output(&lines).len(), 30);
    assert!(app.engine.app_images(&app.name).await.unwrap().is_empty());

    let (_, built) = app.build("FROM scratch\nFOO bar\n").await;
    let Err(EngineError::Build(failure)) = built else { panic!("{built:?}") };
    assert_eq!((failure.step, failure.exit_code), (None, None));
    assert!(failure.message.contains("unknown instruction: FOO"), "{}", failure.message);
}

#[tokio::test]
async fn output_comes_while_the_build_runs_and_cancelling_ends_it_at_once() {
    let app = TestApp::bare().await;
    let marker = format!("{}", 100_000 + app.id.0 % 100_000);
    let request =
        app.request(&format!("FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN echo here; sleep {marker}\n"));
    let cancel = request.cancel.clone();
    let (sender, mut receiver) = mpsc::channel(16);
    let engine = app.engine.clone();
    let build = tokio::spawn(async move { engine.build(request, sender).await });
    let here = BuildLine::Output("here".to_owned());
    while receiver.recv().await.expect("the output, before the end") != here {}
    assert!(until(SOON, || async { runs(&marker) }).await, "the step runs");
    let cancelled = Instant::now();
    cancel.cancel();
    assert!(matches!(build.await.unwrap(), Err(EngineError::Cancelled)));
    assert!(cancelled.elapsed() < Duration::from_millis(500), "{:?}", cancelled.elapsed());
    assert!(until(Duration::from_secs(5), || async { !runs(&marker) }).await, "the step has been ended");
    assert!(app.engine.app_images(&app.name).await.unwrap().is_empty());
}

/// Whether a process of this machine sleeps for this many seconds.
fn runs(seconds: &str) -> bool {
    let sleeps = |line: &[u8]| {
        line.strip_suffix(b"\0").is_some_and(|line| line == format!("sleep\0{seconds}").as_bytes())
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| sleeps(&line)))
}

#[tokio::test]
async fn a_build_ends_at_its_time_limit() {
    let app = TestApp::bare().await;
    let mut request = app.request("FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN sleep 77777\n");
    request.timeout = Duration::from_secs(3);
    let (sender, receiver) = mpsc::channel(16);
    let (result, _) = tokio::join!(app.engine.build(request, sender), drain(receiver));
    assert!(matches!(result, Err(EngineError::TimedOut { what: "build", .. })), "{result:?}");
    assert!(until(Duration::from_secs(5), || async { !runs("77777") }).await);
}

#[tokio::test]
async fn a_context_that_breaks_is_named() {
    let app = TestApp::bare().await;
    let mut request = app.request("FROM scratch\n");
    request.context = futures_util::stream::iter([Err(std::io::Error::other("object missing"))]).boxed();
    let (sender, receiver) = mpsc::channel(16);
    let (result, _) = tokio::join!(app.engine.build(request, sender), drain(receiver));
    let Err(EngineError::Context { source }) = result else { panic!("{result:?}") };
    assert_eq!(source.to_string(), "object missing");
}

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
async fn the_environment_arrives_byte_for_byte_and_output_with_its_times() {
    let app = TestApp::new().await;
    let before = jiff::Timestamp::now();
    let id = app
        .engine
        .start(&app.workload("printf '%s|\\n' \"$GREETING\"; echo err >&2; seq 3; exit 7"))
        .await
        .unwrap();
    let lines: Vec<LogLine> = app.engine.logs(&id, None, true).map(Result::unwrap).collect().await;
    let texts = |output| {
        lines.iter().filter(|line| line.output == output).map(|line| line.text.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(texts(Output::Stdout), ["a \"b\" $c", "d|", "1", "2", "3"]);
    assert_eq!(texts(Output::Stderr), ["err"]);
    assert!(lines.iter().all(|line| i128::from(line.nanos) >= before.as_nanosecond()));
    assert!(until(SOON, || async { app.engine.inspect(&id).await.unwrap().exit_code == Some(7) }).await);

    // The two outputs are read side by side: the order is not that of the times.
    let since = lines[2].nanos;
    let newer: Vec<LogLine> = lines.into_iter().filter(|line| line.nanos > since).collect();
    let rest: Vec<LogLine> = app.engine.logs(&id, Some(since), false).map(Result::unwrap).collect().await;
    assert_eq!(rest, newer);
}

#[tokio::test]
async fn long_lines_are_put_together_again() {
    let app = TestApp::new().await;
    let id = app
        .engine
        .start(&app.workload("head -c 40000 /dev/zero | tr '\\0' x; echo; echo next"))
        .await
        .unwrap();
    let lines: Vec<String> = app.engine.logs(&id, None, true).map(|line| line.unwrap().text).collect().await;
    assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [40000, 4]);
}

#[tokio::test]
async fn a_crashing_process_is_restarted_and_its_exit_code_stays_visible() {
    let app = TestApp::new().await;
    let mut workload = app.workload("echo up; exit 3");
    workload.restart = true;
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

#[tokio::test]
async fn listeners_of_a_container_are_seen() {
    let app = TestApp::new().await;
    let line = "httpd -f -p 127.0.0.1:5000 & httpd -f -p 8080 & sleep 1000";
    let id = app.engine.start(&app.workload(line)).await.unwrap();
    let seen = until(SOON, || async { app.engine.listening(&id).await.unwrap().len() == 2 });
    assert!(seen.await);
    let listening: Vec<String> =
        app.engine.listening(&id).await.unwrap().iter().map(ToString::to_string).collect();
    assert!(listening[0] == "127.0.0.1:5000" && listening[1].ends_with(":8080"), "{listening:?}");
    app.engine.stop(&id, Duration::ZERO).await.unwrap();
    assert!(app.engine.listening(&id).await.unwrap().is_empty());
}

#[tokio::test]
async fn events_tell_start_death_and_removal() {
    let app = TestApp::new().await;
    let events = app.engine.events(None);
    let id = app.engine.start(&app.workload("exit 9")).await.unwrap();
    assert!(until(SOON, || async { app.engine.inspect(&id).await.unwrap().exit_code.is_some() }).await);
    app.engine.remove(&id).await.unwrap();
    let ours = events.map(Result::unwrap).filter(|event| std::future::ready(event.app == app.id)).take(3);
    let seen: Vec<Event> = tokio::time::timeout(SOON, ours.collect()).await.unwrap();
    let kinds: Vec<EventKind> = seen.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Started, EventKind::Died { exit_code: 9 }, EventKind::Destroyed]);
    assert!(
        seen.iter()
            .all(|event| event.container == id && event.release == 1 && event.process.to_string() == "web.1")
    );

    let again = app.engine.events(Some(seen[0].at)).map(Result::unwrap);
    let again: Vec<Event> = tokio::time::timeout(
        SOON,
        again.filter(|event| std::future::ready(event.app == app.id)).take(2).collect(),
    )
    .await
    .unwrap();
    assert_eq!(again, seen[1..]);
}

#[tokio::test]
async fn forty_networks_live_side_by_side() {
    let apps: Vec<TestApp> = futures_util::future::join_all((0..40).map(|_| TestApp::bare())).await;
    let made = apps.iter().map(|app| app.engine.ensure_network(app.id, app.subnet));
    for result in futures_util::future::join_all(made).await {
        result.unwrap();
    }
    for app in &apps {
        assert!(std::path::Path::new(&format!("/sys/class/net/paas{}", app.id.0)).exists());
    }
}

#[tokio::test]
async fn a_damaged_network_is_made_anew_and_a_vanished_one_too() {
    let app = TestApp::new().await;
    let name = format!("paas-{}", app.id.0);
    app.engine.docker.remove_network(&name).await.unwrap();
    let id = app.engine.start(&app.workload("sleep 1000")).await.unwrap();
    assert!(app.engine.inspect(&id).await.unwrap().running);

    let other = TestApp::bare().await;
    let engine = Engine::connect(None).await.unwrap();
    engine.ensure_network(app.id, other.subnet).await.unwrap();
    let seen = engine.docker.inspect_network(&name, None).await.unwrap();
    assert_eq!(
        seen.ipam.unwrap().config.unwrap()[0].subnet.as_deref(),
        Some(other.subnet.to_string().as_str())
    );

    let taken = engine.ensure_network(other.id, other.subnet).await;
    assert!(matches!(taken, Err(EngineError::SubnetTaken { .. })), "{taken:?}");
    engine.remove_network(app.id).await.unwrap();
    engine.remove_network(app.id).await.unwrap();
}

#[tokio::test]
async fn a_build_over_tcp_leaves_no_connection() {
    let app = TestApp::bare().await;
    let relay = Relay::start().await;
    let engine = Engine::connect(Some(&relay.url)).await.unwrap();
    for _ in 0..3 {
        let (sender, receiver) = mpsc::channel(16);
        let (built, _) =
            tokio::join!(engine.build(app.request("FROM scratch\nENV A=1\n"), sender), drain(receiver));
        built.unwrap();
    }
    assert!(until(SOON, || async { relay.open() == 0 }).await, "{} open", relay.open());

    let request = app.request("FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN echo here; sleep 88888\n");
    let (sender, mut receiver) = mpsc::channel(16);
    let build = tokio::spawn(async move { engine.build(request, sender).await });
    while receiver.recv().await.unwrap() != BuildLine::Output("here".to_owned()) {}
    assert!(relay.open() > 0);
    build.abort();
    assert!(until(SOON, || async { relay.open() == 0 && !runs("88888") }).await, "dropped, but goes on");
}

#[tokio::test]
async fn a_build_without_a_session_is_the_same_build() {
    let app = TestApp::new().await;
    let local = async |dockerfile: String| {
        let (sender, receiver) = mpsc::channel(16);
        let (built, lines) =
            tokio::join!(app.engine.build_local(app.request(&dockerfile), sender), drain(receiver));
        (built, lines)
    };
    let from = format!("FROM {}\nARG version=1\n", app.image());
    let (built, lines) = local(format!("{from}RUN echo {} here\nEXPOSE 7000\n", app.name)).await;
    assert_eq!(built.unwrap().exposed_ports, [7000]);
    assert_eq!(output(&lines), [format!("{} here", app.name)]);
    let (built, _) = local(format!("{from}RUN sleep 0.2; exit 6\n")).await;
    let Err(EngineError::Build(failure)) = built else { panic!("{built:?}") };
    assert_eq!(failure.exit_code, Some(6), "{failure:?}");

    let mut request = app.request(&format!("{from}RUN sleep 66666\n"));
    request.timeout = Duration::from_secs(2);
    let (sender, receiver) = mpsc::channel(16);
    let (result, _) = tokio::join!(app.engine.build_local(request, sender), drain(receiver));
    assert!(matches!(result, Err(EngineError::TimedOut { .. })), "{result:?}");
    assert!(until(Duration::from_secs(5), || async { !runs("66666") }).await);
}

#[tokio::test]
async fn events_go_on_after_the_engine_hung_up() {
    let app = TestApp::new().await;
    let relay = Relay::start().await;
    let engine = Engine::connect(Some(&relay.url)).await.unwrap();
    let events = engine.events(None);
    let mut ours = events
        .filter(|event| std::future::ready(event.as_ref().map_or(true, |event| event.app == app.id)))
        .map(|event| event.map(|event| event.kind).ok());
    let id = app.engine.start(&app.workload("sleep 1000")).await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, ours.next()).await.unwrap(), Some(Some(EventKind::Started)));
    relay.hang_up();
    app.engine.remove(&id).await.unwrap();
    let rest: Vec<_> = tokio::time::timeout(SOON, ours.take(3).collect()).await.unwrap();
    assert_eq!(rest, [None, Some(EventKind::Died { exit_code: 137 }), Some(EventKind::Destroyed)]);
}

#[tokio::test]
async fn a_base_is_built_once_with_its_parents_and_files() {
    let app = TestApp::new().await;
    let reference = |name: &str| format!("paas/{}:{name}", app.name);
    let parent = BaseImage {
        reference: reference("parent"),
        recipe: Recipe::Build {
            dockerfile: format!("FROM {}\nRUN echo parent of {}\n", app.image(), app.name),
            files: BTreeMap::new(),
            parents: Vec::new(),
        },
    };
    let base = BaseImage {
        reference: reference("base"),
        recipe: Recipe::Build {
            dockerfile: format!(
                "FROM {}\nARG WHO\nCOPY etc/greeting /\nRUN echo $WHO: $(cat /greeting)\n",
                parent.reference
            ),
            files: BTreeMap::from([("etc/greeting".to_owned(), b"hello".to_vec())]),
            parents: vec![parent],
        },
    };
    let settings = BuildSettings {
        args: BTreeMap::from([("WHO".to_owned(), app.name.to_string())]),
        timeout: Duration::from_secs(60),
        ..BuildSettings::default()
    };
    let ensure = || async {
        let (sender, receiver) = mpsc::channel(16);
        let here = std::path::Path::new("/nonexistent");
        let (result, lines) =
            tokio::join!(app.engine.ensure_base(&base, &settings, here, sender), drain(receiver));
        result.unwrap();
        lines
    };
    let (first, second) = tokio::join!(ensure(), ensure());
    let lines = [first, second].concat();
    let said = |text: &str| lines.iter().filter(|line| line.as_str() == text).count();
    assert_eq!(
        (said(&format!("parent of {}", app.name)), said(&format!("{}: hello", app.name))),
        (1, 1),
        "{lines:?}"
    );
    assert!(app.engine.has_image(&base.reference).await.unwrap());
    assert!(ensure().await.is_empty());
}

#[tokio::test]
async fn without_a_registry_the_source_is_debian_and_a_pull_is_refused_in_words() {
    let app = TestApp::bare().await;
    let debian = ImageSourceChoice::Only(ImageSource::Debian);
    assert_eq!(app.engine.probe_source(debian).await, ImageSource::Debian);
    let asked = Instant::now();
    app.engine.probe_source(ImageSourceChoice::Auto).await;
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());

    // No registry on earth listens on port 1 of this machine.
    let base = BaseImage { reference: "localhost:1/no/such:image".to_owned(), recipe: Recipe::Pull };
    let (sender, _receiver) = mpsc::channel(16);
    let here = std::path::Path::new("/nonexistent");
    let result = app.engine.ensure_base(&base, &BuildSettings::default(), here, sender).await;
    let problem = Problem::from(&result.unwrap_err());
    assert_eq!(problem.title, "The base image localhost:1/no/such:image could not be pulled");
}

/// A TCP door to the engine's socket that can be shut.
struct Relay {
    url: String,
    open: Arc<std::sync::atomic::AtomicUsize>,
    shut: tokio::sync::watch::Sender<u32>,
}

impl Relay {
    async fn start() -> Self {
        use std::sync::atomic::Ordering::SeqCst;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        let open = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (shut, shutting) = tokio::sync::watch::channel(0);
        let counter = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (counter, mut shutting) = (Arc::clone(&counter), shutting.clone());
                shutting.mark_unchanged();
                counter.fetch_add(1, SeqCst);
                tokio::spawn(async move {
                    let mut engine = tokio::net::UnixStream::connect(DEFAULT_SOCKETS[0]).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut engine) => {}
                        _ = shutting.changed() => {}
                    }
                    counter.fetch_sub(1, SeqCst);
                });
            }
        });
        Self { url, open, shut }
    }

    /// Connections that are open.
    fn open(&self) -> usize {
        self.open.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Cuts all that are open.
    fn hang_up(&self) {
        self.shut.send_modify(|times| *times += 1);
    }
}
