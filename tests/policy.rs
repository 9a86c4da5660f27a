//! What server.toml forbids, met by a push.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use support::alone;

const OWN: &str = "FROM python:3.11-slim\nCOPY main.py /\nCMD [\"python3\", \"/main.py\"]\n";

#[test]
fn without_leave_a_dockerfile_is_passed_over_or_refused() {
    let (server, _turn) = alone();
    server.configure("[builds]\nallow = [\"python\"]\n");
    let app = server.app("allow-python");
    let repository = app.saying("by the language");
    repository.write("Dockerfile", OWN);
    repository.commit("Both");
    let passed_over = "Dockerfile is passed over: not allowed on this server";
    repository.push(&["main"]).ok().says(&[passed_over, "Python app detected"]);
    assert_eq!(app.page(), "by the language");
    let before = repository.on_server("refs/heads/main");

    repository.git(&["rm", "-q", "--cached", "main.py"]).ok();
    repository.git(&["commit", "-q", "-m", "No language left"]).ok();
    repository.push(&["main"]).fails().says(&[
        "dockerfile is not allowed on this server",
        "python",
        "[remote rejected]",
    ]);
    assert_eq!(repository.on_server("refs/heads/main"), before);
    assert_eq!(app.page(), "by the language");
    server.configure("");
}

#[test]
fn where_only_dockerfiles_are_allowed_one_is_required() {
    let (server, _turn) = alone();
    server.configure("[builds]\nallow = [\"dockerfile\"]\n");
    let app = server.app("allow-dockerfile");
    let repository = app.saying("by the Dockerfile");
    repository.push(&["main"]).fails().says(&[
        "python is not allowed on this server",
        "dockerfile",
        "[remote rejected]",
    ]);
    assert_eq!(repository.on_server("refs/heads/main"), "");

    repository.write("Dockerfile", OWN);
    repository.commit("As the administrator wants it");
    repository.push(&["main"]).ok().says(&["Dockerfile app detected"]);
    assert_eq!(app.page(), "by the Dockerfile");
    server.configure("");
}

#[test]
fn on_a_full_disk_no_build_is_begun() {
    let (server, _turn) = alone();
    server.configure("[build]\nfree_mib = 1000000000\n");
    let app = server.app("full");
    let repository = app.saying("never seen");
    let refusal = ["the server's disk is nearly full", "1000000000", "paas releases:prune"];
    repository.push(&["main"]).fails().says(&refusal).silent_about("Building");
    app.ssh("releases", &[]).silent_about("v1");

    server.configure("");
    repository.push(&["main"]).ok();
    assert_eq!(app.page(), "never seen");
}
