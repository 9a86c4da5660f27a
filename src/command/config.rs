//! `config…`: config vars of an app, or of all apps.

use super::grammar::ExportFormat;
use super::of_app::OfApp;
use super::{CommandError, Right, Session, authorise};
use crate::deploy::{Configured, ConfiguredAll, Effect};
use crate::model::{App, ConfigVars, EnvKey, dotenv};
use crate::store;
use serde_json::json;
use std::collections::BTreeMap;

/// Longest value, bytes: Linux takes 128 KiB per variable.
/// <https://man7.org/linux/man-pages/man2/execve.2.html> (MAX_ARG_STRLEN)
const LONGEST: usize = 128 * 1024 - 300;

/// Longest file on standard input, bytes: all that may be set, with escapes.
const LONGEST_FILE: u64 = 4 << 20;

/// Whose config vars.
#[allow(clippy::large_enum_variant)] // made once for each command
enum Whose {
    App(Box<App>),
    All,
}

impl Session<'_> {
    /// Whose config vars a command is about, and its other words.
    async fn whose(
        &mut self,
        app: OfApp,
        global: bool,
        command: &'static str,
    ) -> Result<(Whose, Vec<String>), CommandError> {
        if global {
            if !authorise(&self.caller, Right::Server) {
                return Err(CommandError::Forbidden);
            }
            return Ok((Whose::All, app.none(command)?));
        }
        let (name, words) = app.split(command)?;
        Ok((Whose::App(Box::new(self.app(&name).await?)), words))
    }

    async fn vars(&mut self, whose: &Whose) -> Result<ConfigVars, CommandError> {
        let store = &self.pipeline.workers.store;
        Ok(match whose {
            Whose::All => store.read(store::config::load_global).await?,
            Whose::App(app) => {
                let id = app.id;
                store.read(move |db| store::config::load(db, id)).await?
            }
        })
    }

    /// The config vars of a listing, which takes no other words.
    async fn listed(
        &mut self,
        app: OfApp,
        global: bool,
        command: &'static str,
    ) -> Result<ConfigVars, CommandError> {
        let (whose, words) = self.whose(app, global, command).await?;
        if words.is_empty() {
            self.vars(&whose).await
        } else {
            Err(usage(command, "it takes no other words"))
        }
    }

    pub(super) async fn config(
        &mut self,
        app: OfApp,
        global: bool,
        as_json: bool,
    ) -> Result<(), CommandError> {
        let vars = self.listed(app, global, "config").await?;
        if as_json {
            return self.print_json(&json!(vars)).await;
        }
        let text = vars
            .0
            .iter()
            .fold(String::new(), |text, (key, value)| text + &format!("{key}={}\n", shown(value)));
        self.print(&text).await
    }

    pub(super) async fn config_export(
        &mut self,
        app: OfApp,
        global: bool,
        format: ExportFormat,
    ) -> Result<(), CommandError> {
        let vars = self.listed(app, global, "config:export").await?;
        match format {
            ExportFormat::Dotenv => self.print(&dotenv::dotenv(&vars)).await,
            ExportFormat::Shell => self.print(&dotenv::shell(&vars)).await,
            ExportFormat::Json => self.print_json(&json!(vars)).await,
        }
    }

    pub(super) async fn config_get(&mut self, app: OfApp, global: bool) -> Result<(), CommandError> {
        let (whose, words) = self.whose(app, global, "config:get").await?;
        let vars = self.vars(&whose).await?;
        let [key] = &words[..] else { return Err(usage("config:get", "give one KEY")) };
        let key = EnvKey::parse(key)?;
        let value = vars.0.get(&key).ok_or_else(|| CommandError::NotSet(key.to_string()))?;
        self.print(&format!("{value}\n")).await
    }

    pub(super) async fn config_set(
        &mut self,
        app: OfApp,
        global: bool,
        effect: Effect,
    ) -> Result<(), CommandError> {
        let (whose, words) = self.whose(app, global, "config:set").await?;
        let set = match &words[..] {
            [] => return Err(usage("config:set", "give KEY=VALUE, or - and a file on standard input")),
            [dash] if dash == "-" => {
                let set = read_file(&self.read_text(LONGEST_FILE).await?)?;
                self.noted = set.keys().map(|key| format!(" {key}")).collect();
                set
            }
            words => assignments(words)?,
        };
        set.iter().try_for_each(|(key, value)| expect_valid(key, value))?;
        let keys: Vec<String> = set.keys().map(ToString::to_string).collect();
        let done = format!("Set {}.", keys.join(", "));
        self.change(whose, effect, &done, move |vars| vars.0.extend(set)).await
    }

    pub(super) async fn config_unset(
        &mut self,
        app: OfApp,
        global: bool,
        effect: Effect,
    ) -> Result<(), CommandError> {
        let (whose, words) = self.whose(app, global, "config:unset").await?;
        if words.is_empty() {
            return Err(usage("config:unset", "give KEY"));
        }
        let keys = words.iter().map(|word| EnvKey::parse(word)).collect::<Result<Vec<_>, _>>()?;
        let vars = self.vars(&whose).await?;
        if let Some(missing) = keys.iter().find(|key| !vars.0.contains_key(key)) {
            return Err(CommandError::NotSet(missing.to_string()));
        }
        let done = format!("Removed {}.", words.join(", "));
        self.change(whose, effect, &done, move |vars| vars.0.retain(|key, _| !keys.contains(key))).await
    }

    async fn change(
        &mut self,
        whose: Whose,
        effect: Effect,
        done: &str,
        change: impl FnOnce(&mut ConfigVars) + Send + 'static,
    ) -> Result<(), CommandError> {
        let (pipeline, who) = (self.pipeline.clone(), self.caller.name().to_owned());
        match whose {
            Whose::App(app) => {
                let work = |report| {
                    let (pipeline, app, who) = (&pipeline, &app, &who);
                    async move { Ok(pipeline.configure(app, who, effect, &report, change).await?) }
                };
                let configured = self.reporting(work).await?;
                self.print(&format!("{done}{}\n", outcome(&app, configured))).await
            }
            Whose::All => {
                let work = |report| {
                    let (pipeline, who) = (&pipeline, &who);
                    async move { Ok(pipeline.configure_all(who, effect, &report, change).await?) }
                };
                let all = self.reporting(work).await?;
                self.print(&format!("{done} For all apps.\n{}", outcomes(&all))).await?;
                let refused: Vec<String> = all.refused.iter().map(|(app, _)| app.to_string()).collect();
                if refused.is_empty() { Ok(()) } else { Err(CommandError::NotByAll(refused)) }
            }
        }
    }
}

fn usage(command: &str, reason: &str) -> CommandError {
    CommandError::Usage { command: command.to_owned(), reason: reason.to_owned() }
}

/// What a change led to, behind what was changed.
pub(super) fn outcome(app: &App, configured: Configured) -> String {
    let name = &app.name;
    match configured {
        Configured::Kept => String::new(),
        Configured::Pending if app.stopped => {
            format!(" {name} is stopped; it takes effect with ps:start {name}")
        }
        Configured::Pending => format!(" It takes effect with the next release; at once: ps:restart {name}"),
        Configured::Runs(number) => format!(" {name} runs v{number}."),
    }
}

/// One line per app for which it makes a difference.
fn outcomes(all: &ConfiguredAll) -> String {
    let run = all.run.iter().map(|(app, number)| format!("{app} runs v{number}.\n"));
    let pending = all.pending.iter().map(|app| format!("{app} gets it with its next release.\n"));
    let refused = all.refused.iter().map(|(app, error)| {
        let problem = error.problem().of_a_command();
        format!("{app} runs what it ran: {}\n", problem.title)
    });
    run.chain(pending).chain(refused).collect()
}

/// Values with line ends are shown on one line, quoted; `config:get` and
/// `--json` give them as they are.
fn shown(value: &str) -> String {
    if value.chars().any(char::is_control) { format!("{value:?}") } else { value.to_owned() }
}

/// `KEY=VALUE` words; of the same name the last counts.
fn assignments(words: &[String]) -> Result<BTreeMap<EnvKey, String>, CommandError> {
    let assignment = |(index, word): (usize, &String)| {
        let (key, value) = word.split_once('=').ok_or(CommandError::NotAnAssignment(index + 1))?;
        Ok((EnvKey::parse(key)?, value.to_owned()))
    };
    words.iter().enumerate().map(assignment).collect()
}

/// A dotenv file, or what `config:export --format json` prints.
fn read_file(text: &str) -> Result<BTreeMap<EnvKey, String>, CommandError> {
    if !text.trim_start().starts_with('{') {
        return Ok(dotenv::read(text)?.0);
    }
    // serde's own words may repeat a value.
    serde_json::from_str::<ConfigVars>(text)
        .map(|vars| vars.0)
        .map_err(|error| CommandError::Json { line: error.line(), column: error.column() })
}

fn expect_valid(key: &EnvKey, value: &str) -> Result<(), CommandError> {
    if key.is_platforms() {
        return Err(CommandError::Reserved(key.to_string()));
    }
    let refuse = |why| Err(CommandError::Value(key.to_string(), why));
    match value {
        _ if value.contains('\0') => refuse("it has a NUL byte"),
        _ if value.len() > LONGEST => refuse("it is longer than 127 KiB"),
        _ if key.as_str() == "PORT" && value.parse::<u16>().ok().is_none_or(|port| port == 0) => {
            refuse("a port is a number from 1 to 65535")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::deploy::DeployError;
    use crate::model::AppName;

    fn set(words: &[&str]) -> Result<BTreeMap<EnvKey, String>, CommandError> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let set = assignments(&words)?;
        set.iter().try_for_each(|(key, value)| expect_valid(key, value))?;
        Ok(set)
    }

    #[test]
    fn values_are_taken_byte_for_byte() {
        for value in ["", "a=b", "$HOME", "'\"", "{\"a\": [1]}", "two\nlines", "ünï"] {
            let set = set(&[&format!("K={value}")]).unwrap();
            assert_eq!(set.values().collect::<Vec<_>>(), [value]);
        }
        assert_eq!(set(&["A=1", "B=2", "A=3"]).unwrap().into_values().collect::<Vec<_>>(), ["3", "2"]);
    }

    #[test]
    fn what_no_environment_holds_is_refused_and_no_value_repeated() {
        let long = format!("K={}", "x".repeat(200_000));
        let said = [
            &["A=1", "hunter2"][..],
            &["1K=hunter2"],
            &["K-K=hunter2"],
            &["K=hunter2\0b"],
            &["PORT=hunter2"],
            &["PORT=0"],
            &["PAAS_RELEASE=v1"],
            &["DYNO=web.9"],
            &[&long],
        ]
        .map(|words| set(words).unwrap_err().problem().to_string());
        insta::assert_snapshot!(said.join("\n\n"));
        assert!(!said.join("").contains("hunter2"));
    }

    #[test]
    fn a_file_is_dotenv_or_json() {
        let read = |text| read_file(text).map(|vars| vars.into_values().collect::<Vec<_>>());
        assert_eq!(read("A=1\nB='2'\n").unwrap(), ["1", "2"]);
        assert_eq!(read(" {\"A\": \"1\\n\", \"B\": \"2\"}").unwrap(), ["1\n", "2"]);
        let said = ["A=1\nhunter2", "{\"A\": [\"hunter2\"]}", "{\"A-B\": \"hunter2\"}", "{\"A\": \"hunter2"]
            .map(|text| read(text).unwrap_err().problem().to_string());
        insta::assert_snapshot!(said.join("\n\n"));
        assert!(!said.join("").contains("hunter2"));
    }

    #[test]
    fn what_a_change_for_all_led_to() {
        let name = |text| AppName::parse(text).unwrap();
        let all = ConfiguredAll {
            run: vec![(name("blog"), 4)],
            pending: vec![name("shop")],
            refused: vec![(name("wiki"), DeployError::NoProxy)],
        };
        let refused = CommandError::NotByAll(vec!["wiki".to_owned()]).problem();
        insta::assert_snapshot!(format!("{}\n{refused}", outcomes(&all)));
    }
}
