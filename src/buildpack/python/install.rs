//! What is installed, by which manager, in which order.

use minijinja::{Value, context};

use super::super::draft::{Draft, copy};
use super::super::error::{DetectError, Place};
use super::dependencies::Dependencies;
use super::locks::{self, Lock};
use super::poetry;
use super::project::{self, PYPROJECT, Project};
use super::release;
use super::requirements::{self, Requirements};

/// The installer.
const UV: &str = "/opt/uv/bin/uv";
/// pip, working on the app's environment.
const PIP: [&str; 4] = ["/opt/uv/bin/pip", "--python", "/opt/venv/bin/python", "install"];
/// What Poetry, PDM and Pipenv export.
const EXPORTED: &str = "/opt/requirements.txt";
/// What pins and verifies packages that an export lacks.
const CONSTRAINTS: [&str; 2] = [".paas/constraints.txt", "/opt/constraints.txt"];
/// What we write for a project of Poetry's without a lock.
const POETRY_REQUIREMENTS: &str = ".paas/requirements.txt";
/// Where requirements are looked for, the usual place first.
const REQUIREMENTS: [&str; 6] = [
    "requirements.txt",
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements/base.txt",
    "requirements/requirements.txt",
    "requirements/common.txt",
];

/// What pip-tools and uv make a requirements.txt of.
const UNLOCKED: &str = "requirements.in";
/// Environments of conda, whose packages are not those of the package index.
const CONDA: [&str; 3] = ["environment.yml", "environment.yaml", "conda.yml"];

/// One command of the build.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Its words.
    words: Vec<String>,
    /// Where its output goes, if it is a result.
    output: &'static str,
}

impl Step {
    /// For the template.
    pub fn value(&self) -> Value {
        context! { words => self.words.clone(), output => self.output }
    }
}

/// What is installed and how.
#[derive(Debug, Default)]
pub(super) struct Install {
    /// The manager that exports its lock; its pinned packages are in a file of
    /// the buildpack.
    pub tool: Option<&'static str>,
    /// COPY lines before the install: sources and target.
    pub manifests: Vec<Vec<String>>,
    /// Commands that need the manifests alone.
    pub steps: Vec<Step>,
    /// Commands that need the app's sources.
    pub with_sources: Vec<Step>,
    /// Whether the manifests are the whole app.
    pub whole: bool,
    /// Whether packages are taken from the best of several indexes, as pip does.
    pub any_index: bool,
    /// What the app depends on.
    pub dependencies: Dependencies,
}

impl Install {
    fn of(dependencies: Dependencies) -> Self {
        Self { dependencies, ..Self::default() }
    }

    fn copying(mut self, files: &[&str]) -> Self {
        self.manifests.push(copy(files, "./"));
        self
    }

    /// With the whole tree there before anything is installed.
    fn copying_all(mut self, draft: &mut Draft<'_>, because: &str) -> Self {
        draft.warn(format!("{because}: every change reinstalls"));
        self.manifests = vec![vec!["app/".to_owned(), "./".to_owned()]];
        self.whole = true;
        self
    }

    fn step(self, words: &[&str]) -> Self {
        self.and(step(words, ""))
    }

    fn and(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Installs the project itself once its sources are there.
    fn with_project(mut self, draft: &mut Draft<'_>, project: Option<&Project>) -> Self {
        if project.is_some_and(|project| project.is_package(draft.files)) {
            draft.decide("the project itself is installed: pyproject.toml has a build-system");
            self.with_sources.push(step(&[UV, "pip", "install", "--no-deps", "-e", "."], ""));
        }
        self
    }
}

/// Adds the setuptools that a dependency needs and does not ask for.
pub(super) fn with_setuptools(draft: &mut Draft<'_>, install: Install) -> Result<Install, DetectError> {
    let found = release::needs_pkg_resources(draft.pack, &install.dependencies)?;
    let version = draft.pack.tools.get("setuptools").cloned();
    let (Some((package, pinned)), Some(version)) = (found, version) else { return Ok(install) };
    draft.warn(format!(
        "{package} {pinned} imports pkg_resources: setuptools {version} was added, the last that has it"
    ));
    let wanted = format!("setuptools=={version}");
    Ok(install.and(installing(draft, &[wanted.as_str()])))
}

/// Whether paas.toml prefers pip.
fn prefers_pip(draft: &Draft<'_>) -> bool {
    draft.settings.build.installer.as_ref().is_some_and(|given| given.value == "pip")
}

/// An install by uv, or by pip where that is preferred.
fn installing(draft: &Draft<'_>, arguments: &[&str]) -> Step {
    let program: &[&str] = if prefers_pip(draft) { &PIP } else { &[UV, "pip", "install"] };
    step(&[program, arguments].concat(), "")
}

fn step(line: &[&str], output: &'static str) -> Step {
    Step { words: words(line), output }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Decides the manager by the lock file.
pub(super) fn decide(draft: &mut Draft<'_>) -> Result<Install, DetectError> {
    let files = draft.files;
    let locks = ["uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock"];
    let found: Vec<&str> = locks.into_iter().filter(|lock| files.has(lock)).collect();
    if let ([lock], true) = (found.as_slice(), files.has("requirements.txt")) {
        draft.warn(format!("requirements.txt is passed over: {lock} decides"));
    }
    match found.as_slice() {
        [first, second, ..] => Err(DetectError::TwoLocks((*first).to_owned(), (*second).to_owned())),
        ["uv.lock"] => from_uv(draft),
        ["poetry.lock"] => from_poetry(draft),
        ["pdm.lock"] => from_pdm(draft),
        [_] => from_pipenv(draft, true),
        [] => unlocked(draft),
    }
}

fn unlocked(draft: &mut Draft<'_>) -> Result<Install, DetectError> {
    let files = draft.files;
    let project = Project::read(files)?;
    if let Some(file) = files.first_of(&REQUIREMENTS) {
        return from_requirements(draft, file);
    }
    if files.has("Pipfile") {
        return from_pipenv(draft, false);
    }
    match project.filter(Project::declared) {
        Some(project) => from_pyproject(draft, &project),
        None if files.has("setup.py") || files.has("setup.cfg") => Ok(from_setup(draft)),
        None => no_manifest(draft),
    }
}

/// The usual files are not there: one that is nearly called so, or nothing.
fn no_manifest(draft: &mut Draft<'_>) -> Result<Install, DetectError> {
    let files = draft.files;
    let plain = |path: &str| path.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
    let mut named = files.paths().filter(|path| plain(path) && !path.starts_with('-')).filter(|path| {
        let stem = path.strip_suffix(".txt").filter(|stem| stem.contains("requirements"));
        stem.is_some_and(|stem| !["dev", "test", "lint", "doc"].iter().any(|word| stem.contains(word)))
    });
    if let (Some(file), None) = (named.next(), named.next()) {
        return from_requirements(draft, file);
    }
    if files.has(UNLOCKED) {
        draft.warn(format!("{UNLOCKED} fixes no versions: they may change between builds; commit the requirements.txt that it is compiled to"));
        return from_requirements(draft, UNLOCKED);
    }
    if let Some(file) = files.first_of(&CONDA) {
        return Err(DetectError::Unsupported {
            place: Place::file(file),
            what: "an environment of conda".to_owned(),
            instead: "List what the app needs from the Python package index in requirements.txt, or bring a Dockerfile.".to_owned(),
        });
    }
    draft.decide("nothing to install: there is no requirements.txt");
    Ok(Install::default())
}

/// The manifest beside a lock.
fn beside(draft: &Draft<'_>, manifest: &str, lock: &str) -> Result<(), DetectError> {
    if draft.files.has(manifest) {
        return Ok(());
    }
    Err(DetectError::MissingFile { file: manifest.to_owned(), named_by: Place::file(lock) })
}

fn from_uv(draft: &mut Draft<'_>) -> Result<Install, DetectError> {
    beside(draft, PYPROJECT, "uv.lock")?;
    let project = Project::read(draft.files)?;
    let Lock { dependencies, local, .. } = locks::toml_lock(draft.files, "uv.lock")?;
    draft.decide("uv sync --locked, from uv.lock");
    let install = Install::of(dependencies).copying(&[PYPROJECT, "uv.lock"]);
    // A workspace that is no project itself has nothing but its members.
    let all: &[&str] =
        if project.is_some_and(|project| project.declared()) { &[] } else { &["--all-packages"] };
    let sync = |options: &[&'static str]| [&[UV, "sync", "--no-dev"], options, all].concat();
    if !local {
        return Ok(install.step(&sync(&["--locked"])));
    }
    // The members' own manifests are not there yet, so that nothing can say
    // whether the lock fits; the second command does.
    let mut install = install.step(&sync(&["--frozen", "--no-install-local"]));
    install.with_sources.push(step(&sync(&["--locked", "--inexact"]), ""));
    draft.decide("the project itself is installed after that");
    Ok(install)
}

/// The install of what a lock exported.
fn exported(draft: &Draft<'_>, lock: &Lock) -> Step {
    let strict: &[&str] = if lock.unhashed { &[] } else { &["--require-hashes"] };
    let pinned: &[&str] = if lock.constraints.is_empty() { &[] } else { &["-c", CONSTRAINTS[1]] };
    installing(draft, &[&["-r", EXPORTED], pinned, strict].concat())
}

fn from_poetry(draft: &mut Draft<'_>) -> Result<Install, DetectError> {
    beside(draft, PYPROJECT, "poetry.lock")?;
    let project = Project::read(draft.files)?;
    let lock = locks::toml_lock(draft.files, "poetry.lock")?;
    draft.decide("poetry export and uv pip install, from poetry.lock");
    let export =
        ["/opt/tool/bin/poetry", "export", "--no-interaction", "-f", "requirements.txt", "-o", EXPORTED];
    Ok(from_export(draft, lock, "poetry", &[PYPROJECT, "poetry.lock"], vec![step(&export, "")])
        .with_project(draft, project.as_ref()))
}

fn from_pdm(draft: &mut Draft<'_>) -> Result<Install, DetectError> {
    beside(draft, PYPROJECT, "pdm.lock")?;
    let project = Project::read(draft.files)?;
    let lock = Lock { constraints: String::new(), ..locks::toml_lock(draft.files, "pdm.lock")? };
    draft.decide("pdm export and uv pip install, from pdm.lock");
    let check = step(&["/opt/tool/bin/pdm", "lock", "--check"], "");
    let mut export = vec!["/opt/tool/bin/pdm", "export", "--prod", "-f", "requirements", "-o", EXPORTED];
    if !lock.markers {
        draft.warn("pdm.lock does not say which packages are for which system: all are installed; pdm lock --strategy inherit_metadata has it say so");
        export.push("--no-markers");
    }
    Ok(from_export(draft, lock, "pdm", &[PYPROJECT, "pdm.lock"], vec![check, step(&export, "")])
        .with_project(draft, project.as_ref()))
}

fn from_pipenv(draft: &mut Draft<'_>, locked: bool) -> Result<Install, DetectError> {
    const PIPENV: &str = "/opt/tool/bin/pipenv";
    let public = locks::public_index_only(draft.files);
    let index: &[&str] = if public { &["--exclude-index"] } else { &[] };
    let export = step(&[&[PIPENV, "requirements", "--hash"], index].concat(), EXPORTED);
    if locked {
        beside(draft, "Pipfile", "Pipfile.lock")?;
        let lock = locks::pipfile_lock(draft.files)?;
        draft.decide("pipenv requirements and uv pip install, from Pipfile.lock");
        let verify = step(&[PIPENV, "verify"], "");
        return Ok(from_export(draft, lock, "pipenv", &["Pipfile", "Pipfile.lock"], vec![verify, export]));
    }
    draft.decide("pipenv lock and uv pip install, from Pipfile");
    draft.warn("there is no Pipfile.lock: versions may change between builds; commit the one that pipenv lock writes");
    let lock = Lock { dependencies: locks::pipfile(draft.files)?, unhashed: true, ..Lock::default() };
    Ok(from_export(draft, lock, "pipenv", &["Pipfile"], vec![step(&[PIPENV, "lock"], ""), export]))
}

fn from_export(
    draft: &mut Draft<'_>,
    lock: Lock,
    tool: &'static str,
    manifests: &[&str],
    steps: Vec<Step>,
) -> Install {
    let install = exported(draft, &lock);
    let steps = steps.into_iter().chain([install]).collect();
    let found = Install { tool: Some(tool), steps, ..Install::of(lock.dependencies) };
    let mut found = if lock.local {
        found.copying_all(draft, "the lock file names local paths")
    } else {
        found.copying(manifests)
    };
    if !lock.constraints.is_empty() {
        draft.context.insert(CONSTRAINTS[0].to_owned(), lock.constraints.into_bytes());
        found.manifests.push(words(&CONSTRAINTS));
    }
    found
}

fn from_pyproject(draft: &mut Draft<'_>, project: &Project) -> Result<Install, DetectError> {
    let dependencies = project.dependencies();
    draft.decide("uv pip install, from pyproject.toml");
    if !dependencies.is_empty() {
        draft.warn("there is no lock file: versions may change between builds");
    }
    let install = Install::of(dependencies);
    if project.is_dynamic("dependencies") || prefers_pip(draft) {
        let step = installing(draft, &["-e", "."]);
        return Ok(install
            .copying_all(draft, "what pyproject.toml needs is told by its build alone")
            .and(step));
    }
    if let Some(table) = project.poetry_only() {
        let Some(text) = poetry::requirements(table) else { return Err(unlocked_poetry()) };
        draft.context.insert(POETRY_REQUIREMENTS.to_owned(), text.into_bytes());
        let install = Install { manifests: vec![words(&[POETRY_REQUIREMENTS, EXPORTED])], ..install };
        return Ok(install.step(&[UV, "pip", "install", "-r", EXPORTED]).with_project(draft, Some(project)));
    }
    let install = install.copying(&[PYPROJECT]).step(&[UV, "pip", "install", "-r", PYPROJECT]);
    Ok(install.with_project(draft, Some(project)))
}

fn unlocked_poetry() -> DetectError {
    DetectError::MissingLock {
        manifest: PYPROJECT.to_owned(),
        lock: "poetry.lock".to_owned(),
        command: "poetry lock".to_owned(),
    }
}

fn from_setup(draft: &mut Draft<'_>) -> Install {
    let file = draft.files.first_of(&["setup.py", "setup.cfg"]).unwrap_or_default();
    draft.decide(format!("uv pip install, from {file}"));
    let install = Install::of(project::setup_dependencies(draft.files));
    let step = installing(draft, &["-e", "."]);
    install.copying_all(draft, &format!("what {file} needs is told by its build alone")).and(step)
}

fn from_requirements(draft: &mut Draft<'_>, file: &str) -> Result<Install, DetectError> {
    let Requirements { mut dependencies, files, local, only_pip, extra_index } =
        requirements::read(draft.files, file)?;
    if local {
        if let Some(project) = Project::read(draft.files)? {
            dependencies.merge(project.dependencies());
        }
        if draft.files.has("setup.py") || draft.files.has("setup.cfg") {
            dependencies.merge(project::setup_dependencies(draft.files));
        }
    }
    let install = Install { any_index: extra_index, ..Install::of(dependencies) };
    let install = if let Some(place) = only_pip {
        draft.decide(format!("pip install, from {file}"));
        draft.warn(format!("{place} is for pip alone: pip installs, which takes longer than uv"));
        install.step(&[&PIP[..], &["-r", file]].concat())
    } else {
        let pip = prefers_pip(draft);
        draft.decide(format!("{}pip install, from {file}", if pip { "" } else { "uv " }));
        let step = installing(draft, &["-r", file]);
        install.and(step)
    };
    if local {
        return Ok(install.copying_all(draft, &format!("{file} names local paths")));
    }
    let manifests = files.iter().map(|file| copy(&[file], &format!("./{file}"))).collect();
    Ok(Install { manifests, ..install })
}
