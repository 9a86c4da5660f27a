//! Which lock files an app has, and what they list together.

use super::component::Component;
use super::source::Files;
use super::{SbomError, bun, composer, gem, go, npm, pnpm, python, requirements, yarn};
use crate::model::{EntryKind, SourceTree};
use std::collections::BTreeMap;

/// Most packages of a document.
const MOST: usize = 50_000;

/// Most folders of a Dockerfile's tree that are looked through, and how deep.
const MOST_FOLDERS: usize = 100;
const DEEPEST: usize = 4;

/// Folders of other people's code.
const FOREIGN: [&str; 6] = ["node_modules", "vendor", "testdata", ".yarn", "test", "tests"];

/// What an app consists of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// Packages, each once, by purl.
    pub components: Vec<Component>,
    /// What the reader of the document should know.
    pub notes: Vec<String>,
}

/// Reads the lock files of an app: those in its root; with `everywhere` also those
/// below, for a Dockerfile that builds several things.
pub fn read(tree: &dyn SourceTree, everywhere: bool) -> Result<Bill, SbomError> {
    let mut all = Found::default();
    let folders = if everywhere { folders(tree) } else { vec![String::new()] };
    for folder in &folders {
        all.folder(Files { tree, folder })?;
    }
    let mut once: BTreeMap<String, Component> = BTreeMap::new();
    for component in all.components {
        match once.entry(component.purl()) {
            std::collections::btree_map::Entry::Vacant(free) => drop(free.insert(component)),
            // Needed by one is needed.
            std::collections::btree_map::Entry::Occupied(mut there) => {
                there.get_mut().development &= component.development;
            }
        }
    }
    let mut components: Vec<(String, Component)> = once.into_iter().collect();
    components.sort_by(|(a, x), (b, y)| (x.ecosystem, a).cmp(&(y.ecosystem, b)));
    let components = components.into_iter().map(|(_, component)| component).collect();
    Ok(Bill { components, notes: all.notes })
}

/// Folders that hold files, the root first.
fn folders(tree: &dyn SourceTree) -> Vec<String> {
    let mut folders = vec![String::new()];
    for entry in tree.entries().iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. })) {
        let Some((folder, _)) = entry.path.rsplit_once('/') else { continue };
        let parts = || folder.split('/');
        let folder = format!("{folder}/");
        let fine = parts().count() <= DEEPEST && !parts().any(|part| FOREIGN.contains(&part));
        if fine
            && folders.len() < MOST_FOLDERS
            && folders.last() != Some(&folder)
            && !folders.contains(&folder)
        {
            folders.push(folder);
        }
    }
    folders
}

#[derive(Default)]
struct Found {
    components: Vec<Component>,
    notes: Vec<String>,
}

/// A reader of one format.
type Reader = for<'a, 'n, 't> fn(Files<'a>, &'n str, &'t str) -> Result<Vec<Component>, SbomError>;

impl Found {
    fn folder(&mut self, files: Files<'_>) -> Result<(), SbomError> {
        self.python(files)?;
        self.node(files)?;
        if files.has("go.mod") || files.has("go.work") {
            self.add(files, "go.mod", go::read(files)?)?;
        }
        self.file(files, "Gemfile.lock", gem::read)?;
        self.file(files, "composer.lock", composer::read)?;
        Ok(())
    }

    /// The lock decides, as it does in the build.
    fn python(&mut self, files: Files<'_>) -> Result<(), SbomError> {
        const LOCKS: [(&str, Reader); 4] = [
            ("uv.lock", python::uv),
            ("poetry.lock", python::toml),
            ("pdm.lock", python::toml),
            ("Pipfile.lock", python::pipfile),
        ];
        const REQUIREMENTS: [&str; 6] = [
            "requirements.txt",
            "requirements/production.txt",
            "requirements/prod.txt",
            "requirements/base.txt",
            "requirements/requirements.txt",
            "requirements/common.txt",
        ];
        if let Some((name, reader)) = LOCKS.into_iter().find(|(name, _)| files.has(name)) {
            return self.file(files, name, reader);
        }
        if let Some(name) = REQUIREMENTS.into_iter().find(|name| files.has(name)) {
            let found = requirements::read(files, name)?;
            return self.loose(files, name, found);
        }
        let lines = python::Project::of(files)?.requirements();
        let found = requirements::of_lines(lines.iter().map(String::as_str));
        self.loose(files, "pyproject.toml", found)
    }

    fn node(&mut self, files: Files<'_>) -> Result<(), SbomError> {
        const LOCKS: [(&str, &str, Reader); 5] = [
            ("pnpm-lock.yaml", "pnpm", pnpm::read),
            ("bun.lock", "bun", bun::read),
            ("yarn.lock", "yarn", yarn::read),
            ("npm-shrinkwrap.json", "npm", npm::read),
            ("package-lock.json", "npm", npm::read),
        ];
        let manifest = npm::Manifest::of(files)?;
        let named = manifest.manager.0.as_deref().and_then(|text| text.split('@').next());
        let there = || LOCKS.into_iter().filter(|(name, ..)| files.has(name));
        let chosen = there().find(|(_, manager, _)| Some(*manager) == named).or_else(|| there().next());
        if let Some((name, _, reader)) = chosen {
            return self.file(files, name, reader);
        }
        if files.has("bun.lockb") {
            self.notes.push(format!("{} is binary and not read", files.path("bun.lockb")));
        }
        self.loose(files, npm::FILE, npm::unlocked(&manifest))
    }

    /// One file by its reader, if it is there.
    fn file(&mut self, files: Files<'_>, name: &str, reader: Reader) -> Result<(), SbomError> {
        let Some(text) = files.text(name)? else { return Ok(()) };
        let found = reader(files, name, &text)?;
        self.add(files, name, found)
    }

    /// The same for a file that is no lock.
    fn loose(&mut self, files: Files<'_>, name: &str, found: Vec<Component>) -> Result<(), SbomError> {
        if !found.is_empty() {
            let file = files.path(name);
            let open = found.iter().filter(|component| component.version.is_none()).count();
            self.notes.push(match open {
                0 => format!("{file} is no lock file: what its packages need may be missing"),
                _ => format!(
                    "{file} is no lock file: {open} without a version, and what they need may be missing"
                ),
            });
        }
        self.add(files, name, found)
    }

    fn add(&mut self, files: Files<'_>, name: &str, found: Vec<Component>) -> Result<(), SbomError> {
        let file = files.path(name);
        if self.components.len() + found.len() > MOST {
            return Err(SbomError::TooMany { file, limit: MOST });
        }
        self.components.extend(found.into_iter().filter(|component| !component.name.is_empty()).map(
            |component| {
                let file = if component.file.is_empty() { file.clone() } else { component.file };
                Component { file, ..component }
            },
        ));
        Ok(())
    }
}
