//! `ps…`: processes.

use super::grammar::OfApp;
use super::table::{table, time};
use super::{CommandError, Session};
use crate::deploy::ProcessLine;
use crate::model::{AppName, ProcessType};
use serde_json::json;
use std::collections::BTreeMap;

/// Most processes of a type.
const MOST: u32 = 100;

impl Session<'_> {
    pub(super) async fn ps(&mut self, name: AppName, as_json: bool) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let account = self.pipeline.account(&app).await?;
        if as_json {
            let all = account.processes.iter().map(|line| {
                json!({
                    "name": line.name.to_string(), "status": state(line), "release": line.release,
                    "exit_code": line.exit_code, "restarts": line.restarts, "since": time(line.started_at),
                })
            });
            return self.print_json(&all.collect()).await;
        }
        let rows: Vec<Vec<String>> = account.processes.iter().map(row).collect();
        let mut text = table(&["PROCESS", "STATUS", "RELEASE", "RESTARTS", "SINCE"], &rows);
        if app.stopped {
            text.push_str("Stopped by ps:stop; ps:start starts it again.\n");
        }
        self.print(&text).await
    }

    pub(super) async fn ps_scale(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (name, words) = app.split("ps:scale")?;
        let app = self.app(&name).await?;
        if words.is_empty() {
            return self.show_formation(&app).await;
        }
        let counts = words.iter().map(|word| parse_count(word)).collect::<Result<BTreeMap<_, _>, _>>()?;
        let (pipeline, who) = (self.pipeline.clone(), self.caller.name().to_owned());
        self.reporting(|report| {
            let (pipeline, app, counts, who) = (&pipeline, &app, &counts, &who);
            async move { Ok(pipeline.scale(app, counts, who, &report).await?) }
        })
        .await?;
        let said: Vec<String> = counts.iter().map(|(kind, count)| format!("{kind}={count}")).collect();
        let said = said.join(" ");
        if self.pipeline.account(&app).await?.current.is_none() {
            let text = format!(
                "{name} has no release yet. Kept for its first one: {said}\nTypes that it does not declare will be left out.\n"
            );
            return self.print(&text).await;
        }
        self.print(&format!("Scaled {name}: {said}\n")).await
    }

    async fn show_formation(&mut self, app: &crate::model::App) -> Result<(), CommandError> {
        let account = self.pipeline.account(app).await?;
        let kinds = account.current.iter().flat_map(|release| release.processes.keys());
        let text = kinds
            .fold(String::new(), |text, kind| text + &format!("{kind}={}\n", account.formation.count(kind)));
        self.print(&text).await
    }

    pub(super) async fn ps_restart(&mut self, name: AppName) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let (pipeline, who) = (self.pipeline.clone(), self.caller.name().to_owned());
        let number = self
            .reporting(|report| {
                let (pipeline, app, who) = (&pipeline, &app, &who);
                async move { Ok(pipeline.restart(app, who, &report).await?) }
            })
            .await?;
        self.print(&format!("Restarted {name} as v{number}.\n")).await
    }

    pub(super) async fn ps_stop(&mut self, name: AppName) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        self.pipeline.stop_app(&app, self.caller.name()).await?;
        self.print(&format!("Stopped {name}. It stays so until ps:start, ps:restart or the next release.\n"))
            .await
    }

    pub(super) async fn ps_start(&mut self, name: AppName) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let (pipeline, who) = (self.pipeline.clone(), self.caller.name().to_owned());
        self.reporting(|report| {
            let (pipeline, app, who) = (&pipeline, &app, &who);
            async move { Ok(pipeline.start_app(app, who, &report).await?) }
        })
        .await?;
        self.print(&format!("Started {name}.\n")).await
    }
}

fn parse_count(word: &str) -> Result<(ProcessType, u32), CommandError> {
    let refuse = || CommandError::NotACount(word.chars().take(60).collect());
    let (kind, count) = word.split_once('=').ok_or_else(refuse)?;
    let count: u32 = count.parse().map_err(|_| refuse())?;
    if count > MOST {
        return Err(refuse());
    }
    Ok((ProcessType::parse(kind)?, count))
}

fn row(line: &ProcessLine) -> Vec<String> {
    let release = format!("v{}", line.release);
    vec![line.name.to_string(), state(line), release, line.restarts.to_string(), time(line.started_at)]
}

/// `running`, `crashed (exit 3)`, `missing`.
fn state(line: &ProcessLine) -> String {
    match (line.running, line.exit_code) {
        (true, _) if line.out => "unwell".to_owned(),
        (true, _) => "running".to_owned(),
        (false, _) if line.missing => "missing".to_owned(),
        (false, Some(code)) => format!("crashed (exit {code})"),
        (false, None) => "starting".to_owned(),
    }
}
