//! `webhooks…`: who else is told what happens to an app.

use super::of_app::OfApp;
use super::table::{table, time};
use super::{CommandError, Session};
use crate::deploy::Told;
use crate::model::{AppName, Endpoint, EventKind};
use crate::store;
use serde_json::json;
use std::collections::BTreeSet;

/// Longest secret.
const LONGEST: u64 = 1024;

impl Session<'_> {
    pub(super) async fn webhooks(&mut self, name: AppName, as_json: bool) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let all = self.pipeline.webhooks(app.id).await?;
        if as_json {
            return self.print_json(&all.iter().map(described).collect()).await;
        }
        let rows: Vec<Vec<String>> = all.iter().map(row).collect();
        self.print(&table(&["ID", "URL", "EVENTS", "SIGNED", "LAST", "OUTCOME", "WAITING"], &rows)).await
    }

    pub(super) async fn webhooks_add(
        &mut self,
        app: OfApp,
        events: Option<String>,
        secret: bool,
    ) -> Result<(), CommandError> {
        let (name, words) = app.split("webhooks:add")?;
        let app = self.app(&name).await?;
        let [url] = &words[..] else {
            let reason = "give one address, such as https://example.com/hook".to_owned();
            return Err(CommandError::Usage { command: "webhooks:add".to_owned(), reason });
        };
        let events = match events {
            Some(list) => EventKind::parse_list(&list).map_err(CommandError::NotAnEvent)?,
            None => EventKind::ALL.into(),
        };
        let secret = if secret { Some(self.read_secret().await?) } else { None };
        let endpoint = Endpoint { url: url.clone(), secret };
        let shown = endpoint.shown();
        self.noted = format!(" {shown}");
        let who = self.caller.name().to_owned();
        let id = self.pipeline.add_webhook(&app, endpoint, events.clone(), &who).await?;
        let events = listed(&events);
        let text = format!(
            "Added webhook {id} of {name}: {shown} is told of {events}.\nA first message is on its way; whether it arrives: ssh paas webhooks {name}\n"
        );
        self.print(&text).await
    }

    /// One line of standard input.
    async fn read_secret(&mut self) -> Result<String, CommandError> {
        let text = self.read_text(LONGEST).await?;
        let secret = text.strip_suffix('\n').unwrap_or(&text);
        let secret = secret.strip_suffix('\r').unwrap_or(secret);
        if secret.is_empty() || secret.contains(['\n', '\r', '\0']) {
            return Err(CommandError::NotASecret);
        }
        Ok(secret.to_owned())
    }

    pub(super) async fn webhooks_remove(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (name, words) = app.split("webhooks:remove")?;
        let app = self.app(&name).await?;
        let [word] = &words[..] else {
            let reason = format!("give its number: ssh paas webhooks {name}");
            return Err(CommandError::Usage { command: "webhooks:remove".to_owned(), reason });
        };
        let refuse = || CommandError::NoSuchWebhook(name.clone());
        let id: i64 = word.parse().map_err(|_| refuse())?;
        let store = &self.pipeline.workers.store;
        if !store.write(move |db| store::webhooks::remove(db, app.id, id)).await? {
            return Err(refuse());
        }
        self.print(&format!("Removed webhook {id} of {name}.\n")).await
    }
}

fn listed(events: &BTreeSet<EventKind>) -> String {
    events.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}

fn row(told: &Told) -> Vec<String> {
    let Told { webhook, fates, waiting } = told;
    let (last, outcome) = fates.first().map_or((String::new(), String::new()), |fate| {
        let tries = if fate.tries > 1 { format!(" ({} tries)", fate.tries) } else { String::new() };
        let outcome = if fate.outcome.is_empty() { "not sent yet" } else { &fate.outcome };
        (format!("{} {}", fate.event, time(fate.at)), format!("{}: {outcome}{tries}", fate.state))
    });
    let signed = if webhook.endpoint.secret.is_some() { "yes" } else { "no" };
    vec![
        webhook.id.to_string(),
        webhook.endpoint.shown(),
        listed(&webhook.events),
        signed.to_owned(),
        last,
        outcome,
        waiting.to_string(),
    ]
}

fn described(told: &Told) -> serde_json::Value {
    let Told { webhook, fates, waiting } = told;
    let fates = fates.iter().map(|fate| {
        json!({
            "at": time(fate.at), "event": fate.event, "state": fate.state, "outcome": fate.outcome,
            "tries": fate.tries,
        })
    });
    json!({
        "id": webhook.id, "url": webhook.endpoint.shown(), "events": webhook.events, "who": webhook.who,
        "signed": webhook.endpoint.secret.is_some(), "waiting": waiting, "deliveries": fates.collect::<Vec<_>>(),
    })
}
