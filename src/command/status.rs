//! `status`: what is being built and run.

use super::of_app::OfApp;
use super::table::table;
use super::{CommandError, Session};
use crate::deploy::Account;
use serde_json::json;

impl Session<'_> {
    pub(super) async fn status(&mut self, app: OfApp, as_json: bool) -> Result<(), CommandError> {
        let accounts = match app.split("status") {
            Err(super::of_app::NoApp::Missing(_)) => self.pipeline.accounts().await?,
            Err(error) => return Err(error.into()),
            Ok((name, _)) => {
                let app = self.app(&name).await?;
                vec![self.pipeline.account(&app).await?]
            }
        };
        if as_json {
            return self.print_json(&accounts.iter().map(as_value).collect()).await;
        }
        let rows: Vec<Vec<String>> = accounts.iter().map(row).collect();
        let mut text = table(&["NAME", "STATUS", "RELEASE", "RUNS", "NOW"], &rows);
        if !self.pipeline.routes.connected() {
            text.push_str("No proxy is connected: deploys are refused until one is.\n");
        }
        if let Some(why) = self.pipeline.exposed() {
            text.push_str(&format!("Isolation is off: apps can reach this host's ports ({why}).\n"));
        }
        if let Some(why) = self.pipeline.unlimited() {
            text.push_str(&format!("Builds are not limited in memory and processes ({why}).\n"));
        }
        for line in crate::buildpack::extended() {
            text.push_str(&format!("Buildpack {line}.\n"));
        }
        self.print(&text).await
    }
}

fn runs(account: &Account) -> String {
    let running = account.processes.iter().filter(|line| line.condition.runs()).count();
    format!("{running}/{}", account.processes.len())
}

fn now(account: &Account) -> String {
    let Some(activity) = &account.activity else { return "-".to_owned() };
    let release = activity.release.map_or(String::new(), |number| format!("v{number}: "));
    format!("{release}{} (by {}, {} s)", activity.step, activity.who, activity.since.elapsed().as_secs())
}

fn row(account: &Account) -> Vec<String> {
    let release =
        account.current.as_ref().map_or_else(|| "-".to_owned(), |release| format!("v{}", release.number));
    vec![account.app.name.to_string(), account.status.to_string(), release, runs(account), now(account)]
}

fn as_value(account: &Account) -> serde_json::Value {
    json!({
        "name": account.app.name,
        "status": account.status,
        "release": account.current.as_ref().map(|release| release.number),
        "running": account.processes.iter().filter(|line| line.condition.runs()).count(),
        "processes": account.processes.len(),
        "now": account.activity.as_ref().map(|activity| json!({
            "release": activity.release, "step": activity.step, "who": activity.who,
            "seconds": activity.since.elapsed().as_secs(),
        })),
    })
}
