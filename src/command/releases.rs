//! `releases…`, `rollback` and `builds…`.

use super::of_app::OfApp;
use super::table::{table, time};
use super::{CommandError, Session};
use crate::deploy::{ImageVerdict, KeptFor, RolledBack};
use crate::model::{AppName, Release, Why};
use crate::store;
use serde_json::json;

impl Session<'_> {
    pub(super) async fn builds_cancel(&mut self, name: AppName) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let release = match self.pipeline.cancel(&app, self.caller.name()).await? {
            Some(number) => format!("v{number}"),
            None => "a push".to_owned(),
        };
        self.print(&format!("Cancelled {release} of {name}; what ran before still runs.\n")).await
    }

    pub(super) async fn releases(&mut self, name: AppName, as_json: bool) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let releases =
            self.pipeline.workers.store.read(move |db| store::releases::history(db, app.id)).await?;
        if as_json {
            let all = releases.iter().map(|release| {
                json!({
                    "number": release.number, "commit": release.commit, "state": release.state,
                    "why": release.why, "source": release.source, "who": release.who, "created": time(release.created_at),
                    "bases": release.bases.iter().map(super::builds::base).collect::<Vec<_>>(),
                    "evidence": release.evidence.as_ref().map(ToString::to_string),
                })
            });
            return self.print_json(&all.collect()).await;
        }
        let rows: Vec<Vec<String>> = releases
            .iter()
            .map(|release| {
                vec![
                    format!("v{}", release.number),
                    word(&release.state),
                    release.commit.short().to_owned(),
                    why(release),
                    release.who.clone(),
                    time(release.created_at),
                ]
            })
            .collect();
        self.print(&table(&["RELEASE", "STATE", "COMMIT", "WHY", "WHO", "CREATED"], &rows)).await
    }

    pub(super) async fn rollback(&mut self, app: OfApp, keep_config: bool) -> Result<(), CommandError> {
        let (name, words) = app.split("rollback")?;
        let to = at_most_one(&words)?;
        let app = self.app(&name).await?;
        let (pipeline, who) = (self.pipeline.clone(), self.caller.name().to_owned());
        let RolledBack { number, source, config_changed } = self
            .reporting(|report| {
                let (pipeline, app, who) = (&pipeline, &app, &who);
                async move { Ok(pipeline.rollback(app, to, keep_config, who, &report).await?) }
            })
            .await?;
        let branch = self.app(&name).await?.deploy_branch.unwrap_or_default();
        let text = format!(
            "Rolled back {name} to v{} as v{number}; {branch} is at {} again.\n",
            source.number,
            source.commit.short()
        );
        let config = if config_changed {
            format!("Its config vars are those of v{} again; --keep-config keeps today's.\n", source.number)
        } else {
            String::new()
        };
        let text = text + &config;
        self.print(&text).await
    }

    pub(super) async fn releases_prune(&mut self, name: AppName, dry_run: bool) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let verdicts = self.pipeline.judge_images(&app).await?;
        let gone =
            if dry_run { Vec::new() } else { self.pipeline.prune_images(&app, self.caller.name()).await? };
        let rows: Vec<Vec<String>> = verdicts.iter().map(|verdict| fate(verdict, dry_run, &gone)).collect();
        let text = table(&["IMAGE", "RELEASES", "MIB", "FATE"], &rows) + &freed(&verdicts, dry_run, &gone);
        self.print(&text).await
    }
}

/// What the removal of images comes to. They have layers in common, which stay with
/// the others.
fn freed(verdicts: &[ImageVerdict], dry_run: bool, gone: &[ImageVerdict]) -> String {
    let due: Vec<&ImageVerdict> = verdicts.iter().filter(|verdict| verdict.kept.is_none()).collect();
    let (done, images) = if dry_run { ("Would remove", due) } else { ("Removed", gone.iter().collect()) };
    if images.is_empty() {
        return "Nothing goes.\n".to_owned();
    }
    let mib = images.iter().map(|image| image.size >> 20).sum::<i64>();
    let count = images.len();
    let noun = if count == 1 { "image" } else { "images" };
    format!("{done} {count} {noun}: at most {mib} MiB, less what the others have in common with them.\n")
}

fn fate(verdict: &ImageVerdict, dry_run: bool, gone: &[ImageVerdict]) -> Vec<String> {
    let fate = match verdict.kept {
        Some(KeptFor::Serving) => "stays: it serves",
        Some(KeptFor::Standby) => "stays: it stands by while its successor is watched",
        Some(KeptFor::Preparing) => "stays: it is being prepared",
        Some(KeptFor::Recent) => "stays: one of the last releases (releases.keep)",
        Some(KeptFor::Young) => "stays: it served not long ago (releases.keep_time)",
        None if dry_run => "would go",
        None if gone.contains(verdict) => "removed",
        None => "stays for now: a container still uses it",
    };
    let releases: Vec<String> = verdict.releases.iter().map(|number| format!("v{number}")).collect();
    let mib = (verdict.size >> 20).to_string();
    vec![verdict.image.clone(), releases.join(" "), mib, fate.to_owned()]
}

/// The release that is named, if one is.
pub(super) fn at_most_one(words: &[String]) -> Result<Option<u32>, CommandError> {
    match words {
        [] => Ok(None),
        [word] => Ok(Some(number(word)?)),
        [_, word, ..] => Err(CommandError::NotARelease(word.chars().take(40).collect())),
    }
}

/// `v3` or `3`.
fn number(word: &str) -> Result<u32, CommandError> {
    let digits = word.strip_prefix('v').unwrap_or(word);
    digits.parse().map_err(|_| CommandError::NotARelease(word.chars().take(40).collect()))
}

/// `push`, `rollback to v3`, `automatic rollback to v3: 12 of 80 answers were 5xx`.
fn why(release: &Release) -> String {
    match (release.why, release.source, &release.evidence) {
        (Why::Rollback, Some(source), _) => format!("rollback to v{source}"),
        (Why::Automatic, Some(source), Some(evidence)) => {
            format!("automatic rollback to v{source}: {evidence}")
        }
        _ => word(&release.why),
    }
}

/// How an enum of the model is written.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
