//! `[build]`: how an app is built.

use std::collections::BTreeMap;

use super::folder;
use super::section::{Given, Section, bad_value};
use crate::buildpack::error::DetectError;
use crate::model::EnvKey;

/// Longest command, and value of a variable.
const LONGEST: usize = 16 << 10;

/// Most variables, arguments and secrets, each.
const MOST: usize = 100;

/// Variables that belong to the shell and its loader: a build that changed them
/// would run something else than what is printed.
const RESERVED: [&str; 4] = ["PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "IFS"];

/// The settings of a build.
#[allow(clippy::struct_field_names, reason = "as they are called in the file")]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::buildpack) struct Build {
    /// Which buildpack, or `dockerfile`.
    pub builder: Option<Given<String>>,
    /// Folder that is the app.
    pub root: Option<Given<String>>,
    /// Path of the Dockerfile from there.
    pub dockerfile: Option<Given<String>>,
    /// Version of the language.
    pub version: Option<Given<String>>,
    /// `pip` in place of uv.
    pub installer: Option<Given<String>>,
    /// Command in place of the language's install.
    pub install: Option<Given<String>>,
    /// Command in place of the language's build.
    pub build: Option<Given<String>>,
    /// Command of web.
    pub start: Option<Given<String>>,
    /// Go packages that become programs.
    pub packages: Option<Given<Vec<String>>>,
    /// Packages of Debian, in the build and in the image.
    pub apt: Option<Given<Vec<String>>>,
    /// Variables of the build.
    pub env: BTreeMap<EnvKey, String>,
    /// Arguments of a Dockerfile.
    pub args: BTreeMap<EnvKey, String>,
    /// Config vars that the build may read.
    pub secrets: Vec<EnvKey>,
}

impl Build {
    pub(super) fn read(mut section: Section<'_, '_>) -> Result<Self, DetectError> {
        let mut build = Self {
            builder: section.text("builder")?,
            root: section.text("root")?,
            dockerfile: section.text("dockerfile")?,
            version: section.text("version")?,
            installer: installer(&mut section)?,
            install: command(&mut section, "install")?,
            build: command(&mut section, "build")?,
            start: command(&mut section, "start")?,
            packages: packages(&mut section)?,
            apt: section.texts("apt")?,
            ..Self::default()
        };
        for (key, given) in [("root", &mut build.root), ("dockerfile", &mut build.dockerfile)] {
            if let Some(given) = given {
                given.value = folder(key, &given.value, &given.place())?;
            }
        }
        build.env = variables(&mut section, "env")?;
        build.args = variables(&mut section, "args")?;
        if let Some(names) = section.texts("secrets")? {
            let parse = |name: &String| key(name, names.line);
            build.secrets = names.value.iter().map(parse).collect::<Result<_, _>>()?;
            build.secrets.truncate(MOST);
        }
        section.finish()?;
        Ok(build)
    }
}

fn installer(section: &mut Section<'_, '_>) -> Result<Option<Given<String>>, DetectError> {
    const POSSIBLE: [&str; 2] = ["uv", "pip"];
    let given = section.text("installer")?;
    match &given {
        Some(other) if !POSSIBLE.contains(&other.value.as_str()) => {
            Err(bad_value(other.line, "installer", &other.value, &POSSIBLE))
        }
        _ => Ok(given),
    }
}

/// Folders of Go packages: `.`, `./cmd/web`, `./cmd/...`.
fn packages(section: &mut Section<'_, '_>) -> Result<Option<Given<Vec<String>>>, DetectError> {
    let given = section.texts("packages")?;
    let plain = |name: &String| go_package(name);
    match given.as_ref().and_then(|given| Some((given, given.value.iter().find(|name| !plain(name))?))) {
        Some((given, bad)) => {
            Err(bad_value(given.line, "packages", bad, &["a list of folders such as ./cmd/web"]))
        }
        None => Ok(given),
    }
}

/// Whether a word names a package by its folder, and is nothing to a shell.
pub(in crate::buildpack) fn go_package(word: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-/".contains(&c);
    let up = word.split('/').any(|part| part == "..");
    word == "." || word.starts_with("./") && !up && word.bytes().all(plain)
}

fn command(section: &mut Section<'_, '_>, name: &'static str) -> Result<Option<Given<String>>, DetectError> {
    let Some(given) = section.text(name)? else { return Ok(None) };
    if given.value.trim().is_empty() || given.value.contains('\0') || given.value.len() > LONGEST {
        return Err(bad_value(given.line, name, &given.value, &["a command"]));
    }
    Ok(Some(given))
}

fn key(name: &str, line: usize) -> Result<EnvKey, DetectError> {
    let parsed = EnvKey::parse(name).ok().filter(|_| !RESERVED.contains(&name));
    parsed.ok_or_else(|| {
        bad_value(line, "a variable", name, &["a name such as API_URL", "not one of the shell's own"])
    })
}

fn variables(
    section: &mut Section<'_, '_>,
    name: &'static str,
) -> Result<BTreeMap<EnvKey, String>, DetectError> {
    let Some(inner) = section.table(name)? else { return Ok(BTreeMap::new()) };
    let mut found = BTreeMap::new();
    for (name, given) in inner.entries()? {
        let key = key(&name, given.line)?;
        if given.value.contains('\0') || given.value.len() > LONGEST || found.len() == MOST {
            return Err(bad_value(given.line, &name, &given.value, &["a text of at most 16 KiB"]));
        }
        found.insert(key, given.value);
    }
    Ok(found)
}
