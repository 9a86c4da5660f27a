//! Where a config var must not be found, and how config vars come and go.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Finished, Repository, Running, Server, TestApp, alone, docker, eventually};

const MINUTE: Duration = Duration::from_secs(60);

/// Prints one variable as JSON for each path: `/NAME`.
const TELLING: &str = "import json\nimport os\nfrom http.server import BaseHTTPRequestHandler, HTTPServer\n\n\
     class Page(BaseHTTPRequestHandler):\n    def do_GET(self):\n        \
     body = json.dumps(os.environ.get(self.path[1:])).encode()\n        \
     self.send_response(200)\n        self.end_headers()\n        self.wfile.write(body)\n\n\
     HTTPServer((\"\", int(os.environ[\"PORT\"])), Page).serve_forever()\n";

fn telling(app: &TestApp) -> Repository {
    let repository = app.repository("python-plain");
    repository.write("main.py", TELLING);
    repository.commit("Show a variable");
    repository
}

/// What the app sees of one variable.
fn told(app: &TestApp, name: &str) -> Option<String> {
    serde_json::from_str(&app.get(&format!("/{name}")).body).unwrap()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Files below `directory` that contain `text`.
fn files_with(directory: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&entry.path(), text));
        } else if kind.is_file() && contains(&std::fs::read(entry.path()).unwrap_or_default(), text) {
            found.push(entry.path());
        }
    }
    found
}

/// Processes whose arguments, or whose environment outside of containers, contain
/// `text`: ours, git's, ssh's and all others.
fn processes_with(text: &str) -> Vec<String> {
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().map(Result::unwrap) {
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let command = read("cmdline");
        let outside = std::fs::read_link(entry.path().join("ns/mnt")).is_ok_and(|mount| mount == own);
        if contains(&command, text) || (outside && contains(&read("environ"), text)) {
            found.push(String::from_utf8_lossy(&command).into_owned());
        }
    }
    found
}

/// A config var is set, pushed, changed, refused, rolled back, re-encrypted and
/// survives a crash, and all the while it is where it belongs and nowhere else.
#[test]
fn a_secret_is_in_no_file_no_log_no_image_and_no_process_list() {
    let (server, _turn) = alone();
    let app = server.app("secret");
    let secret = format!("hunter2-{}-ünïque", std::process::id());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = Vec::new();
            while !over.load(Ordering::Relaxed) {
                seen.extend(processes_with(&secret));
                std::thread::sleep(Duration::from_millis(20));
            }
            seen
        });
        assert!(!processes_with("--data-dir").is_empty(), "the watch sees nothing");
        // Ends the watch even if one of the steps panics.
        let end = OnDrop(&over);
        live_with(server, &app, &secret);
        drop(end);
        assert_eq!(watch.join().unwrap(), Vec::<String>::new(), "in a process list");
    });
    assert_eq!(files_with(&server.home, &secret), Vec::<PathBuf>::new());
    assert!(files_with(&server.home, "SECOND").iter().any(|file| file.ends_with("paas.db")));
    let log = app.ssh("logs", &["-n", "2000"]).ok().silent_about(&secret);
    log.says(&["build"]);
    let images = docker(&["images", "--no-trunc", "-q", &format!("paas/{}", app.name)]).ok().out();
    assert!(images.lines().count() >= 1, "{images}");
    for image in images.lines() {
        docker(&["history", "--no-trunc", image]).ok().silent_about(&secret);
        docker(&["inspect", image]).ok().silent_about(&secret);
        let lines_with = |text: &str| run_sh(&format!("docker save {image} | grep -c -a -F '{text}'")).out();
        assert_eq!(lines_with(&secret), "0\n", "in a layer");
        assert_ne!(lines_with("Page(BaseHTTPRequestHandler)"), "0\n", "the layers cannot be read");
    }
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn run_sh(script: &str) -> Finished {
    let mut command = Command::new("sh");
    // The words of a grep are no leak of ours: the watch has ended.
    command.arg("-c").arg(script);
    Running::start(command, b"").finish(MINUTE)
}

/// All that may happen to an app with a secret.
fn live_with(server: &'static Server, app: &TestApp, secret: &str) {
    server.ssh(&["apps:create", &app.name]).ok();
    let set = |line: &str| server.ssh_with(&["config:set", &app.name, "-"], line.as_bytes());
    set(&format!("TOKEN='{secret}'\n")).ok().silent_about(secret);
    let repository = telling(app);
    // Not `test -n "$TOKEN"`: the app's own shell would write it into an argument.
    repository.write("Procfile", "release: printenv TOKEN > /dev/null\nweb: python main.py\n");
    repository.write("paas.toml", "[build]\nsecrets = [\"TOKEN\"]\n");
    repository.commit("Use it in the build, and before traffic");
    repository.push(&["main"]).ok().silent_about(secret);
    assert_eq!(told(app, "TOKEN").as_deref(), Some(secret));

    set(&format!("# a file\nexport SECOND=\"{secret}\"\n")).ok().silent_about(secret);
    server.ssh_with(&["config:set", "--global", "-"], format!("ALL={secret}\n").as_bytes()).ok();
    app.ssh("ps:restart", &[]).ok();
    repository.write("main.py", "raise SystemExit(3)\n");
    repository.commit("Broken");
    repository.push(&["main"]).fails().silent_about(secret);
    // What is refused is not repeated, neither here nor in the log.
    set(&format!("THIRD=\"{secret}\n")).fails().silent_about(secret);
    server.ssh_with(&["config:set", &app.name, "-"], format!("{{\"A\": [\"{secret}\"]}}").as_bytes()).fails();
    app.ssh("config:set", &["--no-restart", "PLAIN=1"]).ok();
    app.ssh("rollback", &[]).ok();
    server.paas(&["secrets:rotate"]).ok();
    server.kill9();
    server.restart();
    assert_eq!(told(app, "TOKEN").as_deref(), Some(secret));
    assert_eq!(app.ssh("config:get", &["TOKEN"]).ok().out(), format!("{secret}\n"));
    server.stop();
    assert_eq!(files_with(&server.home, secret), Vec::<PathBuf>::new(), "after a stop");
    server.restart();
    server.ssh(&["config:unset", "--global", "ALL"]).ok();
}

/// Words that were typed in the wrong place may be secrets too.
#[test]
fn the_servers_log_repeats_nothing_that_was_typed() {
    let (server, _turn) = alone();
    let app = server.app("typed");
    server.ssh(&["apps:create", &app.name]).ok();
    let name = app.name.as_str();
    for words in [
        &["config:set", "TOKEN=typo-hunter2"][..],
        &["config:set", name, "A=1", "typo-hunter2"],
        &["config:set", name, "typo-hunter2=1"],
        &["config:set", name, "--typo-hunter2=1"],
        &["config", name, "typo-hunter2"],
        &["config:get", "typo-hunter2"],
        &["typo-hunter2"],
        &["PASSWORD=typo-hunter2", "config"],
        &["ps:scale", name, "typo-hunter2"],
        &["logs", name, "-s", "typo-hunter2"],
    ] {
        server.ssh(words).fails();
    }
    server.ssh(&["config:set", "TOKEN=typo-hunter2"]).silent_about("hunter2").says(&["config:set APP"]);
    server.ssh(&["config:set", name, "A=1", "typo-hunter2"]).silent_about("hunter2");
    assert_eq!(files_with(&server.home, "typo-hunter2"), Vec::<PathBuf>::new());
}

/// What has another key, or none, is left as it is.
#[test]
fn a_server_without_its_key_says_so_in_one_line_and_changes_nothing() {
    let (server, _turn) = alone();
    let app = server.app("key");
    server.ssh(&["apps:create", &app.name]).ok();
    app.ssh("config:set", &["TOKEN=kept"]).ok();
    let key = server.home.join("data/secrets.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    server.stop();
    let right = std::fs::read_to_string(&key).unwrap();
    let serve = |more: &str| {
        let script = std::fs::read_to_string(server.home.join("serve.sh")).unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{} {more}", script.trim_end()));
        let finished = Running::start(command, b"").finish(MINUTE);
        assert_eq!((finished.code, finished.text().lines().count()), (1, 1), "{}", finished.text());
        finished
    };
    std::fs::remove_file(&key).unwrap();
    for more in ["", "--check-config"] {
        serve(more).says(&["secrets.key is not there", "backup"]);
        assert!(!key.exists());
    }
    let digits = right.lines().last().unwrap();
    let other: String = digits.chars().rev().collect();
    for (text, said) in [(other.as_str(), "which is not in"), ("no key\n", "line 1"), ("", "line 1")] {
        std::fs::write(&key, text).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        for more in ["", "--check-config"] {
            serve(more).says(&["secrets.key", said]).silent_about(digits).silent_about(&other);
            assert_eq!(std::fs::read_to_string(&key).unwrap(), text);
        }
    }
    std::fs::write(&key, &right).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    serve("").says(&["0644", "chmod 600"]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    server.restart();
    assert_eq!(app.ssh("config:get", &["TOKEN"]).ok().out(), "kept\n");
}

#[test]
fn a_server_that_dies_in_a_change_of_its_key_can_read_everything_again() {
    let (server, _turn) = alone();
    let app = server.app("rotate");
    server.ssh(&["apps:create", &app.name]).ok();
    let file = server.home.join("data/secrets.key");
    let keys = || {
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    for place in paas::failpoint::ROTATION {
        app.ssh("config:set", &[&format!("PLACE={place}")]).ok();
        let before = keys();
        server.stop_at(place);
        let rotation = server.ssh_running(&["secrets:rotate"]);
        server.wait_stopped();
        assert_eq!(keys().len(), 2, "{place}: both are on disk");
        server.kill_stopped(false);
        rotation.finish(MINUTE);
        server.restart();
        assert_eq!(app.ssh("config:get", &["PLACE"]).ok().out(), format!("{place}\n"));
        let after = keys();
        assert!(after.len() == 1 && after != before, "{place}: it is completed");
    }
}

#[test]
fn config_goes_out_and_comes_in_byte_for_byte_in_every_format() {
    let (server, _turn) = alone();
    let (from, to) = (server.app("export"), server.app("import"));
    server.ssh(&["apps:create", &from.name]).ok();
    server.ssh(&["apps:create", &to.name]).ok();
    let values: BTreeMap<&str, &str> = BTreeMap::from([
        ("DOLLAR", "$HOME ${HOME} $(id) `id`"),
        ("QUOTES", "it's \"quoted\" \\ and \\n"),
        ("LINES", "-----BEGIN KEY-----\nabc\r\n\tdef\n-----END KEY-----\n"),
        ("JSON", r#"{"a":[1,"two",null],"b":"=&%"}"#),
        ("EMPTY", ""),
        ("UNICODE", "grüße ☃ 𝄞"),
        ("HASH", "a #b#"),
        ("SPACES", "  two before, two after  "),
        ("PLAIN", "postgres://u:p@h:5432/db?x=1"),
    ]);
    let json = serde_json::to_string(&values).unwrap();
    server.ssh_with(&["config:set", &from.name, "-"], json.as_bytes()).ok();
    let export = |app: &TestApp, format: &str| app.ssh("config:export", &["--format", format]).ok().out();
    let all =
        |app: &TestApp| -> BTreeMap<String, String> { serde_json::from_str(&export(app, "json")).unwrap() };
    let original = all(&from);
    assert_eq!(
        original.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<BTreeMap<_, _>>(),
        values
    );
    for format in ["dotenv", "json"] {
        let text = export(&from, format);
        server.paas_with(&["config:set", &to.name, "-"], text.as_bytes()).ok();
        assert_eq!(all(&to), original, "{format}");
        let names: Vec<&str> = values.keys().copied().collect();
        to.ssh("config:unset", &names).ok();
        assert!(all(&to).is_empty());
    }
    let script = export(&from, "shell");
    for (name, value) in &values {
        let printed = run_sh(&format!("{script}\nprintf %s \"${name}\"")).ok();
        assert_eq!(printed.out(), *value, "{name}");
    }
    assert_eq!(from.ssh("config:export", &[]).ok().out(), export(&from, "dotenv"));
}

#[test]
fn without_a_restart_a_change_waits_for_the_next_release() {
    let (server, _turn) = alone();
    let app = server.app("later");
    telling(&app).push(&["main"]).ok();
    let container = app.containers();
    app.ssh("config:set", &["--no-restart", "LATER=1"]).ok().says(&["next release", "ps:restart"]);
    assert_eq!(app.containers(), container);
    assert_eq!(told(&app, "LATER"), None);
    assert_eq!(app.ssh("config:get", &["LATER"]).ok().out(), "1\n");
    app.ssh("ps:restart", &[]).ok();
    assert_eq!(told(&app, "LATER").as_deref(), Some("1"));
    // The same value once more makes no release; nor does taking back what waits.
    app.ssh("config:set", &["LATER=1"]).ok().says(&["v2"]);
    app.ssh("config:set", &["--no-restart", "LATER=2"]).ok();
    app.ssh("config:set", &["LATER=1"]).ok().says(&["v2"]);
    assert_eq!(app.ssh("config:get", &["LATER"]).ok().out(), "1\n");
    let big = format!("BIG={}\n", "x".repeat(100_000)).repeat(12);
    let numbered: String = big
        .lines()
        .enumerate()
        .map(|(at, line)| line.replacen("BIG", &format!("BIG{at}"), 1) + "\n")
        .collect();
    let refused = server.ssh_with(&["config:set", &app.name, "-"], numbered.as_bytes()).fails();
    refused.says(&["KiB of config vars together"]);
    // Nearly as much is what a process really can be given.
    let fits: String = numbered.lines().take(10).map(|line| format!("{line}\n")).collect();
    server.ssh_with(&["config:set", &app.name, "-"], fits.as_bytes()).ok();
    assert_eq!(told(&app, "BIG9").map(|value| value.len()), Some(100_000));
}

#[test]
fn config_of_all_apps_is_below_each_apps_own() {
    let (server, _turn) = alone();
    let (one, own, stopped) = (server.app("one"), server.app("own"), server.app("stopped"));
    for app in [&one, &own, &stopped] {
        telling(app).push(&["main"]).ok();
    }
    own.ssh("config:set", &["SHARED=mine"]).ok();
    stopped.ssh("ps:stop", &[]).ok();
    let said = server.ssh(&["config:set", "--global", "SHARED=ours"]).ok();
    let said = said.says(&[&format!("{} runs v2", one.name), &format!("{} gets it with", stopped.name)]);
    assert!(!said.out().contains(&own.name), "nothing changes for it: {}", said.text());
    assert_eq!(told(&one, "SHARED").as_deref(), Some("ours"));
    assert_eq!(told(&own, "SHARED").as_deref(), Some("mine"));
    assert_eq!(stopped.get("/").status, 503, "a wish to stop is kept");
    server.ssh(&["config:get", "--global", "SHARED"]).ok().says(&["ours"]);
    server.ssh(&["config", "--global", "--json"]).ok().says(&["ours"]);
    one.ssh("config:get", &["SHARED"]).fails();
    // A rollback brings the app's own config back, not that of all apps.
    server
        .ssh(&["config:set", "--global", "--no-restart", "SHARED=new"])
        .ok()
        .says(&[&one.name, "next release"]);
    assert_eq!(told(&one, "SHARED").as_deref(), Some("ours"));
    one.ssh("rollback", &[]).ok();
    assert_eq!(told(&one, "SHARED").as_deref(), Some("new"));
    one.ssh("config", &[]).ok().silent_about("SHARED");
    server.ssh(&["config:unset", "--global", "SHARED"]).ok();
    assert_eq!(told(&one, "SHARED"), None);
    assert_eq!(told(&own, "SHARED").as_deref(), Some("mine"));
    eventually("old containers are gone", MINUTE, || one.containers().len() == 1);
}
