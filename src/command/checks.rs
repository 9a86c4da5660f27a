//! `checks`: how web is asked whether it is well.

use super::table::facts;
use super::{CommandError, Session};
use crate::deploy::{Condition, ProcessLine};
use crate::model::{AppName, CheckKind, HealthCheck};

impl Session<'_> {
    pub(super) async fn checks(&mut self, name: AppName) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let account = self.pipeline.account(&app).await?;
        let check = account.current.as_ref().map(|release| release.checks.clone()).unwrap_or_default();
        let mut lines = described(&check);
        let web = account.processes.iter().filter(|line| line.name.kind.is_web());
        let states: Vec<(String, String)> =
            web.map(|line| (line.name.to_string(), wellness(line, &check).to_owned())).collect();
        lines.extend(states.iter().map(|(name, state)| (name.as_str(), state.clone())));
        let text = facts(&lines);
        self.print(&text).await
    }
}

fn described(check: &HealthCheck) -> Vec<(&'static str, String)> {
    let asked = match &check.kind {
        CheckKind::Start => "GET / at the start, below 500; nothing later".to_owned(),
        CheckKind::Path(path) => format!("GET {path}, below 400"),
        CheckKind::Tcp => "a connection".to_owned(),
        CheckKind::Command(line) => line.clone(),
    };
    let mut lines = vec![
        ("asked", asked),
        (
            "port",
            if check.strict_port { "PORT alone" } else { "PORT, or the only one that is open" }.to_owned(),
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
        ];
        let tell = |kind| facts(&described(&HealthCheck { kind, ..HealthCheck::default() }));
        insta::assert_snapshot!(kinds.map(tell).join("\n"));
    }
}
