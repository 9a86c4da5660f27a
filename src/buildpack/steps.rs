//! What an app adds to its build, or does in place of it: commands of
//! paas.toml, hooks, packages of Debian, variables, secrets.
//!
//! A template takes them in like this:
//!
//! ```jinja
//! {{ build_prologue }}
//! …
//! {{ steps.before }}
//! {% if not steps.whole_tree %}
//! COPY (manifests)
//! {% endif %}
//! {% if steps.install %}
//! {{ steps.install }}
//! {% else %}
//! RUN {{ steps.mounts }}{{ steps.exports }}(the language's own)
//! {% endif %}
//! {% if not steps.builds %}
//! (the language's own build)
//! {% endif %}
//! {{ steps.after }}
//!
//! FROM {{ run_base }}
//! {{ run_prologue }}
//! …
//! COPY (from the build stage if `steps.from_build`, else `app/`)
//! ```

use minijinja::{Value, context};

use super::error::{DetectError, Place};
use super::paas_toml::{Build, FILE, Given};
use super::render::json;
use super::source::Files;
use super::version::shorten;
use crate::model::EnvKey;

/// Heroku's hooks: before the install, and at the end.
const HOOKS: [&str; 2] = ["bin/pre_compile", "bin/post_compile"];

/// Names of Debian packages, one a line.
const APTFILE: &str = "Aptfile";

/// Most packages of Debian that an app may ask for.
const MOST_PACKAGES: usize = 200;

/// An app's own part in its build.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pre_compile: bool,
    post_compile: bool,
    install: Option<String>,
    build: Option<String>,
    packages: Vec<String>,
    variables: Vec<EnvKey>,
    secrets: Vec<EnvKey>,
}

impl Steps {
    /// Reads them, and says of each that it takes effect.
    pub fn read(files: Files<'_>, build: &Build) -> Result<(Self, Vec<String>), DetectError> {
        let mut said = Vec::new();
        let [pre_compile, post_compile] = HOOKS.map(|hook| files.has(hook));
        for (hook, _) in HOOKS.into_iter().zip([pre_compile, post_compile]).filter(|(_, there)| *there) {
            said.push(format!("{hook} is run"));
        }
        for (name, command) in [("install", &build.install), ("build", &build.build)] {
            if let Some(command) = command {
                said.push(format!("{name}: {}, from {FILE} line {}", one_line(&command.value), command.line));
            }
        }
        let packages = packages(files, build, &mut said)?;
        if !build.env.is_empty() {
            let names: Vec<&str> = build.env.keys().map(EnvKey::as_str).collect();
            said.push(format!("in the build: {}, from {FILE}", names.join(", ")));
        }
        if !build.secrets.is_empty() {
            let names: Vec<&str> = build.secrets.iter().map(EnvKey::as_str).collect();
            said.push(format!("in the build, as secrets: {}, from {FILE}", names.join(", ")));
        }
        let command = |given: &Option<Given<String>>| given.as_ref().map(|given| given.value.clone());
        let steps = Self {
            pre_compile,
            post_compile,
            install: command(&build.install),
            build: command(&build.build),
            packages,
            variables: build.env.keys().cloned().collect(),
            secrets: build.secrets.clone(),
        };
        Ok((steps, said))
    }

    /// `steps` of the templates.
    pub fn values(&self) -> Value {
        let whole_tree = self.pre_compile || self.install.is_some();
        let mut before = Vec::new();
        let mut after = Vec::new();
        if whole_tree {
            before.push("COPY app/ ./".to_owned());
        }
        if self.pre_compile {
            before.push(self.run(&hook(HOOKS[0])));
        }
        if !whole_tree && (self.build.is_some() || self.post_compile) {
            after.push("COPY app/ ./".to_owned());
        }
        after.extend(self.build.iter().map(|line| self.run(line)));
        if self.post_compile {
            after.push(self.run(&hook(HOOKS[1])));
        }
        for part in [&mut before, &mut after].into_iter().filter(|part| !part.is_empty()) {
            part.insert(0, "ARG GIT_REV\nARG SOURCE_VERSION".to_owned());
        }
        context! {
            whole_tree, before => before.join("\n"),
            install => self.install.iter().map(|line| self.run(line)).collect::<String>(),
            builds => self.build.is_some(),
            from_build => self.changes_files(), after => after.join("\n"),
            mounts => self.mounts(), exports => self.exports(),
        }
    }

    /// Adds a secret; `false`: it, or a variable of its name, is there already.
    pub fn add_secret(&mut self, name: &EnvKey) -> bool {
        let new = !self.secrets.contains(name) && !self.variables.contains(name);
        if new {
            self.secrets.push(name.clone());
        }
        new
    }

    /// Nothing but the secrets, for a stage beside the language's own.
    pub fn secrets_only(&self) -> Self {
        Self { secrets: self.secrets.clone(), ..Self::default() }
    }

    /// Whether what is in the repository is not what the image should hold.
    pub fn changes_files(&self) -> bool {
        self.pre_compile || self.post_compile || self.install.is_some() || self.build.is_some()
    }

    /// Another package of Debian, which the language needs.
    pub fn add_package(&mut self, name: &str) {
        if !self.packages.iter().any(|known| known == name) {
            self.packages.push(name.to_owned());
        }
    }

    /// Debian's packages, for a stage that begins as root.
    pub fn packages(&self) -> String {
        if self.packages.is_empty() {
            return String::new();
        }
        format!(
            "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {} && apt-get clean && rm -rf /var/lib/apt/lists/*",
            self.packages.join(" ")
        )
    }

    /// Variables of the build, whose values go by the engine's API.
    pub fn arguments(&self) -> String {
        self.variables.iter().map(|name| format!("ARG {name}\n")).collect()
    }

    /// A line of the app's, in the one form of RUN in which nothing of it is read
    /// by anybody but the shell in the container.
    fn run(&self, line: &str) -> String {
        let words = ["/bin/sh", "-c", &format!("{}{line}", self.exports())].map(str::to_owned);
        format!("RUN {}{}", self.mounts(), json(&words))
    }

    fn mounts(&self) -> String {
        self.secrets.iter().map(|name| format!("--mount=type=secret,id={name} ")).collect()
    }

    /// Secrets as variables, for tools that know no files.
    fn exports(&self) -> String {
        let export = |name| format!("export {name}=\"$(cat /run/secrets/{name})\" && ");
        self.secrets.iter().map(export).collect()
    }
}

fn hook(path: &str) -> String {
    format!("chmod +x {path} && {path}")
}

/// A command for a message.
fn one_line(command: &str) -> String {
    shorten(command.trim().lines().next().unwrap_or_default())
}

fn packages(files: Files<'_>, build: &Build, said: &mut Vec<String>) -> Result<Vec<String>, DetectError> {
    let mut found = Vec::new();
    if let Some(given) = &build.apt {
        for name in &given.value {
            found.push(package(name, &given.place())?);
        }
        said.push(format!("apt-get install {}, from {FILE} line {}", found.join(" "), given.line));
    }
    if let Some(text) = files.text(APTFILE)? {
        let before = found.len();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                found.push(package(line, &Place::line(APTFILE, index + 1))?);
            }
        }
        if found.len() > before {
            said.push(format!("apt-get install {}, from {APTFILE}", found[before..].join(" ")));
        }
    }
    if found.len() > MOST_PACKAGES {
        return Err(DetectError::BadValue {
            place: Place::file(APTFILE),
            key: "the list".to_owned(),
            value: format!("{} packages", found.len()),
            possible: vec![format!("at most {MOST_PACKAGES}")],
        });
    }
    Ok(found)
}

/// The name of a Debian package, perhaps with `=version`.
fn package(text: &str, place: &Place) -> Result<String, DetectError> {
    let (name, version) = text.split_once('=').unwrap_or((text, "0"));
    let named = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+.-".contains(&c);
    let numbered = |c: u8| c.is_ascii_alphanumeric() || b"+.-:".contains(&c);
    let begins = |text: &str| text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    // With a minus at its end it would be removed.
    let fine = begins(name)
        && name.len() > 1
        && !text.ends_with('-')
        && name.bytes().all(named)
        && !version.is_empty();
    if fine && text.len() <= 100 && version.bytes().all(numbered) {
        return Ok(text.to_owned());
    }
    Err(DetectError::BadValue {
        place: place.clone(),
        key: "a package".to_owned(),
        value: text.to_owned(),
        possible: vec!["the name of a Debian package".to_owned(), "name=version".to_owned()],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packages_are_named_as_debian_names_them() {
        let place = Place::file(APTFILE);
        for good in ["libvips42", "g++", "ffmpeg=7:5.1.6-0+deb12u1", "libc6-dev", "7zip"] {
            assert_eq!(package(good, &place).unwrap(), good);
        }
        for bad in [
            "-o",
            "bash-",
            "--allow-x",
            "a",
            "a b",
            "x;id",
            "$(id)",
            "x\ny",
            "x=",
            "https://x/y.deb",
            "X",
            "x\\",
            "./x.deb",
            "x|y",
            ":repo:deb",
            "x&&id",
            "\"x\"",
            "",
        ] {
            assert!(package(bad, &place).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_command_is_one_line_and_one_word(line: String) {
            let steps = Steps { build: Some(line.clone()), ..Steps::default() };
            let text = steps.run(&line);
            let words: Vec<String> = serde_json::from_str(text.strip_prefix("RUN ").unwrap()).unwrap();
            prop_assert_eq!(words, ["/bin/sh".to_owned(), "-c".to_owned(), line]);
            prop_assert!(!text.contains(['\n', '\r', '$']));
        }
    }
}
