//! Base images from a registry, where there is one.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::time::Duration;
use support::{ImageServer, OwnEngine, Repository, Server, eventually, on_engine};

const DOCKERFILE: &str = "\
FROM busybox:1
COPY index.html /www/index.html
EXPOSE 8000
CMD [\"busybox\", \"httpd\", \"-f\", \"-p\", \"8000\", \"-h\", \"/www\"]
";

/// Leaves what it copies in the build cache, and little in the image.
const WASTEFUL: &str = "\
FROM busybox:1 AS work
COPY . /all
FROM busybox:1
COPY --from=work /all/index.html /www/index.html
EXPOSE 8000
CMD [\"busybox\", \"httpd\", \"-f\", \"-p\", \"8000\", \"-h\", \"/www\"]
";

#[test]
fn a_registry_that_answers_is_found_and_its_images_are_used() {
    let mut images = None;
    let engine = OwnEngine::with(|| {
        let images = images.insert(ImageServer::start());
        vec![format!("--registry-mirror={}", images.url)]
    });
    let images = images.unwrap();
    let server = on_engine(&engine.url());
    assert!(server.log().contains("source=\"registry\""), "{}", server.log());
    server.paas(&["images"]).ok().says(&["golang:1.27-bookworm", "on demand"]);

    let repository = Repository::empty(server, "pulled");
    repository.write("Dockerfile", DOCKERFILE);
    repository.write("index.html", "from a registry");
    repository.commit("First version");
    repository.push(&["main"]).ok().says(&["Application deployed"]).silent_about("stands in");
    assert_eq!(server.get("pulled", "/").body, "from a registry");
    let base = base_of(server, "pulled");
    assert!(base[0].ends_with("library/busybox:1") && base[1].starts_with("sha256:"), "{base:?}");

    repository.write("Dockerfile", DOCKERFILE.replace("busybox:1", "busybox:2"));
    repository.commit("An image that is not there");
    repository.push(&["main"]).fails().says(&["Push rejected: the build failed.", "busybox:2"]);

    server.configure("[build]\ncache_mib = 1\n");
    repository.write("Dockerfile", WASTEFUL);
    repository.write("large", vec![b'x'; 8 << 20]);
    repository.commit("A large cache");
    repository.push(&["main"]).ok();
    assert_eq!(server.get("pulled", "/").body, "from a registry");
    let limit = Duration::from_secs(30);
    eventually("the cache is pruned", limit, || server.log().contains("the build cache was pruned"));

    let repository = Repository::empty(server, "languages");
    repository.write("main.go", "package main\nfunc main() {}\n");
    repository.commit("First version");
    repository.push(&["main"]).fails().says(&["debian:bookworm-slim", "image_source"]);

    bases_stay_until_they_are_updated(server, &engine, &images);
}

/// A language of the administrator's whose base is an official image as it is.
const TINY: &str = r#"
key = "tiny"
name = "Tiny"
images = []
detect = ["tiny.txt"]
port = 5000
start = [{ run = ["busybox", "httpd", "-f", "-p", "5000", "-h", "/"] }]

[[offers.registry]]
version = "1"
release = "1.0.0"
[[offers.debian]]
version = "1"
release = "1.0.0"

[bases.registry]
run = { parent = "busybox:{version}" }
build = { parent = "busybox:{version}" }
[bases.debian]
run = { parent = "busybox:{version}" }
build = { parent = "busybox:{version}" }
"#;

fn bases_stay_until_they_are_updated(server: &'static Server, engine: &OwnEngine, images: &ImageServer) {
    let packs = server.home.join("buildpacks");
    std::fs::create_dir_all(packs.join("tiny")).unwrap();
    std::fs::write(packs.join("tiny/buildpack.toml"), TINY).unwrap();
    let dockerfile = "FROM {{ run_base }}\nCOPY app/ /app/\nUSER 1000:1000\n{{ cmd }}\n";
    std::fs::write(packs.join("tiny/Dockerfile.j2"), dockerfile).unwrap();
    let packs = packs.display();
    server.configure(&format!(
        "buildpacks = \"{packs}\"\n[releases]\nkeep = 0\nkeep_time = \"0\"\n[deploy]\nwatch = \"1s\"\n"
    ));

    let repository = Repository::empty(server, "tiny");
    let push = |text: &str| {
        repository.write("tiny.txt", text);
        repository.commit(text);
        repository.push(&["main"]).ok()
    };
    let mark = || server.get("tiny", "/mark").body;
    push("one");
    assert_eq!(mark(), "first");
    let [first, digest] = base_of(server, "tiny");
    assert!(first.starts_with("paas/base-busybox:1-") && digest.starts_with("sha256:"), "{first} {digest}");

    let second = images.offer("busybox", "1", "second");
    engine.docker(&["pull", "-q", "busybox:1"]).ok();
    push("two").silent_about("Other base images");
    assert_eq!(mark(), "first", "a push changes no base");
    server.paas(&["builds", "--stale"]).ok().silent_about("tiny");

    server.ssh(&["images:update", "tiny"]).ok().says(&["The next push of tiny", "busybox 1: of"]);
    assert_eq!(mark(), "first", "an update is no deploy");
    server.ssh(&["builds", "--stale"]).ok().says(&["tiny", "v2", "busybox 1 of", "images:update APP"]);
    push("three").says(&["Other base images than before", "busybox 1: of"]);
    assert_eq!(mark(), "second");
    assert_eq!(base_of(server, "tiny")[1], second);
    server.paas(&["builds", "--stale"]).ok().silent_about("tiny");
    server.paas(&["builds", "tiny"]).ok().says(&["v1", "v2", "v3", "busybox 1 of"]);

    // Nothing can go back to v2, so nothing needs its base.
    let tags = || engine.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().out();
    eventually("the first base goes", Duration::from_secs(30), || !tags().contains(&first));

    // One that somebody removed is had again by its digest, though the tag moved on.
    let [local, _] = base_of(server, "tiny");
    images.offer("busybox", "1", "third");
    engine.docker(&["image", "rm", "busybox:1", &local]).ok();
    push("four").silent_about("is gone");
    assert_eq!((mark(), base_of(server, "tiny")), ("second".to_owned(), [local, second]));
}

/// Image and digest of the first base of an app's newest release.
fn base_of(server: &Server, app: &str) -> [String; 2] {
    let releases = server.paas(&["releases", app, "--json"]).ok().out();
    let releases: serde_json::Value = serde_json::from_str(&releases).unwrap();
    let base = &releases[0]["bases"][0];
    ["image", "digest"].map(|key| base[key].as_str().unwrap_or_default().to_owned())
}
