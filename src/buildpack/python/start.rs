//! What a Python app starts.

use std::collections::BTreeSet;

use super::super::draft::{Draft, exec};
use super::super::error::DetectError;
use super::dependencies::Dependencies;
use super::django::{Django, Sqlite};
use super::search::{self, Found, Source};
use crate::model::{ProcessType, RunCommand};

/// A server that speaks for a framework.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// For WSGI.
    Gunicorn,
    /// For ASGI.
    Uvicorn,
    /// For Django's channels, where it is there.
    Daphne,
    /// Sanic's own.
    Sanic,
}

/// A framework whose app objects a server serves.
struct Framework {
    /// Its names on the package index.
    packages: &'static [&'static str],
    /// The module that its sources import.
    module: &'static str,
    /// Classes of its app objects.
    classes: &'static [&'static str],
    server: Server,
}

impl Framework {
    /// What serves it: Connexion was WSGI's until its third version.
    fn server(&self, dependencies: &Dependencies) -> Server {
        let was_flask = self.module == "connexion" && dependencies.is_before("connexion", 3);
        if was_flask { Server::Gunicorn } else { self.server }
    }
}

/// Pyramid's settings in production.
const PASTE: &str = "production.ini";

/// In the order in which they are looked for.
const FRAMEWORKS: [Framework; 9] = [
    Framework {
        packages: &["fastapi", "starlette", "litestar", "quart"],
        module: "fastapi",
        classes: &["FastAPI", "Starlette", "Litestar", "Quart"],
        server: Server::Uvicorn,
    },
    Framework {
        packages: &["python-fasthtml"],
        module: "fasthtml",
        classes: &["FastHTML", "fast_app"],
        server: Server::Uvicorn,
    },
    Framework {
        packages: &["connexion"],
        module: "connexion",
        classes: &["FlaskApp", "AsyncApp", "App"],
        server: Server::Uvicorn,
    },
    Framework {
        packages: &["flask", "apiflask", "flask-openapi3"],
        module: "flask",
        classes: &["Flask", "APIFlask", "OpenAPI"],
        server: Server::Gunicorn,
    },
    Framework {
        packages: &["bottle"],
        module: "bottle",
        classes: &["Bottle", "default_app"],
        server: Server::Gunicorn,
    },
    Framework { packages: &[], module: "falcon.asgi", classes: &["App"], server: Server::Uvicorn },
    Framework { packages: &["falcon"], module: "falcon", classes: &["App"], server: Server::Gunicorn },
    Framework {
        packages: &["blacksheep"],
        module: "blacksheep",
        classes: &["Application"],
        server: Server::Uvicorn,
    },
    Framework { packages: &["sanic"], module: "sanic", classes: &["Sanic"], server: Server::Sanic },
];

/// Programs that run a file and are told the port in their own way.
const RUNNERS: [(&str, &str, &str); 7] = [
    ("dash", "dash", "env HOST=0.0.0.0 python"),
    (
        "streamlit",
        "streamlit",
        "streamlit run --server.address 0.0.0.0 --server.port $PORT --server.headless true",
    ),
    ("chainlit", "chainlit", "chainlit run --headless --host 0.0.0.0 --port $PORT"),
    ("gradio", "gradio", "env GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=$PORT python"),
    ("shiny", "shiny", "shiny run --host 0.0.0.0 --port $PORT"),
    ("panel", "panel", "panel serve --address 0.0.0.0 --port $PORT --allow-websocket-origin '*'"),
    ("marimo", "marimo", "marimo run --headless --host 0.0.0.0 --port $PORT"),
];

/// Files that are started by `python FILE`.
const SCRIPTS: [&str; 6] = ["main.py", "app.py", "server.py", "src/main.py", "src/app.py", "src/server.py"];

impl Server {
    /// Its name on the package index.
    pub fn package(self) -> &'static str {
        match self {
            Self::Gunicorn => "gunicorn",
            Self::Uvicorn => "uvicorn",
            Self::Daphne => "daphne",
            Self::Sanic => "sanic",
        }
    }

    /// The line that serves `module:variable`, imported from `root`.
    pub fn line(self, root: &str, target: &str, factory: bool) -> String {
        let call = if factory { "()" } else { "" };
        let quoted = if factory { format!("'{target}{call}'") } else { target.to_owned() };
        let factory = if factory { "--factory " } else { "" };
        match (self, root) {
            (Self::Gunicorn, "") => format!("gunicorn --bind 0.0.0.0:$PORT {quoted}"),
            (Self::Gunicorn, "src") => format!("gunicorn --pythonpath src --bind 0.0.0.0:$PORT {quoted}"),
            (Self::Gunicorn, root) => format!("gunicorn --chdir {root} --bind 0.0.0.0:$PORT {quoted}"),
            (Self::Daphne, _) => format!("daphne --bind 0.0.0.0 --port $PORT {target}"),
            (Self::Sanic, _) => format!("sanic {factory}--host 0.0.0.0 --port $PORT {target}"),
            (Self::Uvicorn, _) => {
                let path = if root == "src" { "--app-dir src " } else { "" };
                format!("uvicorn {path}{factory}--host 0.0.0.0 --port $PORT --proxy-headers {target}")
            }
        }
    }
}

/// Decides the start command unless the Procfile does; returns the server that
/// it needs. `scripts` are console scripts that will be installed.
pub(super) fn start(
    draft: &mut Draft<'_>,
    dependencies: &Dependencies,
    django: Option<&Django>,
    scripts: &[String],
) -> Result<Option<Server>, DetectError> {
    if draft.declared() {
        warn_of_migrations(draft, django);
        return Ok(None);
    }
    if let Some((django, application)) = django.and_then(|django| Some((django, django.application.clone()?)))
    {
        let server = match django.asgi {
            true if dependencies.has("daphne") => Server::Daphne,
            true => Server::Uvicorn,
            false => Server::Gunicorn,
        };
        start_django(draft, django, server, &application);
        return Ok(Some(server));
    }
    let sources = search::sources(draft.files);
    // A function may make an app object of any framework: it counts for the one
    // whose class is used, or where none is.
    let unknown = !FRAMEWORKS.iter().any(|framework| search::makes(&sources, framework.classes));
    for framework in &FRAMEWORKS {
        // What is listed may bring it along: flask-restx has Flask.
        // Classes with names of their own, or they would be another's: Falcon has an App, too.
        let may_be = |name: &&str| match framework.module {
            "connexion" => dependencies.has(name),
            _ => dependencies.may_have(name),
        };
        let listed = framework.packages.iter().any(may_be)
            || !dependencies.is_empty() && search::imported(&sources, framework.module);
        let surely = framework.packages.iter().any(|name| dependencies.has(name));
        let functions = (unknown && surely) || search::makes(&sources, framework.classes);
        if listed && let Some(found) = search::object(draft.files, &sources, framework.classes, functions) {
            let server = serve(draft, framework.server(dependencies), &found);
            if server == Server::Gunicorn && dependencies.has("flask-socketio") {
                one_worker(draft);
            }
            return Ok(Some(server));
        }
    }
    if dependencies.may_have("dash")
        && let Some(found) = dash_server(draft, &sources)
    {
        return Ok(Some(serve(draft, Server::Gunicorn, &found)));
    }
    if started_by_runner(draft, dependencies, &sources) {
        return Ok(None);
    }
    for (file, server) in [("wsgi.py", Server::Gunicorn), ("asgi.py", Server::Uvicorn)] {
        if let Some(found) = search::callable(draft.files, &sources, file) {
            return Ok(Some(serve(draft, server, &found)));
        }
    }
    if dependencies.may_have("pyramid") && is_served_by_paste(draft) {
        draft.web(exec(&["pserve", PASTE]), PASTE);
        return Ok(None);
    }
    script(draft, dependencies, scripts).map(|()| None)
}

/// What Pyramid's starters say of the server.
fn is_served_by_paste(draft: &Draft<'_>) -> bool {
    draft.files.hint(PASTE).is_some_and(|text| text.lines().any(|line| line.trim() == "[server:main]"))
}

/// Servers that the Procfile's commands begin with.
pub(super) fn declared_servers(draft: &Draft<'_>) -> Vec<Server> {
    let commands = draft.procfile.iter().flat_map(|procfile| procfile.commands.values());
    let programs: BTreeSet<&str> =
        commands.filter_map(|line| line.split_whitespace().find(|word| !word.contains('='))).collect();
    [Server::Gunicorn, Server::Uvicorn]
        .into_iter()
        .filter(|server| programs.contains(server.package()))
        .collect()
}

/// A console script, else a file that is usually started.
fn script(draft: &mut Draft<'_>, dependencies: &Dependencies, scripts: &[String]) -> Result<(), DetectError> {
    let plain = |name: &&String| name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
    if let [name] = scripts
        && plain(&name)
    {
        draft.web(exec(&[name]), "the only script in pyproject.toml");
        return Ok(());
    }
    if let Some(script) = draft.files.first_of(&SCRIPTS) {
        draft.web(exec(&["python", script]), script);
        return Ok(());
    }
    let package = |path: &'_ str| {
        let folder = path.strip_suffix("/__main__.py")?;
        let module = folder.strip_prefix("src/").unwrap_or(folder);
        search::module_path(module).map(|_| (module.to_owned(), path.to_owned()))
    };
    let packages: Vec<(String, String)> = draft.files.paths().filter_map(package).collect();
    if let [(module, path)] = packages.as_slice() {
        draft.web(exec(&["python", "-m", module]), path);
        return Ok(());
    }
    Err(no_process(dependencies))
}

fn no_process(dependencies: &Dependencies) -> DetectError {
    let suggestion = match () {
        () if dependencies.has("fastapi") || dependencies.has("starlette") => {
            "web: uvicorn --host 0.0.0.0 --port $PORT myapp:app"
        }
        () if dependencies.has("django") => "web: gunicorn --bind 0.0.0.0:$PORT mysite.wsgi",
        () if dependencies.has("flask") => "web: gunicorn --bind 0.0.0.0:$PORT myapp:app",
        () => "web: python myapp.py",
    };
    let looked_for = SCRIPTS.iter().map(|&file| file.to_owned());
    DetectError::NoProcess {
        language: "Python".to_owned(),
        looked_for: ["Procfile".to_owned()].into_iter().chain(looked_for).collect(),
        suggestion: suggestion.to_owned(),
    }
}

/// A command that begins in a folder of the app.
fn inside(root: &str, line: String) -> RunCommand {
    if root.is_empty() {
        return RunCommand::Shell(line);
    }
    exec(&["/bin/sh", "-c", &format!("cd {root} && exec {line}")])
}

const MIGRATE: &str = "python manage.py migrate --noinput";

/// Has the database migrated in the release phase, unless something else is.
fn migrates(draft: &mut Draft<'_>, django: &Django) {
    if draft.release.is_some() || django.sqlite == Sqlite::Nothing {
        return;
    }
    let root = &django.root;
    let command = if root.is_empty() {
        exec(&["python", "manage.py", "migrate", "--noinput"])
    } else {
        exec(&["/bin/sh", "-c", &format!("cd {root} && exec {MIGRATE}")])
    };
    draft.decide(format!("release: {MIGRATE}, for Django"));
    draft.release = Some(command);
}

/// Says that nothing migrates where the app says what web is: what it never had
/// run before its releases might refuse them.
fn warn_of_migrations(draft: &mut Draft<'_>, django: Option<&Django>) {
    let Some(django) = django.filter(|_| draft.release.is_none()) else { return };
    let serves = draft.processes.contains_key(&ProcessType::web());
    let migrates_itself = draft.processes.values().any(|command| {
        let command = command.to_string();
        [" migrate", ".sh"].iter().any(|word| command.contains(word))
    });
    if serves && !migrates_itself && django.sqlite != Sqlite::Nothing {
        let folder = if django.root.is_empty() { String::new() } else { format!("cd {} && ", django.root) };
        draft.warn(format!(
            "nothing runs migrate: release: {folder}{MIGRATE} in the Procfile does so before each release"
        ));
    }
}

fn start_django(draft: &mut Draft<'_>, django: &Django, server: Server, application: &str) {
    let line = server.line("", application, false);
    let root = django.root.as_str();
    let migrate = MIGRATE;
    migrates(draft, django);
    let folder = if root.is_empty() { String::new() } else { format!("cd {root} && ") };
    let (line, because) = match django.sqlite {
        Sqlite::Never | Sqlite::Nothing => return draft.web(inside(root, line), "for Django"),
        Sqlite::Always => (format!("{folder}{migrate} && exec {line}"), "for Django on SQLite"),
        Sqlite::Perhaps => {
            let asked = on_sqlite_now(&django.served);
            (
                format!("{folder}if {asked}; then {migrate}; fi && exec {line}"),
                "for Django, perhaps on SQLite",
            )
        }
    };
    draft.warn(match django.sqlite {
        Sqlite::Perhaps => "unless a config var names a database, it is SQLite in the container: what it holds is lost with every release",
        _ => "the database is SQLite in the container: what it holds is lost with every release",
    });
    draft.web(exec(&["/bin/sh", "-c", &line]), because);
}

/// Asks the settings, which may have looked into the environment.
fn on_sqlite_now(settings: &str) -> String {
    let python = "from django.conf import settings; exit(\"sqlite\" not in settings.DATABASES[\"default\"][\"ENGINE\"])";
    format!("DJANGO_SETTINGS_MODULE=${{DJANGO_SETTINGS_MODULE:-{settings}}} python -c '{python}'")
}

fn serve(draft: &mut Draft<'_>, server: Server, found: &Found) -> Server {
    let Found { file, root, module, variable, factory, runs_at } = found;
    let line = server.line(root, &format!("{module}:{variable}"), *factory);
    // Flask's own word for "somebody else serves this".
    let line = match (server, runs_at) {
        (Server::Gunicorn, Some(at)) => {
            draft.warn(format!(
                "{file} line {at} calls {variable}.run() when it is imported: it is made to do nothing, gunicorn serves"
            ));
            format!("env FLASK_RUN_FROM_CLI=true {line}")
        }
        _ => line,
    };
    let command = match (server, root.as_str()) {
        (Server::Uvicorn, "src") | (Server::Gunicorn, _) => RunCommand::Shell(line),
        (Server::Uvicorn | Server::Daphne | Server::Sanic, root) => inside(root, line),
    };
    draft.web(command, &format!("from {file}"));
    server
}

/// Flask-SocketIO knows its clients in one process only, each by a thread.
fn one_worker(draft: &mut Draft<'_>) {
    let web = ProcessType::web();
    let Some(RunCommand::Shell(line)) = draft.processes.get(&web) else { return };
    let line = line.replacen("gunicorn ", "gunicorn --workers 1 --threads 100 ", 1);
    draft.web(RunCommand::Shell(line), "for Flask-SocketIO");
}

/// Dash's WSGI object, where the app gives it a name.
fn dash_server(draft: &Draft<'_>, sources: &[Source<'_>]) -> Option<Found> {
    let found = search::object(draft.files, sources, &["Dash", "DashProxy"], false)?;
    let source = sources.iter().find(|source| source.path == found.file)?;
    let server = search::attribute(&source.text, &found.variable, "server")?;
    Some(Found { variable: server.to_owned(), ..found })
}

fn started_by_runner(draft: &mut Draft<'_>, dependencies: &Dependencies, sources: &[Source<'_>]) -> bool {
    for (package, module, line) in RUNNERS {
        if dependencies.has(package)
            && let Some(source) = sources.iter().find(|source| source.imports(module))
        {
            draft.web(RunCommand::Shell(format!("{line} {}", source.path)), &format!("from {}", source.path));
            return true;
        }
    }
    false
}
