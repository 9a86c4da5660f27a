//! `images`: the bases that apps are built on.

use super::table::table;
use super::{CommandError, Session};
use crate::buildpack;
use crate::deploy::DeployError;
use crate::model::{BaseImage, ImageSource};
use serde_json::json;

impl Session<'_> {
    pub(super) async fn images(
        &mut self,
        prepare: Option<String>,
        as_json: bool,
    ) -> Result<(), CommandError> {
        let catalog = self.pipeline.base_catalog();
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

    /// The versions that can be asked for.
    pub(super) async fn available(&mut self, as_json: bool) -> Result<(), CommandError> {
        let used = self.pipeline.base_catalog().source;
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
                    made = pipeline.prepare_base(base, &report) => made?,
                    () = gone.cancelled() => return Err(CommandError::Gone),
                }
            }
            Ok(())
        })
        .await
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
