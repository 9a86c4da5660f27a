//! `sbom`: what a release consists of, read from the lock files of its commit.
//!
//! Nothing is kept for it: `refs/releases/vN` keeps the commit, and the same
//! commit gives the same bill.

use super::grammar::SbomFormat;
use super::of_app::OfApp;
use super::releases::at_most_one;
use super::table::{table, time};
use super::{CommandError, Session};
use crate::buildpack::{self, Catalog};
use crate::deploy::DeployError;
use crate::git::PushedTree;
use crate::git::tree::Bounds;
use crate::model::{App, BuildPlan, Dockerfile, Recipe, Release, ReleaseState, SourceTree};
use crate::sbom::{self, Base, Bill, Subject};
use crate::store;
use std::path::Path;

/// One at a time: each may hold a large lock file in memory.
static TURN: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(1);

/// What a commit tells of the release that was built from it.
struct Found {
    bill: Bill,
    bases: Vec<Base>,
}

impl Session<'_> {
    pub(super) async fn sbom(&mut self, app: OfApp, format: SbomFormat) -> Result<(), CommandError> {
        let (name, words) = app.split("sbom")?;
        let number = at_most_one(&words)?;
        let app = self.app(&name).await?;
        let release = self.release(&app, number).await?;
        let found = self.found(&app, &release).await?;
        let made = time(store::now());
        let mut serial = [0; 16];
        getrandom::fill(&mut serial).map_err(|error| CommandError::Internal(error.to_string()))?;
        let subject = Subject {
            app: name.as_str(),
            release: release.number,
            commit: release.commit.as_str(),
            image: &release.image_id,
            runtime: runtime(&release.runtime),
            bases: found.bases,
            made: &made,
            serial,
        };
        self.note(&found.bill.notes).await;
        match format {
            SbomFormat::Cyclonedx => self.print_json(&sbom::document(&subject, &found.bill)).await,
            SbomFormat::Table => {
                let rows = sbom::table(&subject, &found.bill);
                self.print(&table(&["KIND", "NAME", "VERSION", "NEEDED BY", "FILE"], &rows)).await
            }
        }
    }

    /// The release of that number that serves or served; else the one that serves.
    async fn release(&mut self, app: &App, number: Option<u32>) -> Result<Release, CommandError> {
        let id = app.id;
        let releases = self.pipeline.workers.store.read(move |db| store::releases::history(db, id)).await?;
        let served = |release: &Release| {
            !matches!(release.state, ReleaseState::Preparing | ReleaseState::Ready | ReleaseState::Failed)
        };
        let known = releases.iter().filter(|release| served(release)).map(|release| release.number).collect();
        let found = match number {
            None => releases.into_iter().find(|release| release.state == ReleaseState::Current),
            Some(number) => match releases.into_iter().find(|release| release.number == number) {
                None => return Err(DeployError::NoSuchRelease(number, known).into()),
                Some(release) if !served(&release) => {
                    return Err(DeployError::NeverServed(number, known).into());
                }
                found => found,
            },
        };
        Ok(found.ok_or(DeployError::NoRelease)?)
    }

    async fn found(&mut self, app: &App, release: &Release) -> Result<Found, CommandError> {
        let repository = self.pipeline.repository(&app.repository);
        let (catalog, release) = (self.pipeline.catalog_of(release), release.clone());
        let internal = |error: &dyn std::fmt::Display| CommandError::Internal(error.to_string());
        let _turn = TURN.acquire().await.map_err(|error| internal(&error))?;
        let work = tokio::task::spawn_blocking(move || look(&repository, &release, &catalog));
        work.await.map_err(|error| internal(&error))?
    }

    /// What the reader should know, where it does not get into the document.
    async fn note(&mut self, notes: &[String]) {
        use tokio::io::AsyncWriteExt;
        for note in notes {
            let line = crate::output::warning(note);
            let _ = self.streams.stderr.write_all(format!("{line}\n").as_bytes()).await;
        }
    }
}

fn look(repository: &Path, release: &Release, catalog: &Catalog) -> Result<Found, CommandError> {
    let tree = PushedTree::open(repository, None, &release.commit, Bounds::default());
    let tree = tree.map_err(|error| {
        if error.is_missing() {
            return CommandError::CommitGone(release.number, release.commit.clone());
        }
        CommandError::Deploy(error.into())
    })?;
    // A server that would refuse this commit today can still tell what is in it.
    let plan = buildpack::plan(&tree, catalog).ok();
    let root = plan.as_ref().map(|plan| plan.root.clone()).unwrap_or_default();
    let tree = if root.is_empty() { tree } else { tree.below(&root) };
    let own = plan.as_ref().is_none_or(|plan| !matches!(plan.dockerfile, Dockerfile::Generated(_)));
    let bill = sbom::read(&tree, own)?;
    Ok(Found { bill, bases: plan.as_ref().map(|plan| bases(plan, &tree)).unwrap_or_default() })
}

/// The images of a plan: what the app runs in, and what it is built in.
fn bases(plan: &BuildPlan, tree: &dyn SourceTree) -> Vec<Base> {
    let text = match &plan.dockerfile {
        Dockerfile::Generated(text) | Dockerfile::Rewritten { text, .. } => text.clone(),
        Dockerfile::Own(path) => {
            String::from_utf8_lossy(&tree.read(path, 1 << 20).unwrap_or_default()).into_owned()
        }
    };
    let images = images(&text);
    let last = images.last().cloned();
    let mut bases: Vec<Base> = Vec::new();
    for reference in images {
        let runs = last.as_ref() == Some(&reference);
        let known = plan.bases.iter().find(|base| base.reference == reference);
        let ours = known.is_some_and(|base| base.recipe != Recipe::Pull);
        // An official image has a name of ours here, which says nothing elsewhere.
        let official = known.filter(|_| !ours).map(|base| base.name.clone());
        let base = Base { runs, public: !ours, reference: official.unwrap_or(reference) };
        if !bases.contains(&base) {
            bases.push(base);
        }
    }
    bases
}

/// What the stages of a Dockerfile stand on; stages that stand on another are
/// followed to its image. The last one is what runs.
fn images(dockerfile: &str) -> Vec<String> {
    let mut stages: Vec<(String, String)> = Vec::new();
    let mut found = Vec::new();
    for line in dockerfile.lines() {
        let words: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with("--")).collect();
        let [from, image, rest @ ..] = words.as_slice() else { continue };
        if !from.eq_ignore_ascii_case("FROM") {
            continue;
        }
        let stage = stages.iter().find(|(name, _)| name.eq_ignore_ascii_case(image));
        let image = stage.map_or_else(|| (*image).to_owned(), |(_, image)| image.clone());
        if let [_, name] = rest {
            stages.push(((*name).to_owned(), image.clone()));
        }
        found.push(image);
    }
    found.retain(|image| !image.contains('$') && image != "scratch");
    found
}

/// `Python 3.11` → name and version; none without a version.
fn runtime(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once(' ').filter(|(_, version)| version.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stage_is_followed_to_its_image() {
        let text = "# FROM x\nFROM --platform=linux/amd64 node:22 AS build\nRUN x\nFROM python:3.12 as base\nFROM base\nFROM ${X}\n";
        assert_eq!(images(text), ["node:22", "python:3.12", "python:3.12"]);
    }

    #[test]
    fn a_runtime_has_a_version() {
        assert_eq!(runtime("Python 3.11"), Some(("Python", "3.11")));
        assert_eq!(runtime("Static site"), None);
        assert_eq!(runtime("Dockerfile"), None);
    }
}
