//! Logs, events and listeners.

use super::*;

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
    let events = app.engine.events();
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
}

#[tokio::test]
async fn no_event_is_lost_where_many_happen_at_once() {
    const PROCESSES: u32 = 8;
    let app = TestApp::new().await;
    let events = app.engine.events();
    let workload = |number: u32| {
        let process = ProcessName::parse(&format!("web.{}", number + 1)).unwrap();
        let address = app.subnet.hosts().nth(4 + number as usize).unwrap();
        crate::model::Workload { process, address, ..app.workload("sleep 1000") }
    };
    let workloads: Vec<_> = (0..PROCESSES).map(workload).collect();
    let each = workloads.iter().map(|workload| async {
        let id = app.engine.start(workload).await.unwrap();
        app.engine.remove(&id).await.unwrap();
    });
    futures_util::future::join_all(each).await;
    let ours = events.map(Result::unwrap).filter(|event| std::future::ready(event.app == app.id));
    let all = ours.take(3 * PROCESSES as usize).collect::<Vec<Event>>();
    let seen = tokio::time::timeout(SOON, all).await.unwrap();
    for kind in [EventKind::Started, EventKind::Died { exit_code: 137 }, EventKind::Destroyed] {
        assert_eq!(seen.iter().filter(|event| event.kind == kind).count(), PROCESSES as usize, "{kind:?}");
    }
}

#[tokio::test]
async fn events_go_on_after_the_engine_hung_up() {
    let app = TestApp::new().await;
    let relay = Relay::start().await;
    let engine = DockerEngine::connect(Some(&relay.url)).await.unwrap();
    let events = engine.events();
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
