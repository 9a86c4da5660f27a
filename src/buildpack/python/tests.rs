//! Plans of Python apps: what is said, and what would be run.
#![allow(clippy::unwrap_used)]

use super::super::sketch::{detected, planned, said, web};
use crate::buildpack::DetectError;
use crate::model::Dockerfile;

const FLASK: &str = "from flask import Flask\napp = Flask(__name__)\n";
const MAIN: (&str, &str) = ("main.py", "");

fn dockerfile(files: &[(&str, &str)]) -> String {
    match planned(files).unwrap().dockerfile {
        Dockerfile::Generated(text) => text,
        other => panic!("{other:?}"),
    }
}

fn refused(files: &[(&str, &str)]) -> DetectError {
    planned(files).unwrap_err()
}

/// The first decision that names a Python.
fn version(files: &[(&str, &str)]) -> String {
    let text = said(&[files, &[MAIN]].concat());
    text.lines().find(|line| line.starts_with("Python 3")).unwrap().to_owned()
}

const UV_LOCK: &str = r#"version = 1
requires-python = ">=3.11"

[[package]]
name = "flask"
version = "3.1.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "shop"
version = "0.1.0"
source = { editable = "." }
"#;

#[test]
fn a_package_with_a_lock_of_uv() {
    insta::assert_snapshot!(detected(&[
        ("pyproject.toml", "[project]\nname = 'shop'\n[build-system]\nrequires = []\n"),
        ("uv.lock", UV_LOCK),
        ("src/shop/__init__.py", "from flask import Flask\ndef create_app(): return Flask('x')\n"),
    ]));
}

#[test]
fn an_app_with_a_lock_of_uv_needs_no_sources() {
    let lock = UV_LOCK.replace("editable", "virtual");
    let files =
        [("pyproject.toml", "[project]\nname = 'shop'\n"), ("uv.lock", lock.as_str()), ("app.py", FLASK)];
    let text = dockerfile(&files);
    assert!(text.contains("uv sync --no-dev --locked"), "{text}");
    assert!(!text.contains("AS project"), "{text}");
}

#[test]
fn a_lock_of_poetry_is_exported() {
    let lock = "[[package]]\nname = \"flask\"\nversion = \"3.1.0\"\n\n[[package]]\nname = \"gunicorn\"\nversion = \"23.0.0\"\n";
    let pyproject = "[tool.poetry]\nname = 'shop'\n[tool.poetry.dependencies]\npython = '^3.11'\nflask = '^3'\n[build-system]\nrequires = ['poetry-core']\n";
    insta::assert_snapshot!(detected(&[
        ("pyproject.toml", pyproject),
        ("poetry.lock", lock),
        ("requirements.txt", "old\n"),
        ("shop/__init__.py", FLASK),
    ]));
    let from_git = format!("{lock}[package.source]\ntype = \"git\"\n");
    let text = dockerfile(&[("pyproject.toml", pyproject), ("poetry.lock", &from_git), ("app.py", FLASK)]);
    assert!(!text.contains("--require-hashes"), "{text}");
    let local = format!("{lock}[package.source]\ntype = \"directory\"\nurl = \"../x\"\n");
    let text = dockerfile(&[("pyproject.toml", pyproject), ("poetry.lock", &local), ("app.py", FLASK)]);
    assert!(text.contains("COPY [\"app/\",\"./\"]"), "{text}");
}

#[test]
fn poetry_without_a_lock_is_read_by_us_or_refused() {
    let project = |dependency: &str| {
        format!("[tool.poetry]\nname = 'x'\n[tool.poetry.dependencies]\npython = '^3.11'\n{dependency}\n")
    };
    let plain = project("flask = '^3.0'");
    let plan = planned(&[("pyproject.toml", &plain), ("app.py", FLASK)]).unwrap();
    assert_eq!(plan.files[".paas/requirements.txt"], b"flask>=3.0,<4\n");
    let git = project("flask = {git = 'https://x/y'}");
    assert!(matches!(
        refused(&[("pyproject.toml", &git), ("app.py", FLASK)]),
        DetectError::MissingLock { .. }
    ));
}

#[test]
fn a_lock_of_pdm_is_checked_and_exported() {
    let lock = "[[package]]\nname = \"bottle\"\nversion = \"0.13\"\n";
    let text = dockerfile(&[("pyproject.toml", "[project]\nname = 'x'\n"), ("pdm.lock", lock), MAIN]);
    assert!(text.contains("pdm lock --check \\\n && /opt/tool/bin/pdm export --prod"), "{text}");
    assert!(!text.contains("--no-markers"), "{text}");
    let lock = format!("[metadata]\nstrategy = []\n{lock}");
    let text = dockerfile(&[("pyproject.toml", "[project]\nname = 'x'\n"), ("pdm.lock", &lock), MAIN]);
    assert!(text.contains("--no-markers"), "{text}");
    assert!(text.contains("COPY .paas/pdm.txt"), "{text}");
}

#[test]
fn pipenv_with_and_without_a_lock() {
    let pipfile = "[[source]]\nurl = 'https://pypi.org/simple'\n[packages]\nflask = '*'\n[requires]\npython_version = '3.11'\n";
    let lock = r#"{"default": {"flask": {"version": "==3.1.0", "hashes": []}}}"#;
    let text = dockerfile(&[("Pipfile", pipfile), ("Pipfile.lock", lock), ("app.py", FLASK)]);
    assert!(text.contains("pipenv requirements --hash --exclude-index > /opt/requirements.txt"), "{text}");
    assert!(text.contains("--require-hashes"), "{text}");
    let text = said(&[("Pipfile", pipfile), ("app.py", FLASK)]);
    assert!(text.contains("Python 3.11, from Pipfile"), "{text}");
    assert!(text.contains("there is no Pipfile.lock"), "{text}");
}

#[test]
fn a_project_is_installed_where_its_build_would_find_it() {
    let build = "[project]\nname = 'my-shop'\ndependencies = ['flask']\n[build-system]\nrequires = []\n";
    let installs = |pyproject: &str, files: &[(&str, &str)]| {
        dockerfile(&[&[("pyproject.toml", pyproject), ("app.py", FLASK)], files].concat())
            .contains("uv pip install --no-deps -e .")
    };
    assert!(installs(build, &[("my_shop/__init__.py", "")]));
    assert!(installs(build, &[("src/my_shop/__init__.py", "")]));
    assert!(installs(&format!("{build}[tool.setuptools]\npackages = ['x']\n"), &[]));
    assert!(!installs(build, &[("other/__init__.py", "")]));
    assert!(!installs(
        "[project]\nname = 'my-shop'\ndependencies = ['flask']\n",
        &[("my_shop/__init__.py", "")]
    ));
}

#[test]
fn every_source_of_a_version_in_its_order() {
    let range = ("pyproject.toml", "[project]\nname = 'x'\nrequires-python = '>=3.9,<3.12'\n");
    let pipfile = ("Pipfile", "[packages]\n[requires]\npython_version = '3.11'\n");
    assert_eq!(version(&[]), "Python 3.13, the default (no .python-version)");
    assert_eq!(version(&[range]), "Python 3.11, from pyproject.toml");
    assert_eq!(version(&[("setup.py", "setup(python_requires='<3.12')\n")]), "Python 3.11, from setup.py");
    assert_eq!(version(&[pipfile]), "Python 3.11, from Pipfile");
    assert_eq!(
        version(&[("mise.toml", "[tools]\npython = '3.13'\n"), pipfile]),
        "Python 3.13, from mise.toml"
    );
    assert_eq!(
        version(&[("mise.toml", "[tools]\npython = ['3.13', '3.11']\n")]),
        "Python 3.13, from mise.toml"
    );
    assert_eq!(
        version(&[
            (".tool-versions", "nodejs 20\npython 3.11.9\n"),
            ("mise.toml", "[tools]\npython = '3.13'\n")
        ]),
        "Python 3.11, from .tool-versions"
    );
    assert_eq!(
        version(&[("runtime.txt", "python-3.11.9\n"), (".tool-versions", "python 3.13\n")]),
        "Python 3.11, from runtime.txt"
    );
    assert_eq!(
        version(&[(".python-version", "# ours\n3.13\n3.11\n"), ("runtime.txt", "python-3.11\n")]),
        "Python 3.13, from .python-version"
    );
    assert_eq!(
        version(&[(".python-version", "3.13\n"), ("paas.toml", "[build]\nversion = '3.11'\n")]),
        "Python 3.11, from paas.toml"
    );
}

#[test]
fn another_python_is_used_only_where_requires_python_allows_it() {
    let files = |range: &'static str| [(".python-version", "3.12"), ("pyproject.toml", range), MAIN];
    let text = said(&files("[project]\nname = 'x'\nrequires-python = '>=3.11'\n"));
    assert!(text.contains(".python-version asks for 3.12; 3.13.5 is used"), "{text}");
    let error = refused(&files("[project]\nname = 'x'\nrequires-python = '==3.12.*'\n"));
    assert!(matches!(error, DetectError::NoSuchVersion { place, have, .. }
        if place.file == ".python-version" && place.line == 1 && have == ["3.13", "3.11", "3.14"]));
}

#[test]
fn the_default_is_as_old_as_the_pins() {
    assert_eq!(
        version(&[("requirements.txt", "pydantic==2.5.0\n")]),
        "Python 3.11: pydantic 2.5.0 is older than Python 3.13"
    );
    for newer in ["pydantic==2.11.0\n", "pydantic>=2\n", "pydantic-extra==1.0\n"] {
        assert!(version(&[("requirements.txt", newer)]).starts_with("Python 3.13, the default"), "{newer}");
    }
}

#[test]
fn apps_are_imported_from_where_their_imports_fit() {
    let api = ("requirements.txt", "fastapi\nuvicorn\n");
    let text = "from fastapi import FastAPI\nfrom app.api import router\napp = FastAPI()\n";
    assert_eq!(
        web(&[api, ("backend/app/main.py", text), ("backend/app/api.py", "")]),
        "/bin/sh -c cd backend && exec uvicorn --host 0.0.0.0 --port $PORT --proxy-headers app.main:app"
    );
    let siblings = "from db import x\nfrom fastapi import FastAPI\napp = FastAPI()\n";
    assert_eq!(
        web(&[api, ("my-api/main.py", siblings), ("my-api/db.py", "")]),
        "/bin/sh -c cd my-api && exec uvicorn --host 0.0.0.0 --port $PORT --proxy-headers main:app"
    );
    let relative = "from .db import x\nfrom fastapi import FastAPI\napp = FastAPI()\n";
    assert_eq!(
        web(&[api, ("app/main.py", relative), ("app/db.py", "")]),
        "uvicorn --host 0.0.0.0 --port $PORT --proxy-headers app.main:app"
    );
}

#[test]
fn frameworks_and_their_commands() {
    let start = |requirement: &str, text: &str| web(&[("requirements.txt", requirement), ("app.py", text)]);
    assert_eq!(
        start("dash", "from dash import Dash\napp = Dash()\nserver = app.server\n"),
        "gunicorn --bind 0.0.0.0:$PORT app:server"
    );
    assert_eq!(start("dash", "import dash\napp = dash.Dash()\n"), "env HOST=0.0.0.0 python app.py");
    assert_eq!(
        start("streamlit", "import streamlit as st\n"),
        "streamlit run --server.address 0.0.0.0 --server.port $PORT --server.headless true app.py"
    );
    assert_eq!(
        start("quart", "from quart import Quart\napp = Quart('x')\n"),
        "uvicorn --host 0.0.0.0 --port $PORT --proxy-headers app:app"
    );
    assert_eq!(
        start("flask", "from flask import Flask\napp = Flask('x')\napp.run()\n"),
        "env FLASK_RUN_FROM_CLI=true gunicorn --bind 0.0.0.0:$PORT app:app"
    );
    assert_eq!(start("flask-login", "import os\n"), "python app.py");
}

#[test]
fn a_script_or_a_package_is_started() {
    let scripts = |names: &str| {
        let text = format!(
            "[project]\nname = 'clock'\ndependencies = ['six']\n[build-system]\nrequires = []\n[project.scripts]\n{names}"
        );
        web(&[("pyproject.toml", &text), ("src/clock/__init__.py", ""), ("src/clock/__main__.py", "")])
    };
    assert_eq!(scripts("clock-web = 'clock:main'\n"), "clock-web");
    assert_eq!(scripts("a = 'clock:a'\nb = 'clock:b'\n"), "python -m clock");
    assert_eq!(scripts("\"x;id\" = 'clock:a'\n"), "python -m clock");
}

#[test]
fn django_in_a_folder_with_settings_of_its_own() {
    let files = [
        ("requirements.txt", "django\ngunicorn\n"),
        ("site/manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'config.settings.local')\n"),
        (
            "site/config/wsgi.py",
            "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'config.settings.production')\n",
        ),
        (
            "site/config/settings/base.py",
            "STATIC_ROOT = 'x'\nDATABASES = {}\nWSGI_APPLICATION = 'config.wsgi.application'\n",
        ),
        ("site/config/settings/production.py", "from .base import *\n"),
        ("site/config/settings/local.py", "DATABASES = 'django.db.backends.sqlite3'\n"),
    ];
    insta::assert_snapshot!(detected(&files));
}

#[test]
fn django_with_channels_is_served_by_daphne() {
    let settings = "INSTALLED_APPS = ['daphne']\nWSGI_APPLICATION = 'chat.wsgi.application'\nASGI_APPLICATION = 'chat.asgi.application'\n";
    let files = |requirements| {
        [
            ("requirements.txt", requirements),
            ("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'chat.settings')\n"),
            ("chat/settings.py", settings),
        ]
    };
    assert_eq!(web(&files("channels[daphne]\n")), web(&files("django\ndaphne\n")));
    assert_eq!(web(&files("django\ndaphne\n")), "daphne --bind 0.0.0.0 --port $PORT chat.asgi:application");
    assert_eq!(
        web(&files("django\nuvicorn\n")),
        "uvicorn --host 0.0.0.0 --port $PORT --proxy-headers chat.asgi:application"
    );
}

#[test]
fn where_the_app_listens_is_known_in_case_it_is_asked() {
    let advice = |files: &[(&str, &str)]| planned(files).unwrap().loopback.unwrap_or_default();
    let requirements = ("requirements.txt", "flask\nuvicorn\n");
    assert_eq!(
        advice(&[requirements, MAIN, ("Procfile", "worker: x\nweb: uvicorn main:app\n")]),
        "Procfile line 2: give it --host 0.0.0.0 --port $PORT"
    );
    assert_eq!(
        advice(&[requirements, MAIN, ("Procfile", "web: flask --app main run -h 127.0.0.1\n")]),
        "Procfile line 1: give it --host 0.0.0.0 --port $PORT"
    );
    assert_eq!(advice(&[requirements, MAIN, ("Procfile", "web: gunicorn -b 0.0.0.0:$PORT main\n")]), "");
    let main = "import os\nfrom wsgiref.simple_server import make_server\nmake_server('localhost', 8000, app).serve_forever()\n";
    assert_eq!(advice(&[("main.py", main)]), "main.py line 3 names it: write 0.0.0.0 there.");
}

#[test]
fn pip_is_used_where_it_must_or_shall_be() {
    let editable = ("requirements.txt", "flask\n-e git+https://example.com/x/y#egg=tally\n");
    let text = said(&[editable, MAIN]);
    assert!(text.contains("requirements.txt line 2 is for pip alone"), "{text}");
    let chosen = [("requirements.txt", "six\n"), ("paas.toml", "[build]\ninstaller = 'pip'\n"), MAIN];
    assert!(
        dockerfile(&chosen)
            .contains("/opt/uv/bin/pip --python /opt/venv/bin/python install -r requirements.txt")
    );
    let unknown = [("requirements.txt", "six\n"), ("paas.toml", "[build]\ninstaller = 'poetry'\n"), MAIN];
    assert!(matches!(refused(&unknown), DetectError::BadValue { .. }));
}

#[test]
fn nothing_of_a_repository_is_text_of_the_dockerfile() {
    let hostile = "$(id)`id`;\"'\n&&";
    let pyproject = format!(
        "[project]\nname = {hostile:?}\ndependencies = [{hostile:?}]\n[project.scripts]\n{hostile:?} = 'x:y'\n"
    );
    let files = [
        ("pyproject.toml", pyproject.as_str()),
        ("a;id/manage.py", "'DJANGO_SETTINGS_MODULE', 'x.y'"),
        ("b$(id)/app.py", FLASK),
        ("requirements/base.txt", "-r 'x y'.txt\nflask\n"),
        ("requirements/'x y'.txt", ""),
        ("main.py", FLASK),
    ];
    let text = dockerfile(&files);
    assert!(!text.contains("$(id)") && !text.contains(";id") && !text.contains("x y"), "{text}");
}

#[test]
fn what_the_export_of_poetry_may_lack_is_pinned_and_verified() {
    let hash = "0".repeat(64);
    let lock = format!(
        "[[package]]\nname = \"Uvloop\"\nversion = \"0.19.0\"\nfiles = [{{file = \"u.whl\", hash = \"sha256:{hash}\"}}]\n"
    );
    let twice = "[[package]]\nname = \"a\"\nversion = \"1\"\nfiles = []\n[[package]]\nname = \"b\\nc\"\nversion = \"1; id\"\n";
    let pyproject = "[tool.poetry]\nname = 'x'\n[tool.poetry.dependencies]\npython = '^3.11'\n";
    let lock = lock + twice;
    let plan = planned(&[("pyproject.toml", pyproject), ("poetry.lock", &lock), MAIN]).unwrap();
    let expected = format!("uvloop==0.19.0 --hash=sha256:{hash}\n");
    assert_eq!(plan.files[".paas/constraints.txt"], expected.into_bytes());
    let text = dockerfile(&[("pyproject.toml", pyproject), ("poetry.lock", &lock), MAIN]);
    assert!(text.contains("COPY [\".paas/constraints.txt\",\"/opt/constraints.txt\"]"), "{text}");
    assert!(text.contains("-r /opt/requirements.txt -c /opt/constraints.txt --require-hashes"), "{text}");
}

#[test]
fn requirements_under_other_names() {
    let flask = ("app.py", FLASK);
    assert!(said(&[("requirements.in", "flask\n"), flask]).contains("requirements.in fixes no versions"));
    let prod = said(&[("requirements-prod.txt", "flask\n"), ("requirements-dev.txt", "x\n"), flask]);
    assert!(prod.contains("uv pip install, from requirements-prod.txt"), "{prod}");
    let conda = refused(&[("environment.yml", "dependencies:\n  - flask\n"), flask]);
    assert!(matches!(conda, DetectError::Unsupported { .. }), "{conda:?}");
}

#[test]
fn servers_that_need_no_framework() {
    let requirements = |text: &'static str| ("requirements.txt", text);
    let of = |text, file, source| web(&[requirements(text), (file, source)]);
    assert_eq!(
        of("gunicorn\n", "wsgi.py", "def application(environ, start):\n"),
        "gunicorn --bind 0.0.0.0:$PORT wsgi:application"
    );
    assert_eq!(
        of("uvicorn\n", "asgi.py", "async def app(scope, receive, send):\n"),
        "uvicorn --host 0.0.0.0 --port $PORT --proxy-headers asgi:app"
    );
    assert_eq!(
        of("sanic\n", "server.py", "from sanic import Sanic\napp = Sanic('x')\n"),
        "sanic --host 0.0.0.0 --port $PORT server:app"
    );
    assert_eq!(
        of("python-fasthtml\n", "main.py", "from fasthtml.common import *\napp, rt = fast_app()\nserve()\n"),
        "uvicorn --host 0.0.0.0 --port $PORT --proxy-headers main:app"
    );
    let falcon = "import falcon.asgi\napp = falcon.asgi.App()\n";
    assert_eq!(
        of("falcon\n", "app.py", falcon),
        "uvicorn --host 0.0.0.0 --port $PORT --proxy-headers app:app"
    );
    let connexion = "import connexion\napp = connexion.FlaskApp(__name__)\n";
    assert_eq!(
        of("connexion[flask,uvicorn]\n", "hello.py", connexion),
        "uvicorn --host 0.0.0.0 --port $PORT --proxy-headers hello:app"
    );
    assert_eq!(of("connexion==2.14.2\n", "hello.py", connexion), "gunicorn --bind 0.0.0.0:$PORT hello:app");
    assert_eq!(
        of("pyramid\n", "production.ini", "[server:main]\nlisten = *:6543\n"),
        "pserve production.ini"
    );
    let restx = "from flask import Flask\nfrom flask_restx import Api\napp = Flask(__name__)\n";
    assert_eq!(of("flask-restx\n", "app.py", restx), "gunicorn --bind 0.0.0.0:$PORT app:app");
}

#[test]
fn the_newest_may_be_asked_for_by_name() {
    assert_eq!(version(&[(".python-version", "latest\n")]), "Python 3.13, the default (no .python-version)");
}

#[test]
fn old_releases_get_what_has_been_taken_from_them() {
    let of = |requirements: &str| {
        let files = [("requirements.txt", requirements), ("app.py", FLASK)];
        (said(&files), dockerfile(&files))
    };
    let (text, file) = of("flask\ngunicorn==20.1.0\n");
    assert!(text.contains("gunicorn 20.1.0 imports pkg_resources: setuptools 80.9.0"), "{text}");
    assert!(file.contains("uv pip install setuptools==80.9.0 \\\n"), "{file}");
    for fine in ["flask\ngunicorn==21.2.0\n", "flask\ngunicorn\n", "gunicorn==20.1.0\nsetuptools==75.1.0\n"] {
        assert!(!of(fine).1.contains("80.9.0"), "{fine}");
    }
    assert!(of("Django==4.1.3\n").0.contains("Python 3.11: django 4.1.3 is older than Python 3.13"));
}

#[test]
fn a_database_that_may_be_sqlite_is_migrated_where_it_is() {
    let plan = |settings: &str| {
        planned(&[
            ("requirements.txt", "Django\ngunicorn\n"),
            ("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"),
            ("shop/settings.py", settings),
            ("shop/wsgi.py", ""),
        ])
        .unwrap()
    };
    let of = |settings: &str| plan(settings).processes[&crate::model::ProcessType::web()].to_string();
    let serve = "gunicorn --bind 0.0.0.0:$PORT shop.wsgi:application";
    for none in ["DEBUG = False\n", "DATABASES = {}\n"] {
        assert_eq!(of(none), serve);
        assert!(plan(none).release.is_none(), "{none}");
    }
    assert!(plan("DATABASES = {'default': env.db()}\n").release.is_some());
    assert_eq!(of("DATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql'}}\n"), serve);
    let always = of("DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3'}}\n");
    assert_eq!(always, format!("/bin/sh -c python manage.py migrate --noinput && exec {serve}"));
    let perhaps = of("DATABASES = {'default': env.db('DATABASE_URL', default='sqlite:///db.sqlite3')}\n");
    assert!(
        perhaps.contains("DJANGO_SETTINGS_MODULE=${DJANGO_SETTINGS_MODULE:-shop.settings} python -c"),
        "{perhaps}"
    );
    assert!(
        perhaps.ends_with(&format!("then python manage.py migrate --noinput; fi && exec {serve}")),
        "{perhaps}"
    );
}

#[test]
fn settings_below_a_condition_or_in_a_module_beside_count() {
    let app = |production: &'static str| {
        [
            ("requirements.txt", "Django\ngunicorn\n"),
            ("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"),
            ("shop/wsgi.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.production')\n"),
            (
                "shop/settings.py",
                "DEBUG = False\nif not DEBUG:\n    STATIC_ROOT = 'x'\n    SECRET_KEY = os.environ['SHOP_SECRET_KEY']\n",
            ),
            ("shop/production.py", production),
        ]
    };
    let follows = said(&app("from .settings import *\n"));
    assert!(follows.contains("collectstatic, if the settings have a"), "{follows}");
    assert!(follows.contains("SHOP_SECRET_KEY is made up and kept"), "{follows}");
    let text = detected(&app("from .settings import *\n"));
    assert!(text.contains("python manage.py diffsettings"), "{text}");
    assert!(
        text.contains("cannot be read in the build: no static files are collected.\"; exit 0; };"),
        "{text}"
    );
    assert!(text.contains("collectstatic --noinput || echo"), "{text}");
    let mut elsewhere = app("from .base import *\n");
    elsewhere[4] = ("shop/base.py", "STATIC_ROOT = 'x'\n");
    elsewhere[3] = ("shop/settings.py", "");
    let imported = [&elsewhere[..], &[("shop/production.py", "from .base import *\n")]].concat();
    assert!(detected(&imported).contains("diffsettings"), "what is imported is asked for");
    assert!(text.contains("SHOP_SECRET_KEY=\"${SHOP_SECRET_KEY:-only-for-the-build}\""), "{text}");
    let other = said(&app("DEBUG = False\n"));
    assert!(!other.contains("collectstatic") && !other.contains("migrate"), "there is no database: {other}");
    let plain = detected(&app("from shop.settings import *\nSTATIC_ROOT = 'y'\n"));
    assert!(plain.contains("because of STATIC_ROOT") && !plain.contains("diffsettings"), "{plain}");
}

#[test]
fn a_procfile_that_migrates_nothing_is_told() {
    let told = |procfile: &'static str, databases: &'static str| {
        let files = [
            ("requirements.txt", "Django\ngunicorn\n"),
            ("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"),
            ("shop/settings.py", databases),
            ("shop/wsgi.py", ""),
            ("Procfile", procfile),
        ];
        let declared = procfile.contains("release:");
        assert_eq!(planned(&files).unwrap().release.is_some(), declared, "{procfile}");
        said(&files).replace('\n', " ").contains("nothing runs migrate")
    };
    let postgres = "DATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql'}}\n";
    assert!(told("web: gunicorn shop.wsgi\n", postgres));
    assert!(!told("web: gunicorn shop.wsgi\n", "DATABASES = {}\n"));
    assert!(!told("web: gunicorn shop.wsgi\nrelease: true\n", postgres));
    assert!(!told("web: python manage.py migrate && gunicorn shop.wsgi\n", postgres));
    assert!(!told("web: sh start.sh\n", postgres));
    assert!(!told("worker: celery -A shop worker\n", postgres));
}

#[test]
fn socketio_has_one_process() {
    let app = ("app.py", "from flask import Flask\napp = Flask(__name__)\n");
    assert_eq!(
        web(&[("requirements.txt", "flask\nflask-socketio\n"), app]),
        "gunicorn --workers 1 --threads 100 --bind 0.0.0.0:$PORT app:app"
    );
}
