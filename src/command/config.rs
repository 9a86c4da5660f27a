//! `config…`: config vars.

use super::grammar::OfApp;
use super::{CommandError, Session};
use crate::model::{App, AppName, ConfigVars, EnvKey};
use crate::store;
use serde_json::json;

/// Longest value, bytes: Linux takes 128 KiB per variable.
/// <https://man7.org/linux/man-pages/man2/execve.2.html> (MAX_ARG_STRLEN)
const LONGEST: usize = 128 * 1024 - 300;

impl Session<'_> {
    async fn vars(&mut self, app: &App) -> Result<ConfigVars, CommandError> {
        let id = app.id;
        Ok(self.pipeline.workers.store.read(move |db| store::config::load(db, id)).await?)
    }

    pub(super) async fn config(&mut self, name: AppName, as_json: bool) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let vars = self.vars(&app).await?;
        if as_json {
            return self.print_json(&json!(vars)).await;
        }
        let text = vars
            .0
            .iter()
            .fold(String::new(), |text, (key, value)| text + &format!("{key}={}\n", shown(value)));
        self.print(&text).await
    }

    pub(super) async fn config_get(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (name, words) = app.split("config:get")?;
        let app = self.app(&name).await?;
        let vars = self.vars(&app).await?;
        let [key] = &words[..] else {
            return Err(CommandError::Usage { command: "config:get".into(), reason: "give one KEY".into() });
        };
        let key = EnvKey::parse(key)?;
        let value = vars.0.get(&key).ok_or_else(|| CommandError::NotSet(key.to_string()))?;
        self.print(&format!("{value}\n")).await
    }

    pub(super) async fn config_set(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (name, words) = app.split("config:set")?;
        let app = self.app(&name).await?;
        if words.is_empty() {
            return Err(CommandError::Usage {
                command: "config:set".into(),
                reason: "give KEY=VALUE".into(),
            });
        }
        let set = words.iter().map(|word| assignment(word)).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<String> = set.iter().map(|(key, _)| key.to_string()).collect();
        self.change(&app, move |vars| vars.0.extend(set)).await?;
        self.print(&format!("Set {}.\n", keys.join(", "))).await
    }

    pub(super) async fn config_unset(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (name, words) = app.split("config:unset")?;
        let app = self.app(&name).await?;
        if words.is_empty() {
            return Err(CommandError::Usage { command: "config:unset".into(), reason: "give KEY".into() });
        }
        let keys = words.iter().map(|word| EnvKey::parse(word)).collect::<Result<Vec<_>, _>>()?;
        let vars = self.vars(&app).await?;
        if let Some(missing) = keys.iter().find(|key| !vars.0.contains_key(key)) {
            return Err(CommandError::NotSet(missing.to_string()));
        }
        let named = words.join(", ");
        self.change(&app, move |vars| vars.0.retain(|key, _| !keys.contains(key))).await?;
        self.print(&format!("Removed {named}.\n")).await
    }

    async fn change(
        &mut self,
        app: &App,
        change: impl FnOnce(&mut ConfigVars) + Send,
    ) -> Result<(), CommandError> {
        let (pipeline, who) = (self.pipeline.clone(), self.caller.name().to_owned());
        let made = self
            .reporting(|report| async move { Ok(pipeline.configure(app, &who, &report, change).await?) })
            .await?;
        match made {
            Some(number) => self.print(&format!("{} runs v{number}. ", app.name)).await,
            None => Ok(()),
        }
    }
}

/// Values with line ends are shown on one line, quoted; `config:get` and
/// `--json` give them as they are.
fn shown(value: &str) -> String {
    if value.chars().any(char::is_control) { format!("{value:?}") } else { value.to_owned() }
}

fn assignment(word: &str) -> Result<(EnvKey, String), CommandError> {
    let (key, value) =
        word.split_once('=').ok_or_else(|| CommandError::NotAnAssignment(word.chars().take(60).collect()))?;
    let key = EnvKey::parse(key)?;
    if key.is_platforms() {
        return Err(CommandError::Reserved(key.to_string()));
    }
    if value.contains('\0') {
        return Err(CommandError::Value(key.to_string(), "it has a NUL byte"));
    }
    if value.len() > LONGEST {
        return Err(CommandError::Value(key.to_string(), "it is longer than 127 KiB"));
    }
    if key.as_str() == "PORT" && value.parse::<u16>().ok().is_none_or(|port| port == 0) {
        return Err(CommandError::Value(key.to_string(), "a port is a number from 1 to 65535"));
    }
    Ok((key, value.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_are_taken_byte_for_byte() {
        for value in ["", "a=b", "$HOME", "'\"", "{\"a\": [1]}", "two\nlines", "ünï"] {
            assert_eq!(assignment(&format!("K={value}")).unwrap().1, value);
        }
    }

    #[test]
    fn what_no_environment_holds_is_refused() {
        let long = format!("K={}", "x".repeat(200_000));
        for bad in
            ["K", "1K=x", "K-K=x", "K=a\0b", "PORT=http", "PORT=0", "PAAS_RELEASE=v1", "DYNO=web.9", &long]
        {
            assert!(assignment(bad).is_err(), "{}", &bad[..bad.len().min(20)]);
        }
    }
}
