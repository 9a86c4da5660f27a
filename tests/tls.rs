//! Names, certificates and HTTPS from outside: curl checks what is shown, and a real
//! authority issues it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{Authority, Server, TestApp, alone, eventually, free_port};

const SOON: Duration = Duration::from_secs(30);

/// What curl says of `https://NAME/`: the status, or why there is none.
fn curl(server: &Server, https: u16, root: Option<&Path>, name: &str) -> Result<String, String> {
    let mut command = Command::new("curl");
    command.args(["-sS", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "--max-time", "10"]);
    let url = match root {
        Some(root) => {
            command.arg("--cacert").arg(root);
            format!("https://{name}:{https}/")
        }
        None => format!("http://{name}:{}/", server.http_port),
    };
    command.args(["--connect-to", &format!("{name}::127.0.0.1:"), &url]);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The serial number of what is shown for a name.
fn serial(https: u16, name: &str) -> String {
    let script = format!(
        "openssl s_client -connect 127.0.0.1:{https} -servername {name} </dev/null 2>/dev/null | openssl x509 -noout -serial"
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[track_caller]
fn answers(server: &Server, authority: &Authority, https: u16, app: &TestApp, name: &str) {
    let root = authority.root();
    let end = std::time::Instant::now() + SOON;
    loop {
        // Nothing is deployed: the answer is our own page.
        let said = curl(server, https, Some(&root), name);
        if said == Ok("503".to_owned()) {
            return;
        }
        let late = std::time::Instant::now() > end;
        assert!(
            !late,
            "{name}: {said:?}\n{}\n{}\n{}",
            app.ssh("domains", &[]).text(),
            server.log(),
            authority.log()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn settings(authority: &Authority, https: u16, more: &str) -> String {
    format!(
        "https_listen = \"127.0.0.1:{https}\"\n[acme]\nemail = \"ops@example.com\"\ndirectory = \"{}\"\nca_file = \"{}\"\n{more}\n",
        authority.directory,
        authority.ca_file.display()
    )
}

#[test]
fn certificates_are_ordered_shown_renewed_and_outlive_both_processes() {
    let (server, _turn) = alone();
    let https = free_port();
    let authority = Authority::start(server.http_port, https, 45);
    server.configure(&settings(&authority, https, "challenges = [\"http-01\"]"));
    let app = server.app("names");
    server.paas(&["apps:create", &app.name]).ok();
    app.ssh("domains:add", &["WWW.shop.example."]).ok().says(&["answers to www.shop.example"]);
    answers(server, &authority, https, &app, "www.shop.example");
    app.ssh("domains", &[]).ok().says(&["www.shop.example", "acme, until"]);
    app.ssh("certs", &[]).ok().says(&["www.shop.example", "Pebble"]);
    let sent_on = curl(server, https, None, "www.shop.example").unwrap();
    assert_eq!(sent_on, format!("301 https://www.shop.example:{https}/"));
    // No certificate, no redirect; and none is ordered for a stranger's name.
    assert_eq!(curl(server, https, None, &format!("{}.localhost", app.name)).unwrap(), "503");
    assert!(curl(server, https, Some(&authority.root()), "stranger.example").is_err());
    app.ssh("https:set", &["redirect=off"]).ok();
    assert_eq!(curl(server, https, None, "www.shop.example").unwrap(), "503");

    // SIGKILL to both: the next ones show the same.
    let before = serial(https, "www.shop.example");
    server.kill9();
    assert_eq!(serial(https, "www.shop.example"), before);
    kill_proxy(server);
    server.restart();
    answers(server, &authority, https, &app, "www.shop.example");

    // Two thirds of 45 s are over some time.
    eventually("the certificate is renewed", Duration::from_secs(60), || {
        let now = serial(https, "www.shop.example");
        !now.is_empty() && now != before
    });
    answers(server, &authority, https, &app, "www.shop.example");
    app.ssh("domains:remove", &["www.shop.example"]).ok();
    assert!(curl(server, https, Some(&authority.root()), "www.shop.example").is_err());
    server.configure("");
}

fn kill_proxy(server: &Server) {
    let pid = std::fs::read_to_string(server.home.join("data/proxy.lock")).unwrap();
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn names_are_proven_by_tls_and_by_dns_and_what_fails_is_told() {
    let (server, _turn) = alone();
    let https = free_port();
    let authority = Authority::start(server.http_port, https, 3600);
    let hook = server.home.join("dns-hook");
    let script = format!(
        "#!/bin/sh\ncase $1 in present) what=set-txt ;; *) what=clear-txt ;; esac\n\
         curl -sSf -d '{{\"host\": \"'\"$2\"'.\", \"value\": \"'\"$3\"'\"}}' http://127.0.0.1:{}/$what\n",
        authority.dns_management
    );
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let more = format!("challenges = [\"tls-alpn-01\"]\ndns_hook = \"{}\"", hook.display());
    server.configure(&settings(&authority, https, &more));
    let app = server.app("ways");
    server.paas(&["apps:create", &app.name]).ok();
    app.ssh("domains:add", &["tls.ways.example", "*.wide.example"]).ok();
    for name in ["tls.ways.example", "any.wide.example"] {
        answers(server, &authority, https, &app, name);
    }
    // What cannot be proven is said, in the authority's words, and nothing else suffers.
    set_address(&authority, "lost.ways.example", "127.0.0.9");
    app.ssh("domains:add", &["lost.ways.example"]).ok();
    eventually("it is told why there is none", SOON, || {
        app.ssh("domains", &[]).text().contains("the certificate authority says: ")
    });
    app.ssh("domains", &["--json"]).ok().says(&["failed", "127.0.0.9"]);
    answers(server, &authority, https, &app, "tls.ways.example");
    server.configure("");
}

fn set_address(authority: &Authority, name: &str, address: &str) {
    let body = format!("{{\"host\": \"{name}.\", \"addresses\": [\"{address}\"]}}");
    let url = format!("http://127.0.0.1:{}/add-a", authority.dns_management);
    assert!(Command::new("curl").args(["-sSf", "-d", &body, &url]).status().unwrap().success());
}

/// A certificate for these names with its key, which vouches for itself.
fn own(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn an_own_certificate_is_checked_shown_at_once_and_removed() {
    let (server, _turn) = alone();
    let https = free_port();
    server.configure(&format!("https_listen = \"127.0.0.1:{https}\"\n"));
    let (app, other) = (server.app("own"), server.app("other"));
    for app in [&app, &other] {
        server.paas(&["apps:create", &app.name]).ok();
    }
    app.ssh("domains:add", &["www.own.example"]).ok();
    other.ssh("domains:add", &["www.own.example"]).fails().says(&["another app's"]);
    other.ssh("domains:add", &["x.example", "10.0.0.1"]).fails().says(&["is an address"]);
    other.ssh("domains", &[]).ok().silent_about("x.example");
    other.ssh("domains:remove", &["www.own.example"]).fails().says(&["not one of its names"]);
    app.ssh("domains:add", &[&format!("{}.localhost", other.name)]).fails();

    let (certificate, key) = own(&["www.own.example", "www.other.example"]);
    let (_, foreign) = own(&["www.own.example"]);
    let add = |text: String| server.ssh_with(&["certs:add", &app.name], text.as_bytes());
    add(String::new()).fails().says(&["no certificate in it"]);
    add(certificate.clone()).fails().says(&["no private key"]);
    add(format!("{certificate}{foreign}")).fails().says(&["another certificate's"]);
    add("A".repeat(400_000)).fails().says(&["longer than"]);
    let (stranger, its) = own(&["stranger.example"]);
    add(format!("{stranger}{its}")).fails().says(&["stranger.example", "domains:add"]);
    add(format!("{certificate}{key}")).ok().says(&["Added", "www.own.example", "No authority"]);

    let root = server.home.join("own.pem");
    std::fs::write(&root, &certificate).unwrap();
    assert_eq!(curl(server, https, Some(&root), "www.own.example").unwrap(), "503");
    // It has another's name in it, too: it is not shown for that.
    other.ssh("domains:add", &["www.other.example"]).ok();
    assert!(curl(server, https, Some(&root), "www.other.example").is_err());
    let listed = app.ssh("certs", &[]).ok().out();
    let id = listed.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    other.ssh("certs:remove", &[&id]).fails().says(&["no certificate"]);
    let database = std::fs::read(server.home.join("data/paas.db")).unwrap();
    let line = key.lines().nth(1).unwrap().as_bytes();
    assert!(!database.windows(line.len()).any(|window| window == line), "the key is not encrypted");
    server.paas(&["secrets:rotate"]).ok();
    server.kill9();
    server.restart();
    assert_eq!(curl(server, https, Some(&root), "www.own.example").unwrap(), "503");
    app.ssh("certs:remove", &[&id]).ok();
    assert!(curl(server, https, Some(&root), "www.own.example").is_err());
    server.paas(&["audit", &app.name]).ok().says(&["certs:add", "domains:add"]).silent_about("PRIVATE");
    server.configure("");
}
