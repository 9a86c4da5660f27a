//! `ps:resize`: what each process of a type gets.

use super::config::outcome;
use super::of_app::OfApp;
use super::table::table;
use super::{CommandError, Session};
use crate::model::{App, Cpu, Limits, Memory, ProcessType, Release, SizeChange};

impl Session<'_> {
    pub(super) async fn ps_resize(
        &mut self,
        app: OfApp,
        memory: Option<String>,
        cpu: Option<String>,
    ) -> Result<(), CommandError> {
        let (name, words) = app.split("ps:resize")?;
        let app = self.app(&name).await?;
        let change = change(memory.as_deref(), cpu.as_deref())?;
        if words.is_empty() && change == SizeChange::default() {
            return self.show_sizes(&app).await;
        }
        if words.is_empty() || change == SizeChange::default() {
            let reason = "give types, and --memory or --cpu: ps:resize APP web --memory 1G";
            return Err(CommandError::Usage { command: "ps:resize".to_owned(), reason: reason.to_owned() });
        }
        let kinds = words.iter().map(|word| ProcessType::parse(word)).collect::<Result<Vec<_>, _>>()?;
        let (pipeline, who) = (self.pipeline.clone(), self.caller.name().to_owned());
        let configured = self
            .reporting(|report| {
                let (pipeline, app, kinds, who) = (&pipeline, &app, &kinds, &who);
                async move { Ok(pipeline.resize(app, kinds, change, who, &report).await?) }
            })
            .await?;
        self.print(&format!("Resized {}.{}\n", words.join(", "), outcome(&app, configured))).await
    }

    async fn show_sizes(&mut self, app: &App) -> Result<(), CommandError> {
        let account = self.pipeline.account(app).await?;
        let limits = self.pipeline.workers.settings.limits;
        let rows: Vec<Vec<String>> = account
            .current
            .iter()
            .flat_map(|release| release.processes.keys().map(|kind| row(release, kind, limits)))
            .collect();
        self.print(&table(&["TYPE", "MEMORY", "CPU"], &rows)).await
    }
}

/// Each value and who said it.
fn row(release: &Release, kind: &ProcessType, limits: Limits) -> Vec<String> {
    let by_command = release.sizes.get(kind).copied().unwrap_or_default();
    let size = size(release.size(kind).limits(limits));
    let from = |command: bool, file: bool| match (command, file) {
        (true, _) => " (ps:resize)",
        (false, true) => " (paas.toml)",
        (false, false) => " (server)",
    };
    let by_file = release.types.get(kind).map(|settings| settings.size).unwrap_or_default();
    let memory = from(by_command.memory.is_some(), by_file.memory.is_some());
    let cpu = from(by_command.cpu.is_some(), by_file.cpu.is_some());
    vec![kind.to_string(), size.0 + memory, size.1 + cpu]
}

/// Memory and CPUs as people write them.
pub(super) fn size(limits: Limits) -> (String, String) {
    shown((limits.memory, limits.nano_cpus))
}

/// The same of the engine's numbers.
pub(super) fn shown((memory, nano_cpus): (i64, i64)) -> (String, String) {
    let memory = Memory(u32::try_from(memory >> 20).unwrap_or_default());
    let cpu = Cpu(u32::try_from(nano_cpus / 1_000_000).unwrap_or_default());
    (memory.to_string(), cpu.to_string())
}

/// `default` leaves it to paas.toml and the server.
fn change(memory: Option<&str>, cpu: Option<&str>) -> Result<SizeChange, CommandError> {
    let refuse = |option: &'static str, text: &str, expected| {
        CommandError::NotASize(option, text.chars().take(60).collect(), expected)
    };
    let memory = memory.map(|text| match text {
        "default" => Ok(None),
        text => Memory::parse(text).map(Some).ok_or_else(|| refuse("--memory", text, Memory::EXPECTED)),
    });
    let cpu = cpu.map(|text| match text {
        "default" => Ok(None),
        text => Cpu::parse(text).map(Some).ok_or_else(|| refuse("--cpu", text, Cpu::EXPECTED)),
    });
    Ok(SizeChange { memory: memory.transpose()?, cpu: cpu.transpose()? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Size;

    #[test]
    fn a_size_is_set_kept_or_left_to_others() {
        let mut size = Size { memory: Some(Memory(256)), cpu: Some(Cpu(500)) };
        change(Some("1G"), None).unwrap().apply(&mut size);
        assert_eq!(size, Size { memory: Some(Memory(1024)), cpu: Some(Cpu(500)) });
        change(None, Some("default")).unwrap().apply(&mut size);
        assert_eq!(size, Size { memory: Some(Memory(1024)), cpu: None });
        let said = [change(Some("1"), None), change(None, Some("x"))]
            .map(|change| change.unwrap_err().problem().to_string());
        insta::assert_snapshot!(said.join("\n"));
    }
}
