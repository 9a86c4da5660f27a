//! `images`: the bases that apps are built on.

use super::of_app::OfApp;
use super::table::table;
use super::{CommandError, Right, Session, authorise};
use crate::buildpack;
use crate::deploy::{BaseChange, DeployError, update_mark};
use crate::model::{App, AppName, BaseImage, ImageSource};
use crate::store;
use serde_json::json;
use tokio::io::AsyncWriteExt;

impl Session<'_> {
    pub(super) async fn images(
        &mut self,
        prepare: Option<String>,
        as_json: bool,
    ) -> Result<(), CommandError> {
        let catalog = self.pipeline.base_catalog().await?;
        let bases = buildpack::bases(&catalog).map_err(DeployError::Detect)?;
        if let Some(language) = prepare {
            let chosen: Vec<&(String, String, BaseImage)> =
                bases.iter().filter(|(name, ..)| language == "all" || *name == language).collect();
            if chosen.is_empty() {
                let mut known: Vec<String> = bases.iter().map(|(name, ..)| name.clone()).collect();
                known.dedup();
                return Err(CommandError::NoLanguage(language.chars().take(40).collect(), known));
            }
            self.prepare_bases(&chosen).await?;
        }
        self.list_bases(&bases, as_json).await
    }

    /// Newer bases for the next build of one app, or of all.
    pub(super) async fn images_update(&mut self, app: OfApp, all: bool) -> Result<(), CommandError> {
        let mark = update_mark();
        if !all {
            let name = app.only("images:update")?;
            let app = self.app(&name).await?;
            return self.update_one(&app, &mark).await;
        }
        app.none("images:update")?;
        if !authorise(&self.caller, Right::Server) {
            return Err(CommandError::Forbidden);
        }
        let mut failed = Vec::new();
        for app in self.pipeline.workers.store.read(store::apps::list).await? {
            match self.update_one(&app, &mark).await {
                Ok(()) | Err(CommandError::Deploy(DeployError::NoRelease)) => {}
                Err(CommandError::Deploy(error)) => {
                    self.complain(&app.name, &error).await;
                    failed.push(app.name);
                }
                Err(error) => return Err(error),
            }
        }
        self.update_others(&mark).await?;
        if failed.is_empty() { Ok(()) } else { Err(CommandError::NotUpdated(failed)) }
    }

    async fn update_one(&mut self, app: &App, mark: &str) -> Result<(), CommandError> {
        let (pipeline, gone) = (self.pipeline.clone(), self.streams.gone.clone());
        let changes = self
            .reporting(|report| async move {
                tokio::select! {
                    changes = pipeline.update_bases(app, mark, &report) => Ok(changes?),
                    () = gone.cancelled() => Err(CommandError::Gone),
                }
            })
            .await?;
        self.print(&told(&app.name, &changes)).await
    }

    /// What went wrong with one app of all; the others are updated nevertheless.
    async fn complain(&mut self, app: &AppName, error: &DeployError) {
        tracing::warn!(%app, %error, "base images could not be updated");
        let text = format!("{app}: {}\n", super::said(&error.problem()));
        let _ = self.streams.stderr.write_all(text.as_bytes()).await;
    }

    async fn update_others(&mut self, mark: &str) -> Result<(), CommandError> {
        let (pipeline, gone) = (self.pipeline.clone(), self.streams.gone.clone());
        let count = self
            .reporting(|report| async move {
                tokio::select! {
                    count = pipeline.update_other_bases(mark, &report) => Ok(count?),
                    () = gone.cancelled() => Err(CommandError::Gone),
                }
            })
            .await?;
        let text = if count == 0 { String::new() } else { format!("{count} more for new apps.\n") };
        self.print(&text).await
    }

    /// The versions that can be asked for.
    pub(super) async fn available(&mut self, as_json: bool) -> Result<(), CommandError> {
        let used = self.pipeline.workers.source;
        let all = buildpack::available().map_err(DeployError::Detect)?;
        if as_json {
            let each = all.iter().map(|(language, source, versions)| {
                json!({"language": language, "source": source, "versions": versions, "used": *source == used})
            });
            return self.print_json(&each.collect()).await;
        }
        let rows: Vec<Vec<String>> = all
            .into_iter()
            .map(|(language, source, versions)| {
                let source = match source {
                    ImageSource::Debian => "debian",
                    ImageSource::Registry => "registry",
                };
                vec![language, source.to_owned(), versions]
            })
            .collect();
        let here = match used {
            ImageSource::Debian => "debian",
            ImageSource::Registry => "registry",
        };
        let text = table(&["LANGUAGE", "SOURCE", "VERSIONS"], &rows);
        self.print(&format!("{text}This server uses {here}.\n")).await
    }

    async fn prepare_bases(&mut self, chosen: &[&(String, String, BaseImage)]) -> Result<(), CommandError> {
        let pipeline = self.pipeline.clone();
        let gone = self.streams.gone.clone();
        self.reporting(|report| async move {
            for (language, version, base) in chosen {
                report.step(&format!("{language} {version}: {}", base.reference));
                tokio::select! {
                    made = pipeline.prepare_base(base, &report) => drop(made?),
                    () = gone.cancelled() => return Err(CommandError::Gone),
                }
            }
            Ok(())
        })
        .await?;
        self.changed = true;
        Ok(())
    }

    async fn list_bases(
        &mut self,
        bases: &[(String, String, BaseImage)],
        as_json: bool,
    ) -> Result<(), CommandError> {
        let engine = self.pipeline.workers.engine.clone();
        let mut rows = Vec::new();
        for (language, version, base) in bases {
            let here = engine.has_image(&base.reference).await.map_err(DeployError::from)?;
            let here = if here { "ready" } else { "on demand" };
            rows.push(vec![language.clone(), version.clone(), here.to_owned(), base.reference.clone()]);
        }
        if as_json {
            let all = rows
                .iter()
                .map(|row| json!({"language": row[0], "version": row[1], "state": row[2], "image": row[3]}));
            return self.print_json(&all.collect()).await;
        }
        self.print(&table(&["LANGUAGE", "VERSION", "STATE", "IMAGE"], &rows)).await
    }
}

/// What an update means for an app.
fn told(app: &AppName, changes: &[BaseChange]) -> String {
    if changes.is_empty() {
        return format!("There are no newer base images for {app}.\n");
    }
    let lines: String = changes.iter().map(|change| format!("  {change}\n")).collect();
    format!("The next push of {app} is built on other base images:\n{lines}")
}
