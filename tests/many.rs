//! Many apps on one server, and an engine that is restarted beneath them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::{OwnEngine, Repository, Server, eventually, on_engine};

const APPS: usize = 40;
const AT_A_TIME: usize = 4;
const SOON: Duration = Duration::from_secs(30);

/// Needs no base image and runs nothing to be built.
const DOCKERFILE: &str = "\
FROM scratch
COPY busybox /bin/busybox
COPY index.html /www/index.html
EXPOSE 8000
CMD [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"8000\", \"-h\", \"/www\"]
";

#[test]
fn forty_apps_answer_at_the_same_addresses_after_a_restart_of_the_engine() {
    let engine = OwnEngine::start();
    let server = on_engine(&engine.url());
    side_by_side(|app| push(server, app));
    let apps: Vec<(String, u16)> = (0..APPS).map(|number| (name(number), port_of(server, number))).collect();
    for (app, port) in &apps {
        assert_eq!(answers(server, app, *port).unwrap(), [app.as_str(); 2]);
    }
    let addresses = addresses(&engine);
    assert_eq!(addresses.len(), APPS);

    engine.restart();
    for (app, port) in &apps {
        eventually(&format!("{app} answers again"), SOON, || {
            answers(server, app, *port).is_ok_and(|said| said == [app.as_str(); 2])
        });
    }
    assert_eq!(self::addresses(&engine), addresses);
    assert_eq!(server.paas(&["apps"]).ok().out().matches("running").count(), APPS);

    side_by_side(|app| {
        server.paas(&["apps:destroy", app, "--confirm", app]).ok();
    });
    let left = ["ps -aq", "network ls -q --filter label=paas.app", "images -q --filter reference=paas/app-*"];
    for listing in left {
        let words: Vec<&str> = listing.split(' ').collect();
        assert_eq!(engine.docker(&words).ok().out(), "", "docker {listing}");
    }
}

fn name(number: usize) -> String {
    format!("app-{number}")
}

/// Does it with all apps, a few at a time.
fn side_by_side(with: impl Fn(&str) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < APPS) {
                    with(&name(number));
                }
            });
        }
    });
}

fn push(server: &'static Server, app: &str) {
    let repository = Repository::empty(server, app);
    std::fs::copy("/bin/busybox", repository.path().join("busybox")).unwrap();
    repository.write("Dockerfile", DOCKERFILE);
    repository.write("index.html", app);
    repository.commit("First version");
    repository.push(&["main"]).ok();
}

/// The app's stable port.
fn port_of(server: &Server, number: usize) -> u16 {
    let info = server.paas(&["apps:info", &name(number)]).ok().out();
    let line = info.lines().find_map(|line| line.strip_prefix("port")).unwrap();
    line.trim_start_matches([':', ' ']).trim().parse().unwrap()
}

/// What it says at its host name and at its stable port.
fn answers(server: &Server, app: &str, port: u16) -> std::io::Result<[String; 2]> {
    let by_port = support::get(port, &format!("127.0.0.1:{port}"), "/")?;
    Ok([server.try_get(app, "/")?.body, by_port.body])
}

/// Containers and their addresses.
fn addresses(engine: &OwnEngine) -> Vec<String> {
    let ids = engine.docker(&["ps", "-q"]).ok().out();
    let format = "{{.Id}} {{.Name}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let words: Vec<&str> = ["inspect", "-f", format].into_iter().chain(ids.lines()).collect();
    let mut lines: Vec<String> = engine.docker(&words).ok().out().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
