//! Messages to other programs about what happens to an app.

use super::app::AppId;
use super::name::AppName;
use super::release::{Release, Why};
use super::window::Evidence;
use super::workload::ProcessName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;

/// Most webhooks of an app.
pub const MOST_WEBHOOKS: usize = 10;

/// Seconds after each try that failed; after the last one a message is given up.
const PAUSES: [i64; 9] = [5, 30, 120, 600, 1800, 3600, 3600, 7200, 14_400];

/// The longest of them.
pub const LONGEST_PAUSE: i64 = 14_400;

/// When to try again after so many tries; never, if these were all.
pub fn pause_after(tries: u32) -> Option<i64> {
    PAUSES.get(usize::try_from(tries).ok()?.checked_sub(1)?).copied()
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A release went live, or failed.
    Release,
    /// An earlier release runs again, by command or by itself.
    Rollback,
    /// A process has crashed and is not started again.
    Crash,
    /// Somebody has added the webhook.
    Ping,
}

impl EventKind {
    /// What can be chosen.
    pub const ALL: [Self; 3] = [Self::Release, Self::Rollback, Self::Crash];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Rollback => "rollback",
            Self::Crash => "crash",
            Self::Ping => "ping",
        }
    }

    /// Reads `release,rollback`; the word that is none.
    pub fn parse_list(text: &str) -> Result<BTreeSet<Self>, String> {
        let known = |word: &str| Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        let words = text.split(',').map(str::trim);
        words.map(|word| known(word).ok_or_else(|| word.chars().take(40).collect())).collect()
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where messages go. The address may have a password of its own in it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `https://…`
    pub url: String,
    /// With what they are signed.
    pub secret: Option<String>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.shown())
    }
}

impl Endpoint {
    /// As much of the address as is no password: `https://hooks.example.com/…`.
    pub fn shown(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        let host = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let more = if rest[host..].len() > 1 { "/…" } else { "" };
        format!("{scheme}://{}{more}", &rest[..host])
    }
}

/// A webhook as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its number.
    pub id: i64,
    /// Whose.
    pub app: AppId,
    /// Where to.
    pub endpoint: Endpoint,
    /// About what.
    pub events: BTreeSet<EventKind>,
    /// Who added it.
    pub who: String,
}

/// A message that is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its row.
    pub id: i64,
    /// Whose.
    pub app: AppId,
    /// The webhook.
    pub webhook: i64,
    /// Where to.
    pub endpoint: Endpoint,
    /// The message's own name: the same however often it is sent.
    pub name: String,
    /// About what.
    pub kind: EventKind,
    /// JSON.
    pub body: String,
    /// How often it was sent in vain.
    pub tries: u32,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Of what kind.
    pub kind: EventKind,
    action: &'static str,
    /// A sentence for people.
    text: String,
    details: Value,
}

impl Announcement {
    /// A release serves instead of the one before.
    pub fn promoted(release: &Release, before: Option<&Release>) -> Self {
        let (number, who) = (release.number, &release.who);
        let source = release.source.unwrap_or_default();
        let previous = before.map(|before| before.number);
        let mut details = json!({ "release": told(release), "previous": previous });
        let (kind, action, text) = match release.why {
            Why::Automatic => {
                let evidence = release.evidence.as_ref().map(Evidence::to_string).unwrap_or_default();
                details["evidence"] = json!(evidence);
                let previous = previous.unwrap_or_default();
                let text = format!(
                    "v{previous} was rolled back automatically: {evidence}; v{number} runs what v{source} ran"
                );
                (EventKind::Rollback, "rolled back automatically", text)
            }
            Why::Rollback => {
                let text = format!("{who} rolled back to v{source}, as v{number}");
                (EventKind::Rollback, "rolled back", text)
            }
            why => {
                let text = format!("v{number} is live ({} by {who})", word(why));
                (EventKind::Release, "promoted", text)
            }
        };
        Self { kind, action, text, details }
    }

    /// A release did not come to serve.
    pub fn failed(release: &Release, reason: &str) -> Self {
        let text = format!("v{} failed and was never live: {reason}", release.number);
        let details = json!({ "release": told(release), "reason": reason });
        Self { kind: EventKind::Release, action: "failed", text, details }
    }

    /// A process is given up.
    pub fn crashed(release: &Release, process: &ProcessName, exit_code: i64, out_of_memory: bool) -> Self {
        let why = if out_of_memory { ", out of memory" } else { "" };
        let text = format!("{process} has crashed (exit {exit_code}{why}) and is not started again");
        let process =
            json!({ "name": process.to_string(), "exit_code": exit_code, "out_of_memory": out_of_memory });
        let details = json!({ "release": told(release), "process": process });
        Self { kind: EventKind::Crash, action: "crashed", text, details }
    }

    /// The first message, by which one sees that they arrive.
    pub fn ping(events: &BTreeSet<EventKind>, who: &str) -> Self {
        let events: Vec<&str> = events.iter().map(|kind| kind.as_str()).collect();
        let text = format!("{who} added this webhook for: {}", events.join(", "));
        Self { kind: EventKind::Ping, action: "added", text, details: json!({ "events": events }) }
    }

    /// The message, as JSON.
    pub fn body(&self, name: &str, app: &AppName, at: i64) -> String {
        let at = jiff::Timestamp::from_second(at).map(|at| at.to_string()).unwrap_or_default();
        let mut body = json!({
            "id": name, "event": self.kind, "action": self.action, "at": at, "app": app,
            "text": format!("{app}: {}", self.text),
        });
        if let (Some(body), Some(details)) = (body.as_object_mut(), self.details.as_object()) {
            body.extend(details.clone());
        }
        body.to_string()
    }
}

fn told(release: &Release) -> Value {
    json!({
        "number": release.number, "commit": release.commit, "why": release.why,
        "who": release.who, "source": release.source,
    })
}

fn word(why: Why) -> &'static str {
    match why {
        Why::Push => "push",
        Why::Config => "config",
        Why::Restart => "restart",
        Why::Rollback => "rollback",
        Why::Resize => "resize",
        Why::Automatic => "automatic rollback",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn events_are_read_from_a_list() {
        let all = EventKind::parse_list("crash, release,rollback").unwrap();
        assert_eq!(all, EventKind::ALL.into());
        assert_eq!(EventKind::parse_list("release,deploy").unwrap_err(), "deploy");
        assert_eq!(EventKind::parse_list("ping").unwrap_err(), "ping");
        assert_eq!(EventKind::parse_list("").unwrap_err(), "");
    }

    #[test]
    fn of_an_address_only_the_host_is_shown() {
        let shown = |url: &str| Endpoint { url: url.to_owned(), secret: Some("geheim".into()) }.shown();
        assert_eq!(shown("https://hooks.example.com/T0/B0/xyz"), "https://hooks.example.com/…");
        assert_eq!(shown("http://10.0.0.7:8080"), "http://10.0.0.7:8080");
        assert_eq!(shown("https://example.com/?key=1"), "https://example.com/…");
        let endpoint = Endpoint { url: "https://example.com/key".into(), secret: Some("geheim".into()) };
        assert_eq!(format!("{endpoint:?}"), "Endpoint(https://example.com/…)");
    }

    #[test]
    fn tries_become_rarer_and_end() {
        let pauses: Vec<_> = (1..).map_while(pause_after).collect();
        assert!(pauses.is_sorted() && pauses.last() == Some(&LONGEST_PAUSE));
        assert_eq!(pause_after(0), None);
    }
}
