//! Base images that are made here: pinned by releases, and updated on purpose.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use support::{Repository, TestApp, alone, docker};

/// Image and id of the base of an app's newest release.
fn base_of(app: &TestApp) -> [String; 2] {
    let releases = app.ssh("releases", &["--json"]).ok().out();
    let releases: serde_json::Value = serde_json::from_str(&releases).unwrap();
    let base = &releases[0]["bases"][0];
    ["image", "id"].map(|key| base[key].as_str().unwrap().to_owned())
}

fn layers(image: &str) -> Vec<String> {
    let text = docker(&["image", "inspect", "--format", "{{json .RootFS.Layers}}", image]).ok().out();
    serde_json::from_str(&text).unwrap()
}

/// Whether the image of what runs begins with a base's layers.
fn stands_on(app: &TestApp, release: &str, base: &str) -> bool {
    layers(&app.image(release)).starts_with(&layers(base))
}

fn push(repository: &Repository, text: &str) -> support::Finished {
    repository.write("index.html", text);
    repository.commit(text);
    repository.push(&["main"]).ok()
}

/// Removes the bases of an update; the others are everybody's.
struct OfUpdate(String);

impl Drop for OfUpdate {
    fn drop(&mut self) {
        let list =
            docker(&["images", "--filter", "reference=paas/base-*", "--format", "{{.Repository}}:{{.Tag}}"]);
        for image in list.out().lines().filter(|image| image.ends_with(&self.0)) {
            docker(&["image", "rm", image]);
        }
    }
}

#[test]
fn a_base_stays_until_it_is_updated_and_old_releases_keep_theirs() {
    let (server, _turn) = alone();
    let app = server.app("pinned");
    let repository = Repository::empty(server, &app.name);
    push(&repository, "one");
    let [first, id] = base_of(&app);
    assert!(first.starts_with("paas/base-static:1.22-") && id.starts_with("sha256:"), "{first} {id}");
    assert!(stands_on(&app, "v1", &first));
    server.ssh(&["builds", "--stale"]).ok().says(&["Every app runs on the newest"]);

    app.ssh("images:update", &[]).ok().says(&["The next push of", "static 1.22: of", "before that of"]);
    assert_eq!((app.page(), base_of(&app)), ("one".to_owned(), [first.clone(), id.clone()]));
    app.ssh("builds", &["--stale"]).ok().says(&[&app.name, "v1", "static 1.22 of", "there is one of"]);

    push(&repository, "two").says(&["Other base images than before", "static 1.22: of"]);
    let [second, _] = base_of(&app);
    let mark = second.strip_prefix(&first).unwrap().to_owned();
    let _of_update = OfUpdate(mark);
    assert!(stands_on(&app, "v2", &second) && !stands_on(&app, "v2", &first));
    assert_eq!(app.page(), "two");
    push(&repository, "three").silent_about("Other base images");
    assert_eq!(base_of(&app)[0], second);
    server.ssh(&["builds", "--stale"]).ok().silent_about(&app.name);

    // What runs decides: after a rollback, its base.
    app.ssh("rollback", &["v1"]).ok();
    assert_eq!((app.page(), base_of(&app)), ("one".to_owned(), [first.clone(), id]));
    push(&repository, "four").silent_about("Other base images");
    assert_eq!(base_of(&app)[0], first);

    app.ssh("rollback", &["v3"]).ok();
    docker(&["image", "rm", &second]).ok();
    app.ssh("ps:restart", &[]).ok();
    assert_eq!(app.page(), "three", "what runs needs no base");
    push(&repository, "five").says(&["The base image static 1.22 of", "is gone; another"]);
    assert_eq!((app.page(), base_of(&app)[0].clone()), ("five".to_owned(), first));
}
