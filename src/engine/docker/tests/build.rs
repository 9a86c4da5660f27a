//! Builds: what they say, how they fail, how they are ended.

use super::*;

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
    let images = app.engine.app_images(app.id, &app.name).await.unwrap();
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
    assert!(app.engine.app_images(app.id, &app.name).await.unwrap().is_empty());

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
    assert!(app.engine.app_images(app.id, &app.name).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_build_ends_at_its_time_limit() {
    let app = TestApp::bare().await;
    let mut request = app.request("FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN sleep 77777\n");
    request.timeout = Duration::from_secs(3);
    let (sender, receiver) = mpsc::channel(16);
    let (result, _) = tokio::join!(app.engine.build(request, sender), drain(receiver));
    assert!(matches!(&result, Err(EngineError::Overtime(over)) if !over.silent), "{result:?}");
    assert!(until(Duration::from_secs(5), || async { !runs("77777") }).await);
}

#[tokio::test]
async fn a_build_ends_when_it_prints_nothing_for_too_long() {
    let app = TestApp::bare().await;
    // Never in the builder's cache.
    let chatter = format!("for i in 1 2 3 4 5 6; do sleep 0.5; echo $i; done; : {}", app.id.0);
    let mut request =
        app.request(&format!("FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN {chatter}\nRUN sleep 55555\n"));
    request.silence = Duration::from_secs(2);
    let (sender, receiver) = mpsc::channel(16);
    let (result, lines) = tokio::join!(app.engine.build(request, sender), drain(receiver));
    let Err(EngineError::Overtime(over)) = result else { panic!("{result:?}") };
    assert!(
        over.silent && over.step.as_ref().is_some_and(|step| step.ends_with("RUN sleep 55555")),
        "{over:?}"
    );
    assert!(lines.contains(&BuildLine::Output("6".to_owned())), "{lines:?}");
    assert!(until(Duration::from_secs(5), || async { !runs("55555") }).await);
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
async fn a_build_over_tcp_leaves_no_connection() {
    let app = TestApp::bare().await;
    let relay = Relay::start().await;
    let engine = DockerEngine::connect(Some(&relay.url)).await.unwrap();
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
    assert!(matches!(result, Err(EngineError::Overtime(_))), "{result:?}");
    assert!(until(Duration::from_secs(5), || async { !runs("66666") }).await);
}

#[tokio::test]
async fn a_build_that_wants_more_memory_than_all_builds_may_have_is_killed_and_says_so() {
    let app = TestApp::bare().await;
    // Enough for the builds of the tests beside this one. Again and again: any other
    // server on this engine sets its own before each of its builds.
    let limits = crate::model::BuildLimits { memory: 1 << 30, ..Default::default() };
    limit_builds(limits).unwrap();
    let limiting = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            // Refused while more is in use: by what one step has taken meanwhile.
            let _ = limit_builds(limits);
        }
    });
    // Its own line: a step that once succeeded would come from the cache.
    let dockerfile = format!(
        "FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN echo {}; dd if=/dev/zero of=/dev/null bs=1500M count=1\n",
        app.name
    );
    let (_, built) = app.build(&dockerfile).await;
    limiting.abort();
    limit_builds(crate::model::BuildLimits::default()).unwrap();
    let Err(EngineError::Build(failure)) = built else { panic!("{built:?}") };
    assert_eq!(failure.exit_code, Some(137), "{failure:?}");
}

#[tokio::test]
async fn a_secret_is_there_while_the_build_runs_and_nowhere_afterwards() {
    let app = TestApp::bare().await;
    let dockerfile = format!(
        "FROM scratch\nCOPY root/ /\nENV PATH=/bin RUN={}\nRUN --mount=type=secret,id=TOKEN test \"$(tr a-z b-za </run/secrets/TOKEN)\" = '-ivoufs2 $y' && cat /run/secrets/TOKEN\n\
        RUN test ! -s /run/secrets/TOKEN\n",
        app.name
    );
    let mut request = app.request(&dockerfile);
    request.secrets = BTreeMap::from([("TOKEN".to_owned(), "-hunter2 $x".to_owned())]);
    let (sender, receiver) = mpsc::channel(16);
    let (built, lines) = tokio::join!(app.engine.build(request, sender), drain(receiver));
    let built = built.unwrap();
    assert_eq!(output(&lines), ["[TOKEN]"]);
    let image = app.engine.docker.inspect_image(&built.id).await.unwrap();
    let history = app.engine.docker.image_history(&built.id).await.unwrap();
    assert!(!format!("{image:?} {history:?}").contains("hunter2"));

    // Without the secret the same build cannot go well.
    let (_, built) = app.build(&dockerfile.replace("RUN=", "RUN=again")).await;
    assert!(matches!(built, Err(EngineError::Build(_))), "{built:?}");
}
