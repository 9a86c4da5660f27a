//! Every folder of `tests/apps`, pushed unchanged to the real server.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::fmt::Write as _;
use std::sync::Mutex;
use support::{Case, Finished, Probe, Server, TestApp, Unrouted, cases, shared};

/// Longest line that goes over a push, without git's `remote: `.
const WIDTH: usize = 72;

/// The lines that came from the server, without git's prefix.
fn remote_lines(push: &Finished) -> Vec<String> {
    let text = String::from_utf8_lossy(&push.stderr).into_owned();
    text.lines()
        .filter_map(|line| line.strip_prefix("remote: "))
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// Pushes one case and compares; `Err` says what differs.
fn check(server: &'static Server, case: &Case) -> Result<(), String> {
    let app = server.app(&case.name);
    if !case.config.is_empty() {
        server.ssh(&["apps:create", &app.name]).ok();
        for (name, value) in &case.config {
            let pair = format!("{name}={value}");
            server.paas(&["config:set", &app.name, &pair]).ok();
        }
    }
    let repository = app.repository(&case.name);
    let push = repository.push(&["main"]);
    let outcome = compare(case, &app, &push);
    outcome.map_err(|difference| format!("{difference}\n--- what the push said:\n{}", push.text()))
}

fn compare(case: &Case, app: &TestApp, push: &Finished) -> Result<(), String> {
    let lines = remote_lines(push);
    let text = lines.join("\n");
    if let Some(detected) = &case.detected {
        let found = lines.iter().any(|line| line.starts_with("-----> ") && line.contains(detected.as_str()));
        ensure(found, || format!("no step says {detected:?}"))?;
    }
    let too_long = lines.iter().find(|line| is_ours(line) && line.chars().count() > WIDTH);
    ensure(too_long.is_none(), || format!("longer than {WIDTH} columns: {too_long:?}"))?;
    for part in &case.absent {
        ensure(!text.contains(part.as_str()), || format!("{part:?} should not be there"))?;
    }
    match (&case.refused, &case.unrouted) {
        (Some(refused), _) => is_refused(&refused.lines, app, push, &text),
        (None, Some(unrouted)) => works_unrouted(case, unrouted, app, push, &text),
        (None, None) => serves(case, app, push, &text),
    }
}

fn is_ours(line: &str) -> bool {
    ["-----> ", "=====> ", " !     "].iter().any(|mark| line.starts_with(mark))
}

fn ensure(condition: bool, difference: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(difference()) }
}

fn says_all(case: &Case, push: &Finished, text: &str) -> Result<(), String> {
    ensure(push.code == 0, || format!("exit status {}", push.code))?;
    let missing = case.lines.iter().find(|part| !text.contains(part.as_str()));
    ensure(missing.is_none(), || format!("{missing:?} is missing"))
}

fn works_unrouted(
    case: &Case,
    unrouted: &Unrouted,
    app: &TestApp,
    push: &Finished,
    text: &str,
) -> Result<(), String> {
    says_all(case, push, text)?;
    ensure(!text.contains("http://"), || "there is an address".to_owned())?;
    let reply = app.server.try_get(&app.name, "/").map_err(|error| error.to_string())?;
    ensure(reply.status == 503, || format!("{reply:?}"))?;
    app.server.paas(&["ps:scale", &app.name, &format!("{}=1", unrouted.process)]).ok();
    let printed = || app.server.paas(&["logs", &app.name]).text().contains(&unrouted.prints);
    let mut tries = 0..100;
    while !printed() && tries.next().is_some() {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    ensure(printed(), || format!("{:?} is not in the log", unrouted.prints))
}

fn serves(case: &Case, app: &TestApp, push: &Finished, text: &str) -> Result<(), String> {
    says_all(case, push, text)?;
    let url = format!("http://{}.localhost:{}", app.name, app.server.http_port);
    ensure(text.contains(&url), || format!("the address {url} is missing"))?;
    case.probe.iter().chain(&case.also).try_for_each(|probe| answers(app, probe))
}

fn answers(app: &TestApp, probe: &Probe) -> Result<(), String> {
    let ask = |head: &[String]| app.server.try_get_with(&app.name, &probe.path, head);
    let reply = ask(&probe.request).map_err(|error| error.to_string())?;
    let of = |what: &str| format!("{} answered {reply:?}{what}", probe.path);
    ensure(reply.status == probe.status, || of(""))?;
    ensure(reply.body.contains(&probe.body), || of(&format!(" without {:?}", probe.body)))?;
    for line in &probe.head {
        ensure(reply.head.lines().any(|found| found == line), || of(&format!(" without {line:?}")))?;
    }
    if probe.unchanged {
        let tag = reply.header("etag").ok_or_else(|| of(" without an ETag"))?;
        let head = [probe.request.as_slice(), &[format!("If-None-Match: {tag}")]].concat();
        let again = ask(&head).map_err(|error| error.to_string())?;
        ensure(again.status == 304, || of(&format!(", and its ETag {again:?}")))?;
    }
    Ok(())
}

fn is_refused(parts: &[String], app: &TestApp, push: &Finished, text: &str) -> Result<(), String> {
    ensure(push.code == 1, || format!("exit status {}", push.code))?;
    ensure(push.text().contains("[remote rejected]"), || "no [remote rejected]".to_owned())?;
    let problem = text.lines().any(|line| line.starts_with(" !     "));
    ensure(problem, || "no line begins with ` !     `".to_owned())?;
    for part in parts {
        ensure(text.contains(part.as_str()), || format!("{part:?} is missing"))?;
    }
    let containers = app.containers();
    ensure(containers.is_empty(), || format!("left over: {containers:?}"))?;
    let info = app.server.paas(&["apps:info", &app.name]);
    ensure(info.code == 0, || format!("the app is gone: {}", info.text()))?;
    let reply = app.server.try_get(&app.name, "/").map_err(|error| error.to_string())?;
    ensure(reply.status >= 400, || format!("answers though nothing was deployed: {reply:?}"))
}

/// Two at a time: builds wait for networks and disks more than for processors.
fn push_all(chosen: &[Case]) {
    let (server, _turn) = shared();
    let queue = Mutex::new(chosen.iter());
    let report = Mutex::new((0, String::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = { queue.lock().unwrap().next() } {
                    let outcome = std::panic::catch_unwind(|| check(server, case))
                        .unwrap_or_else(|_| Err("the test itself panicked, see above".to_owned()));
                    if let Err(difference) = outcome {
                        let mut report = report.lock().unwrap();
                        report.0 += 1;
                        writeln!(report.1, "==== {} ({})\n{difference}", case.name, case.about).unwrap();
                    }
                }
            });
        }
    });
    let (failures, text) = report.into_inner().unwrap();
    assert!(failures == 0, "{failures} of {} cases differ:\n{text}", chosen.len());
}

#[test]
fn apps_that_serve() {
    let chosen: Vec<Case> = cases().into_iter().filter(|case| case.refused.is_none()).collect();
    push_all(&chosen);
}

#[test]
fn apps_that_are_refused() {
    let chosen: Vec<Case> = cases().into_iter().filter(|case| case.refused.is_some()).collect();
    push_all(&chosen);
}
