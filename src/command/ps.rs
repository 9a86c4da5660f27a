//! `ps…`: processes.

use super::of_app::OfApp;
use super::table::{table, time};
use super::{CommandError, Session, sizes};
use crate::deploy::{Account, Condition, Pipeline, ProcessLine};
use crate::model::{App, AppName, MOST_PROCESSES, ProcessName, ProcessType, Scale, Selection, Window};
use serde_json::json;
use std::collections::BTreeMap;

impl Session<'_> {
    pub(super) async fn ps(&mut self, name: AppName, as_json: bool) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let account = self.pipeline.account(&app).await?;
        if as_json {
            let mut listed = Vec::new();
            for (line, state) in all(&account) {
                listed.push(json!({
                    "name": line.name.to_string(), "status": state, "release": line.release,
                    "exit_code": line.exit_code, "out_of_memory": line.out_of_memory,
                    "memory": line.size.0, "cpus": nano(line.size.1), "restarts": line.restarts, "since": time(line.started_at),
                    "last_lines": last_words(self.pipeline, line).await,
                }));
            }
            return self.print_json(&listed.into()).await;
        }
        let rows: Vec<Vec<String>> = all(&account).map(|(line, state)| row(line, state)).collect();
        let mut text = table(&["PROCESS", "STATUS", "RELEASE", "SIZE", "RESTARTS", "SINCE"], &rows);
        if let Some(window) = &account.window {
            text.push_str(&watched(window, crate::store::now()));
        }
        for taken_back in &account.taken_back {
            text.push_str(&format!("{}\n", crate::deploy::taken_back(taken_back)));
        }
        if app.stopped {
            text.push_str("Stopped by ps:stop; ps:start starts it again.\n");
        }
        text.push_str(&super::sleep::told(&account));
        for line in &account.processes {
            text.push_str(&quoted(&app, line, &last_words(self.pipeline, line).await));
        }
        self.print(&text).await
    }

    pub(super) async fn ps_scale(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (name, words) = app.split("ps:scale")?;
        let app = self.app(&name).await?;
        if words.is_empty() {
            return self.show_formation(&app).await;
        }
        let changes = words.iter().map(|word| parse_count(word)).collect::<Result<BTreeMap<_, _>, _>>()?;
        let (pipeline, who) = (self.pipeline.clone(), self.caller.name().to_owned());
        let counts = self
            .reporting(|report| {
                let (pipeline, app, changes, who) = (&pipeline, &app, &changes, &who);
                async move { Ok(pipeline.scale(app, changes, who, &report).await?) }
            })
            .await?;
        self.changed = true;
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

    async fn show_formation(&mut self, app: &App) -> Result<(), CommandError> {
        let account = self.pipeline.account(app).await?;
        let kinds = account.current.iter().flat_map(|release| release.processes.keys());
        let text = kinds
            .fold(String::new(), |text, kind| text + &format!("{kind}={}\n", account.formation.count(kind)));
        self.print(&text).await
    }

    pub(super) async fn ps_restart(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (app, which) = self.app_and_some(app, "ps:restart").await?;
        let (pipeline, who) = (self.pipeline.clone(), self.caller.name().to_owned());
        let done = self
            .reporting(|report| {
                let (pipeline, app, who, which) = (&pipeline, &app, &who, &which);
                async move {
                    if which.is_empty() {
                        let number = pipeline.restart(app, who, &report).await?;
                        return Ok(format!("{} as v{number}", app.name));
                    }
                    Ok(of(&pipeline.restart_some(app, which, who, &report).await?, &app.name))
                }
            })
            .await?;
        self.print(&format!("Restarted {done}.\n")).await
    }

    pub(super) async fn ps_stop(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (app, which) = self.app_and_some(app, "ps:stop").await?;
        let name = app.name.clone();
        if which.is_empty() {
            self.pipeline.stop_app(&app, self.caller.name()).await?;
            let text =
                format!("Stopped {name}. It stays so until ps:start, ps:restart or the next release.\n");
            return self.print(&text).await;
        }
        let stopped = self.pipeline.stop_some(&app, &which, self.caller.name()).await?;
        let (it, stays) = if stopped.len() == 1 { ("It", "stays") } else { ("They", "stay") };
        let stopped = of(&stopped, &name);
        let text =
            format!("Stopped {stopped}. {it} {stays} so until ps:start, ps:restart or the next release.\n");
        self.print(&text).await
    }

    pub(super) async fn ps_start(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (app, which) = self.app_and_some(app, "ps:start").await?;
        let (pipeline, who) = (self.pipeline.clone(), self.caller.name().to_owned());
        let done = self
            .reporting(|report| {
                let (pipeline, app, who, which) = (&pipeline, &app, &who, &which);
                async move {
                    if which.is_empty() {
                        let release = pipeline.start_app(app, who, &report).await?;
                        let release = release.map_or(String::new(), |number| format!(" as v{number}"));
                        return Ok(format!("{}{release}", app.name));
                    }
                    Ok(of(&pipeline.start_some(app, which, who, &report).await?, &app.name))
                }
            })
            .await?;
        self.print(&format!("Started {done}.\n")).await
    }

    /// An app, and which of its processes are meant; none: all of it.
    async fn app_and_some(
        &mut self,
        app: OfApp,
        command: &'static str,
    ) -> Result<(App, Vec<Selection>), CommandError> {
        let (name, words) = app.split(command)?;
        let app = self.app(&name).await?;
        let which = words.iter().map(|word| {
            let refuse = |_| CommandError::NotAProcess(word.chars().take(60).collect());
            Selection::parse(word).map_err(refuse)
        });
        Ok((app, which.collect::<Result<_, _>>()?))
    }
}

/// `web.1 and worker.2 of shop`
fn of(names: &[ProcessName], app: &AppName) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let list = match &names[..] {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    };
    format!("{list} of {app}")
}

/// `web=2`, `web+1`, `web-1`.
fn parse_count(word: &str) -> Result<(ProcessType, Scale), CommandError> {
    let refuse = || CommandError::NotACount(word.chars().take(60).collect());
    // A type's name may have a hyphen of its own: the last sign counts.
    let at = word.find('=').or_else(|| word.rfind(['+', '-'])).ok_or_else(refuse)?;
    let (kind, change) = word.split_at(at);
    let count: u32 = change[1..].parse().map_err(|_| refuse())?;
    let difference = i32::try_from(count).map_err(|_| refuse())?;
    if count > MOST_PROCESSES || change[1..].starts_with('+') {
        return Err(refuse());
    }
    let scale = match &change[..1] {
        "+" => Scale::By(difference),
        "-" => Scale::By(-difference),
        _ => Scale::To(count),
    };
    Ok((ProcessType::parse(kind)?, scale))
}

/// Processes with their states: those of the release that serves, then those that stand by.
fn all(account: &Account) -> impl Iterator<Item = (&ProcessLine, String)> {
    let serving = account.processes.iter().map(|line| (line, state(line)));
    let standby = account.standby.iter().map(|line| {
        let state = if line.condition.runs() { "standby".to_owned() } else { state(line) };
        (line, state)
    });
    serving.chain(standby)
}

fn row(line: &ProcessLine, state: String) -> Vec<String> {
    let release = format!("v{}", line.release);
    let (memory, cpu) = sizes::shown(line.size);
    let size = if line.container.is_empty() { "-".to_owned() } else { format!("{memory} {cpu} CPU") };
    vec![line.name.to_string(), state, release, size, line.restarts.to_string(), time(line.started_at)]
}

fn watched(window: &Window, now: i64) -> String {
    let Window { release, before, until, .. } = window;
    let left = (until - now).max(0);
    format!("v{release} is watched for {left} s more: v{before} takes over again if it does worse.\n")
}

/// What a process printed last, if it has crashed.
async fn last_words(pipeline: &Pipeline, line: &ProcessLine) -> Vec<String> {
    match line.condition {
        Condition::Crashed | Condition::Restarting => pipeline.last_words(line).await,
        _ => Vec::new(),
    }
}

/// The last lines of a process that has crashed, below the table.
fn quoted(app: &App, line: &ProcessLine, lines: &[String]) -> String {
    if line.condition != Condition::Crashed {
        return String::new();
    }
    let name = &line.name;
    let mut text = format!("\n{name} is not started again: {}", state(line));
    text.push_str(if lines.is_empty() { ". It printed nothing.\n" } else { ". Its last lines:\n" });
    for line in lines {
        text.push_str(&format!("  {}\n", crate::output::tame(line)));
    }
    text.push_str(&format!("More: logs {} -p {name}. Start it afresh: ps:restart {}\n", app.name, app.name));
    text
}

/// Whole CPUs.
#[allow(clippy::cast_precision_loss)] // there are not that many
pub(super) fn nano(cpus: i64) -> f64 {
    cpus as f64 / 1e9
}

/// `running`, `restarting (exit 3)`, `crashed (exit 137, out of memory)`, `exited (0)`, `missing`.
pub(super) fn state(line: &ProcessLine) -> String {
    let ended = |word: &str| {
        let why = if line.out_of_memory { ", out of memory" } else { "" };
        format!("{word} (exit {}{why})", line.exit_code.unwrap_or_default())
    };
    match line.condition {
        Condition::Missing => "missing".to_owned(),
        Condition::Stopped => "stopped".to_owned(),
        Condition::Starting => "starting".to_owned(),
        Condition::Running => "running".to_owned(),
        Condition::Unwell => "unwell".to_owned(),
        Condition::Restarting => ended("restarting"),
        Condition::Crashed => ended("crashed"),
        Condition::Done => "exited (0)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counts_are_set_or_changed() {
        let formation = crate::model::Formation::default();
        let of = |words: &[&str]| {
            let changes = words.iter().map(|word| parse_count(word).unwrap()).collect();
            let counts = formation.scaled(&changes);
            counts.iter().map(|(kind, count)| format!("{kind}={count}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&["web+1", "worker=3"]), "web=2 worker=3");
        assert_eq!(of(&["web-5", "mail-out-0", "mail-in+2"]), "mail-in=2 mail-out=0 web=0");
        assert_eq!(of(&["web+100"]), "web=100");
        for bad in ["web", "web=", "web=-1", "web=101", "web+x", "=2", "web++1", "web=+1", "web=99999999999"]
        {
            assert!(parse_count(bad).is_err(), "{bad}");
        }
    }
}
