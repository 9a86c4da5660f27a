//! `checks`: how web is asked whether it is well.

use super::of_app::OfApp;
use super::table::facts;
use super::{CommandError, Session};
use crate::deploy::{Condition, ProcessLine};
use crate::model::{AppName, CheckChange, CheckKind, CheckSource, HealthCheck};

impl Session<'_> {
    pub(super) async fn checks(&mut self, name: AppName) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let account = self.pipeline.account(&app).await?;
        let check = account.current.as_ref().map(|release| release.checks.clone()).unwrap_or_default();
        let check = app.checks.over(&check);
        let mut lines = described(&check);
        let web = account.processes.iter().filter(|line| line.name.kind.is_web());
        let states: Vec<(String, String)> =
            web.map(|line| (line.name.to_string(), wellness(line, &check).to_owned())).collect();
        lines.extend(states.iter().map(|(name, state)| (name.as_str(), state.clone())));
        let text = facts(&lines);
        self.print(&text).await
    }
}

impl Session<'_> {
    pub(super) async fn checks_set(&mut self, app: OfApp, force: bool) -> Result<(), CommandError> {
        let (name, words) = app.split("checks:set")?;
        let app = self.app(&name).await?;
        if words.is_empty() {
            let reason = "give KEY=VALUE, such as path=/healthz interval=5".to_owned();
            return Err(CommandError::Usage { command: "checks:set".to_owned(), reason });
        }
        let set = |checks: &mut CheckChange| words.iter().try_for_each(|word| checks.set(word));
        set(&mut app.checks.clone()).map_err(CommandError::NotACheck)?;
        let change = |checks: &mut CheckChange| drop(set(checks));
        self.pipeline.set_checks(&app, change, force, self.caller.name()).await?;
        self.changed = true;
        self.checks(name).await
    }

    pub(super) async fn checks_unset(&mut self, app: OfApp, force: bool) -> Result<(), CommandError> {
        let (name, keys) = app.split("checks:unset")?;
        let app = self.app(&name).await?;
        let unset = |checks: &mut CheckChange| keys.iter().try_for_each(|key| checks.unset(key));
        unset(&mut app.checks.clone()).map_err(CommandError::NotACheck)?;
        let change = |checks: &mut CheckChange| {
            if keys.is_empty() {
                *checks = CheckChange::default();
            } else {
                drop(unset(checks));
            }
        };
        self.pipeline.set_checks(&app, change, force, self.caller.name()).await?;
        self.changed = true;
        self.checks(name).await
    }
}

fn described(check: &HealthCheck) -> Vec<(&'static str, String)> {
    let asked = match &check.kind {
        CheckKind::Start => "GET / at the start, below 500; nothing later".to_owned(),
        CheckKind::Path(path) => format!("GET {path}, below 400"),
        CheckKind::Tcp => "a connection".to_owned(),
        CheckKind::Command(line) => line.clone(),
        CheckKind::Exec(words) => words.join(" "),
    };
    let source = match (check.source, &check.kind) {
        (CheckSource::Command, _) => "checks:set",
        (CheckSource::Image, _) => "HEALTHCHECK in the Dockerfile",
        (CheckSource::AppJson, _) => "healthchecks in app.json",
        (CheckSource::Default, CheckKind::Start) => "nobody",
        (CheckSource::File | CheckSource::Default, _) => "[checks] in paas.toml",
    };
    let mut lines = vec![
        ("asked", asked),
        ("said by", source.to_owned()),
        (
            "port",
            match check.port {
                Some(port) => format!("{port} is asked; traffic goes to PORT"),
                None if check.strict_port => "PORT alone".to_owned(),
                None => "PORT, or the only one that is open".to_owned(),
            },
        ),
        ("start_period", format!("{} s", check.start_period)),
        ("timeout", format!("{} s", check.timeout)),
    ];
    if check.goes_on() {
        lines.push(("interval", format!("{} s", check.interval)));
        lines.push(("attempts", check.attempts.to_string()));
    }
    lines
}

fn wellness(line: &ProcessLine, check: &HealthCheck) -> &'static str {
    match (line.condition, check.goes_on()) {
        (Condition::Unwell, _) => "out of the routes: its check fails",
        (Condition::Running, true) => "well",
        (Condition::Running, false) => "was well at its start",
        _ => "does not run",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told() {
        let kinds = [
            CheckKind::Start,
            CheckKind::Path("/healthz".into()),
            CheckKind::Tcp,
            CheckKind::Command("test -e /tmp/ok".into()),
            CheckKind::Exec(vec!["/bin/probe".into(), "-q".into()]),
        ];
        let tell = |kind| facts(&described(&HealthCheck { kind, ..HealthCheck::default() }));
        insta::assert_snapshot!(kinds.map(tell).join("\n"));
    }
}
