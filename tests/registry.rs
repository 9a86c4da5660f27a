//! Base images from a registry, where there is one.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::time::Duration;
use support::{OwnEngine, Repository, eventually, on_engine};

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
    let engine = OwnEngine::with(|| vec![format!("--registry-mirror={}", support::serve_images())]);
    let server = on_engine(&engine.url());
    assert!(server.log().contains("source=\"registry\""), "{}", server.log());
    server.paas(&["images"]).ok().says(&["golang:1.27-bookworm", "on demand"]);

    let repository = Repository::empty(server, "pulled");
    repository.write("Dockerfile", DOCKERFILE);
    repository.write("index.html", "from a registry");
    repository.commit("First version");
    repository.push(&["main"]).ok().says(&["Application deployed"]).silent_about("stands in");
    assert_eq!(server.get("pulled", "/").body, "from a registry");

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
}
