//! Whole plans of small apps, as `paas detect` prints them.
#![allow(clippy::unwrap_used)]

use super::sketch::{Sketch, catalog, detected, planned, said, web};
use super::{Catalog, DetectError, plan};
use crate::model::{Dockerfile, EntryKind, ImageSource, ProcessType, RunCommand, SourceEntry};
use proptest::prelude::*;

const FLASK: &str = "from flask import Flask\napp = Flask(__name__)\n";

#[test]
fn flask_from_requirements() {
    insta::assert_snapshot!(detected(&[
        ("requirements.txt", "flask\n"),
        (".python-version", "3.11.4\n"),
        ("app.py", FLASK)
    ]));
}

#[test]
fn django_with_static_files() {
    let settings = "WSGI_APPLICATION = 'shop.wsgi.application'\nSTATIC_ROOT = 'static'\nDATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql'}}\n";
    insta::assert_snapshot!(detected(&[
        ("requirements.txt", "Django\ngunicorn\n"),
        ("manage.py", "os.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"shop.settings\")\n"),
        ("shop/settings.py", settings),
        ("shop/wsgi.py", "application = get_wsgi_application()\n"),
    ]));
}

#[test]
fn node_with_a_build_script() {
    let manifest =
        r#"{"engines": {"node": "22.x"}, "scripts": {"build": "tsc", "start": "node dist/index.js"}}"#;
    insta::assert_snapshot!(detected(&[
        ("package.json", manifest),
        ("package-lock.json", "{}"),
        ("src/index.ts", "")
    ]));
}

#[test]
fn node_without_one_copies_the_source_last() {
    let manifest = r#"{"scripts": {"start": "nodemon -x"}, "dependencies": {"express": "4"}}"#;
    insta::assert_snapshot!(detected(&[("package.json", manifest), ("package-lock.json", "{}")]));
}

#[test]
fn go_module() {
    insta::assert_snapshot!(detected(&[
        ("go.mod", "module example.com/hello\n\ngo 1.21\n"),
        ("cmd/web/main.go", "package main\n"),
        ("cmd/migrate/main.go", "package main\n"),
    ]));
}

#[test]
fn rack_with_vendored_gems() {
    let lock = "GEM\n  specs:\n    puma (5.6.5)\n    rack (2.2.22)\n\nDEPENDENCIES\n  puma\n";
    insta::assert_snapshot!(detected(&[
        ("Gemfile", "gem 'rack'\nruby '~> 3.1'\n"),
        ("Gemfile.lock", lock),
        ("config.ru", "run App\n"),
        ("vendor/cache/greet-0.1.0.gem", ""),
    ]));
}

#[test]
fn static_site_with_a_staticfile() {
    insta::assert_snapshot!(detected(&[
        ("Staticfile", "root: dist\npushstate: enabled\nforce_https: true\n"),
        ("dist/index.html", "<h1>"),
    ]));
}

#[test]
fn static_settings_are_enough_to_be_a_static_site() {
    let settings = "[static]\nroot = \"site\"\n[[static.redirects]]\nfrom = \"/a\"\nto = \"/b\"\n";
    insta::assert_snapshot!(said(&[("paas.toml", settings), ("site/index.html", "")]), @"
    Static site, because of paas.toml
    the files in site, from paas.toml
    web: /usr/local/bin/serve-site, for a folder of files
    301 /a -> /b
    ");
    assert_eq!(web(&[("public/index.html", "")]), "/usr/local/bin/serve-site");
    let missing = planned(&[("paas.toml", "[static]\nroot = 'x'\n"), ("index.html", "")]).unwrap_err();
    assert!(matches!(missing, DetectError::MissingFile { file, .. } if file == "x"));
}

/// What an app of each language is, with everything that `[build]` can say.
const SETTINGS: &str = r#"
[build]
root = "web"
install = "make deps"
build = "make all # 'x' \"y\" $(id)"
start = "./serve --port $PORT"
apt = ["libvips42", "ffmpeg"]
secrets = ["NPM_TOKEN"]

[build.env]
API_URL = "https://x.example.com/$HOME\nRUN id"
"#;

#[test]
fn everything_that_a_build_can_be_told() {
    let files = [
        ("paas.toml", SETTINGS),
        ("web/main.py", ""),
        ("web/requirements.txt", "flask\n"),
        ("web/Aptfile", "# images\ngraphviz\n"),
        ("web/bin/pre_compile", "#!/bin/sh\n"),
        ("web/bin/post_compile", "#!/bin/sh\n"),
        ("main.go", "package main\n"),
    ];
    insta::assert_snapshot!(detected(&files));
    let plan = planned(&files).unwrap();
    assert_eq!(plan.root, "web");
    assert_eq!(plan.build_args["API_URL"], "https://x.example.com/$HOME\nRUN id");
    assert_eq!(plan.secrets.len(), 1);
}

#[test]
fn every_language_takes_in_what_a_build_is_told() {
    let settings = SETTINGS.replace("root = \"web\"", "");
    let apps: [&[(&str, &str)]; 5] = [
        &[("main.py", "")],
        &[("package.json", "{}"), ("index.js", "")],
        &[("go.mod", "module x\n"), ("main.go", "package main\n")],
        &[("Gemfile", ""), ("Gemfile.lock", ""), ("config.ru", "")],
        &[("index.html", "")],
    ];
    for app in apps {
        let hooks = [("bin/post_compile", ""), ("paas.toml", settings.as_str())];
        let plan = planned(&[app, &hooks].concat()).unwrap();
        let Dockerfile::Generated(text) = &plan.dockerfile else { panic!("not generated") };
        let count = |part: &str| text.matches(part).count();
        let command = "RUN --mount=type=secret,id=NPM_TOKEN [\"/bin/sh\",\"-c\",";
        assert_eq!(count(command), 3, "{text}");
        assert_eq!(count("install -y --no-install-recommends libvips42 ffmpeg &&"), 2, "{text}");
        assert_eq!(count("\nARG API_URL\n"), 1, "{text}");
        assert!(!text.contains("RUN id") && !text.contains("$(id)"), "{text}");
        assert_eq!(plan.processes[&ProcessType::web()].to_string(), "./serve --port $PORT");
    }
}

#[test]
fn a_second_language_builds_the_assets() {
    let manifest = r#"{"engines": {"node": "22"}, "scripts": {"build": "vite build"}}"#;
    let assets = [("package.json", manifest), ("package-lock.json", "{}")];
    insta::assert_snapshot!(detected(
        &[&assets[..], &[("requirements.txt", "flask"), ("app.py", FLASK)]].concat()
    ));
    let apps: [&[(&str, &str)]; 3] = [
        &[("go.mod", "module x\n"), ("main.go", "package main\n")],
        &[("Gemfile", ""), ("Gemfile.lock", ""), ("config.ru", "")],
        &[("requirements.txt", "-e .\n"), ("setup.py", ""), ("app.py", FLASK)],
    ];
    for app in apps {
        let text = detected(&[&assets[..], app].concat());
        assert!(text.contains("Node 22 for npm run build, from package.json"), "{text}");
        assert_eq!(text.matches("--from=assets /app/ ./").count(), 1, "{text}");
    }
    let by = |lock: (&'static str, &'static str), line: &str| {
        let text = detected(&[("package.json", manifest), lock, ("app.py", FLASK), ("requirements.txt", "")]);
        assert!(text.contains(line), "{line}: {text}");
    };
    by(("pnpm-lock.yaml", "lockfileVersion: '9.0'\n"), "NODE_ENV=production pnpm run build");
    by(("yarn.lock", "# yarn lockfile v1\n"), "yarn install --frozen-lockfile --non-interactive");
    by(("yarn.lock", "__metadata:\n  version: 8\n"), "yarn install --immutable");
    by(("bun.lock", "{}"), "bun install --frozen-lockfile");
    let old = r#"{"engines": {"node": "^9"}, "scripts": {"build": "x"}}"#;
    let text = detected(&[("package.json", old), ("app.py", FLASK), ("requirements.txt", "")]);
    assert!(text.contains("asks for Node ^9, which cannot be had here"), "{text}");
    let locks = [("package-lock.json", "{}"), ("yarn.lock", "")];
    let two = planned(&[&[("package.json", manifest), ("app.py", FLASK)][..], &locks].concat());
    assert!(two.unwrap_err().to_string().contains("two lock files"));
    let without =
        detected(&[("package.json", "{}"), ("go.mod", "module x\n"), ("main.go", "package main\n")]);
    assert!(!without.contains("assets"), "{without}");
}

#[test]
fn only_what_the_administrator_allows_builds() {
    let with = |allow: &[&str], files: &[(&str, &str)]| {
        let allow = Some(allow.iter().map(|&name| name.to_owned()).collect());
        plan(&Sketch::of(files), &Catalog { allow, ..catalog(ImageSource::Debian) })
    };
    let both = [("Dockerfile", "FROM debian\n"), ("main.py", "")];
    let plan = with(&["python"], &both).unwrap();
    assert_eq!(plan.language, "python");
    assert_eq!(plan.notices[0], "Dockerfile is passed over: not allowed on this server");
    let refused = |allow: &[&str], files: &[(&str, &str)]| with(allow, files).unwrap_err().to_string();
    assert_eq!(refused(&["python"], &both[..1]), "dockerfile is not allowed");
    assert_eq!(refused(&["dockerfile"], &both[1..]), "python is not allowed");
    let told = ("paas.toml", "[build]\nbuilder = 'dockerfile'\n");
    assert_eq!(refused(&["python"], &[both[0], both[1], told]), "dockerfile is not allowed");
    assert_eq!(with(&["node", "python"], &[both[1], ("go.mod", "module x\n")]).unwrap().language, "python");
    assert_eq!(with(&["dockerfile"], &both).unwrap().language, "dockerfile");
}

#[test]
fn a_subfolder_is_an_app_of_its_own() {
    let root = ("paas.toml", "[build]\nroot = 'api'\n");
    assert!(
        said(&[root, ("api/index.js", ""), ("main.py", "")])
            .starts_with("the app in api/, from paas.toml line 2\nNode")
    );
    let plan = planned(&[root, ("api/Dockerfile", "FROM debian\n"), ("main.py", "")]).unwrap();
    assert_eq!((plan.root.as_str(), plan.language.as_str()), ("api", "dockerfile"));
    assert_eq!(
        planned(&[root, ("main.py", "")]).unwrap_err().to_string(),
        "Place { file: \"paas.toml\", line: 2 } names api, which is missing"
    );
}

#[test]
fn own_dockerfile_without_a_registry() {
    let text = "# syntax=docker/dockerfile:1\nARG V=22\nFROM node:${V}-alpine AS build\nRUN npm ci\n\nFROM scratch\nCOPY --link --from=build /x /x\nCOPY --from=golang:1.22 /y /y\n";
    insta::assert_snapshot!(detected(&[
        ("Dockerfile", text),
        ("Procfile", "worker: ./work\nrelease: ./migrate\n")
    ]));
}

#[test]
fn own_dockerfile_with_a_registry_is_left_alone() {
    let tree = Sketch::of(&[("Dockerfile", "FROM anything:1\n")]);
    let plan = plan(&tree, &catalog(ImageSource::Registry)).unwrap();
    assert_eq!(plan.dockerfile, Dockerfile::Own("Dockerfile".to_owned()));
    assert_eq!(plan.processes[&ProcessType::web()], RunCommand::Image);
    assert!(plan.files.is_empty() && plan.context_root.is_empty());
}

#[test]
fn official_images_are_pulled_where_there_is_a_registry() {
    let tree = Sketch::of(&[("requirements.txt", "fastapi\n"), ("api/main.py", "api = FastAPI()\n")]);
    let plan = plan(&tree, &catalog(ImageSource::Registry)).unwrap();
    assert_eq!(
        plan.processes[&ProcessType::web()].to_string(),
        "uvicorn --host 0.0.0.0 --port $PORT --proxy-headers api.main:api"
    );
    insta::assert_debug_snapshot!(plan.bases);
}

#[test]
fn choices_are_said() {
    let both: &[(&str, &str)] = &[("requirements.txt", ""), ("main.py", ""), ("package.json", "{}")];
    insta::assert_snapshot!(said(both), @r#"
    Python, because of requirements.txt
    also Node, because of package.json; builder = "node" under
      [build] in paas.toml chooses it
    Python 3.13, the default (no .python-version)
    uv pip install, from requirements.txt
    web: python main.py, main.py
    "#);
    let chosen = [both, &[("paas.toml", "[build]\nbuilder = 'node'\n"), ("index.js", "")]].concat();
    insta::assert_snapshot!(said(&chosen), @"
    Node, from paas.toml line 2
    Node 24, the default (no engines.node)
    npm install, from package.json
    web: node index.js, index.js
    there is no package-lock.json: versions may change between
      builds; commit the one that npm install writes
    ");
}

#[test]
fn the_procfile_wins_and_nothing_is_guessed() {
    let files = [("requirements.txt", "flask"), ("app.py", FLASK), ("Procfile", "worker: python work.py\n")];
    let plan = planned(&files).unwrap();
    assert_eq!(plan.processes.len(), 1);
    assert_eq!(plan.port, None);
    assert_eq!(plan.notices, ["no web process: the app gets no address"]);
    let only_release =
        [("requirements.txt", "flask"), ("app.py", FLASK), ("Procfile", "release: python migrate.py\n")];
    assert_eq!(web(&only_release), "gunicorn --bind 0.0.0.0:$PORT app:app");
    assert_eq!(
        planned(&only_release).unwrap().release,
        Some(RunCommand::Shell("python migrate.py".to_owned()))
    );
}

#[test]
fn app_objects_are_found_where_they_are() {
    let flask = ("requirements.txt", "Flask==3\n");
    assert_eq!(
        web(&[flask, ("wsgi.py", "from shop import create_app\napplication = create_app()\n")]),
        "gunicorn --bind 0.0.0.0:$PORT wsgi:application"
    );
    assert_eq!(
        web(&[flask, ("shop/__init__.py", "def create_app(config=None):\n    app = Flask()\n")]),
        "gunicorn --bind 0.0.0.0:$PORT 'shop:create_app()'"
    );
    assert_eq!(
        web(&[flask, ("src/shop/site.py", FLASK)]),
        "gunicorn --pythonpath src --bind 0.0.0.0:$PORT shop.site:app"
    );
    assert_eq!(
        web(&[("requirements.txt", "flask-cors\n"), ("app.py", FLASK)]),
        web(&[flask, ("app.py", FLASK)])
    );
    assert_eq!(web(&[("app.py", FLASK)]), "python app.py");
}

#[test]
fn what_dockerignore_keeps_out_is_not_counted_on() {
    let lockless = [
        ("package.json", "{}"),
        ("index.js", ""),
        ("package-lock.json", "{}"),
        (".dockerignore", "*.json\n!package.json\n"),
    ];
    assert!(said(&lockless).contains("npm install, from package.json"));
    let everything = [("package.json", "{}"), ("index.js", ""), (".dockerignore", "*\n")];
    assert!(matches!(planned(&everything), Err(DetectError::NothingMatched { ignored: 3, .. })));
}

#[test]
fn constraints_are_copied_and_not_counted_as_dependencies() {
    let files =
        [("requirements.txt", "-c limits.txt\nflask\n"), ("limits.txt", "gunicorn==20\n"), ("app.py", FLASK)];
    assert!(said(&files).contains("gunicorn is not among the dependencies"));
    assert!(detected(&files).contains("COPY [\"app/limits.txt\",\"./limits.txt\"]"));
}

#[test]
fn refusals_name_the_cause() {
    let refused = |files: &[(&str, &str)]| planned(files).unwrap_err().to_string();
    assert_eq!(refused(&[]), "empty tree");
    assert_eq!(refused(&[(".paas/x", "")]), "reserved path .paas/x");
    assert_eq!(refused(&[("app/requirements.txt", ""), ("README", "")]), "no buildpack matches");
    assert_eq!(refused(&[("Gemfile", "")]), "Gemfile without Gemfile.lock");
    assert_eq!(refused(&[("go.mod", "module x\n"), ("x.go", "package x\n")]), "no main package");
    assert_eq!(
        refused(&[("package.json", "{}"), ("yarn.lock", ""), ("package-lock.json", "{}")]),
        "two lock files: yarn.lock and package-lock.json"
    );
    assert_eq!(
        refused(&[("requirements.txt", "-r base.txt\n")]),
        "Place { file: \"requirements.txt\", line: 1 } names base.txt, which is missing"
    );
    assert!(
        refused(&[("package.json", r#"{"engines": {"node": "18; id"}}"#)]).contains("is no version of Node")
    );
    assert!(
        refused(&[("runtime.txt", "python-2.7.18\n"), ("main.py", "")])
            .contains("Python 2.7.18 cannot be had")
    );
    assert!(refused(&[("package.json", &"[".repeat(10_000))]).contains("recursion limit"));
    assert!(refused(&[("Dockerfile", "FROM mysql:8\n")]).contains("mysql:8 cannot be had"));
    assert!(refused(&[("Dockerfile", "# nothing\n")]).contains("has no FROM line"));
}

#[test]
fn a_server_that_the_procfile_starts_is_added_if_it_is_not_listed() {
    let files = |requirements| {
        said(&[
            ("requirements.txt", requirements),
            ("Procfile", "web: FOO=1 gunicorn shop:app\nworker: python w.py\n"),
        ])
    };
    assert!(files("flask\n").contains("gunicorn is not among the dependencies: gunicorn 27.0.1"));
    assert!(!files("flask\nGunicorn>20\n").contains("was"));
}

proptest! {
    /// A user's command never adds an instruction to a Dockerfile.
    #[test]
    fn a_command_stays_one_json_word(command in "[^\\x00]{1,200}") {
        let line = command.lines().next().unwrap_or_default().trim().to_owned();
        prop_assume!(!line.is_empty() && !line.contains('\0'));
        let plan = planned(&[("main.py", ""), ("Procfile", &format!("web: {line}\n"))]).unwrap();
        let Dockerfile::Generated(text) = &plan.dockerfile else { panic!("not generated") };
        let last = text.lines().last().unwrap();
        prop_assert!(last.starts_with("CMD [\"/bin/sh\",\"-c\",\""));
        let words: Vec<String> = serde_json::from_str(last.strip_prefix("CMD ").unwrap()).unwrap();
        prop_assert_eq!(&words[2], &line);
        prop_assert_eq!(text.matches("\nCMD ").count(), 1);
    }

    /// Whatever the files hold, detection answers, and never by a panic.
    #[test]
    fn no_content_panics(name in prop::sample::select(vec!["package.json", "requirements.txt", "Gemfile", "go.mod", "Procfile", "Dockerfile", "paas.toml", ".python-version", "pyproject.toml", "Gemfile.lock", ".ruby-version", "app.json"]), text: String) {
        let _ = planned(&[("main.py", ""), ("config.ru", ""), (name, &text)]);
        let _ = planned(&[(name, &text)]);
    }
}

#[test]
fn go_packages_are_those_that_the_app_names() {
    let main = "package main\n";
    let tree = |module: &'static str, settings: &'static str| {
        [
            ("go.mod", module),
            ("paas.toml", settings),
            ("a/main.go", main),
            ("svc/b/main.go", main),
            ("svc/c/main.go", main),
        ]
    };
    let built = |module, settings| {
        said(&tree(module, settings)).lines().filter(|line| line.starts_with("go build")).collect::<String>()
    };
    let plain = "module example.com/c\n";
    assert_eq!(built(plain, "[build]\npackages = ['./a']\n"), "go build ./a");
    assert_eq!(built(plain, "[build]\npackages = ['./svc/...']\n"), "go build ./svc/b ./svc/c");
    assert_eq!(
        built("module example.com/c\n// +heroku install ./a ./svc/...\n", "[build]\n"),
        "go build ./a ./svc/b ./svc/c"
    );
    let missing = planned(&tree(plain, "[build]\npackages = ['./none']\n"));
    assert!(matches!(missing, Err(DetectError::BadValue { .. })), "{missing:?}");
}

#[test]
fn a_refusal_says_what_the_repository_is() {
    let refused = |files: &[(&str, &str)]| crate::model::Problem::from(planned(files).unwrap_err()).title;
    assert_eq!(refused(&[("Cargo.toml", "")]), "Rust is not among the languages that are built here");
    assert_eq!(
        refused(&[("compose.yaml", ""), ("web/Dockerfile", "FROM debian\n")]),
        "compose.yaml is not what an app is deployed from"
    );
    assert_eq!(refused(&[("dockerfile", "FROM debian\n")]), "dockerfile should be called Dockerfile");
    assert_eq!(refused(&[("bot.py", "import x\n")]), "nothing says what to start");
    assert_eq!(
        refused(&[("bot.py", "import x\n"), ("Procfile.txt", "web: x\n")]),
        "Procfile.txt should be called Procfile"
    );
    assert_eq!(web(&[("task.py", ""), ("Procfile", "web: python task.py\n")]), "python task.py");
    assert!(said(&[("main.py", ""), ("procfile", "web: x\n")]).contains("procfile is passed over"));
}

#[test]
fn a_manifest_that_is_a_link_is_not_passed_over() {
    for name in
        ["requirements.txt", "package.json", "package-lock.json", "go.mod", "Gemfile.lock", "paas.toml"]
    {
        let mut tree = Sketch::of(&[("app.py", ""), ("real", "")]);
        tree.entries.push(SourceEntry { path: name.to_owned(), kind: EntryKind::Symlink, size: 4 });
        tree.entries.sort_by(|a, b| a.path.cmp(&b.path));
        let refused = plan(&tree, &catalog(ImageSource::Debian)).unwrap_err();
        assert_eq!(refused, DetectError::Symlink(name.to_owned()));
    }
}

#[test]
fn folders_that_could_be_apps_are_suggested() {
    let folders = |files: &[(&str, &str)]| match planned(files) {
        Err(DetectError::NothingMatched { folders, .. } | DetectError::Compose { folders, .. }) => {
            folders.join(" ")
        }
        other => panic!("{other:?}"),
    };
    let (client, server) = (("client/package.json", "{}"), ("server/package.json", "{}"));
    assert_eq!(folders(&[client, server, ("README.md", "")]), "server client");
    assert_eq!(folders(&[client, ("docs/package.json", "{}"), (".github/main.py", "")]), "client");
    assert_eq!(
        folders(&[("services/api/go.mod", ""), ("services/web/index.html", "")]),
        "services/api services/web"
    );
    assert_eq!(folders(&[client, ("services/api/go.mod", "")]), "client");
    assert_eq!(folders(&[client, server, ("compose.yaml", "")]), "server client");
    assert_eq!(folders(&[("README.md", "")]), "");
}

#[test]
fn a_loose_go_file_hides_no_other_language() {
    let files = [("hello.py", ""), ("tool.go", "package main\n"), ("Procfile", "web: python hello.py\n")];
    assert!(said(&files).contains("Python, because of *.py"), "{}", said(&files));
}

#[test]
fn tools_that_build_sites_are_named() {
    let what = |files: &[(&str, &str)]| match planned(files) {
        Err(DetectError::Foreign { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(what(&[("hugo.toml", ""), ("content/a.md", ""), ("go.mod", "module x\n")]), "Hugo");
    assert_eq!(what(&[("config.toml", ""), ("content/a.md", "")]), "Hugo");
    assert_eq!(what(&[("_config.yml", ""), ("Gemfile", "gem 'jekyll'\n"), ("index.md", "")]), "Jekyll");
    assert_eq!(
        what(&[("mkdocs.yml", ""), ("requirements.txt", "mkdocs\n"), ("docs/index.md", "")]),
        "MkDocs"
    );
}
