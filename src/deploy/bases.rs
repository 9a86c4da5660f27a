//! The base images of builds: made or pulled where they lack, known by what
//! exactly they are, and away with those that nobody needs.

use super::error::DeployError;
use super::pins::{self, Pins};
use super::pipeline::Pipeline;
use super::prepare::{Job, relay};
use super::report::Report;
use crate::model::{AppId, BaseImage, BasePin, BuildPlan, Recipe, Release, pin};
use crate::store::{self, bases::KnownBase};
use std::collections::BTreeSet;

impl Pipeline {
    /// What an app's next build may stand on.
    pub(super) async fn pins(&self, app: AppId) -> Result<Pins, DeployError> {
        let read = self.store().read(move |db| {
            let current = store::releases::current(db, app)?.map(|release| release.bases);
            let (next, known) = (store::bases::next(db, app)?, store::bases::known(db)?);
            Ok(Pins::new(&current.unwrap_or_default(), &next, &known))
        });
        Ok(read.await?)
    }

    /// The first base of a plan that was chosen and is there no more. An official
    /// image may still be had by its digest.
    pub(super) async fn gone(&self, plan: &BuildPlan, pins: &Pins) -> Result<Option<BasePin>, DeployError> {
        for base in &plan.bases {
            let Some(pin) = pins.of(&base.name) else { continue };
            if self.engine().has_image(&pin.reference).await? {
                continue;
            }
            let official = pin.digest.as_ref().filter(|_| base.recipe == Recipe::Pull);
            let again = match official {
                Some(digest) => self.engine().pull_again(&base.name, digest).await.is_ok(),
                None => false,
            };
            if !again {
                return Ok(Some(pin.clone()));
            }
        }
        Ok(None)
    }

    /// Has the base images made or pulled that the engine lacks, and notes in the
    /// release which they are.
    pub(super) async fn bases(
        &self,
        job: &Job,
        release: &mut Release,
        plan: &BuildPlan,
    ) -> Result<(), DeployError> {
        let mut found = Vec::new();
        for base in &plan.bases {
            if !self.engine().has_image(&base.reference).await? {
                job.turn.step("preparing the base image");
                job.report.step(&format!("Preparing base image {}", base.reference));
            }
            found.push(self.prepare_base(base, &job.report).await?);
        }
        found.retain(|base| !pin::is_aid(&base.name));
        if found.is_empty() {
            return Ok(());
        }
        let before = self.current(&job.app).await?.map(|release| release.bases).unwrap_or_default();
        let changes = if before.is_empty() { Vec::new() } else { pins::changes(&before, &found) };
        if !changes.is_empty() {
            job.report.step("Other base images than before");
        }
        changes.iter().for_each(|change| job.report.detail(&change.to_string()));
        release.bases = found;
        self.save(release).await
    }

    /// Has one base image made or pulled; what the tools print is reported. Which
    /// one it is.
    pub async fn prepare_base(&self, base: &BaseImage, report: &Report) -> Result<BasePin, DeployError> {
        let lacking = self.lacking(base).await?;
        if base.anew || lacking.contains(&base.reference) {
            let lines = report.clone();
            let (sender, relay) = relay(move |line: String| lines.foreign(&line));
            let scratch = self.workers.settings.data_dir.join("tmp");
            let work = self.engine().ensure_base(base, &self.workers.settings.build, &scratch, sender);
            let made = report.alive("still preparing", work).await;
            self.prune_cache();
            let _ = relay.await;
            made?;
        }
        self.note(base, &lacking).await
    }

    /// Which images of a base and what it stands on are not there.
    async fn lacking(&self, base: &BaseImage) -> Result<BTreeSet<String>, DeployError> {
        let mut lacking = BTreeSet::new();
        for member in family(base) {
            if !self.engine().has_image(&member.reference).await? {
                lacking.insert(member.reference.clone());
            }
        }
        Ok(lacking)
    }

    /// Writes down what a base and what it stands on are, as far as that is news.
    async fn note(&self, base: &BaseImage, made: &BTreeSet<String>) -> Result<BasePin, DeployError> {
        let known = self.store().read(store::bases::known).await?;
        let mut found: Vec<KnownBase> = Vec::new();
        for member in family(base) {
            let Some(pin) = self.pin(member, &known).await? else { continue };
            let fresh = member.anew || made.contains(&member.reference);
            let under = found.last().filter(|_| fresh).and_then(|parent| parent.pin.digest.clone());
            let ours = fresh || member.recipe == Recipe::Pull && pin.reference != member.name;
            let digest = pin.digest.clone().or(under);
            found.push(KnownBase { pin: BasePin { digest, ..pin }, ours });
        }
        let last = found.last().map(|base| base.pin.clone());
        let is_known =
            |base: &KnownBase| known.iter().any(|old| old.pin == base.pin && old.ours >= base.ours);
        found.retain(|base| !is_known(base));
        if !found.is_empty() {
            let write = move |db: &rusqlite::Transaction<'_>| {
                found.iter().try_for_each(|base| store::bases::remember(db, base))
            };
            self.store().write(write).await?;
        }
        last.ok_or_else(|| DeployError::Internal(format!("{} is gone again", base.reference)))
    }

    /// What one image is; `None` if it is not there, as parents may not be.
    async fn pin(&self, base: &BaseImage, known: &[KnownBase]) -> Result<Option<BasePin>, DeployError> {
        let Some(identity) = self.engine().identity(&base.reference).await? else { return Ok(None) };
        let mut pin = BasePin {
            name: base.name.clone(),
            reference: base.reference.clone(),
            image_id: identity.id,
            digest: identity.digest,
            made_at: identity.created,
        };
        if base.recipe == Recipe::Pull {
            if let (Some(digest), true) = (&pin.digest, base.reference == base.name) {
                pin.reference = self.engine().name_locally(&base.name, digest).await?;
            }
            // When it came here counts, not when somebody else made it.
            pin.made_at = store::now();
        }
        let same =
            |known: &&KnownBase| known.pin.reference == pin.reference && known.pin.image_id == pin.image_id;
        Ok(Some(known.iter().find(same).map_or(pin.clone(), |known| known.pin.clone())))
    }

    /// Removes bases of ours that something newer stands in for, unless a release
    /// that may run again was built on them.
    pub(super) async fn prune_bases(&self) -> Result<(), DeployError> {
        let known = self.store().read(store::bases::known).await?;
        let old = pins::superseded(&known);
        if old.is_empty() {
            return Ok(());
        }
        let used = self.used_bases().await?;
        for pin in old.into_iter().filter(|pin| !used.contains(&pin.reference)) {
            match self.engine().remove_image(&pin.reference).await {
                Ok(()) => self.forget_base(&pin.reference).await?,
                Err(error) => tracing::debug!(image = pin.reference, %error, "an old base stays"),
            }
        }
        Ok(())
    }

    pub(super) async fn forget_base(&self, reference: &str) -> Result<(), DeployError> {
        let reference = reference.to_owned();
        Ok(self.store().write(move |db| store::bases::forget(db, &reference)).await?)
    }

    /// References of the bases of all releases whose image is kept, and of those
    /// that apps were given.
    async fn used_bases(&self) -> Result<BTreeSet<String>, DeployError> {
        let keep = self.workers.settings.retention;
        let read = self.store().read(move |db| {
            let mut used = BTreeSet::new();
            for (app, next) in store::bases::given(db)? {
                let releases = store::releases::history(db, app.id)?;
                let standby = store::windows::of(db, app.id)?.map(|window| window.before);
                let kept = super::images::reasons(&releases, standby, keep, store::now());
                let built = releases.into_iter().filter(|release| kept.contains_key(&release.image));
                let bases = built.flat_map(|release| release.bases).chain(next);
                used.extend(bases.map(|pin| pin.reference));
            }
            Ok(used)
        });
        Ok(read.await?)
    }
}

/// A base and what it stands on, parents first.
fn family(base: &BaseImage) -> Vec<&BaseImage> {
    let mut members = match &base.recipe {
        Recipe::Build { parents, .. } => parents.iter().flat_map(family).collect(),
        Recipe::Pull | Recipe::Debootstrap { .. } => Vec::new(),
    };
    members.push(base);
    members
}
