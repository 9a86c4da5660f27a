//! Releases and their states.

use super::{StoreError, now};
use crate::model::{
    App, AppId, CommitId, ConfigVars, Evidence, ProcessType, Release, ReleaseId, ReleaseState, Size, Stopped,
    TakenBack, Why, Window,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

const COLUMNS: &str = "id, app, number, commit_id, image, image_id, unseal('release', app, number, vars), \
                       processes, port, env, worker_mib, runtime, root, why, who, state, created_at, source, \
                       retired_at, checks, types, sizes, bases, watch, took_over, evidence, stopped, http";

/// The one column that is costly to read, and dangerous to have.
const UNSEALED: &str = "unseal('release', app, number, vars)";

/// What is sealed of a release that runs without any.
const NO_VARS: &str = r#"{"app":{},"global":{}}"#;

/// What is known of a release before its build.
pub struct NewRelease {
    /// The app.
    pub app: AppId,
    /// What will be built.
    pub commit: CommitId,
    /// Config at this moment.
    pub config: ConfigVars,
    /// The app's own sizes, if not those of this moment.
    pub sizes: Option<BTreeMap<ProcessType, Size>>,
    /// Why it is made.
    pub why: Why,
    /// Who makes it.
    pub who: String,
    /// The release that it repeats, if it is no build of its own.
    pub source: Option<u32>,
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn optional_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    let there: Option<String> = row.get(column)?;
    there.map(|_| json(row, column)).transpose()
}

/// Enums are stored as the bare word that serde writes between quotes.
fn word<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_value(serde_json::Value::String(text)).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// What a release runs with, as it is sealed.
#[derive(Serialize, Deserialize)]
struct Vars<T> {
    app: T,
    global: T,
}

fn vars(row: &Row<'_>, column: usize) -> rusqlite::Result<Vars<ConfigVars>> {
    let text = Zeroizing::new(row.get::<_, String>(column)?);
    serde_json::from_str(&text).map_err(|_| {
        // serde's words could repeat a value.
        let error = StoreError::Value("the config vars of a release".to_owned());
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(error))
    })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Release> {
    let vars = vars(row, 6)?;
    let (why, evidence) = (word(row, 13)?, optional_json::<Evidence>(row, 25)?);
    Ok(Release {
        id: ReleaseId(row.get(0)?),
        app: AppId(row.get(1)?),
        number: row.get(2)?,
        commit: word(row, 3)?,
        image: row.get(4)?,
        image_id: row.get(5)?,
        config: vars.app,
        global: vars.global,
        processes: json(row, 7)?,
        port: row.get(8)?,
        env: json(row, 9)?,
        worker_mib: row.get(10)?,
        runtime: row.get(11)?,
        root: row.get(12)?,
        why,
        who: row.get(14)?,
        state: state(word(row, 15)?, why, evidence.is_some()),
        created_at: row.get(16)?,
        source: row.get(17)?,
        retired_at: row.get(18)?,
        checks: json(row, 19)?,
        types: json(row, 20)?,
        sizes: json(row, 21)?,
        bases: json(row, 22)?,
        watch: row.get(23)?,
        took_over: row.get(24)?,
        evidence,
        stopped: json(row, 26)?,
        http: json(row, 27)?,
    })
}

/// One that was taken back is stored as a retired one with evidence.
fn state(stored: ReleaseState, why: Why, evidence: bool) -> ReleaseState {
    let taken_back = stored == ReleaseState::Retired && evidence && why != Why::Automatic;
    if taken_back { ReleaseState::RolledBack } else { stored }
}

fn state_word(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::Preparing => "preparing",
        ReleaseState::Ready => "ready",
        ReleaseState::Current => "current",
        ReleaseState::Retired | ReleaseState::RolledBack => "retired",
        ReleaseState::Failed => "failed",
    }
}

fn one(db: &Connection, condition: &str, value: i64) -> Result<Option<Release>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE {condition} ORDER BY number DESC LIMIT 1");
    Ok(db.prepare_cached(&sql)?.query_row([value], from_row).optional()?)
}

/// Opens the next release of an app, preparing.
pub fn create(db: &Connection, new: &NewRelease) -> Result<Release, StoreError> {
    let why = match new.why {
        Why::Push => "push",
        Why::Config => "config",
        Why::Restart => "restart",
        Why::Rollback => "rollback",
        Why::Resize => "resize",
        Why::Automatic => "automatic",
    };
    let vars = Vars { app: &new.config, global: &super::config::load_global(db)? };
    let vars = Zeroizing::new(serde_json::to_string(&vars)?);
    let sizes = match &new.sizes {
        Some(sizes) => sizes,
        None => &super::apps::sizes(db, new.app)?,
    };
    let number: u32 = db.query_row(
        "SELECT coalesce(max(number), 0) + 1 FROM releases WHERE app = ?1",
        [new.app.0],
        |row| row.get(0),
    )?;
    db.execute(
        "INSERT INTO releases (app, number, commit_id, vars, why, who, state, created_at, source, sizes)
         VALUES (?1, ?2, ?3, seal('release', ?1, ?2, ?4), ?5, ?6, 'preparing', ?7, ?8, ?9)",
        params![
            new.app.0,
            number,
            new.commit.as_str(),
            *vars,
            why,
            new.who,
            now(),
            new.source,
            serde_json::to_string(sizes)?,
        ],
    )?;
    one(db, "id = ?1", db.last_insert_rowid())?.ok_or_else(|| StoreError::Value("release".to_owned()))
}

/// Writes everything of a release that a build decides, and its state.
pub fn update(db: &Connection, release: &Release) -> Result<(), StoreError> {
    db.execute(
        "UPDATE releases SET image = ?2, image_id = ?3, processes = ?4, port = ?5, env = ?6, worker_mib = ?7,
                runtime = ?8, root = ?9, state = ?10, checks = ?11, types = ?12, bases = ?13,
                watch = ?14, took_over = ?15, evidence = ?16, http = ?17 WHERE id = ?1",
        params![
            release.id.0,
            release.image,
            release.image_id,
            serde_json::to_string(&release.processes)?,
            release.port,
            serde_json::to_string(&release.env)?,
            release.worker_mib,
            release.runtime,
            release.root,
            state_word(release.state),
            serde_json::to_string(&release.checks)?,
            serde_json::to_string(&release.types)?,
            serde_json::to_string(&release.bases)?,
            release.watch,
            release.took_over,
            release.evidence.as_ref().map(serde_json::to_string).transpose()?,
            serde_json::to_string(&release.http)?,
        ],
    )?;
    Ok(())
}

/// Writes a release's state.
pub fn set_state(db: &Connection, id: ReleaseId, state: ReleaseState) -> Result<(), StoreError> {
    db.execute("UPDATE releases SET state = ?2 WHERE id = ?1", params![id.0, state_word(state)])?;
    Ok(())
}

/// Writes which of a release's processes shall not run.
pub fn set_stopped(db: &Connection, id: ReleaseId, stopped: &Stopped) -> Result<(), StoreError> {
    let text = serde_json::to_string(stopped)?;
    db.execute("UPDATE releases SET stopped = ?2 WHERE id = ?1", params![id.0, text])?;
    Ok(())
}

/// The commit point of a deploy: what was current is retired, this one serves, is
/// watched for a while or is not, and a wish that nothing runs has ended.
pub fn promote(db: &Connection, release: &Release, window: Option<&Window>) -> Result<(), StoreError> {
    let before = current(db, release.app)?;
    let automatic = release.why == Why::Automatic;
    let evidence = release.evidence.as_ref().filter(|_| automatic);
    db.execute(
        "UPDATE releases SET state = 'retired', retired_at = ?2, evidence = coalesce(?3, evidence),
                told = told AND ?3 IS NULL
         WHERE app = ?1 AND state = 'current'",
        params![release.app.0, now(), evidence.map(serde_json::to_string).transpose()?],
    )?;
    set_state(db, release.id, ReleaseState::Current)?;
    if release.why == Why::Push {
        super::bases::taken(db, release.app, &release.bases)?;
        // Its push has begun with that.
        db.execute("UPDATE releases SET told = 1 WHERE app = ?1", [release.app.0])?;
    }
    if matches!(release.why, Why::Config | Why::Rollback) {
        // Only now: a change that never served must not come with the next push.
        super::config::replace(db, release.app, &release.config)?;
    }
    if let Some(before) = before.filter(|_| automatic) {
        take_back_settings(db, &before, release)?;
    }
    if release.why == Why::Push {
        // What app.json or the language wanted; from now on it is the user's.
        super::config::fill(db, release.app, &release.config)?;
        super::apps::fill_formation(db, release)?;
    }
    if release.why == Why::Resize {
        super::apps::set_sizes(db, release.app, &release.sizes)?;
    }
    super::windows::close(db, release.app)?;
    if let Some(window) = window {
        super::windows::open(db, window)?;
    }
    super::sleep::wake(db, release.app)?;
    super::apps::set_stopped(db, release.app, false)
}

/// What came with a release goes with it; what was set since then, for the next one,
/// stays.
fn take_back_settings(db: &Connection, from: &Release, to: &Release) -> Result<(), StoreError> {
    let stored = super::config::load(db, from.app)?;
    let config = ConfigVars(reverted(&stored.0, &from.config.0, &to.config.0));
    if config != stored {
        super::config::replace(db, from.app, &config)?;
    }
    let stored = super::apps::sizes(db, from.app)?;
    super::apps::set_sizes(db, from.app, &reverted(&stored, &from.sizes, &to.sizes))
}

/// What is stored, with those entries that are still as in `from` as they are in `to`.
fn reverted<K: Ord + Clone, V: PartialEq + Clone>(
    stored: &BTreeMap<K, V>,
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
) -> BTreeMap<K, V> {
    let keys = stored.keys().chain(to.keys());
    let value = |key: &K| if stored.get(key) == from.get(key) { to.get(key) } else { stored.get(key) };
    keys.filter_map(|key| Some((key.clone(), value(key)?.clone()))).collect()
}

/// The release of this number.
pub fn numbered(db: &Connection, app: AppId, number: u32) -> Result<Option<Release>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE app = ?1 AND number = ?2");
    Ok(db.prepare_cached(&sql)?.query_row(params![app.0, number], from_row).optional()?)
}

/// The release that serves.
pub fn current(db: &Connection, app: AppId) -> Result<Option<Release>, StoreError> {
    one(db, "app = ?1 AND state = 'current'", app.0)
}

/// Current releases whose web processes are asked after their start, with their
/// apps, which shall run.
pub fn watched(db: &Connection) -> Result<Vec<(App, Release)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM releases WHERE state = 'current' AND app IN (
             SELECT apps.id FROM apps WHERE NOT apps.stopped AND apps.asleep_since IS NULL AND
             coalesce(json_extract(apps.checks, '$.kind'), json_extract(releases.checks, '$.kind')) <> 'start')"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let releases = statement.query_map([], from_row)?.collect::<Result<Vec<_>, _>>()?;
    let with_app = |release: Release| Ok(super::apps::get(db, release.app)?.map(|app| (app, release)));
    releases.into_iter().filter_map(|release| with_app(release).transpose()).collect()
}

/// On which port each release's web processes listen, by its number.
pub fn ports(db: &Connection, app: AppId) -> Result<BTreeMap<u32, u16>, StoreError> {
    let mut statement = db.prepare_cached("SELECT number, port FROM releases WHERE app = ?1")?;
    Ok(statement.query_map([app.0], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
}

/// Whether any release of an app has served.
pub fn any_served(db: &Connection, app: AppId) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM releases WHERE app = ?1 AND state IN ('current', 'retired'))";
    Ok(db.query_row(sql, [app.0], |row| row.get(0))?)
}

/// The newest release, whatever its state.
pub fn latest(db: &Connection, app: AppId) -> Result<Option<Release>, StoreError> {
    one(db, "app = ?1", app.0)
}

/// What has been taken back and was told to nobody yet, oldest first.
pub fn untold(db: &Connection, app: AppId) -> Result<Vec<TakenBack>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT bad.number, bad.evidence, next.number, next.source FROM releases AS bad
         JOIN releases AS next ON next.app = bad.app AND next.number =
             (SELECT min(number) FROM releases WHERE app = bad.app AND number > bad.number
                 AND why = 'automatic' AND state IN ('current', 'retired'))
         WHERE bad.app = ?1 AND NOT bad.told ORDER BY bad.number",
    )?;
    let read = |row: &Row<'_>| {
        let (release, evidence) = (row.get(0)?, json(row, 1)?);
        Ok(TakenBack { release, evidence, by: row.get(2)?, source: row.get(3)? })
    };
    Ok(statement.query_map([app.0], read)?.collect::<Result<_, _>>()?)
}

/// Releases that are neither promoted nor given up: what a crash leaves.
pub fn unfinished(db: &Connection) -> Result<Vec<Release>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE state IN ('preparing', 'ready')");
    let mut statement = db.prepare_cached(&sql)?;
    Ok(statement.query_map([], from_row)?.collect::<Result<Vec<_>, _>>()?)
}

/// All releases of an app that are remembered, newest first, without their config vars:
/// nothing that is only looked at is unsealed. What is to run comes from [`numbered`].
pub fn history(db: &Connection, app: AppId) -> Result<Vec<Release>, StoreError> {
    let columns = COLUMNS.replace(UNSEALED, &format!("'{NO_VARS}'"));
    let sql = format!("SELECT {columns} FROM releases WHERE app = ?1 ORDER BY number DESC");
    let mut statement = db.prepare_cached(&sql)?;
    Ok(statement.query_map([app.0], from_row)?.collect::<Result<Vec<_>, _>>()?)
}

/// The same with their config vars.
#[cfg(test)]
pub fn list(db: &Connection, app: AppId) -> Result<Vec<Release>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE app = ?1 ORDER BY number DESC");
    let mut statement = db.prepare_cached(&sql)?;
    Ok(statement.query_map([app.0], from_row)?.collect::<Result<Vec<_>, _>>()?)
}

/// Releases that have ended and have still what they ran with, but for those of `keep`.
pub fn forgettable(db: &Connection, app: AppId, keep: &BTreeSet<u32>) -> Result<Vec<u32>, StoreError> {
    let ended = "SELECT number FROM releases
                 WHERE app = ?1 AND state IN ('retired', 'failed') AND NOT forgotten";
    let mut statement = db.prepare_cached(ended)?;
    let mut numbers: Vec<u32> = statement.query_map([app.0], |row| row.get(0))?.collect::<Result<_, _>>()?;
    numbers.retain(|number| !keep.contains(number));
    Ok(numbers)
}

/// Forgets what these ran with: they can never run again.
pub fn forget(db: &Connection, app: AppId, numbers: &[u32]) -> Result<(), StoreError> {
    for number in numbers {
        db.execute(
            "UPDATE releases SET vars = seal('release', app, number, ?3), forgotten = 1
             WHERE app = ?1 AND number = ?2",
            params![app.0, number, NO_VARS],
        )?;
    }
    Ok(())
}

/// The oldest of those, `most` at a time, that are not among the last `remembered`.
pub fn oldest(db: &Connection, app: AppId, remembered: u32, most: u32) -> Result<Vec<u32>, StoreError> {
    let oldest = "SELECT number FROM releases
                  WHERE app = ?1 AND forgotten AND state IN ('retired', 'failed')
                    AND number + ?2 <= (SELECT max(number) FROM releases WHERE app = ?1)
                  ORDER BY number LIMIT ?3";
    let mut statement = db.prepare_cached(oldest)?;
    Ok(statement.query_map(params![app.0, remembered, most], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Forgets that there ever were these.
pub fn strike(db: &Connection, app: AppId, numbers: &[u32]) -> Result<(), StoreError> {
    for number in numbers {
        db.execute("DELETE FROM releases WHERE app = ?1 AND number = ?2", params![app.0, number])?;
    }
    Ok(())
}

/// Whether a release has still what it ran with.
pub fn can_run(db: &Connection, id: ReleaseId) -> Result<bool, StoreError> {
    Ok(db.query_row("SELECT NOT forgotten FROM releases WHERE id = ?1", [id.0], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_a_release_back_keeps_what_was_set_since() {
        let map = |text: &str| -> BTreeMap<String, String> {
            let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let after = |stored: &str, from: &str, to: &str| reverted(&map(stored), &map(from), &map(to));
        assert_eq!(after("A=2", "A=2", "A=1"), map("A=1"), "it came with the release");
        assert_eq!(after("A=2 B=2", "A=2 B=2", "A=1"), map("A=1"), "so did B");
        assert_eq!(after("A=2 C=3", "A=2", "A=1"), map("A=1 C=3"), "C was set since");
        assert_eq!(after("A=3", "A=2", "A=1"), map("A=3"), "it was changed since");
        assert_eq!(after("", "A=2", "A=1"), map(""), "it was unset since");
        assert_eq!(after("", "", "A=1"), map("A=1"), "the release had unset it");
    }
}
