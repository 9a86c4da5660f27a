//! Django's settings, as far as they can be told without running them.

use super::super::source::Files;
use super::search::{self, module_path};

/// Whether the database is a file in the container, which each release has anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sqlite {
    /// There is no database.
    Nothing,
    Never,
    /// Unless the environment names another.
    Perhaps,
    Always,
}

/// A Django project.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Django {
    /// The folder of `manage.py`; empty for the root.
    pub root: String,
    /// `mysite.wsgi:application`.
    pub application: Option<String>,
    /// Whether `application` speaks ASGI only.
    pub asgi: bool,
    /// Whether static files are to be collected.
    pub static_root: bool,
    /// Whether the settings say so under a condition alone, `if not DEBUG:`, or in
    /// what they import.
    pub on_condition: bool,
    /// Whether the database is a file in the container.
    pub sqlite: Sqlite,
    /// The variable that the settings take SECRET_KEY from.
    pub secret: Option<String>,
    /// The settings that the server uses.
    pub served: String,
    /// The settings that the server uses, where `manage.py` uses others.
    pub settings: Option<String>,
}

/// The project whose `manage.py` is in the root or in the only folder with one.
pub(super) fn find(files: Files<'_>) -> Option<Django> {
    let root = root(files)?;
    let at = |path: &str| if root.is_empty() { path.to_owned() } else { format!("{root}/{path}") };
    let managed = settings_module(&files.hint(&at("manage.py"))?)?;
    let wsgi_file = only_file(files, &root, "wsgi.py");
    let asgi_file = only_file(files, &root, "asgi.py");
    let module_of = |path: &Option<String>| settings_module(&files.hint(&at(path.as_ref()?))?);
    let served = module_of(&wsgi_file).or_else(|| module_of(&asgi_file)).unwrap_or_else(|| managed.clone());
    let texts = settings_texts(files, &root, &served);
    let assigned = |name: &str| texts.iter().any(|text| assignment(text, name).is_some());
    let wsgi = texts.iter().find_map(|text| dotted(assignment(text, "WSGI_APPLICATION")?));
    let wsgi = wsgi.or_else(|| application(wsgi_file.as_deref()?));
    let asgi_named = texts.iter().find_map(|text| dotted(assignment(text, "ASGI_APPLICATION")?));
    let speaks_asgi = |text: &String| ["channels", "daphne"].iter().any(|app| quotes(text, app));
    // What is written in ASGI_APPLICATION counts where something needs it.
    let wsgi = wsgi.filter(|_| asgi_named.is_none() || !texts.iter().any(speaks_asgi));
    let (application, asgi) = match wsgi {
        Some(application) => (Some(application), false),
        None => (asgi_named.or_else(|| application(asgi_file.as_deref()?)), true),
    };
    let static_root = assigned("STATIC_ROOT");
    let own = own_texts(files, &root, &served);
    let on_condition = static_root && !own.iter().any(|text| unconditional(text, "STATIC_ROOT"));
    let sqlite = if without_database(files, &texts) { Sqlite::Nothing } else { on_sqlite(&texts) };
    let settings = (served != managed).then(|| served.clone());
    let secret = texts.iter().find_map(|text| variable(assignment(text, "SECRET_KEY")?));
    Some(Django { root, application, asgi, static_root, on_condition, sqlite, secret, served, settings })
}

/// Whether a text has this word in quotes.
fn quotes(text: &str, word: &str) -> bool {
    text.contains(&format!("\"{word}\"")) || text.contains(&format!("'{word}'"))
}

fn root(files: Files<'_>) -> Option<String> {
    if files.has("manage.py") {
        return Some(String::new());
    }
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-/".contains(&c);
    let folder = |path: &'_ str| path.strip_suffix("/manage.py").map(str::to_owned);
    let mut folders = files.paths().filter(|path| path.matches('/').count() <= 2).filter_map(folder);
    let first = folders.next()?;
    let usable = first.bytes().all(plain) && !first.starts_with(['-', '.']);
    (usable && folders.next().is_none()).then_some(first)
}

/// The variable of the environment that an expression reads: `env("SECRET_KEY")`,
/// `os.environ["SECRET_KEY"]`, `config('SECRET_KEY', default='')`.
fn variable(expression: &str) -> Option<String> {
    const READERS: [&str; 7] =
        ["os.environ[", "os.environ.get(", "os.getenv(", "getenv(", "env(", "env.str(", "config("];
    let rest = READERS.iter().find_map(|reader| expression.strip_prefix(reader))?;
    let quote = rest.chars().next().filter(|c| ['"', '\''].contains(c))?;
    let name = rest[1..].split(quote).next()?;
    let fits = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
    (name.ends_with("SECRET_KEY") && name.bytes().all(fits)).then(|| name.to_owned())
}

/// Whether nothing names a database, neither the settings nor what they may read.
fn without_database(files: Files<'_>, texts: &[String]) -> bool {
    let unnamed = !texts.is_empty() && !texts.iter().any(|text| names_database(text));
    unnamed && !search::sources(files).iter().any(|source| names_database(&source.text))
}

/// Whether a text names a database: `DATABASES = {}` and Django's dummy name none,
/// and to migrate them is an error.
fn names_database(text: &str) -> bool {
    const NONE: [&str; 3] = [
        "DATABASES={}",
        "DATABASES={'default':{}}",
        "DATABASES={'default':{'ENGINE':'django.db.backends.dummy'}}",
    ];
    let code: String = text.lines().flat_map(|line| without_comment(line).split_whitespace()).collect();
    let code = code.replace('"', "'").replace(",}", "}");
    let code = NONE.iter().fold(code, |code, none| code.replace(none, ""));
    // `django_heroku.settings(locals())` fills the empty ones.
    code.contains("DATABASE") || code.contains("heroku.settings(")
}

/// Whether the database is SQLite, and whatever the environment says: only if
/// every database is, and nothing is read where they are named.
fn on_sqlite(texts: &[String]) -> Sqlite {
    const CONFIGURABLE: [&str; 6] = ["environ", "getenv", "env(", "env.", "dj_database_url", "config("];
    let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).map(without_comment).collect();
    if !lines.iter().any(|line| line.contains("sqlite")) {
        return Sqlite::Never;
    }
    let engines: Vec<&str> = lines.iter().copied().filter_map(engine).collect();
    let mut databases = lines.iter().filter(|line| line.contains("DATABASE") || line.contains("ENGINE"));
    let from_environment = databases.any(|line| CONFIGURABLE.iter().any(|word| line.contains(word)));
    let all = !engines.is_empty() && engines.iter().all(|engine| engine.contains("sqlite"));
    if all && !from_environment { Sqlite::Always } else { Sqlite::Perhaps }
}

/// A line without what follows `#`, unless that stands in quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match quote {
            None if c == '#' => return &line[..at],
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
    }
    line
}

/// What `"ENGINE": …` of a database is, and `SESSION_ENGINE` is none.
fn engine(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("ENGINE")?;
    let value = rest.trim_start_matches(['"', '\'', ']', ' ']).strip_prefix([':', '='])?.trim();
    let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    whole.then_some(value)
}

/// The module in `os.environ.setdefault("DJANGO_SETTINGS_MODULE", "…")`, or in
/// the variable that stands there; of several, the one that is used last.
fn settings_module(text: &str) -> Option<String> {
    let (before, after) = text.split_once("DJANGO_SETTINGS_MODULE")?;
    let value = after.trim_start_matches(['"', '\'', ']']).trim_start_matches([',', ' ', '=', '\n']);
    let word = value.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
    if !word.is_empty() {
        let assigned = before.lines().rev().find_map(|line| assigned(line.trim_start(), word))?;
        let named = assigned.split(['"', '\'']).skip(1).step_by(2).filter(|text| text.contains('.'));
        return named.filter(|text| module_path(text).is_some()).last().map(str::to_owned);
    }
    let mut words = after.split(['"', '\'']).skip(1);
    let named = words.find(|word| !word.trim_matches([',', ' ', '\n', ')', ']', '=']).is_empty())?;
    module_path(named).map(|_| named.to_owned())
}

/// Most files of settings that are followed.
const MOST: usize = 6;

/// Texts of a settings module, of those that it imports all names of, and of
/// those beside it that it may import in another way.
fn settings_texts(files: Files<'_>, root: &str, module: &str) -> Vec<String> {
    let at = |path: &str| if root.is_empty() { path.to_owned() } else { format!("{root}/{path}") };
    let mut texts = Vec::new();
    let mut read: Vec<String> = Vec::new();
    let mut modules = vec![module.to_owned()];
    while let Some(module) = modules.pop().filter(|_| read.len() < MOST) {
        let Some(path) = module_path(&module) else { continue };
        let package = format!("{path}/__init__.py");
        let is_package = files.has(&at(&package));
        let file = if is_package { package } else { format!("{path}.py") };
        if read.contains(&file) {
            continue;
        }
        let Some(text) = files.hint(&at(&file)) else { continue };
        let parent = module.rsplit_once('.').map_or("", |(parent, _)| parent);
        let package = if is_package { module.as_str() } else { parent };
        // The first that is imported is looked at first.
        modules.extend(star_imports(&text, package).into_iter().rev());
        read.push(file);
        texts.push(text);
    }
    let folder = module.rsplit_once('.').map_or("", |(folder, _)| folder).replace('.', "/");
    if folder.ends_with("settings") {
        let beside = ["base.py", "common.py", "settings.py", "__init__.py"];
        let beside = beside.map(|file| format!("{folder}/{file}")).into_iter();
        texts.extend(beside.filter(|file| !read.contains(file)).filter_map(|file| files.hint(&at(&file))));
    }
    texts
}

/// Texts of a settings module and of those beside it in a folder of settings.
fn own_texts(files: Files<'_>, root: &str, module: &str) -> Vec<String> {
    let at = |path: &str| if root.is_empty() { path.to_owned() } else { format!("{root}/{path}") };
    let Some(path) = module_path(module) else { return Vec::new() };
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let beside =
        ["base.py", "common.py", "settings.py", "__init__.py"].map(|file| format!("{folder}/{file}"));
    let beside = beside.into_iter().filter(|_| folder.ends_with("settings"));
    let own = [format!("{path}.py"), format!("{path}/__init__.py")];
    own.into_iter().chain(beside).filter_map(|path| files.hint(&at(&path))).collect()
}

/// Modules of `from .base import *`, by their whole names.
fn star_imports(text: &str, package: &str) -> Vec<String> {
    let module = |line: &str| {
        let (named, what) = line.trim_start().strip_prefix("from ")?.split_once(" import ")?;
        let all = without_comment(what).trim() == "*";
        let named = Some(named.trim()).filter(|_| all)?;
        let name = named.trim_start_matches('.');
        let mut above = package;
        for _ in 1..named.len() - name.len() {
            above = above.rsplit_once('.').map_or("", |(above, _)| above);
        }
        let absolute = name.len() == named.len() || above.is_empty();
        Some(if absolute { name.to_owned() } else { format!("{above}.{name}") })
    };
    text.lines().filter_map(module).collect()
}

/// The right side of `NAME = …` in a line of its own, also below a condition.
fn assignment<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| assigned(line.trim_start(), name))
}

/// Whether a name is given its value at the beginning of a line.
fn unconditional(text: &str, name: &str) -> bool {
    text.lines().any(|line| assigned(line, name).is_some())
}

fn assigned<'t>(line: &'t str, name: &str) -> Option<&'t str> {
    let rest = line.strip_prefix(name)?.trim_start();
    // `STATIC_ROOT: str = …`
    let rest = if rest.starts_with(':') { &rest[rest.find('=')?..] } else { rest };
    rest.strip_prefix('=').filter(|rest| !rest.starts_with('=')).map(str::trim)
}

/// `"mysite.wsgi.application"` → `mysite.wsgi:application`.
fn dotted(value: &str) -> Option<String> {
    let name = value.split(['"', '\'']).nth(1)?;
    module_path(name)?;
    name.rsplit_once('.').map(|(module, variable)| format!("{module}:{variable}"))
}

/// The first such file one or two folders below the root of the project.
fn only_file(files: Files<'_>, root: &str, name: &str) -> Option<String> {
    let prefix = if root.is_empty() { String::new() } else { format!("{root}/") };
    let inner = |path: &'_ str| {
        let inner = path.strip_prefix(&prefix)?;
        let folders = inner.strip_suffix(name)?.strip_suffix('/')?;
        (folders.matches('/').count() <= 1).then(|| inner.to_owned())
    };
    let mut found: Vec<String> = files.paths().filter_map(inner).collect();
    found.sort_by_key(|path| path.matches('/').count());
    found.into_iter().find(|path| application(path).is_some())
}

/// `mysite/wsgi.py` → `mysite.wsgi:application`.
fn application(path: &str) -> Option<String> {
    let module = path.strip_suffix(".py")?.replace('/', ".");
    module_path(&module).map(|_| format!("{module}:application"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sqlite_is_what_every_database_says_it_is() {
        let told = |text: &str| on_sqlite(&[text.to_owned()]);
        let of = |engine: &str| {
            format!("DATABASES = {{'default': {{\n    'ENGINE': 'django.db.backends.{engine}',\n}}}}\n")
        };
        assert_eq!(told(&of("sqlite3")), Sqlite::Always);
        let commented = of("postgresql") + "# 'ENGINE': 'django.db.backends.sqlite3',\nX = 1  # not sqlite\n";
        assert_eq!(told(&commented), Sqlite::Never);
        assert_eq!(told(&(of("postgresql") + &of("sqlite3"))), Sqlite::Perhaps);
        assert_eq!(
            told(&(of("sqlite3") + "DATABASES['default'] = env.db('DATABASE_URL')\n")),
            Sqlite::Perhaps
        );
        assert_eq!(
            told("DATABASES = {'default': {'ENGINE': os.getenv('E', 'django.db.backends.sqlite3')}}"),
            Sqlite::Perhaps
        );
        assert_eq!(
            told(&("SESSION_ENGINE = 'django.contrib.sessions.backends.db'\n".to_owned() + &of("sqlite3"))),
            Sqlite::Always
        );
        assert_eq!(without_comment("COLOUR = '#fff'  # white"), "COLOUR = '#fff'  ");
    }

    #[test]
    fn what_cannot_be_migrated_is_no_database() {
        let dummy = "DATABASES = {\n    \"default\": {\n        \"ENGINE\": \"django.db.backends.dummy\",\n    },\n}\n";
        for none in ["DEBUG = True\n", "DATABASES = {}  # none\n", "DATABASES = {'default': {}}\n", dummy] {
            assert!(!names_database(none), "{none}");
        }
        for named in [
            "DATABASES = {}\nDATABASES['default'] = env.db()\n",
            "DATABASES = {}\ndjango_heroku.settings(locals())\n",
            "DATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql'}}\n",
        ] {
            assert!(names_database(named), "{named}");
        }
    }

    #[test]
    fn only_assignments_count() {
        assert_eq!(assignment("if not DEBUG:\n    STATIC_ROOT = 1\n", "STATIC_ROOT"), Some("1"));
        assert!(!unconditional("if not DEBUG:\n    STATIC_ROOT = 1\n", "STATIC_ROOT"));
        assert!(unconditional("STATIC_ROOT = 1\n", "STATIC_ROOT"));
        assert_eq!(assignment("# STATIC_ROOT = 1\nSTATIC_ROOT_X = 2\n", "STATIC_ROOT"), None);
        assert_eq!(assignment("STATIC_ROOT = BASE_DIR / 's'\r\n", "STATIC_ROOT"), Some("BASE_DIR / 's'"));
        assert_eq!(assignment("STATIC_ROOT: str = 's'\n", "STATIC_ROOT"), Some("'s'"));
        assert_eq!(dotted("'a.wsgi.application'").unwrap(), "a.wsgi:application");
        assert_eq!(dotted("'a;id.wsgi.application'"), None);
    }

    #[test]
    fn settings_are_followed_through_what_they_import() {
        let of = |text: &str, package: &str| star_imports(text, package).join(" ");
        assert_eq!(
            of("from .base import *  # noqa\nfrom . import x\n", "shop.settings"),
            "shop.settings.base"
        );
        assert_eq!(of("from ..common import *\n", "shop.settings"), "shop.common");
        assert_eq!(of("from shop.settings import *\n", "shop"), "shop.settings");
        assert_eq!(of("from .a import b\nfrom a import *, c\n", "shop"), "");
        assert_eq!(of("from ....... import *\nfrom .a import *\n", ""), " a");
    }

    #[test]
    fn the_variable_of_the_secret_key_is_read() {
        let named = |line: &str| variable(assignment(line, "SECRET_KEY").unwrap());
        for line in [
            "SECRET_KEY = env('A_SECRET_KEY')",
            "SECRET_KEY = os.environ[\"A_SECRET_KEY\"]",
            "SECRET_KEY: str = os.environ.get('A_SECRET_KEY', 'x')",
            "SECRET_KEY = config('A_SECRET_KEY', default=\"x\")",
        ] {
            assert_eq!(named(line).as_deref(), Some("A_SECRET_KEY"), "{line}");
        }
        for line in [
            "SECRET_KEY = 'x'",
            "SECRET_KEY = env(name)",
            "SECRET_KEY = env('PATH')",
            "SECRET_KEY = env('$(SECRET_KEY')",
        ] {
            assert_eq!(named(line), None, "{line}");
        }
    }

    #[test]
    fn the_settings_module_is_what_setdefault_sets() {
        let line = "    os.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"config.settings.local\")\n";
        assert_eq!(settings_module(line).as_deref(), Some("config.settings.local"));
        let two = "os.environ.setdefault(\n    'DJANGO_SETTINGS_MODULE',\n    'shop.settings',\n)";
        assert_eq!(settings_module(two).as_deref(), Some("shop.settings"));
        assert_eq!(settings_module("os.environ['DJANGO_SETTINGS_MODULE'] = 'a.b'").as_deref(), Some("a.b"));
        assert_eq!(settings_module("setdefault('DJANGO_SETTINGS_MODULE', 'a;id')"), None);
        let chosen = "    module = 'shop.production' if 'HOST' in os.environ else 'shop.settings'\n    os.environ.setdefault('DJANGO_SETTINGS_MODULE', module)\n";
        assert_eq!(settings_module(chosen).as_deref(), Some("shop.settings"));
    }
}
