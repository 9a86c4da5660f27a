//! Releases that are watched after they went live.

use super::StoreError;
use crate::model::{AppId, Window};
use rusqlite::{Connection, OptionalExtension, Row, params};

const COLUMNS: &str = "app, release, before, standby, until, former";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Window> {
    let former: String = row.get(5)?;
    let former = serde_json::from_str(&former).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(Window {
        app: AppId(row.get(0)?),
        release: row.get(1)?,
        before: row.get(2)?,
        standby: row.get(3)?,
        until: row.get(4)?,
        former,
    })
}

/// An app's window, if one of its releases is watched.
pub fn of(db: &Connection, app: AppId) -> Result<Option<Window>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM windows WHERE app = ?1");
    Ok(db.prepare_cached(&sql)?.query_row([app.0], from_row).optional()?)
}

/// All windows.
pub fn list(db: &Connection) -> Result<Vec<Window>, StoreError> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM windows"))?;
    Ok(statement.query_map([], from_row)?.collect::<Result<Vec<_>, _>>()?)
}

/// Opens a window in place of the one that there is.
pub fn open(db: &Connection, window: &Window) -> Result<(), StoreError> {
    db.execute(
        "INSERT OR REPLACE INTO windows (app, release, before, standby, until, former)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            window.app.0,
            window.release,
            window.before,
            window.standby,
            window.until,
            serde_json::to_string(&window.former)?,
        ],
    )?;
    Ok(())
}

/// Ends an app's window.
pub fn close(db: &Connection, app: AppId) -> Result<(), StoreError> {
    db.execute("DELETE FROM windows WHERE app = ?1", [app.0])?;
    Ok(())
}

/// The canary of an app is taken out of the routes; its last requests may be under way.
pub fn set_unrouted(db: &Connection, app: AppId, release: u32) -> Result<(), StoreError> {
    super::facts::set(db, &unrouted_fact(app), &release.to_string())
}

/// Which release that is, until it is undone.
pub fn unrouted(db: &Connection, app: AppId) -> Result<Option<u32>, StoreError> {
    Ok(super::facts::get(db, &unrouted_fact(app))?.and_then(|number| number.parse().ok()))
}

/// It is undone.
pub fn forget_unrouted(db: &Connection, app: AppId) -> Result<(), StoreError> {
    super::facts::remove(db, &unrouted_fact(app))
}

fn unrouted_fact(app: AppId) -> String {
    format!("canary.{}", app.0)
}
