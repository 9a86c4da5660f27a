//! Who changed what: one row per command that changes something.

use super::{StoreError, now};
use crate::model::AppName;
use rusqlite::{Connection, Row, params};
use std::time::Duration;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Seconds since the epoch, UTC.
    pub at: i64,
    /// A key's name, or `local`.
    pub who: String,
    /// The app, if it is about one.
    pub app: Option<AppName>,
    /// The command and what it was about; no values of config vars.
    pub what: String,
    /// `done`, `refused`; `begun` if it never ended.
    pub outcome: String,
}

/// Writes down that something is begun, and forgets what is older than `keep`.
pub fn begin(
    db: &Connection,
    keep: Duration,
    who: &str,
    app: Option<&AppName>,
    what: &str,
) -> Result<i64, StoreError> {
    let kept = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
    db.execute("DELETE FROM audit WHERE at < ?1", [now().saturating_sub(kept)])?;
    db.execute(
        "INSERT INTO audit (at, who, app, what) VALUES (?1, ?2, ?3, ?4)",
        params![now(), who, app.map(AppName::as_str), what],
    )?;
    Ok(db.last_insert_rowid())
}

/// Writes down how it ended, once: with all that was done, or that it was refused.
pub fn end(db: &Connection, id: i64, done: Option<&str>) -> Result<(), StoreError> {
    let outcome = if done.is_some() { "done" } else { "refused" };
    db.execute(
        "UPDATE audit SET outcome = ?2, what = coalesce(?3, what) WHERE id = ?1 AND outcome = 'begun'",
        params![id, outcome, done],
    )?;
    Ok(())
}

/// The last changes, of an app or of all, oldest first.
pub fn list(db: &Connection, app: Option<&AppName>, count: u32) -> Result<Vec<Record>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT at, who, app, what, outcome FROM
             (SELECT * FROM audit WHERE ?1 IS NULL OR app = ?1 ORDER BY id DESC LIMIT ?2) ORDER BY id",
    )?;
    let rows = statement.query_map(params![app.map(AppName::as_str), count], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Record> {
    let app: Option<String> = row.get(2)?;
    Ok(Record {
        at: row.get(0)?,
        who: row.get(1)?,
        app: app.and_then(|name| AppName::parse(&name).ok()),
        what: row.get(3)?,
        outcome: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::scratch;
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    #[tokio::test]
    async fn changes_are_kept_in_order_and_old_ones_go() {
        let (_dir, store) = scratch();
        let shop = AppName::parse("shop").unwrap();
        store
            .write(move |db| {
                db.execute("INSERT INTO audit (at, who, what) VALUES (1, 'ada', 'long ago')", [])?;
                let first = begin(db, YEAR, "ada", Some(&shop), "ps:scale")?;
                end(db, first, Some("ps:scale web=2"))?;
                end(db, first, None)?;
                begin(db, YEAR, "local", None, "keys:add bob")?;
                let told = |records: Vec<Record>| -> Vec<String> {
                    records.iter().map(|record| format!("{} {}", record.what, record.outcome)).collect()
                };
                assert_eq!(told(list(db, None, 9)?), ["ps:scale web=2 done", "keys:add bob begun"]);
                assert_eq!(told(list(db, None, 1)?), ["keys:add bob begun"]);
                assert_eq!(told(list(db, Some(&shop), 9)?), ["ps:scale web=2 done"]);
                Ok(())
            })
            .await
            .unwrap();
    }
}
