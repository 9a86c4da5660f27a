//! What ends in images, and what a build takes from the one before.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use support::{Finished, TestApp, docker, shared};

/// One app of each language; the file that is its code and a line to add to it,
/// and a word of the step that installs what it depends on.
const LANGUAGES: [(&str, &str, &str, &str); 6] = [
    ("python-flask", "app.py", "# more\n", "uv venv"),
    ("node-express-lock", "index.js", "// more\n", "npm ci"),
    ("node-build-script", "MORE.md", "more\n", "npm install"),
    ("go-dependency", "main.go", "// more\n", ""),
    ("ruby-vendored-gem", "config.ru", "# more\n", "bundle install"),
    ("static-plain", "index.html", "<!-- more -->\n", ""),
];

/// What no image may have: programs that make programs, and what they leave.
const FORBIDDEN: &str = r#"
for program in gcc cc g++ make ld go uv pip pip3 git curl; do command -v $program; done
for folder in /root/.cache /root/.npm /root/.local /root/go /opt/uv /var/lib/apt/lists /var/cache/apt \
    /app/.git /app/.paas /etc/paas /tmp; do
    find $folder -mindepth 1 ! -type d -size +0 2>/dev/null | head -n 3
done
find / -xdev \( -name '*.deb' -o -name '*.whl' -o -name '*.gem' -path '/opt/*' -o -name '.npmrc' \) 2>/dev/null
find /usr/share/man /usr/share/locale -type f ! -name locale.alias 2>/dev/null | head -n 3
[ "$(id -u)" = 1000 ] || echo "it runs as $(id -u)"
"#;

/// The container of the newest release.
fn web_of(app: &TestApp) -> String {
    let label = format!("label=paas.name={}", app.name);
    let listed = docker(&["ps", "--filter", &label, "--format", "{{.Names}}"]).ok().out();
    listed.lines().find(|name| name.contains("-web-")).unwrap().to_owned()
}

fn image_of(app: &TestApp) -> String {
    docker(&["inspect", "--format", "{{.Image}}", &web_of(app)]).ok().out().trim().to_owned()
}

/// The exit code of web when it is asked to end; 137 if it had to be killed.
fn end_of(app: &TestApp) -> String {
    let web = web_of(app);
    let mut waiting = std::process::Command::new("docker");
    let waiting = waiting.args(["wait", &web]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    docker(&["stop", "--time", "5", &web]).ok();
    String::from_utf8(waiting.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

fn layers_of(image: &str) -> Vec<String> {
    let format = "{{range .RootFS.Layers}}{{println .}}{{end}}";
    let listed = docker(&["image", "inspect", "--format", format, image]).ok().out();
    listed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Whether the step whose line has `word` came from the cache.
fn cached(push: &Finished, word: &str) -> bool {
    let text = push.text();
    let line = text.lines().find(|line| line.contains("RUN") && line.contains(word));
    line.unwrap_or_else(|| panic!("no step says {word:?}:\n{text}")).contains("(cached)")
}

#[test]
fn an_image_holds_what_runs_and_only_what_changed_is_made_again() {
    let (server, _turn) = shared();
    for (case, code, line, install) in LANGUAGES {
        let app = server.app("layers");
        let repository = app.repository(case);
        repository.push(&["main"]).ok();
        let first = image_of(&app);
        let found = docker(&["run", "--rm", "--entrypoint", "/bin/sh", &first, "-c", FORBIDDEN]);
        assert_eq!(found.ok().out(), "", "{case}: tools or caches of the build");

        repository.git(&["commit", "-q", "--allow-empty", "-m", "Nothing"]).ok();
        repository.push(&["main"]).ok();
        assert_eq!(image_of(&app), first, "{case}: another commit of the same files");

        let path = repository.path().join(code);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        repository.write(code, format!("{before}{line}"));
        repository.commit("More");
        let push = repository.push(&["main"]).ok();
        let second = image_of(&app);
        assert_ne!(second, first, "{case}");
        if !install.is_empty() {
            assert!(cached(&push, install), "{case}: {}", push.text());
        }
        let (old, new) = (layers_of(&first), layers_of(&second));
        assert_eq!(old.len(), new.len(), "{case}");
        let changed = old.iter().zip(&new).filter(|(old, new)| old != new).count();
        assert_eq!(changed, 1, "{case}: one layer is new: {old:?} {new:?}");

        repository.git(&["revert", "--no-edit", "HEAD"]).ok();
        repository.push(&["main"]).ok();
        assert_eq!(image_of(&app), first, "{case}: back to the first files");
        let code = end_of(&app);
        assert!(["0", "143"].contains(&code.as_str()), "{case}: ended with {code} when asked to");
        app.destroy();
    }
}

#[test]
fn a_changed_manifest_installs_again_from_the_apps_own_cache() {
    let (server, _turn) = shared();
    let app = server.app("manifest");
    let repository = app.repository("python-flask");
    repository.push(&["main"]).ok();
    let manifest = std::fs::read_to_string(repository.path().join("requirements.txt")).unwrap();
    repository.write("requirements.txt", format!("{manifest}# once more\n"));
    repository.commit("Touch the manifest");
    let push = repository.push(&["main"]).ok();
    assert!(!cached(&push, "uv venv"), "{}", push.text());
    // uv says that it downloads or prepares what its cache lacks.
    push.silent_about("Prepared");
    app.destroy();
}
