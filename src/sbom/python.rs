//! Lock files of uv, Poetry, PDM and Pipenv.

use super::SbomError;
use super::component::{Archive, Component, Ecosystem, Hash, address, plain};
use super::graph::reached;
use super::source::{Files, Keys, Loose};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// A lock of uv.
#[derive(Deserialize)]
struct UvLock {
    #[serde(default, rename = "package")]
    packages: Vec<UvPackage>,
}

#[derive(Deserialize)]
struct UvPackage {
    name: String,
    #[serde(default)]
    version: Loose,
    #[serde(default)]
    source: BTreeMap<String, Loose>,
    #[serde(default)]
    dependencies: Vec<UvEdge>,
    #[serde(default, rename = "optional-dependencies")]
    extras: BTreeMap<String, Vec<UvEdge>>,
    #[serde(default)]
    sdist: Option<UvArchive>,
    #[serde(default)]
    wheels: Vec<UvArchive>,
}

#[derive(Deserialize)]
struct UvEdge {
    name: String,
    #[serde(default)]
    version: Loose,
    #[serde(default)]
    extra: Vec<String>,
}

#[derive(Deserialize)]
struct UvArchive {
    #[serde(default)]
    url: Loose,
    #[serde(default)]
    path: Loose,
    #[serde(default)]
    hash: Loose,
}

/// All packages of uv's lock; `uv sync --no-dev` leaves the groups and the app's
/// own extras out.
pub(super) fn uv(files: Files<'_>, name: &str, text: &str) -> Result<Vec<Component>, SbomError> {
    let lock: UvLock = files.toml(name, text)?;
    let needed = uv_needed(&lock.packages);
    let packages = lock.packages.iter().zip(needed).filter(|(package, _)| !is_own(package));
    Ok(packages.map(|(package, needed)| uv_component(package, needed)).collect())
}

/// A folder of the repository.
fn is_own(package: &UvPackage) -> bool {
    ["virtual", "editable", "directory"].iter().any(|kind| package.source.contains_key(*kind))
}

/// Packages are nodes, and so is each name and each extra of a name, which lead to
/// all packages of that name: a lock has edges without a version, and with many
/// versions of a name they would multiply.
fn uv_needed(packages: &[UvPackage]) -> Vec<bool> {
    let mut graph = UvGraph { nodes: HashMap::new(), edges: vec![Vec::new(); packages.len()] };
    let mut exact = HashMap::new();
    for (index, package) in packages.iter().enumerate() {
        let name = graph.node(&package.name, "");
        graph.edges[name].push(index);
        exact.insert((package.name.as_str(), package.version.0.as_deref()), index);
    }
    for (index, package) in packages.iter().enumerate() {
        graph.edges[index] = graph.targets(&package.dependencies, &exact);
        for (extra, dependencies) in &package.extras {
            let node = graph.node(&package.name, extra);
            let targets = graph.targets(dependencies, &exact);
            graph.edges[node].extend(targets);
        }
    }
    let at_root = |package: &UvPackage| package.source.values().any(|place| place.0.as_deref() == Some("."));
    let root: Vec<usize> = (0..packages.len()).filter(|&index| at_root(&packages[index])).collect();
    let members = (0..packages.len()).filter(|&index| is_own(&packages[index]));
    let roots = if root.is_empty() { members.collect() } else { root };
    let mut needed = reached(roots, &graph.edges);
    needed.truncate(packages.len());
    needed
}

struct UvGraph<'l> {
    /// Name and extra (empty: the name itself) → node.
    nodes: HashMap<(&'l str, &'l str), usize>,
    edges: Vec<Vec<usize>>,
}

impl<'l> UvGraph<'l> {
    fn node(&mut self, name: &'l str, extra: &'l str) -> usize {
        let edges = &mut self.edges;
        *self.nodes.entry((name, extra)).or_insert_with(|| {
            edges.push(Vec::new());
            edges.len() - 1
        })
    }

    fn targets(&mut self, edges: &'l [UvEdge], exact: &HashMap<(&str, Option<&str>), usize>) -> Vec<usize> {
        let mut targets = Vec::new();
        for edge in edges {
            let version = edge.version.0.as_deref().filter(|version| !version.is_empty());
            let known = version.and_then(|_| exact.get(&(edge.name.as_str(), version)).copied());
            targets.push(known.unwrap_or_else(|| self.node(&edge.name, "")));
            targets.extend(edge.extra.iter().map(|extra| self.node(&edge.name, extra)));
        }
        targets
    }
}

fn uv_component(package: &UvPackage, needed: bool) -> Component {
    let archive = |archive: &UvArchive| {
        let place =
            archive.url.0.as_deref().and_then(address).or_else(|| archive.path.0.as_deref().map(plain))?;
        Some(Archive { place, hash: archive.hash.0.as_deref().and_then(Hash::colon) })
    };
    Component {
        archives: package.sdist.iter().chain(&package.wheels).filter_map(archive).collect(),
        repository: package.source.get("git").and_then(|git| git.0.as_deref()).and_then(address),
        development: !needed,
        ..Component::new(Ecosystem::Pypi, &package.name, package.version.0.as_deref())
    }
}

/// A lock of Poetry's or PDM's.
#[derive(Deserialize)]
struct TomlLock {
    #[serde(default, rename = "package")]
    packages: Vec<TomlPackage>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    /// Of older ones: name → files.
    #[serde(default)]
    files: BTreeMap<String, Vec<TomlFile>>,
}

#[derive(Deserialize)]
struct TomlPackage {
    name: String,
    #[serde(default)]
    version: Loose,
    /// Of Poetry before 1.5.
    #[serde(default)]
    category: Loose,
    #[serde(default)]
    optional: bool,
    /// `main` (Poetry) or `default` (PDM) is what runs.
    #[serde(default)]
    groups: Option<Vec<String>>,
    #[serde(default)]
    files: Vec<TomlFile>,
    #[serde(default)]
    source: Option<TomlSource>,
    /// PDM's own folders, repositories.
    #[serde(default)]
    path: Loose,
    #[serde(default)]
    git: Loose,
    /// Poetry's table; PDM's is a list, and nothing needs it.
    #[serde(default)]
    dependencies: Keys,
}

#[derive(Deserialize)]
struct TomlFile {
    #[serde(default)]
    file: Loose,
    #[serde(default)]
    url: Loose,
    #[serde(default)]
    hash: Loose,
}

#[derive(Deserialize)]
struct TomlSource {
    #[serde(default, rename = "type")]
    kind: Loose,
    #[serde(default)]
    url: Loose,
}

/// All packages of a lock of Poetry's or PDM's.
pub(super) fn toml(files: Files<'_>, name: &str, text: &str) -> Result<Vec<Component>, SbomError> {
    let lock: TomlLock = files.toml(name, text)?;
    let untold = lock.packages.iter().all(|package| package.groups.is_none() && package.category.0.is_none());
    let needed = if untold { poetry_needed(files, &lock.packages)? } else { None };
    let own = |package: &TomlPackage| {
        let kind = package.source.as_ref().and_then(|source| source.kind.0.as_deref());
        kind == Some("directory") || package.path.0.is_some()
    };
    let mut found = Vec::new();
    for (index, package) in lock.packages.iter().enumerate().filter(|(_, package)| !own(package)) {
        let reached = needed.as_ref().map(|needed| needed[index]);
        let older = lock.metadata.files.get(&package.name).into_iter().flatten();
        let source = package.source.as_ref().filter(|source| source.kind.0.as_deref() == Some("git"));
        let git = source.and_then(|source| source.url.0.as_deref()).or(package.git.0.as_deref());
        found.push(Component {
            archives: package.files.iter().chain(older).filter_map(archive).collect(),
            repository: git.and_then(address),
            development: !runs(package, reached),
            ..Component::new(Ecosystem::Pypi, &package.name, package.version.0.as_deref())
        });
    }
    Ok(found)
}

fn runs(package: &TomlPackage, reached: Option<bool>) -> bool {
    if let Some(groups) = &package.groups {
        return !package.optional && groups.iter().any(|group| group == "main" || group == "default");
    }
    !package.optional && package.category.0.as_deref() != Some("dev") && reached.unwrap_or(true)
}

fn archive(file: &TomlFile) -> Option<Archive> {
    let place = file.url.0.as_deref().and_then(address).or_else(|| file.file.0.as_deref().map(plain))?;
    Some(Archive { place, hash: file.hash.0.as_deref().and_then(Hash::colon) })
}

/// Between 1.5 and 1.8 Poetry's lock did not tell what is for development, but
/// its pyproject.toml does.
fn poetry_needed(files: Files<'_>, packages: &[TomlPackage]) -> Result<Option<Vec<bool>>, SbomError> {
    let project = Project::of(files)?;
    let direct: Vec<String> = project.names();
    if direct.is_empty() {
        return Ok(None);
    }
    let by_name: HashMap<String, usize> =
        packages.iter().enumerate().map(|(index, package)| (normal(&package.name), index)).collect();
    let known = |name: &String| by_name.get(&normal(name)).copied();
    let edges: Vec<Vec<usize>> =
        packages.iter().map(|package| package.dependencies.0.iter().filter_map(known).collect()).collect();
    Ok(Some(reached(direct.iter().filter_map(known), &edges)))
}

/// One spelling of a name.
fn normal(name: &str) -> String {
    name.to_lowercase().replace(['_', '.'], "-")
}

/// What `pyproject.toml` asks for.
#[derive(Default, Deserialize)]
pub(super) struct Project {
    #[serde(default)]
    project: Table,
    #[serde(default)]
    tool: Tool,
}

#[derive(Default, Deserialize)]
struct Table {
    #[serde(default)]
    dependencies: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Tool {
    #[serde(default)]
    poetry: Poetry,
}

#[derive(Default, Deserialize)]
struct Poetry {
    #[serde(default)]
    dependencies: BTreeMap<String, Loose>,
}

impl Project {
    /// That of a folder; an empty one if there is none.
    pub fn of(files: Files<'_>) -> Result<Self, SbomError> {
        const FILE: &str = "pyproject.toml";
        match files.text(FILE)? {
            Some(text) => files.toml(FILE, &text),
            None => Ok(Self::default()),
        }
    }

    fn names(&self) -> Vec<String> {
        let name = |requirement: &String| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            requirement.chars().take_while(|c| plain(*c)).collect()
        };
        let poetry = self.tool.poetry.dependencies.keys().filter(|name| *name != "python").cloned();
        self.project.dependencies.iter().map(name).chain(poetry).collect()
    }

    /// Requirement lines, for where no lock says which version.
    pub fn requirements(&self) -> Vec<String> {
        let poetry = self.tool.poetry.dependencies.iter().filter(|(name, _)| *name != "python");
        let poetry = poetry.map(|(name, asked)| format!("{name} {}", asked.0.as_deref().unwrap_or_default()));
        self.project.dependencies.iter().cloned().chain(poetry).collect()
    }
}

#[derive(Deserialize)]
struct PipfileLock {
    #[serde(default)]
    default: BTreeMap<String, PipfilePackage>,
    #[serde(default)]
    develop: BTreeMap<String, PipfilePackage>,
}

#[derive(Deserialize)]
struct PipfilePackage {
    #[serde(default)]
    version: Loose,
    #[serde(default)]
    hashes: Vec<String>,
    #[serde(default)]
    git: Loose,
    #[serde(default)]
    path: Loose,
    #[serde(default)]
    file: Loose,
}

/// All packages of `Pipfile.lock`.
pub(super) fn pipfile(files: Files<'_>, name: &str, text: &str) -> Result<Vec<Component>, SbomError> {
    let lock: PipfileLock = files.json(name, text)?;
    let development = lock.develop.iter().filter(|(name, _)| !lock.default.contains_key(*name));
    let all = lock.default.iter().map(|entry| (entry, false)).chain(development.map(|entry| (entry, true)));
    let own = |package: &PipfilePackage| package.path.0.is_some();
    let packages = all.filter(|((_, package), _)| !own(package));
    Ok(packages
        .map(|((name, package), development)| {
            let version = package.version.0.as_deref().map(|version| version.trim_start_matches('='));
            let place = package.file.0.as_deref().and_then(address);
            Component {
                archives: hashed(name, package.hashes.iter().map(String::as_str), place),
                repository: package.git.0.as_deref().and_then(address),
                development,
                ..Component::new(Ecosystem::Pypi, name, version)
            }
        })
        .collect())
}

/// Checksums of files whose names the lock does not tell: one of them is installed.
pub(super) fn hashed<'h>(
    name: &str,
    hashes: impl Iterator<Item = &'h str>,
    place: Option<String>,
) -> Vec<Archive> {
    let place = place
        .unwrap_or_else(|| format!("https://pypi.org/simple/{}/", super::component::encoded(&normal(name))));
    hashes.filter_map(Hash::colon).map(|hash| Archive { place: place.clone(), hash: Some(hash) }).collect()
}
