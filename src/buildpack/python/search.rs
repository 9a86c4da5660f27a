//! Where an app object is, told from the sources without running them.

use super::super::source::Files;

/// Most Python files that are read in the search.
const SEARCHED: usize = 300;
/// Largest file that is read in the search, and most bytes of all together:
/// they are in memory at once.
const LARGEST: u64 = 256 << 10;
const ALTOGETHER: usize = 8 << 20;
/// Longest list of parameters.
const PARAMETERS: usize = 2000;
/// Deepest folder that is searched.
const DEPTH: usize = 4;
/// File names in which an app object usually is, most usual first.
const USUAL: [&str; 11] = [
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
    "__init__.py",
];
/// Folders in which no app of the root is.
const PASSED_OVER: [&str; 11] = [
    "tests",
    "test",
    "docs",
    "examples",
    "node_modules",
    "migrations",
    "alembic",
    "venv",
    ".venv",
    "env",
    "site-packages",
];
/// Functions that make an app object.
const FACTORIES: [&str; 5] = ["create_app", "make_app", "create_application", "get_application", "get_app"];

/// A Python source.
pub(super) struct Source<'a> {
    /// Its path.
    pub path: &'a str,
    /// Its text.
    pub text: String,
}

impl Source<'_> {
    /// Whether it imports a module (`flask`) or something of it (`flask.views`).
    pub fn imports(&self, module: &str) -> bool {
        let inside = |name: &str| {
            name.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        imports(&self.text).any(inside)
    }
}

/// An app object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The file that has it.
    pub file: String,
    /// The folder from which it is imported; empty for the root.
    pub root: String,
    /// `shop.site`.
    pub module: String,
    /// The variable, or the function that makes the object.
    pub variable: String,
    /// Whether it must be called.
    pub factory: bool,
    /// The line on which the file runs the app itself when it is imported.
    pub runs_at: Option<usize>,
}

/// The Python files that may hold an app object, most likely first.
pub(super) fn sources(files: Files<'_>) -> Vec<Source<'_>> {
    let mut paths: Vec<&str> = files.paths().filter(|path| is_candidate(path)).collect();
    paths.sort_by_key(|path| (depth(path), rank(path)));
    paths.truncate(SEARCHED);
    let mut left = ALTOGETHER;
    let read = |path| {
        let text = files.hint_below(path, LARGEST)?;
        left = left.checked_sub(text.len())?;
        Some(Source { path, text })
    };
    paths.into_iter().filter_map(read).collect()
}

/// Looks for `name = Class(` at the beginning of a line, then for
/// `name = create_app()`, then for `def create_app():`.
pub(super) fn object(
    files: Files<'_>,
    sources: &[Source<'_>],
    classes: &[&str],
    functions: bool,
) -> Option<Found> {
    let assigned = |callees: &[&str]| {
        let found =
            |source: &&Source<'_>| instance(&source.text, callees).map(|name| (name.to_owned(), false));
        sources.iter().find_map(|source| Some((source, found(&source)?)))
    };
    let defined =
        || sources.iter().find_map(|source| Some((source, (factory(&source.text)?.to_owned(), true))));
    let by_function = || assigned(&FACTORIES).or_else(defined).filter(|_| functions);
    let (source, (variable, factory)) = assigned(classes).or_else(by_function)?;
    Some(found(files, source, variable, factory))
}

fn found(files: Files<'_>, source: &Source<'_>, variable: String, factory: bool) -> Found {
    let root = import_root(files, source);
    let inside = source.path.strip_prefix(&root).unwrap_or(source.path).trim_start_matches('/');
    let stem = inside.strip_suffix(".py").unwrap_or(inside);
    let module = stem.strip_suffix("/__init__").unwrap_or(stem).replace('/', ".");
    let runs = format!("{variable}.run(");
    let runs_at = source.text.lines().position(|line| line.starts_with(&runs)).map(|at| at + 1);
    Found { file: source.path.to_owned(), root, module, variable, factory, runs_at }
}

/// Whether any of them imports a module.
pub(super) fn imported(sources: &[Source<'_>], module: &str) -> bool {
    sources.iter().any(|source| source.imports(module))
}

/// What a server finds in `wsgi.py` or `asgi.py` without asking a framework:
/// `application`, else `app`.
pub(super) fn callable(files: Files<'_>, sources: &[Source<'_>], file: &str) -> Option<Found> {
    let usual = |source: &&Source<'_>| source.path.strip_prefix("src/").unwrap_or(source.path) == file;
    let source = sources.iter().find(usual)?;
    let name = ["application", "app"].into_iter().find(|name| defines(&source.text, name))?;
    Some(found(files, source, name.to_owned(), false))
}

/// Whether a module has such a name: assigned, defined or imported.
fn defines(text: &str, name: &str) -> bool {
    let named = |line: &str| {
        let defined =
            ["def ", "async def ", "class ", ""].into_iter().filter_map(|word| line.strip_prefix(word));
        let mut rests = defined.filter_map(|rest| rest.strip_prefix(name)).map(str::trim_start);
        let imported = line.starts_with("from ").then(|| line.split_once(" import ")).flatten();
        let mut parts = imported
            .into_iter()
            .flat_map(|(_, list)| list.split(['#', ';']).take(1))
            .flat_map(|list| list.split(','));
        rests.any(|rest| rest.starts_with(['=', '(', ':']))
            || parts.any(|part| part.split_whitespace().last() == Some(name))
    };
    text.lines().any(named)
}

/// Whether an object of one of these classes is made anywhere.
pub(super) fn makes(sources: &[Source<'_>], classes: &[&str]) -> bool {
    sources.iter().any(|source| calls(&source.text, classes))
}

fn calls(text: &str, classes: &[&str]) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let called = |class: &&str| {
        text.match_indices(*class)
            .any(|(at, _)| text[at + class.len()..].starts_with('(') && !text[..at].ends_with(word))
    };
    classes.iter().any(called)
}

/// How many folders down, where `src/` does not count.
fn depth(path: &str) -> usize {
    path.strip_prefix("src/").unwrap_or(path).matches('/').count()
}

fn rank(path: &str) -> usize {
    let file = path.rsplit('/').next().unwrap_or(path);
    USUAL.iter().position(|usual| *usual == file).unwrap_or(USUAL.len())
}

fn is_candidate(path: &str) -> bool {
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
    let Some(stem) = file.strip_suffix(".py") else { return false };
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    let usable = |folder: &str| {
        folder.bytes().all(plain) && !PASSED_OVER.contains(&folder) && !folder.starts_with('-')
    };
    // Python's own `__main__` is another module by the time it is imported.
    let other = stem.starts_with("test_") || ["conftest", "setup", "__main__"].contains(&stem);
    identifier(stem) && !other && depth(path) <= DEPTH && folders.split('/').all(usable)
}

/// The folder from which a file is imported: the one that most of its own
/// imports fit, the root if none tells.
fn import_root(files: Files<'_>, source: &Source<'_>) -> String {
    let folders: Vec<&str> =
        source.path.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect();
    let importable = folders.iter().rposition(|folder| !identifier(folder)).map_or(0, |at| at + 1);
    let imports: Vec<&str> = imports(&source.text).collect();
    // `from ..x` needs two packages above it.
    let above = imports.iter().map(|name| name.len() - name.trim_start_matches('.').len()).max().unwrap_or(0);
    let below = folders.len().saturating_sub(above).max(importable);
    let roots = (importable..=below).map(|count| folders[..count].join("/"));
    let fitting = |root: &String| imports.iter().filter(|name| resolves(files, root, name)).count();
    let src = folders.first() == Some(&"src") && !files.has("src/__init__.py");
    let scored = roots.map(|root| ((fitting(&root), usize::from(src && root == "src")), root));
    let best = scored.fold(None, |best: Option<((usize, usize), String)>, next| match best {
        Some(best) if best.0 >= next.0 => Some(best),
        _ => Some(next),
    });
    best.map(|(_, root)| root).unwrap_or_default()
}

/// Names of modules that a source imports.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim_start();
        let rest = line.strip_prefix("from ").or_else(|| line.strip_prefix("import "))?;
        rest.split([' ', ',', ';', '#']).find(|word| !word.is_empty())
    })
}

fn resolves(files: Files<'_>, root: &str, module: &str) -> bool {
    let Some(path) = module_path(module) else { return false };
    let path = if root.is_empty() { path } else { format!("{root}/{path}") };
    files.has(&format!("{path}.py")) || files.has_folder(&path)
}

/// Whether a word can be a Python name.
fn identifier(word: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    !word.is_empty() && word.bytes().all(inner) && !word.as_bytes()[0].is_ascii_digit()
}

/// `a.b.c` → `a/b/c`, if every part is an identifier.
pub(super) fn module_path(module: &str) -> Option<String> {
    module.split('.').all(identifier).then(|| module.replace('.', "/"))
}

/// The variable of `variable = [module.]Class(` at the beginning of a line.
pub(super) fn instance<'t>(text: &'t str, classes: &[&str]) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (left, right) = line.split_once('=')?;
        // `app: Flask = …`, and `app, route = …`.
        let variable = left.split([':', ',']).next().unwrap_or(left).trim_end();
        let callee = right.trim_start().split_once('(')?.0.trim_end();
        let class = callee.rsplit_once('.').map_or(callee, |(_, class)| class);
        (identifier(variable) && classes.contains(&class)).then_some(variable)
    })
}

/// The variable of `server = app.server` at the beginning of a line.
pub(super) fn attribute<'t>(text: &'t str, of: &str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (left, right) = line.split_once('=')?;
        let value = right.split('#').next().unwrap_or(right).trim();
        let fits = value.strip_prefix(of).and_then(|rest| rest.strip_prefix('.')) == Some(name);
        (identifier(left.trim_end()) && fits).then_some(left.trim_end())
    })
}

/// The function that makes an app object and can be called without arguments.
fn factory(text: &str) -> Option<&'static str> {
    let callable = |name: &&str| {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("def ") {
            rest = after;
            let parameters = after.strip_prefix(*name).and_then(|rest| rest.trim_start().strip_prefix('('));
            // No list of parameters is so long, and a text of nothing but beginnings
            // would be read as often as it has them.
            let head = |rest: &'_ str| rest.char_indices().nth(PARAMETERS).map_or(rest.len(), |(at, _)| at);
            let inside =
                parameters.and_then(|rest| rest[..head(rest)].split_once(')')).map(|(inside, _)| inside);
            if inside.is_some_and(|inside| inside.split(',').all(optional)) {
                return true;
            }
        }
        false
    };
    FACTORIES.into_iter().find(callable)
}

fn optional(parameter: &str) -> bool {
    let parameter = parameter.trim();
    parameter.is_empty() || parameter.contains('=') || parameter.starts_with('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_of_an_app_object_is_found() {
        let flask = ["Flask"];
        assert_eq!(instance("import x\napplication = flask.Flask(__name__)\n", &flask), Some("application"));
        assert_eq!(instance("app: Flask = Flask(__name__)\n", &flask), Some("app"));
        assert_eq!(instance("app, rt = fast_app()\n", &["fast_app"]), Some("app"));
        assert_eq!(instance("    app = Flask(__name__)\n", &flask), None);
        assert_eq!(instance("app = FlaskGroup()\n# app = Flask(x)\n", &flask), None);
        assert_eq!(attribute("server = app.server  # for gunicorn\n", "app", "server"), Some("server"));
        assert_eq!(attribute("server = app.servers\n", "app", "server"), None);
    }

    #[test]
    fn what_a_server_finds_in_a_module() {
        for good in [
            "def app(environ, start):\n",
            "async def app(scope, receive, send):\n",
            "app = make()\n",
            "from shop import create, app  # x\n",
            "from shop import site as app\n",
            "app: Callable = f\n",
        ] {
            assert!(defines(good, "app"), "{good}");
        }
        for bad in ["apps = 1\n", "    app = 1\n", "import app\n", "# app = 1\n", "from app import x\n"] {
            assert!(!defines(bad, "app"), "{bad}");
        }
        let source =
            Source { path: "a.py", text: "from flask_restx import Api\nimport falcon.asgi\n".to_owned() };
        assert!(source.imports("falcon") && source.imports("falcon.asgi") && !source.imports("flask"));
    }

    #[test]
    fn a_factory_must_need_no_arguments() {
        assert_eq!(factory("def create_app():\n"), Some("create_app"));
        assert_eq!(factory("def create_app(config=None, *args) -> Flask:\n"), Some("create_app"));
        assert_eq!(factory("def create_app(\n    config=None,\n):\n"), Some("create_app"));
        assert_eq!(factory("def create_app(config):\n"), None);
    }

    #[test]
    fn candidates_are_plain_and_no_tests() {
        for good in ["app.py", "src/shop/web/app.py", "my-app/main.py", "a/b/c/d/e.py"] {
            assert!(is_candidate(good), "{good}");
        }
        for bad in ["tests/app.py", "a b/app.py", "a;id/app.py", "test_app.py", "my-app.py", "x/.venv/app.py"]
        {
            assert!(!is_candidate(bad), "{bad}");
        }
    }
}
