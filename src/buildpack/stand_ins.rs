//! What a repository's own Dockerfile becomes where no registry can be reached.
#![allow(clippy::unwrap_used)]

use super::sketch::planned;
use crate::model::Dockerfile;

/// The copy that is built.
fn rewritten(text: &str) -> String {
    match planned(&[("Dockerfile", text)]).map(|plan| plan.dockerfile) {
        Ok(Dockerfile::Rewritten { text, .. }) => text,
        other => format!("{other:?}"),
    }
}

/// The lines that follow a FROM.
fn stage(text: &str, from: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| !(line.starts_with("FROM ") && line.contains(from))).skip(1);
    lines.take_while(|line| !line.starts_with("FROM ")).map(str::to_owned).collect()
}

#[test]
fn stages_that_stand_on_one_that_runs_nothing_reach_the_package_index() {
    let text = rewritten(
        "FROM node:22 AS base\nWORKDIR /app\n\nFROM base AS deps\nRUN npm ci\n\nFROM base\nCMD [\"x\"]\n",
    );
    let has = |stage: &[String], part: &str| stage.iter().any(|line| line.starts_with(part));
    let base = stage(&text, "AS base");
    assert!(has(&base, "COPY --from=paas/base-certificates"), "{text}");
    let deps = stage(&text, "AS deps");
    assert!(has(&deps, "ARG npm_config_registry") && has(&deps, "ARG NODE_EXTRA_CA_CERTS="), "{text}");
    let last: Vec<&str> = text.lines().rev().take_while(|line| !line.starts_with("FROM")).collect();
    assert_eq!(last, ["CMD [\"x\"]"], "{text}");
}

#[test]
fn stages_on_nothing_are_left_alone() {
    let text = rewritten("FROM scratch AS files\nCOPY x /\nFROM files\nRUN [\"/x\"]\n");
    assert_eq!(text, "FROM scratch AS files\nCOPY x /\nFROM files\nRUN [\"/x\"]\n");
}

#[test]
fn stand_ins_have_the_users_of_official_images_and_not_ours() {
    let text = rewritten("FROM node:22\nUSER node\n");
    assert!(
        text.contains("\nRUN userdel --remove app 2>/dev/null || true\nRUN groupadd --gid 1000 node"),
        "{text}"
    );
    let text = rewritten("FROM python:3.11\nRUN useradd --uid 1000 app\n");
    assert!(text.contains("\nRUN userdel --remove app 2>/dev/null || true\n"), "{text}");
    assert!(rewritten("FROM golang:1.26\n").contains("\nENV GOPATH=/go PATH=/go/bin:"));
}

#[test]
fn arguments_and_continued_lines_name_bases_too() {
    let text = rewritten(
        "ARG A=x V=3.11\nARG IMAGE=python:${V}-slim\nFROM \\\n  ${IMAGE} \\\n  AS build\n\
         FROM debian\nCOPY --chown=1:1 \\\n  --from=golang:1.26 /a \\\n  /b\nCOPY \\\n --from=build /c /d\n",
    );
    assert!(text.contains("\nFROM paas/base-python-build:3.11-"), "{text}");
    assert!(text.contains(" AS build\n"), "{text}");
    assert!(text.contains("COPY --chown=1:1 \\\n  --from=paas/base-go-build:1.26-"), "{text}");
    assert!(text.contains("COPY \\\n --from=build /c /d\n"), "{text}");
    let settings = ("paas.toml", "[build.args]\nV = \"22\"\n");
    let plan = planned(&[("Dockerfile", "ARG V\nFROM node:${V}\n"), settings]);
    assert!(plan.is_ok_and(|plan| plan.notices.iter().any(|notice| notice.starts_with("node:22: Node 22"))));
}

#[test]
fn official_images_have_several_addresses() {
    for (image, base) in [
        ("registry.docker.com/library/ruby:3.1-slim", "paas/base-ruby:3.1-"),
        ("public.ecr.aws/docker/library/python:3.11", "paas/base-python-build:3.11-"),
        ("index.docker.io/library/node:22", "paas/base-node-build:22-"),
        ("docker.io/library/golang:1.26", "paas/base-go-build:1.26-"),
        ("busybox:1.36", "paas/base-debian:12-"),
        ("gcr.io/distroless/static-debian12", "paas/base-debian:12-"),
        ("gcr.io/distroless/cc-debian13:nonroot", "paas/base-debian:13-"),
        ("gcr.io/distroless/base", "paas/base-debian:12-"),
    ] {
        let text = rewritten(&format!("FROM {image}\nCMD [\"/x\"]\n"));
        assert!(text.starts_with(&format!("FROM {base}")), "{image}: {text}");
    }
    let refused = rewritten("FROM gcr.io/distroless/java21-debian12\n");
    assert!(refused.contains("NoSuchImage"), "{refused}");
    let text = rewritten("FROM gcr.io/distroless/static-debian12:nonroot\nCOPY x /\n");
    assert!(text.contains("useradd --uid 65532") && text.contains("\nUSER 65532\n"), "{text}");
}

#[test]
fn uv_is_copied_from_our_python() {
    let text = rewritten(
        "FROM python:3.11-slim\nCOPY --from=ghcr.io/astral-sh/uv:0.5.11 /uv /uvx /bin/\nCOPY --from=ghcr.io/astral-sh/uv /uv /uv\n\
         FROM ghcr.io/astral-sh/uv:python3.11-bookworm-slim\n",
    );
    assert!(text.contains(" /opt/uv/bin/uv /opt/uv/bin/uvx /bin/\n"), "{text}");
    assert!(text.contains(" /opt/uv/bin/uv /uv\n"), "{text}");
    let named = rewritten(
        "FROM ghcr.io/astral-sh/uv:0.11 AS uv\nFROM python:3.11-slim\nCOPY --from=uv /uv /uvx /bin/\n",
    );
    assert!(named.contains("COPY --from=uv /opt/uv/bin/uv /opt/uv/bin/uvx /bin/\n"), "{named}");
    assert!(text.contains("\nFROM paas/base-python-build:3.11-"), "{text}");
    assert!(text.contains("\nRUN ln -s /opt/uv/bin/uv /opt/uv/bin/uvx /usr/local/bin/"), "{text}");
}

#[test]
fn what_is_written_for_alpine_meets_its_commands() {
    let plan = planned(&[(
        "Dockerfile",
        "FROM node:20-alpine AS base\nFROM base AS deps\nRUN apk add --no-cache libc6-compat\nFROM debian\nRUN apk add x\n",
    )])
    .unwrap();
    assert!(plan.bases.iter().any(|base| base.name.starts_with("paas/base-alpine:")), "{:?}", plan.bases);
    let told = plan.notices.iter().filter(|notice| notice.contains("apk")).cloned().collect::<Vec<_>>();
    assert_eq!(told, ["Dockerfile line 3: apk installs Debian's packages"]);
    let Dockerfile::Rewritten { text, .. } = plan.dockerfile else { panic!("not rewritten") };
    let first = stage(&text, "AS base");
    let commands = first.iter().position(|line| line.starts_with("COPY --from=paas/base-alpine:"));
    let programs = first.iter().position(|line| line.contains("for program in busybox wget;"));
    assert!(programs.is_some() && programs < commands, "{text}");
    assert!(!stage(&text, "paas/base-debian").iter().any(|line| line.contains("paas/base-alpine")), "{text}");
}

#[test]
fn programs_that_health_checks_call_are_where_they_usually_are() {
    for (image, programs) in [
        ("python:3.11", Some("adduser curl wget")),
        ("python:3.11-slim", Some("adduser")),
        ("nginx", Some("adduser curl wget")),
        ("nginx:alpine", Some("busybox wget")),
        ("busybox", Some("busybox wget")),
        ("ubuntu", Some("adduser")),
        ("gcr.io/distroless/static", None),
    ] {
        let text = rewritten(&format!("FROM {image}\nCMD [\"/x\"]\n"));
        let found = text.split_once("for program in ").and_then(|(_, rest)| rest.split(';').next());
        assert_eq!(found, programs, "{image}: {text}");
    }
}

#[test]
fn nothing_older_stands_in_for_a_language() {
    for (image, version) in [
        ("ruby:3.3.5-slim", "paas/base-ruby:3.3-"),
        ("ruby:3.2", "paas/base-ruby-build:3.3-"),
        ("python:3.12-slim", "paas/base-python-build:3.13-"),
        ("golang:1.22-alpine", "paas/base-go-build:1.26-"),
        ("node:22.99.0", "paas/base-node-build:22-"),
        ("nginx:1.29-alpine", "paas/base-nginx:1.22-"),
        ("alpine:3.20", "paas/base-debian:12-"),
        ("debian:14", "paas/base-debian:13-"),
    ] {
        let text = rewritten(&format!("FROM {image}\n"));
        assert!(text.starts_with(&format!("FROM {version}")), "{image}: {text}");
    }
    for image in ["ruby:3.4-slim", "ruby:2.7", "python:2.7", "python:3.99", "golang:1.99", "node:99"] {
        let text = rewritten(&format!("FROM {image}\n"));
        assert!(text.contains("NoSuchImage"), "{image}: {text}");
        let language = image.split(':').next().unwrap();
        assert!(text.matches(&format!("\"{language}:")).count() > 1 && !text.contains("\"debian:"), "{text}");
    }
}

#[test]
fn images_of_others_have_stand_ins_too() {
    let text = rewritten("FROM oven/bun:1-alpine AS base\nRUN bun install\n");
    assert!(
        text.starts_with("FROM paas/base-bun:1.4-") && text.contains("useradd --uid 1000 --gid bun"),
        "{text}"
    );
    let text = rewritten("FROM nginxinc/nginx-unprivileged:1.27-alpine\nCOPY dist /usr/share/nginx/html\n");
    assert!(text.starts_with("FROM paas/base-nginx-rootless:1.22-"), "{text}");
    assert!(text.contains("\nUSER 101\nCOPY dist"), "{text}");
    for image in ["php:8.3-apache", "httpd:2.4", "caddy:2"] {
        let refused = rewritten(&format!("FROM {image}\n"));
        assert!(refused.contains("NoSuchImage") && refused.contains("\"oven/bun:1.4\""), "{refused}");
    }
}
