//! Apps that sleep while nobody asks for them.

use super::{StoreError, apps, now};
use crate::model::{App, AppId, Release, Woken};
use rusqlite::{Connection, params};

/// Stores after how many seconds an app falls asleep; none: never.
pub fn set_after(db: &Connection, id: AppId, after: Option<u32>) -> Result<(), StoreError> {
    db.execute("UPDATE apps SET sleep_after = ?2 WHERE id = ?1", params![id.0, after])?;
    Ok(())
}

/// An app falls asleep, unless it is asleep or stopped, or its release is watched: whether
/// it does.
pub fn fall_asleep(db: &Connection, id: AppId) -> Result<bool, StoreError> {
    let changed = db.execute(
        "UPDATE apps SET asleep_since = ?2 WHERE id = ?1 AND asleep_since IS NULL AND NOT stopped
         AND NOT EXISTS (SELECT 1 FROM windows WHERE windows.app = ?1)",
        params![id.0, now()],
    )?;
    Ok(changed > 0)
}

/// An app is awake, whoever may have woken it.
pub fn wake(db: &Connection, id: AppId) -> Result<(), StoreError> {
    let changed =
        db.execute("UPDATE apps SET asleep_since = NULL WHERE id = ?1 AND asleep_since IS NOT NULL", [id.0])?;
    if changed > 0 { takes_requests(db, id) } else { Ok(()) }
}

/// From now on proxies may send something to any of its processes.
fn takes_requests(db: &Connection, id: AppId) -> Result<(), StoreError> {
    db.execute("UPDATE addresses SET fresh = 0 WHERE app = ?1", [id.0])?;
    Ok(())
}

/// The same for who has started its processes, if it is asleep and they are of the
/// release that serves: whether they are.
pub fn wake_by(db: &Connection, release: &Release, woken: Woken) -> Result<bool, StoreError> {
    let changed = db.execute(
        "UPDATE apps SET asleep_since = NULL, woken_at = ?3, wake_took = ?4
         WHERE id = ?1 AND asleep_since IS NOT NULL AND EXISTS (
             SELECT 1 FROM releases WHERE releases.id = ?2 AND releases.state = 'current')",
        params![release.app.0, release.id.0, woken.at, woken.took],
    )?;
    if changed > 0 {
        takes_requests(db, release.app)?;
    }
    Ok(changed > 0)
}

/// Apps that may fall asleep, or are.
pub fn list(db: &Connection) -> Result<Vec<App>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id FROM apps WHERE sleep_after IS NOT NULL OR asleep_since IS NOT NULL ORDER BY id",
    )?;
    let ids = statement.query_map([], |row| Ok(AppId(row.get(0)?)))?.collect::<Result<Vec<_>, _>>()?;
    ids.into_iter().filter_map(|id| apps::get(db, id).transpose()).collect()
}
