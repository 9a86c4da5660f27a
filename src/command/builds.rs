//! `builds`: what was built lately and on what, and which of it should be built anew.

use super::of_app::{NoApp, OfApp};
use super::table::{table, time};
use super::{CommandError, Session};
use crate::deploy::{Staleness, moment};
use crate::model::{App, BasePin, Release, Why};
use crate::store;
use serde_json::json;

/// How many builds are listed.
const MOST: usize = 20;

impl Session<'_> {
    pub(super) async fn builds(
        &mut self,
        app: OfApp,
        stale: bool,
        as_json: bool,
    ) -> Result<(), CommandError> {
        let app = match app.split("builds") {
            Err(NoApp::Missing(_)) => None,
            Err(error) => return Err(error.into()),
            Ok((name, _)) => Some(self.app(&name).await?),
        };
        if stale { self.stale_builds(app, as_json).await } else { self.recent_builds(app, as_json).await }
    }

    async fn recent_builds(&mut self, app: Option<App>, as_json: bool) -> Result<(), CommandError> {
        let read = self.pipeline.workers.store.read(move |db| {
            let apps = app.map_or_else(|| store::apps::list(db), |app| Ok(vec![app]))?;
            let mut builds = Vec::new();
            for app in apps {
                let releases = store::releases::history(db, app.id)?.into_iter();
                let built = releases.filter(|release| release.why == Why::Push).take(MOST);
                builds.extend(built.map(|release| (app.clone(), release)));
            }
            builds.sort_by_key(|(_, release)| std::cmp::Reverse((release.created_at, release.id)));
            builds.truncate(MOST);
            Ok(builds)
        });
        let builds = read.await?;
        if as_json {
            return self.print_json(&builds.iter().map(as_value).collect()).await;
        }
        let rows: Vec<Vec<String>> = builds.iter().map(row).collect();
        self.print(&table(&["APP", "RELEASE", "STATE", "COMMIT", "BUILT ON", "WHO", "CREATED"], &rows)).await
    }

    async fn stale_builds(&mut self, app: Option<App>, as_json: bool) -> Result<(), CommandError> {
        let mut found = self.pipeline.stale().await?;
        found.retain(|(stale, ..)| app.as_ref().is_none_or(|app| app.id == stale.id));
        if as_json {
            return self.print_json(&found.iter().map(stale_value).collect()).await;
        }
        if found.is_empty() {
            return self.print("Every app runs on the newest base images that are known here.\n").await;
        }
        let rows = found.iter().flat_map(|(app, release, reasons)| {
            let number = format!("v{}", release.number);
            reasons.iter().map(move |reason| vec![app.name.to_string(), number.clone(), reason.to_string()])
        });
        let text = table(&["APP", "RELEASE", "WHY"], &rows.collect::<Vec<_>>());
        let next = "Give an app newer ones for its next build: paas images:update APP\n";
        self.print(&format!("{text}{next}")).await
    }
}

/// `python 3.11 of 2026-11-21`, of the base that the image stands on.
fn built_on(bases: &[BasePin]) -> String {
    bases.first().map_or_else(|| "-".to_owned(), |pin| format!("{} of {}", pin.title(), moment(pin.made_at)))
}

fn row((app, release): &(App, Release)) -> Vec<String> {
    vec![
        app.name.to_string(),
        format!("v{}", release.number),
        super::releases::word(&release.state),
        release.commit.short().to_owned(),
        built_on(&release.bases),
        release.who.clone(),
        time(release.created_at),
    ]
}

fn as_value((app, release): &(App, Release)) -> serde_json::Value {
    json!({
        "app": app.name, "release": release.number, "state": release.state, "commit": release.commit,
        "runtime": release.runtime, "bases": release.bases.iter().map(base).collect::<Vec<_>>(),
        "who": release.who, "created": time(release.created_at),
    })
}

/// One base for scripts.
pub(super) fn base(pin: &BasePin) -> serde_json::Value {
    json!({
        "base": pin.title(), "image": pin.reference, "id": pin.image_id, "digest": pin.digest,
        "made": time(pin.made_at),
    })
}

fn stale_value((app, release, reasons): &(App, Release, Vec<Staleness>)) -> serde_json::Value {
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    json!({"app": app.name, "release": release.number, "reasons": reasons})
}
