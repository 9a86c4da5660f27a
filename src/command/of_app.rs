//! The app that a command is about, and the words after it.

use crate::model::{AppName, NameError};
use clap::Args;

/// An app, as `COMMAND APP …` or `COMMAND … -a APP`. `Debug` shows no word: there
/// are values of config vars among them.
#[derive(Args)]
pub struct OfApp {
    /// The app, if it is not the first word
    #[arg(short = 'a', long = "app", value_name = "APP")]
    app: Option<String>,
    /// The app, then what the command is about
    #[arg(value_name = "APP …", allow_hyphen_values = false)]
    words: Vec<String>,
}

/// Why no app could be made out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoApp {
    /// None was given.
    #[error("name the app: {0} APP")]
    Missing(&'static str),
    /// What was given is no app's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// One app and all apps.
    #[error("{0} is about one app or, with --global, about all")]
    AppAndAll(&'static str),
    /// More words than the command takes.
    #[error("{0:?} is one word too many: {1} APP")]
    Surplus(String, &'static str),
}

impl std::fmt::Debug for OfApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OfApp({} words)", self.words.len())
    }
}

impl OfApp {
    /// The words of a command that is about all apps.
    pub fn none(self, command: &'static str) -> Result<Vec<String>, NoApp> {
        if self.app.is_some() { Err(NoApp::AppAndAll(command)) } else { Ok(self.words) }
    }

    /// Whether no app is named, and nothing else.
    pub fn is_none(&self) -> bool {
        self.app.is_none() && self.words.is_empty()
    }

    /// All words.
    pub fn all(&self) -> &[String] {
        &self.words
    }

    /// The app, if it is named as one can be, and the words after it.
    pub fn peek(&self) -> (Option<AppName>, &[String]) {
        match (&self.app, self.words.split_first()) {
            (Some(app), _) => (AppName::parse(app).ok(), &self.words),
            (None, Some((app, words))) => (AppName::parse(app).ok(), words),
            (None, None) => (None, &[]),
        }
    }

    /// The app, and the words after it.
    pub fn split(mut self, command: &'static str) -> Result<(AppName, Vec<String>), NoApp> {
        let app = match self.app {
            Some(app) => app,
            // `config:set TOKEN=…` is no app's misspelt name, and maybe a secret.
            None if self.words.first().is_none_or(|word| word.contains('=')) => {
                return Err(NoApp::Missing(command));
            }
            None => self.words.remove(0),
        };
        Ok((AppName::parse(&app)?, self.words))
    }

    /// The app, for commands that take nothing else.
    pub fn only(self, command: &'static str) -> Result<AppName, NoApp> {
        let (app, words) = self.split(command)?;
        match words.into_iter().next() {
            Some(word) => Err(NoApp::Surplus(word.chars().take(60).collect(), command)),
            None => Ok(app),
        }
    }
}
