//! `ps:sleep` and `ps:wake`: apps that sleep while nobody asks for them.

use super::table::time;
use super::{CommandError, Session};
use crate::deploy::Account;
use crate::model::sleep::spoken;
use crate::model::{AppName, Sleep, Woken};
use serde_json::json;

/// What `ps:sleep` is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing but tell.
    Show,
    /// Store after how many seconds it falls asleep, if ever.
    After(Option<u32>),
    /// Put it to sleep.
    Now,
}

impl Change {
    pub(super) fn of(after: Option<&str>, off: bool, now: bool) -> Result<Self, CommandError> {
        Ok(match after {
            Some(text) => Self::After(Some(Sleep::time(text).map_err(CommandError::NotASleep)?)),
            None if off => Self::After(None),
            None if now => Self::Now,
            None => Self::Show,
        })
    }
}

impl Session<'_> {
    pub(super) async fn ps_sleep(&mut self, name: AppName, change: Change) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        match change {
            Change::Show => {}
            Change::After(after) => self.pipeline.set_sleep(&app, after, self.caller.name()).await?,
            Change::Now => self.pipeline.sleep_now(&app, self.caller.name()).await?,
        }
        self.changed |= change != Change::Show;
        let app = self.app(&name).await?;
        let account = self.pipeline.account(&app).await?;
        let text = format!("{}{}", setting(&name, account.app.sleep), told(&account));
        self.print(&text).await
    }

    pub(super) async fn ps_wake(&mut self, name: AppName) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let text = match self.pipeline.wake_app(&app).await? {
            Some(took) => format!("Woke {name} in {} ms.\n", took.as_millis()),
            None => format!("{name} is awake.\n"),
        };
        self.print(&text).await
    }
}

fn setting(name: &AppName, sleep: Sleep) -> String {
    match sleep.after {
        Some(after) => {
            format!(
                "{name} falls asleep after {} without a request or an open stream.\n",
                spoken(after.into())
            )
        }
        None => format!("{name} never falls asleep by itself.\n"),
    }
}

/// How it is with an app's sleep, below the table of its processes.
pub(super) fn told(account: &Account) -> String {
    let Sleep { since, woken, .. } = account.app.sleep;
    match (since, woken) {
        (Some(_), _) if account.waking => "Waking up.\n".to_owned(),
        (Some(since), _) => match &account.not_woken {
            Some(why) => {
                format!("Asleep since {}. It could not be woken: {why} It is tried again.\n", time(since))
            }
            None => format!("Asleep since {}; wakes on the next request.\n", time(since)),
        },
        (None, Some(Woken { at, took })) => format!("Woke in {took} ms on {}.\n", time(at)),
        (None, None) => String::new(),
    }
}

/// The same for programs.
pub(super) fn as_value(sleep: Sleep) -> serde_json::Value {
    json!({
        "after": sleep.after,
        "since": sleep.since.map(time),
        "woken": sleep.woken.map(|woken| json!({"at": time(woken.at), "ms": woken.took})),
    })
}
