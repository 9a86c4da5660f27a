//! What a Python app starts, told from its sources without running them.

use std::collections::BTreeSet;

use super::super::draft::{Draft, exec};
use super::super::error::DetectError;
use super::super::source::Files;
use super::settings::Django;
use crate::model::RunCommand;

/// A server that speaks for a framework.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// For WSGI.
    Gunicorn,
    /// For ASGI.
    Uvicorn,
}

impl Server {
    /// Its name on the package index.
    pub fn package(self) -> &'static str {
        match self {
            Self::Gunicorn => "gunicorn",
            Self::Uvicorn => "uvicorn",
        }
    }

    /// The line that serves `module:variable`.
    fn line(self, target: &str, factory: bool, in_src: bool) -> String {
        match self {
            Self::Gunicorn => {
                let path = if in_src { "--pythonpath src " } else { "" };
                let call = if factory { "()" } else { "" };
                if factory {
                    format!("gunicorn {path}--bind 0.0.0.0:$PORT '{target}{call}'")
                } else {
                    format!("gunicorn {path}--bind 0.0.0.0:$PORT {target}")
                }
            }
            Self::Uvicorn => {
                let path = if in_src { "--app-dir src " } else { "" };
                let call = if factory { "--factory " } else { "" };
                format!("uvicorn {path}{call}--host 0.0.0.0 --port $PORT --proxy-headers {target}")
            }
        }
    }
}

/// Names of files in which an app object usually is, most usual first.
const ENTRIES: [&str; 12] = [
    "app.py",
    "main.py",
    "server.py",
    "wsgi.py",
    "asgi.py",
    "application.py",
    "run.py",
    "api.py",
    "web.py",
    "index.py",
    "src/main.py",
    "src/app.py",
];

/// Plain scripts that are started by `python FILE`.
const SCRIPTS: [&str; 3] = ["main.py", "app.py", "server.py"];

/// Most Python files that are read in the search for an app object.
const SEARCHED: usize = 300;

/// Decides the start command unless the Procfile does; returns the server that
/// it needs.
pub(super) fn start(
    draft: &mut Draft<'_>,
    names: &BTreeSet<String>,
    django: Option<&Django>,
) -> Result<Option<Server>, DetectError> {
    if draft.declared() {
        return Ok(None);
    }
    if let Some((django, application)) = django.and_then(|django| Some((django, django.application.clone()?)))
    {
        return Ok(Some(start_django(draft, django, &application)));
    }
    if ["fastapi", "starlette"].iter().any(|name| names.contains(*name))
        && let Some(found) = search(draft.files, &["FastAPI", "Starlette"])
    {
        return Ok(Some(serve(draft, Server::Uvicorn, &found)));
    }
    if names.contains("flask")
        && let Some(found) = search(draft.files, &["Flask"])
    {
        return Ok(Some(serve(draft, Server::Gunicorn, &found)));
    }
    let Some(script) = draft.files.first_of(&SCRIPTS) else { return Err(no_process(names)) };
    draft.web(exec(&["python", script]), script);
    Ok(None)
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

fn no_process(names: &BTreeSet<String>) -> DetectError {
    let suggestion = match () {
        () if names.contains("fastapi") || names.contains("starlette") => {
            "web: uvicorn --host 0.0.0.0 --port $PORT myapp:app"
        }
        () if names.contains("django") => "web: gunicorn --bind 0.0.0.0:$PORT mysite.wsgi",
        () if names.contains("flask") => "web: gunicorn --bind 0.0.0.0:$PORT myapp:app",
        () => "web: python myapp.py",
    };
    let looked_for = SCRIPTS.iter().map(|&file| file.to_owned());
    DetectError::NoProcess {
        language: "Python".to_owned(),
        looked_for: ["Procfile".to_owned()].into_iter().chain(looked_for).collect(),
        suggestion: suggestion.to_owned(),
    }
}

fn start_django(draft: &mut Draft<'_>, django: &Django, application: &str) -> Server {
    let server = if django.asgi { Server::Uvicorn } else { Server::Gunicorn };
    let line = server.line(application, false, false);
    if draft.release.is_none() {
        draft.release = Some(exec(&["python", "manage.py", "migrate", "--noinput"]));
        draft.decide("release: python manage.py migrate --noinput, for Django");
    }
    if django.sqlite {
        draft.warn("the database is SQLite in the container: what it holds is lost with every release");
        let line = format!("python manage.py migrate --noinput && exec {line}");
        draft.web(exec(&["/bin/sh", "-c", &line]), "for Django on SQLite");
    } else {
        draft.web(RunCommand::Shell(line), "for Django");
    }
    server
}

/// An app object in a file.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    file: String,
    variable: String,
    factory: bool,
}

fn serve(draft: &mut Draft<'_>, server: Server, found: &Found) -> Server {
    let stem = found.file.strip_suffix(".py").unwrap_or(&found.file);
    let in_src = stem.starts_with("src/") && !draft.files.has("src/__init__.py");
    let stem = if in_src { &stem["src/".len()..] } else { stem };
    let module = stem.strip_suffix("/__init__").unwrap_or(stem).replace('/', ".");
    let target = format!("{module}:{}", found.variable);
    draft
        .web(RunCommand::Shell(server.line(&target, found.factory, in_src)), &format!("from {}", found.file));
    server
}

/// Looks for `name = Class(` in likely files, then for `create_app()`.
fn search(files: Files<'_>, classes: &[&str]) -> Option<Found> {
    let candidates = candidates(files);
    let texts: Vec<(&str, String)> =
        candidates.into_iter().filter_map(|path| files.hint(path).map(|text| (path, text))).collect();
    let found = |file: &str, variable: &str, factory| Found {
        file: file.to_owned(),
        variable: variable.to_owned(),
        factory,
    };
    let object = |path: &str, text: &str, classes: &[&str]| {
        instance(text, classes).map(|variable| found(path, variable, false))
    };
    let direct = texts.iter().find_map(|(path, text)| object(path, text, classes));
    let called = || texts.iter().find_map(|(path, text)| object(path, text, &["create_app", "make_app"]));
    let factory = || texts.iter().find_map(|(path, text)| factory(text).map(|name| found(path, name, true)));
    direct.or_else(called).or_else(factory)
}

fn candidates(files: Files<'_>) -> Vec<&str> {
    let mut paths: Vec<&str> = ENTRIES.into_iter().filter(|entry| files.has(entry)).collect();
    let skipped = ["tests/", "test/", "docs/", "node_modules/", "migrations/", "venv/", ".venv/"];
    let mut others: Vec<&str> = files
        .paths()
        .filter(|path| is_python(path) && path.matches('/').count() <= 2)
        .filter(|path| !skipped.iter().any(|prefix| path.starts_with(prefix)))
        .filter(|path| importable(path) && !ENTRIES.contains(path))
        .collect();
    others.sort_by_key(|path| path.matches('/').count());
    paths.extend(others.into_iter().take(SEARCHED));
    paths
}

/// Whether a path is that of a Python source.
pub(super) fn is_python(path: &str) -> bool {
    path.strip_suffix(".py").is_some()
}

fn importable(path: &str) -> bool {
    path.strip_suffix(".py").is_some_and(|stem| stem.split('/').all(identifier))
}

fn identifier(word: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    !word.is_empty() && word.bytes().all(inner) && !word.as_bytes()[0].is_ascii_digit()
}

/// `a.b.c` → `a/b/c`, if every part is an identifier.
pub(super) fn module_path(module: &str) -> Option<String> {
    module.split('.').all(identifier).then(|| module.replace('.', "/"))
}

/// The variable of `variable = [module.]Class(` at the beginning of a line.
fn instance<'t>(text: &'t str, classes: &[&str]) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (left, right) = line.split_once('=')?;
        let variable = left.split_once(':').map_or(left, |(name, _)| name).trim_end();
        let callee = right.trim_start().split_once('(')?.0.trim_end();
        let class = callee.rsplit_once('.').map_or(callee, |(_, class)| class);
        (identifier(variable) && classes.contains(&class)).then_some(variable)
    })
}

/// `create_app` or `make_app` that can be called without arguments.
fn factory(text: &str) -> Option<&'static str> {
    let callable = |name: &&str| {
        text.lines().any(|line| {
            let parameters = line.strip_prefix("def ").and_then(|rest| rest.strip_prefix(*name));
            let inside = parameters
                .and_then(|rest| rest.trim_start().strip_prefix('('))
                .and_then(|rest| rest.rsplit_once(')'));
            inside.is_some_and(|(inside, _)| {
                inside.split(',').all(|one| {
                    one.trim().is_empty() || one.contains('=') || one.trim_start().starts_with('*')
                })
            })
        })
    };
    ["create_app", "make_app"].into_iter().find(callable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_of_an_app_object_is_found() {
        let flask = ["Flask"];
        assert_eq!(instance("import x\napplication = flask.Flask(__name__)\n", &flask), Some("application"));
        assert_eq!(instance("app: Flask = Flask(__name__)\n", &flask), Some("app"));
        assert_eq!(instance("    app = Flask(__name__)\n", &flask), None);
        assert_eq!(instance("app = FlaskGroup()\n# app = Flask(x)\n", &flask), None);
    }

    #[test]
    fn a_factory_must_need_no_arguments() {
        assert_eq!(factory("def create_app():\n"), Some("create_app"));
        assert_eq!(factory("def create_app(config=None, *args) -> Flask:\n"), Some("create_app"));
        assert_eq!(factory("def create_app(config):\n"), None);
    }
}
