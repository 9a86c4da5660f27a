//! Webhooks, and the messages that are on their way to them.

use super::{StoreError, now};
use crate::model::{Announcement, AppId, Delivery, Endpoint, EventKind, LONGEST_PAUSE, Webhook, pause_after};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeSet;
use zeroize::Zeroizing;

/// Most messages that wait for one webhook; the oldest are given up for others.
const MOST_WAITING: u32 = 100;

/// Messages whose outcome is kept, for each webhook.
const KEPT: u32 = 20;

/// How the last message to a webhook fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// When it was made, seconds since the epoch, UTC.
    pub at: i64,
    /// About what.
    pub event: String,
    /// `waiting`, `delivered` or `given up`.
    pub state: String,
    /// What came of the last try.
    pub outcome: String,
    /// How often it was tried.
    pub tries: u32,
}

/// Adds one; its number.
pub fn add(
    db: &Connection,
    app: AppId,
    endpoint: &Endpoint,
    events: &BTreeSet<EventKind>,
    who: &str,
) -> Result<i64, StoreError> {
    // The endpoint is sealed for its own row, whose number is known only now.
    db.execute(
        "INSERT INTO webhooks (app, endpoint, events, who, created_at) VALUES (?1, x'', ?2, ?3, ?4)",
        params![app.0, serde_json::to_string(events)?, who, now()],
    )?;
    let id = db.last_insert_rowid();
    let sealed = Zeroizing::new(serde_json::to_string(endpoint)?);
    db.execute(
        "UPDATE webhooks SET endpoint = seal('webhook', app, id, ?2) WHERE id = ?1",
        params![id, *sealed],
    )?;
    let added = list(db, app)?.into_iter().filter(|webhook| webhook.id == id);
    send(db, app, added.collect(), &Announcement::ping(events, who))?;
    Ok(id)
}

/// Removes one with its messages; whether it was there.
pub fn remove(db: &Connection, app: AppId, id: i64) -> Result<bool, StoreError> {
    Ok(db.execute("DELETE FROM webhooks WHERE app = ?1 AND id = ?2", params![app.0, id])? > 0)
}

/// An app's webhooks.
pub fn list(db: &Connection, app: AppId) -> Result<Vec<Webhook>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, unseal('webhook', app, id, endpoint), events, who FROM webhooks WHERE app = ?1 ORDER BY id",
    )?;
    let rows = statement.query_map([app.0], |row| {
        Ok(Webhook { id: row.get(0)?, app, endpoint: json(row, 1)?, events: json(row, 2)?, who: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = Zeroizing::new(row.get::<_, String>(column)?);
    serde_json::from_str(&text).map_err(|_| {
        // serde's words could repeat a secret.
        let error = StoreError::Value("a webhook".to_owned());
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// Has all who want to know be told, from the moment that the change around this is
/// durable.
pub fn announce(db: &Connection, app: AppId, announcement: &Announcement) -> Result<(), StoreError> {
    let all = list(db, app)?;
    send(
        db,
        app,
        all.into_iter().filter(|one| one.events.contains(&announcement.kind)).collect(),
        announcement,
    )
}

fn send(
    db: &Connection,
    app: AppId,
    to: Vec<Webhook>,
    announcement: &Announcement,
) -> Result<(), StoreError> {
    let Some(app) = super::apps::get(db, app)?.filter(|_| !to.is_empty()) else { return Ok(()) };
    for webhook in to {
        let name = name()?;
        let body = announcement.body(&name, &app.name, now());
        db.execute(
            "INSERT INTO deliveries (webhook, name, event, body, at, due) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
            params![webhook.id, name, announcement.kind.as_str(), body, now()],
        )?;
        db.execute(
            "UPDATE deliveries SET state = 'given up', outcome = 'too many wait' WHERE webhook = ?1 AND
             state = 'waiting' AND id NOT IN (SELECT id FROM deliveries WHERE webhook = ?1 AND
             state = 'waiting' ORDER BY id DESC LIMIT ?2)",
            params![webhook.id, MOST_WAITING],
        )?;
        db.execute(
            "DELETE FROM deliveries WHERE webhook = ?1 AND state <> 'waiting' AND id NOT IN
             (SELECT id FROM deliveries WHERE webhook = ?1 AND state <> 'waiting' ORDER BY id DESC LIMIT ?2)",
            params![webhook.id, KEPT],
        )?;
    }
    Ok(())
}

/// A message's own name.
fn name() -> Result<String, StoreError> {
    let number = getrandom::u64().map_err(|error| StoreError::Value(error.to_string()))?;
    Ok(format!("{number:016x}"))
}

/// The messages that are due now, one for each webhook, and when the next one is.
/// Those that lie farther ahead than any can were due before the clock was set back.
pub fn due(db: &Connection, most: u32) -> Result<(Vec<Delivery>, Option<i64>), StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT deliveries.id, webhooks.app, webhook, unseal('webhook', app, webhooks.id, endpoint), name, event,
                body, tries, min(due)
         FROM deliveries JOIN webhooks ON webhooks.id = webhook
         WHERE state = 'waiting' AND (due <= ?1 OR due > ?1 + ?2)
         GROUP BY webhook ORDER BY due LIMIT ?3",
    )?;
    let rows = statement.query_map(params![now(), LONGEST_PAUSE, most], |row| {
        let kind: String = row.get(5)?;
        let kind = EventKind::parse_list(&kind).ok().and_then(|kinds| kinds.into_iter().next());
        Ok(Delivery {
            id: row.get(0)?,
            app: AppId(row.get(1)?),
            webhook: row.get(2)?,
            endpoint: json(row, 3)?,
            name: row.get(4)?,
            kind: kind.unwrap_or(EventKind::Ping),
            body: row.get(6)?,
            tries: row.get(7)?,
        })
    })?;
    let found = rows.collect::<Result<_, _>>()?;
    let next = "SELECT min(due) FROM deliveries WHERE state = 'waiting' AND due > ?1";
    Ok((found, db.query_row(next, [now()], |row| row.get(0)).optional()?.flatten()))
}

/// Writes down what came of a try; whether the message is given up.
pub fn tried(
    db: &Connection,
    delivery: &Delivery,
    delivered: bool,
    outcome: &str,
) -> Result<bool, StoreError> {
    let tries = delivery.tries + 1;
    let again = pause_after(tries).filter(|_| !delivered);
    let state = match again {
        Some(_) => "waiting",
        None if delivered => "delivered",
        None => "given up",
    };
    db.execute(
        "UPDATE deliveries SET tries = ?2, state = ?3, outcome = ?4, due = ?5 WHERE id = ?1 AND state = 'waiting'",
        params![delivery.id, tries, state, outcome, now() + again.unwrap_or(0)],
    )?;
    Ok(state == "given up")
}

/// How the last messages to a webhook fared, the newest first, and how many wait.
pub fn fates(db: &Connection, webhook: i64) -> Result<(Vec<Fate>, u32), StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT at, event, state, outcome, tries FROM deliveries WHERE webhook = ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![webhook, KEPT], |row| {
        Ok(Fate {
            at: row.get(0)?,
            event: row.get(1)?,
            state: row.get(2)?,
            outcome: row.get(3)?,
            tries: row.get(4)?,
        })
    })?;
    let waiting = "SELECT count(*) FROM deliveries WHERE webhook = ?1 AND state = 'waiting'";
    Ok((rows.collect::<Result<_, _>>()?, db.query_row(waiting, [webhook], |row| row.get(0))?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::scratch;
    use super::*;
    use crate::model::AppName;

    fn app(db: &Connection) -> Result<AppId, StoreError> {
        let pools = super::super::apps::Pools {
            ports: 1..=99,
            networks: "10.210.0.0/24".parse().unwrap(),
            taken: Vec::new(),
        };
        Ok(super::super::apps::create(db, &AppName::parse("shop").unwrap(), "shop", &pools)?.id)
    }

    fn endpoint() -> Endpoint {
        Endpoint { url: "https://example.com/t0ken".into(), secret: Some("geheim".into()) }
    }

    #[tokio::test]
    async fn a_message_is_due_until_it_arrives_or_is_given_up() {
        let (_dir, store) = scratch();
        store
            .write(|db| {
                let app = app(db)?;
                let events = [EventKind::Release].into();
                let id = add(db, app, &endpoint(), &events, "ada")?;
                let stored: Vec<u8> = db.query_row("SELECT endpoint FROM webhooks", [], |row| row.get(0))?;
                let has = |text: &str| stored.windows(text.len()).any(|part| part == text.as_bytes());
                assert!(!has("t0ken") && !has("geheim"));
                let (due_now, _) = due(db, 9)?;
                assert_eq!(due_now.len(), 1, "its ping");
                assert_eq!((due_now[0].kind, &due_now[0].endpoint), (EventKind::Ping, &endpoint()));
                assert!(!tried(db, &due_now[0], true, "200")?);
                assert_eq!(due(db, 9)?, (Vec::new(), None));
                announce(db, app, &Announcement::ping(&events, "bob"))?;
                assert!(due(db, 9)?.0.is_empty(), "nobody wants to know");
                let events = [EventKind::Ping].into();
                let other = add(db, app, &endpoint(), &events, "ada")?;
                for tries in 0..9 {
                    let (due_now, _) = due(db, 9)?;
                    assert_eq!((due_now[0].tries, due_now[0].webhook), (tries, other));
                    assert!(!tried(db, &due_now[0], false, "no answer")?);
                    let (_, next) = due(db, 9)?;
                    assert!(next.unwrap() > now());
                    db.execute("UPDATE deliveries SET due = 0", [])?;
                }
                assert!(tried(db, &due(db, 9)?.0[0], false, "no answer")?);
                assert_eq!(fates(db, other)?.0[0].state, "given up");
                assert!(remove(db, app, id)? && !remove(db, app, id)?);
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn no_more_than_so_many_wait_and_are_kept() {
        let (_dir, store) = scratch();
        store
            .write(|db| {
                let app = app(db)?;
                let events: BTreeSet<EventKind> = [EventKind::Ping].into();
                let id = add(db, app, &endpoint(), &events, "ada")?;
                for _ in 0..150 {
                    announce(db, app, &Announcement::ping(&events, "ada"))?;
                }
                assert_eq!(fates(db, id)?.1, MOST_WAITING);
                let all: u32 = db.query_row("SELECT count(*) FROM deliveries", [], |row| row.get(0))?;
                assert_eq!(all, MOST_WAITING + KEPT);
                db.execute("UPDATE deliveries SET due = ?1", [now() + 1000])?;
                assert_eq!(due(db, 9)?.0.len(), 0);
                db.execute("UPDATE deliveries SET due = ?1", [now() + 100_000])?;
                assert_eq!(due(db, 9)?.0.len(), 1, "the clock was set back");
                super::super::apps::remove(db, app)?;
                let all: u32 = db.query_row("SELECT count(*) FROM deliveries", [], |row| row.get(0))?;
                assert_eq!(all, 0);
                Ok(())
            })
            .await
            .unwrap();
    }
}
