//! Commands over SSH and on the server, and what strangers send instead.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::process::Command;
use std::time::Duration;
use support::{Running, TestApp, alone, eventually, shared};

const MINUTE: Duration = Duration::from_secs(60);

/// What a command that was refused must look like.
trait Refusal {
    /// One line on standard error, none on standard output, a status of its own.
    fn one_line(self) -> Self;
}

impl Refusal for support::Finished {
    #[track_caller]
    fn one_line(self) -> Self {
        let finished = self.fails();
        assert_eq!(finished.out(), "", "nothing belongs on standard output");
        let text = finished.text();
        assert_eq!(text.lines().count(), 1, "one line was expected:\n{text}");
        assert!(text.len() < 600, "a long line: {text}");
        finished
    }
}

#[test]
fn apps_are_created_listed_described_and_destroyed() {
    let (server, _turn) = shared();
    let app = server.app("listed");
    server.ssh(&["apps:create", &app.name]).ok().says(&[&app.name]);
    server.ssh(&["apps:create", &app.name]).one_line().says(&[&app.name]);
    let listing = server.ssh(&["apps"]).ok().out();
    let header: Vec<&str> = listing.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["NAME", "RUNTIME", "STATUS", "URL"]);
    let row = listing.lines().find(|line| line.starts_with(&app.name)).unwrap();
    assert!(row.contains("stopped"), "{row}");
    server.ssh(&["apps:destroy", &app.name]).fails().says(&["--confirm"]);
    server.ssh(&["apps:destroy", &app.name, "--confirm", "another"]).fails();
    server.ssh(&["apps:destroy", &app.name, "--confirm", &app.name]).ok();
    server.ssh(&["apps:info", &app.name]).one_line().says(&[&app.name]);
}

#[test]
fn info_tells_everything_of_a_running_app() {
    let (server, _turn) = shared();
    let app = server.app("info");
    app.saying("informed").push(&["main"]).ok();
    let url = format!("http://{}.localhost:{}", app.name, server.http_port);
    app.ssh("apps:info", &[]).ok().says(&[&app.name, &url, "running", "Python", "python main.py", "web"]);
    server.ssh(&["apps"]).ok().says(&[&url, "running", "Python"]);
    let json = server.ssh(&["apps", "--json"]).ok().out();
    let listed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(listed.to_string().contains(&app.name), "{json}");
}

#[test]
fn dokkus_and_herokus_order_and_the_local_socket_are_one() {
    let (server, _turn) = shared();
    let app = server.app("order");
    server.ssh(&["apps:create", &app.name]).ok();
    let dokku = server.ssh(&["apps:info", &app.name]).ok().out();
    assert_eq!(server.ssh(&["apps:info", "-a", &app.name]).ok().out(), dokku);
    assert_eq!(server.paas(&["apps:info", &app.name]).ok().out(), dokku);
}

/// Every value arrives in the app as it was typed, byte for byte.
#[test]
fn config_vars_reach_the_app_byte_for_byte() {
    let (server, _turn) = shared();
    let app = server.app("config");
    let repository = app.repository("python-plain");
    repository.write(
        "main.py",
        "import json\nimport os\nfrom http.server import BaseHTTPRequestHandler, HTTPServer\n\n\
         class Page(BaseHTTPRequestHandler):\n    def do_GET(self):\n        \
         body = json.dumps(os.environ.get(self.path[1:])).encode()\n        \
         self.send_response(200)\n        self.end_headers()\n        self.wfile.write(body)\n\n\
         HTTPServer((\"\", int(os.environ[\"PORT\"])), Page).serve_forever()\n",
    );
    repository.commit("Show a variable");
    repository.push(&["main"]).ok();
    let values = [
        ("DOLLAR", "$HOME ${HOME} $(id) `id`"),
        ("QUOTES", "it's \"quoted\" \\ and \\n"),
        ("LINES", "first\nsecond\r\n\tthird\n"),
        ("JSON", r#"{"a":[1,"two",null],"b":"=&%"}"#),
        ("EMPTY", ""),
        ("UNICODE", "grüße ☃ 𝄞"),
        ("EQUALS", "a=b=c"),
        ("SPACES", "  two before, two after  "),
        ("DASHES", "--help -n"),
    ];
    let pairs: Vec<String> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let words: Vec<&str> = pairs.iter().map(String::as_str).collect();
    server.paas(&[&["config:set", &app.name], &words[..]].concat()).ok();
    for (name, value) in values {
        assert_eq!(told(&app, name).as_deref(), Some(value), "{name}");
        let got = server.ssh(&["config:get", &app.name, name]).ok().out();
        assert_eq!(got.strip_suffix('\n').unwrap_or(&got), value, "{name}");
    }
    // Over SSH words are taken apart as a shell would, but by no shell.
    server.ssh(&["config:set", &app.name, "'OVER_SSH=it is $5'"]).ok();
    assert_eq!(told(&app, "OVER_SSH").as_deref(), Some("it is $5"));
    server.ssh(&["config:unset", &app.name, "OVER_SSH", "EMPTY"]).ok();
    assert_eq!(told(&app, "OVER_SSH"), None);
    assert_eq!(told(&app, "EMPTY"), None);
    server.ssh(&["config", &app.name]).ok().says(&["DOLLAR", "JSON"]);
    server.ssh(&["config:get", &app.name, "NOT_THERE"]).fails();
    server.ssh(&["config:set", &app.name, "1X=y"]).one_line().says(&["1X"]);
    server.ssh(&["config:set", &app.name, "NOVALUE"]).fails();
    server.ssh(&["config:set", &app.name, "PAAS_RELEASE=v9"]).one_line().says(&["PAAS_RELEASE"]);
}

/// What the app sees of one variable.
fn told(app: &TestApp, name: &str) -> Option<String> {
    serde_json::from_str(&app.get(&format!("/{name}")).body).unwrap()
}

#[test]
fn processes_are_scaled_stopped_started_and_restarted() {
    let (server, _turn) = shared();
    let app = server.app("scale");
    app.repository("python-procfile").push(&["main"]).ok();
    server.ssh(&["ps", &app.name]).ok().says(&["web.1"]).silent_about("worker.1");

    server.ssh(&["ps:scale", &app.name, "web=2", "worker=1"]).ok();
    server.ssh(&["ps", &app.name]).ok().says(&["web.1", "web.2", "worker.1", "running"]);
    eventually("the worker is heard", MINUTE, || {
        server.ssh(&["logs", &app.name, "-p", "worker"]).ok().out().contains("app[worker.1]: worker at work")
    });

    server.ssh(&["ps:stop", &app.name]).ok();
    let reply = app.get("/");
    assert_eq!(reply.status, 503);
    assert!(format!("{}{}", reply.head, reply.body).contains("H14"), "{reply:?}");
    server.ssh(&["apps"]).ok().says(&["stopped"]);
    server.ssh(&["ps:start", &app.name]).ok();
    assert_eq!(app.page(), "procfile web");

    let before = app.containers();
    server.ssh(&["ps:restart", &app.name]).ok();
    assert_eq!(app.page(), "procfile web");
    eventually("all containers are new", MINUTE, || {
        let now = app.containers();
        now.len() == 3 && server.ssh(&["ps", &app.name]).ok().out().contains("worker.1")
    });
    assert_eq!(before.len(), 3);

    server.ssh(&["ps:scale", &app.name, "web=1", "worker=0"]).ok();
    eventually("scaled down", MINUTE, || app.containers().len() == 1);
    server.ssh(&["logs", &app.name, "-p", "nosuch"]).one_line().says(&["nosuch", "web, worker"]);
    server.ssh(&["ps:scale", &app.name, "nosuch=1"]).one_line().says(&["nosuch"]);
    server.ssh(&["ps:scale", &app.name, "web=many"]).one_line().says(&["many"]);
    server.ssh(&["ps:scale", &app.name, "web=-1"]).fails();
    assert_eq!(app.page(), "procfile web");
}

#[test]
fn a_wish_to_stop_outlives_the_server_and_ends_with_the_next_release() {
    let (server, _turn) = support::alone();
    let app = server.app("wish");
    let repository = app.saying("awake");
    repository.push(&["main"]).ok();
    server.ssh(&["ps:stop", &app.name]).ok();
    server.stop();
    server.restart();
    assert_eq!(app.get("/").status, 503);
    repository.say("awake again");
    repository.push(&["main"]).ok();
    assert_eq!(app.page(), "awake again");
}

#[test]
fn a_crashed_process_stays_visible_with_its_exit_code_and_its_last_words() {
    let (server, _turn) = shared();
    let app = server.app("crash");
    let repository = app.saying("fine");
    let source = std::fs::read_to_string(repository.path().join("main.py")).unwrap();
    let crash = "        if self.path == \"/die\":\n            print(\"famous last words\", flush=True)\n            os._exit(42)\n";
    repository.write(
        "main.py",
        source.replace("    def do_GET(self):\n", &format!("    def do_GET(self):\n{crash}")),
    );
    repository.commit("Crash on demand");
    repository.push(&["main"]).ok();
    let end = std::time::Instant::now() + MINUTE;
    // The engine restarts it at first; what matters is that it is told.
    while !server.ssh(&["ps", &app.name]).ok().out().contains("exit 42") {
        assert!(std::time::Instant::now() < end, "{}", server.ssh(&["ps", &app.name]).text());
        let _ = server.try_get(&app.name, "/die");
    }
    eventually("its last words are kept", MINUTE, || {
        let log = server.ssh(&["logs", &app.name, "-n", "500"]).ok().out();
        log.contains("app[web.1]: famous last words")
    });
}

#[test]
fn logs_are_herokus_lines_followed_live_and_kept_over_releases() {
    let (server, _turn) = shared();
    let app = server.app("logs");
    let repository = app.saying("logged");
    let print = |text: &str| {
        let source = std::fs::read_to_string(repository.path().join("main.py")).unwrap();
        let body = source.split_once("import os\n").unwrap().1.to_owned();
        repository.write("main.py", format!("print({text:?}, flush=True)\nimport os\n{body}"));
        repository.commit(text);
    };
    print("first release speaking");
    repository.push(&["main"]).ok();
    let mut tail = server.ssh_running(&["logs", &app.name, "-t"]);
    tail.wait_for("app[web.1]: first release speaking", MINUTE);
    print("second release speaking");
    repository.push(&["main"]).ok();
    tail.wait_for("app[web.1]: second release speaking", MINUTE);
    drop(tail);

    let log = server.ssh(&["logs", &app.name, "-n", "500"]).ok().out();
    let line =
        log.lines().find(|line| line.contains("first release speaking")).unwrap_or_else(|| panic!("{log}"));
    let (time, rest) = line.split_once(' ').unwrap();
    assert_eq!(rest, "app[web.1]: first release speaking");
    assert_eq!(time.len(), "2026-01-02T03:04:05.678901+00:00".len(), "{time}");
    assert!(time.ends_with("+00:00"), "{time}");
    assert!(log.contains("second release speaking"));
    let last = server.ssh(&["logs", &app.name, "-n", "1"]).ok().out();
    assert_eq!(last.lines().count(), 1, "{last}");
    assert_eq!(server.paas(&["logs", &app.name, "-n", "500"]).ok().out(), log, "one implementation");

    assert_eq!(app.get("/?seen=router").status, 200);
    let line = "router[web.1]: at=info method=GET path=\"/?seen=router\" host=";
    eventually("the request has a line", MINUTE, || {
        app.ssh("logs", &["-s", "router"]).ok().out().lines().any(|seen| seen.contains(line))
    });
}

/// What users see in place of an app, each by a command, and none of it by a deploy.
#[test]
fn a_page_a_password_and_a_redirect_hold_at_once_and_over_deploys() {
    let (server, _turn) = alone();
    let app = server.app("rules");
    let repository = app.saying("first");
    repository.push(&["main"]).ok();
    let get = |head: &[String]| server.try_get_with(&app.name, "/a?b=c", head).unwrap();

    app.ssh("maintenance", &[]).ok().says(&["off", "the server's"]);
    app.ssh("maintenance:on", &[]).ok().says(&["is in maintenance"]);
    let page = get(&[]);
    assert_eq!((page.status, page.header("retry-after").as_deref()), (503, Some("60")));
    assert!(page.body.contains("Maintenance (503 · H80)"), "{}", page.body);
    server.ssh_with(&["maintenance:page", &app.name], b"").one_line().says(&["empty"]);
    server.ssh_with(&["maintenance:page", &app.name], "<h1>Soon ☃</h1>".as_bytes()).ok().says(&["17 bytes"]);
    app.ssh("maintenance", &[]).ok().says(&["on", "17 bytes"]);
    assert_eq!(get(&[]).body, "<h1>Soon ☃</h1>");
    repository.say("second");
    repository.push(&["main"]).ok();
    assert_eq!(get(&[]).body, "<h1>Soon ☃</h1>", "a deploy ends nothing");
    server.kill9();
    server.restart();
    assert_eq!(get(&[]).body, "<h1>Soon ☃</h1>", "nor does a restart");
    app.ssh("maintenance:off", &[]).ok().says(&["takes requests"]);
    assert_eq!(app.page(), "second");

    server.ssh_with(&["auth:set", &app.name, "alice"], b"short\n").one_line().says(&["8 to 200"]);
    let refused = server.ssh(&["auth:set", &app.name, "alice", "open-sesame"]).one_line();
    refused.silent_about("sesame");
    server.ssh_with(&["auth:set", &app.name, "alice"], b"open sesame\n").ok().says(&["alice may use"]);
    app.ssh("auth", &[]).ok().says(&["alice"]).silent_about("sesame");
    let asked = get(&[]);
    assert_eq!(asked.status, 401);
    assert!(asked.header("www-authenticate").unwrap().starts_with("Basic realm="), "{}", asked.head);
    let wrong = ["Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWY=".to_owned()];
    assert_eq!(get(&wrong).status, 401);
    let right = ["Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU=".to_owned()];
    assert_eq!((get(&right).status, get(&right).body.trim()), (200, "second"));
    app.ssh("auth:remove", &["bob"]).one_line().says(&["no user bob"]);
    app.ssh("auth:remove", &["alice"]).ok().says(&["everybody may use it"]);
    assert_eq!(get(&[]).status, 200);

    let own = format!("{}.localhost", app.name);
    app.ssh("domains:redirect", &[&own, &own]).one_line();
    app.ssh("domains:redirect", &["www.other.example", "shop.example"]).one_line().says(&["not one of"]);
    app.ssh("domains:redirect", &[&own, "shop.example", "--code", "200"]).one_line().says(&["308"]);
    app.ssh("domains:redirect", &[&own, "shop.example", "--code", "308"]).ok().says(&["shop.example (308)"]);
    app.ssh("domains", &[]).ok().says(&["SENT ON TO", "shop.example (308)"]);
    let sent = get(&[]);
    let location = sent.header("location").unwrap();
    assert!(sent.status == 308 && location.starts_with("http://shop.example"), "{}", sent.head);
    assert!(location.ends_with("/a?b=c"), "{location}");
    app.ssh("domains:redirect", &[&own, "--off"]).ok().says(&["itself"]);
    assert_eq!(app.page(), "second");
    let api = server.app("api");
    server.ssh(&["apps:create", &api.name]).ok();
    let (name, path) = (format!("{}.example", app.name), format!("{}.example/api", app.name));
    api.ssh("domains:add", &[&path]).one_line().says(&["no app has"]);
    app.ssh("domains:add", &[&name]).ok();
    api.ssh("domains:add", &[&path, "--strip-prefix"]).ok().says(&["answers to"]);
    app.ssh("domains", &[]).ok().says(&[&path, &format!("answered by {}", api.name)]);
    api.ssh("domains", &[]).ok().says(&[&path, "that of"]);
    let status = |path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", server.http_port);
        let host = format!("Host: {name}");
        let curl = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", &host, &url];
        String::from_utf8(Command::new("curl").args(curl).output().unwrap().stdout).unwrap()
    };
    assert_eq!([status("/"), status("/api/x"), status("/apis")], ["200", "503", "200"]);
    app.ssh("domains:remove", &[&name]).one_line().says(&["another app's"]);
    api.ssh("domains:remove", &[&path]).ok().says(&["no more"]);
    assert_eq!(status("/api/x"), "200");
    app.ssh("domains:remove", &[&name]).ok();
    server.paas(&["audit", &app.name]).ok().says(&[
        "maintenance:on",
        "auth:set alice",
        "domains:redirect",
        "--code 308",
    ]);
}

#[test]
fn keys_are_added_listed_and_removed_and_only_they_may_enter() {
    let (server, _turn) = shared();
    server.make_key("stranger");
    let try_in = |key: &str| {
        Running::start(server.ssh_command(key, &[], &["apps"]), b"").finish(Duration::from_secs(20))
    };
    try_in("stranger").fails().says(&["Permission denied"]);
    let public = std::fs::read(server.home.join("stranger.pub")).unwrap();
    server.paas_with(&["keys:add", "guest@laptop"], &public).ok();
    try_in("stranger").ok();
    server.paas(&["keys"]).ok().says(&["guest@laptop", "tester", "SHA256:"]);
    server.paas_with(&["keys:add", "guest@laptop"], &public).fails();
    server.paas_with(&["keys:add", "no-key"], b"ssh-ed25519 nonsense\n").one_line();
    server.paas_with(&["keys:add", "../etc"], &public).fails();
    let app = server.app("followed");
    app.saying("followed").push(&["main"]).ok();
    let follow = server.ssh_command("stranger", &[], &["logs", &app.name, "-t"]);
    let mut follow = Running::start(follow, b"");
    follow.wait_for("Python", MINUTE);
    server.paas(&["keys:remove", "guest@laptop"]).ok();
    follow.finish(Duration::from_secs(10)).fails();
    try_in("stranger").fails().says(&["Permission denied"]);
    server.paas(&["keys:remove", "guest@laptop"]).one_line();
}

#[test]
fn help_version_and_the_nearest_command() {
    let (server, _turn) = shared();
    server.ssh(&["help"]).ok().says(&["apps:create", "config:set", "ps:scale", "logs"]);
    server.ssh(&["version"]).ok().says(&[env!("CARGO_PKG_VERSION")]);
    let misspelt = server.ssh(&["app:create", "x"]).fails();
    misspelt.says(&["app:create", "apps:create"]);
    server.ssh(&["lgos", "x"]).fails().says(&["logs"]);
    server.ssh(&["logs", "no-such-app"]).one_line().says(&["no-such-app"]);
    server.paas(&["logs", "no-such-app"]).one_line().says(&["no-such-app"]);
    server.ssh(&["status"]).ok();
}

#[test]
fn bad_input_over_ssh_gets_one_clear_line() {
    let (server, _turn) = alone();
    let before = server.paas(&["apps"]).ok().out();
    for line in [
        "git-receive-pack '../../etc'",
        "git-receive-pack '/etc/passwd'",
        "git-receive-pack 'app' ; id",
        "git-receive-pack",
        "git-receive-pack --help 'app'",
        "git-upload-pack 'no-such-app'",
        "git-upload-archive 'app'",
        "scp -t /",
        "rsync --server . /",
        "sh -c id",
        "/bin/sh",
        "apps; id",
        "$(id)",
        "apps:info 'unterminated",
        "apps:info ../etc",
        "apps:create UPPER",
        "apps:create \u{430}pp",
        "apps:create -rf",
    ] {
        let finished = server.ssh(&[line]);
        assert_ne!(finished.code, 0, "{line:?} should have failed");
        assert!(finished.code > 0 && finished.code != 255, "{line:?}: status {}", finished.code);
        let text = finished.text();
        assert!(!text.contains("uid="), "{line:?} reached a shell: {text}");
        assert_eq!(finished.out(), "", "{line:?}");
        assert!((1..=4).contains(&text.lines().count()), "{line:?} was answered by:\n{text}");
    }
    let long = "a".repeat(100_000);
    let finished = server.ssh(&[&long]);
    assert_ne!(finished.code, 0);
    assert!(finished.text().len() < 2000, "the whole line was repeated");
    assert_eq!(server.paas(&["apps"]).ok().out(), before, "something was created");
}

#[test]
fn shells_subsystems_terminals_and_forwards_are_refused_and_never_hang() {
    let (server, _turn) = shared();
    let try_ssh = |options: &[&str], args: &[&str]| {
        Running::start(server.ssh_command("id", options, args), b"").finish(Duration::from_secs(20))
    };
    try_ssh(&["-T"], &[]).fails();
    try_ssh(&["-tt"], &[]).fails();
    try_ssh(&["-s"], &["sftp"]).fails();
    try_ssh(&["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1"], &["apps"]).fails();
    try_ssh(&["-W", "127.0.0.1:1"], &[]).fails();
    // Variables that would lead git astray are not taken on.
    let mut command = server.ssh_command("id", &["-o", "SendEnv=GIT_* LD_PRELOAD"], &["version"]);
    command.env("GIT_TRACE", "/tmp/paas-git-trace").env("LD_PRELOAD_NOT", "x");
    Running::start(command, b"").finish(Duration::from_secs(20)).ok();
    assert!(!std::path::Path::new("/tmp/paas-git-trace").exists());
}

#[test]
fn unknown_hosts_get_a_plain_404_that_says_so() {
    let (server, _turn) = shared();
    let reply = server.get("no-such-app-at-all", "/");
    assert_eq!(reply.status, 404);
    assert!(reply.body.contains("no-such-app-at-all"), "{reply:?}");
}

#[test]
fn detect_prints_the_plan_and_builds_nothing() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/python-flask");
    let detect = |folder: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
        command.args(["detect", folder]);
        Running::start(command, b"").finish(MINUTE)
    };
    detect(folder).ok().says(&["Python", ".python-version", "FROM ", "gunicorn"]);
    detect(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/refused-no-language"))
        .fails()
        .says(&["requirements.txt"]);
    detect("/no/such/folder").fails().says(&["/no/such/folder"]);
}

#[test]
fn check_config_names_what_is_wrong() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let check = |text: &str| {
        std::fs::write(file.path(), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
        command.args(["serve", "--check-config", "--config"]).arg(file.path());
        Running::start(command, b"").finish(MINUTE)
    };
    check("domain = \"apps.example.com\"\n").ok();
    check("\ndomian = \"apps.example.com\"\n").fails().says(&["domian", "2"]);
    check("domain = \"not a name\"\n").fails().says(&["not a name"]);
}

#[test]
fn serve_says_in_one_line_why_it_does_not_start() {
    let (server, _turn) = shared();
    let folder = tempfile::tempdir().unwrap();
    let serve = |data: &std::path::Path, ssh_port: u16| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
        command.args(["serve", "--http-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"]);
        command.arg("--ssh-listen").arg(format!("127.0.0.1:{ssh_port}")).arg("--data-dir").arg(data);
        Running::start(command, b"").finish(Duration::from_secs(30))
    };
    let taken = serve(folder.path(), server.ssh_port);
    assert_eq!(taken.code, 1, "{}", taken.text());
    taken.says(&[&server.ssh_port.to_string()]);

    let damaged = tempfile::tempdir().unwrap();
    std::fs::write(damaged.path().join("paas.db"), "this is no database, and long enough to be looked at")
        .unwrap();
    let finished = serve(damaged.path(), 0);
    assert_eq!(finished.code, 1, "{}", finished.text());
    finished.says(&["paas.db"]);
}

/// What a release consists of is told from its own commit, wherever the branch is.
#[test]
fn a_release_has_a_bill_of_materials() {
    let (server, _turn) = shared();
    let app = server.app("bill");
    let repository = app.repository("python-plain");
    repository.write("requirements.txt", "six==1.16.0\n");
    repository.commit("Need six");
    app.ssh("apps:create", &[]).ok();
    app.ssh("sbom", &[]).one_line();
    repository.push(&["main"]).ok();
    let bill = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&app.ssh("sbom", words).ok().out()).unwrap()
    };
    let purls = |bill: &serde_json::Value| -> Vec<String> {
        let components = bill["components"].as_array().unwrap().iter();
        components.filter_map(|one| Some(one["purl"].as_str()?.to_owned())).collect()
    };
    let first = bill(&[]);
    assert_eq!((&first["bomFormat"], &first["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    assert_eq!(first["metadata"]["component"]["name"], app.name.as_str());
    assert_eq!(first["metadata"]["component"]["version"], "v1");
    assert!(first.to_string().contains(&repository.head()), "{first}");
    let types: Vec<&str> =
        first["components"].as_array().unwrap().iter().filter_map(|one| one["type"].as_str()).collect();
    assert!(types.contains(&"platform") && types.contains(&"container"), "{types:?}");
    assert_eq!(purls(&first), ["pkg:pypi/six@1.16.0"]);

    repository.write("requirements.txt", "six==1.17.0\n");
    repository.commit("Another six");
    repository.push(&["main"]).ok();
    assert_eq!(purls(&bill(&["v2"])), ["pkg:pypi/six@1.17.0"]);
    assert_eq!(purls(&bill(&["v1"])), ["pkg:pypi/six@1.16.0"]);
    app.ssh("sbom", &["--format", "table"]).ok().says(&["six", "1.17.0", "requirements.txt"]);
    app.ssh("sbom", &["v3"]).one_line().says(&["v3", "v2, v1"]);

    // A lock file that is broken and that the build does not read.
    repository.write("composer.lock", "{\n\"packages\": [}\n");
    repository.commit("Break a file");
    repository.push(&["main"]).ok();
    app.ssh("sbom", &[]).one_line().says(&["composer.lock", "Line 2"]);
}

/// What app.json wants is there from the first deploy on, and then the user's.
#[test]
fn app_json_gives_config_vars_counts_and_a_check() {
    let (server, _turn) = shared();
    let app = server.app("manifest");
    let repository = app.saying("one");
    repository.write("Procfile", "web: python main.py\nworker: sleep 1000\n");
    let json = |level: &str, workers: u8| {
        format!(
            "{{\"env\": {{\"TOKEN\": {{\"generator\": \"secret\"}}, \"LEVEL\": {{\"value\": \"{level}\"}},\n\
             \"API_KEY\": {{\"required\": true}}, \"HINT\": {{\"description\": \"ask\"}}}},\n\
             \"formation\": {{\"worker\": {{\"quantity\": {workers}, \"size\": \"big\"}}}},\n\
             \"healthchecks\": {{\"web\": [{{\"path\": \"/up\"}}]}}}}\n"
        )
    };
    repository.write("app.json", json("info", 2));
    repository.commit("Want something");
    let said = repository.push(&["main"]).fails();
    said.says(&["app.json requires API_KEY", &format!("paas config:set {} API_KEY=", app.name)]);
    // What was not deployed has left nothing.
    app.ssh("config:get", &["TOKEN"]).fails();

    app.ssh("config:set", &["API_KEY=k"]).ok();
    let said = repository.push(&["main"]).ok();
    said.says(&["web is asked as app.json says", "size of worker in app.json is passed over"])
        .says(&["app.json asks for HINT, which is not set"]);
    let token = app.ssh("config:get", &["TOKEN"]).ok().out();
    assert_eq!(token.trim().len(), 128);
    app.ssh("config:get", &["LEVEL"]).ok().says(&["info"]);
    app.ssh("checks", &[]).ok().says(&["GET /up", "healthchecks in app.json"]);
    eventually("two workers", MINUTE, || app.ssh("ps", &[]).ok().out().contains("worker.2"));

    // From now on these are the user's.
    app.ssh("ps:scale", &["worker=1"]).ok();
    app.ssh("config:unset", &["LEVEL"]).ok();
    repository.write("app.json", json("debug", 3));
    repository.say("two");
    repository.push(&["main"]).ok();
    app.ssh("config:get", &["LEVEL"]).fails();
    assert_eq!(app.ssh("config:get", &["TOKEN"]).ok().out(), token);
    eventually("one worker", MINUTE, || {
        let ps = app.ssh("ps", &[]).ok().out();
        ps.contains("worker.1") && !ps.contains("worker.2")
    });
}
