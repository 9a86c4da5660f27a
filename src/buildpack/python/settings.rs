//! Django's settings, as far as they can be told without running them.

use std::collections::BTreeSet;

use super::super::source::Files;
use super::framework::module_path;

/// A Django project with its `manage.py` in the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Django {
    /// `mysite.wsgi:application`.
    pub application: Option<String>,
    /// Whether `application` speaks ASGI only.
    pub asgi: bool,
    /// Whether static files are to be collected.
    pub static_root: bool,
    /// Whether the database is a file in the container.
    pub sqlite: bool,
}

/// The project, if Django is a dependency and `manage.py` there.
pub(super) fn find(files: Files<'_>, names: &BTreeSet<String>) -> Option<Django> {
    if !names.contains("django") || !files.has("manage.py") {
        return None;
    }
    let texts = settings_texts(files);
    let assigned = |name: &str| texts.iter().any(|text| assignment(text, name).is_some());
    let wsgi = texts.iter().find_map(|text| dotted(assignment(text, "WSGI_APPLICATION")?));
    let (application, asgi) = match wsgi.or_else(|| from_file(files, "wsgi.py")) {
        Some(application) => (Some(application), false),
        None => (from_file(files, "asgi.py"), true),
    };
    let mentions = |word: &str| texts.iter().any(|text| text.contains(word));
    let configurable = ["environ", "getenv", "env(", "env.", "dj_database_url", "config("];
    let sqlite = mentions("django.db.backends.sqlite3")
        && !texts.iter().any(|text| text.lines().any(|line| line.contains("DATABASE") && configurable.iter().any(|word| line.contains(word))));
    Some(Django { application, asgi, static_root: assigned("STATIC_ROOT"), sqlite })
}

/// Texts of the settings module that `manage.py` names, or of a folder's files.
fn settings_texts(files: Files<'_>) -> Vec<String> {
    let manage = files.hint("manage.py").unwrap_or_default();
    let module = manage
        .lines()
        .filter(|line| line.contains("DJANGO_SETTINGS_MODULE"))
        .flat_map(|line| line.split(['"', '\'']))
        .find(|word| word.contains('.') && module_path(word).is_some());
    let Some(path) = module.and_then(module_path) else { return Vec::new() };
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let inside = |candidate: &&str| {
        *candidate == format!("{path}.py")
            || (path.contains("/settings/") && candidate.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
            || candidate.starts_with(&format!("{path}/"))
    };
    files.paths().filter(inside).filter(|path| path.ends_with(".py")).take(20).filter_map(|path| files.hint(path)).collect()
}

/// The right side of `NAME = …` at the beginning of a line.
fn assignment<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?.trim_start();
        rest.strip_prefix('=').filter(|rest| !rest.starts_with('=')).map(str::trim)
    })
}

/// `"mysite.wsgi.application"` → `mysite.wsgi:application`.
fn dotted(value: &str) -> Option<String> {
    let name = value.split(['"', '\'']).nth(1)?;
    module_path(name)?;
    name.rsplit_once('.').map(|(module, variable)| format!("{module}:{variable}"))
}

/// `mysite.wsgi:application` from the only such file one folder down.
fn from_file(files: Files<'_>, name: &str) -> Option<String> {
    let fits = |path: &&str| path.split_once('/').is_some_and(|(_, rest)| rest == name);
    let path = files.paths().find(fits)?;
    let module = path.strip_suffix(".py")?.replace('/', ".");
    module_path(&module).map(|_| format!("{module}:application"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_assignments_at_the_line_start_count() {
        assert_eq!(assignment("# STATIC_ROOT = 1\nSTATIC_ROOT_X = 2\n", "STATIC_ROOT"), None);
        assert_eq!(assignment("STATIC_ROOT = BASE_DIR / 's'\r\n", "STATIC_ROOT"), Some("BASE_DIR / 's'"));
        assert_eq!(dotted("'a.wsgi.application'").unwrap(), "a.wsgi:application");
        assert_eq!(dotted("'a;id.wsgi.application'"), None);
    }
}
