//! What `pyproject.toml`, `setup.cfg` and `setup.py` say of the project itself.

use toml::{Table, Value};

use super::super::error::{DetectError, Place};
use super::super::source::{self, Files};
use super::super::version::Wanted;
use super::dependencies::{Dependencies, name};

/// The file of PEP 621.
pub(super) const PYPROJECT: &str = "pyproject.toml";

/// Tables that tell a build backend what belongs to the package.
const EXPLICIT: [&[&str]; 9] = [
    &["setuptools"],
    &["hatch", "build"],
    &["poetry", "packages"],
    &["pdm", "build"],
    &["flit", "module"],
    &["uv", "build-backend"],
    &["maturin"],
    &["scikit-build"],
    &["meson-python"],
];

/// A `pyproject.toml`.
pub(super) struct Project {
    table: Table,
    text: String,
}

impl Project {
    /// Reads it, if there is one.
    pub fn read(files: Files<'_>) -> Result<Option<Self>, DetectError> {
        let Some(text) = files.text(PYPROJECT)? else { return Ok(None) };
        Ok(Some(Self { table: source::toml(PYPROJECT, &text)?, text }))
    }

    fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.table.get(*first)?, |value, key| value.get(*key))
    }

    /// `[project]`, or Poetry's own table.
    pub fn declared(&self) -> bool {
        self.get(&["project"]).is_some() || self.poetry_only().is_some()
    }

    /// `[tool.poetry.dependencies]`, if only Poetry's own tables say what is
    /// needed.
    pub fn poetry_only(&self) -> Option<&Table> {
        let standard = self.get(&["project", "dependencies"]).is_some() || self.is_dynamic("dependencies");
        self.get(&["tool", "poetry", "dependencies"]).and_then(Value::as_table).filter(|_| !standard)
    }

    /// Whether installers can build it.
    pub fn has_build_system(&self) -> bool {
        self.get(&["build-system"]).is_some()
    }

    /// Whether a field is filled in by the build backend.
    pub fn is_dynamic(&self, field: &str) -> bool {
        let list = self.get(&["project", "dynamic"]).and_then(Value::as_array);
        list.into_iter().flatten().any(|value| value.as_str() == Some(field))
    }

    /// The direct dependencies.
    pub fn dependencies(&self) -> Dependencies {
        let mut found = Dependencies { open: self.is_dynamic("dependencies"), ..Dependencies::default() };
        let list = self.get(&["project", "dependencies"]).and_then(Value::as_array);
        for requirement in list.into_iter().flatten().filter_map(Value::as_str) {
            found.require(requirement);
        }
        let poetry = self.get(&["tool", "poetry", "dependencies"]).and_then(Value::as_table);
        for (package, value) in poetry.into_iter().flatten().filter(|(key, _)| *key != "python") {
            let extras = value.get("extras").and_then(Value::as_array).into_iter().flatten();
            let extras: Vec<&str> = extras.filter_map(Value::as_str).collect();
            found.require(&format!("{package}[{}]", extras.join(",")));
        }
        found
    }

    /// Console scripts.
    pub fn scripts(&self) -> Vec<String> {
        let tables = [&["project", "scripts"][..], &["tool", "poetry", "scripts"][..]];
        let tables = tables.into_iter().filter_map(|path| self.get(path)?.as_table());
        tables.flat_map(|table| table.keys().cloned()).collect()
    }

    /// The range of Pythons that it is made for.
    pub fn requires_python(&self) -> Option<Wanted> {
        let standard = self.get(&["project", "requires-python"]).and_then(Value::as_str);
        let (text, key) = match standard {
            Some(text) => (text, "requires-python"),
            None => (self.get(&["tool", "poetry", "dependencies", "python"])?.as_str()?, "python"),
        };
        Some(Wanted { text: text.to_owned(), place: Place::line(PYPROJECT, line_of_key(&self.text, key)) })
    }

    /// Whether the project is a package that an installer can find: what its
    /// build backend would look for is there.
    pub fn is_package(&self, files: Files<'_>) -> bool {
        let off = [
            &["tool", "poetry", "package-mode"][..],
            &["tool", "uv", "package"],
            &["tool", "pdm", "distribution"],
        ];
        if off.iter().any(|path| self.get(path).and_then(Value::as_bool) == Some(false)) {
            return false;
        }
        if !self.has_build_system() {
            return false;
        }
        let explicit = |path: &&[&str]| self.get(&[&["tool"], *path].concat()).is_some();
        files.has("setup.py")
            || files.has("setup.cfg")
            || EXPLICIT.iter().any(explicit)
            || self.module().is_some_and(|module| has_module(files, &module))
    }

    /// The import name that the project's name stands for.
    fn module(&self) -> Option<String> {
        let named = self.get(&["project", "name"]).or_else(|| self.get(&["tool", "poetry", "name"]));
        name(named?.as_str()?).map(|name| name.replace('-', "_"))
    }
}

fn has_module(files: Files<'_>, module: &str) -> bool {
    ["", "src/"].iter().any(|folder| {
        files.has(&format!("{folder}{module}/__init__.py")) || files.has(&format!("{folder}{module}.py"))
    })
}

/// The line on which a key stands, or 0.
pub(super) fn line_of_key(text: &str, key: &str) -> usize {
    let is_key = |line: &str| {
        let rest = line.trim_start().trim_start_matches('"').strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start_matches('"').trim_start().starts_with(['=', ':']))
    };
    text.lines().position(is_key).map_or(0, |at| at + 1)
}

/// What `setup.py` and `setup.cfg` need, as far as it stands there as texts.
pub(super) fn setup_dependencies(files: Files<'_>) -> Dependencies {
    let mut found = Dependencies { open: true, ..Dependencies::default() };
    let script = files.hint("setup.py").unwrap_or_default();
    if let Some(list) = after(&script, "install_requires").and_then(|rest| rest.split(']').next()) {
        let mut pieces = list.split(['"', '\'']).skip(1).step_by(2);
        pieces.by_ref().for_each(|requirement| found.require(requirement));
    }
    let config = files.hint("setup.cfg").unwrap_or_default();
    if let Some(rest) = after(&config, "install_requires") {
        let lines = rest.lines().skip(1).take_while(|line| line.starts_with([' ', '\t']));
        lines.for_each(|line| found.require(line.trim()));
    }
    found
}

/// `python_requires` of `setup.py` or `setup.cfg`.
pub(super) fn setup_requires_python(files: Files<'_>) -> Option<Wanted> {
    ["setup.py", "setup.cfg"].into_iter().find_map(|file| {
        let text = files.hint(file)?;
        let rest = after(&text, "python_requires")?.trim_start_matches([' ', '\t']);
        let value = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => rest[1..].split(quote).next()?,
            _ => rest.lines().next()?.trim(),
        };
        let line = source::line_of(&text.as_bytes()[..text.len() - rest.len()]);
        Some(Wanted { text: value.to_owned(), place: Place::line(file, line) })
    })
}

/// What follows `key =`.
fn after<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.split_once(key).and_then(|(_, rest)| rest.trim_start().strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_as_keys() {
        assert_eq!(line_of_key("[a]\nrequires-python-x = 1\n  requires-python = 2\n", "requires-python"), 3);
        assert_eq!(line_of_key("{\n \"python_version\": \"3.11\"", "python_version"), 2);
        assert_eq!(line_of_key("", "python"), 0);
    }
}
