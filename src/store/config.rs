//! Config vars as they are now; each release keeps its own snapshot.

use super::StoreError;
use crate::model::{App, AppId, ConfigVars, EnvKey};
use rusqlite::{Connection, Params, params};

/// All config vars of an app.
pub fn load(db: &Connection, app: AppId) -> Result<ConfigVars, StoreError> {
    read(db, "SELECT key, unseal('config', app, key, value) FROM config WHERE app = ?1", [app.0])
}

/// Replaces all config vars of an app.
pub fn replace(db: &Connection, app: AppId, vars: &ConfigVars) -> Result<(), StoreError> {
    db.execute("DELETE FROM config WHERE app = ?1", [app.0])?;
    let mut insert = db
        .prepare_cached("INSERT INTO config (app, key, value) VALUES (?1, ?2, seal('config', ?1, ?2, ?3))")?;
    for (key, value) in &vars.0 {
        insert.execute(params![app.0, key.as_str(), value])?;
    }
    Ok(())
}

/// Adds those that are not set.
pub fn fill(db: &Connection, app: AppId, vars: &ConfigVars) -> Result<(), StoreError> {
    let known = load(db, app)?;
    let all = known.over(vars);
    if all == known { Ok(()) } else { replace(db, app, &all) }
}

/// The config vars of all apps.
pub fn load_global(db: &Connection) -> Result<ConfigVars, StoreError> {
    read(db, "SELECT key, unseal('global', 0, key, value) FROM global_config", [])
}

/// Replaces the config vars of all apps.
pub fn replace_global(db: &Connection, vars: &ConfigVars) -> Result<(), StoreError> {
    db.execute("DELETE FROM global_config", [])?;
    let mut insert =
        db.prepare_cached("INSERT INTO global_config (key, value) VALUES (?1, seal('global', 0, ?1, ?2))")?;
    for (key, value) in &vars.0 {
        insert.execute(params![key.as_str(), value])?;
    }
    Ok(())
}

fn read(db: &Connection, sql: &str, values: impl Params) -> Result<ConfigVars, StoreError> {
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement
        .query_map(values, |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    let parse = |(key, value): (String, String)| {
        EnvKey::parse(&key).map(|key| (key, value)).map_err(|error| StoreError::Value(error.to_string()))
    };
    Ok(ConfigVars(rows.into_iter().map(parse).collect::<Result<_, _>>()?))
}

/// An app is to run with the config vars of all apps as they are now, by the wish of `who`.
pub fn set_behind(db: &Connection, app: AppId, who: &str) -> Result<(), StoreError> {
    super::facts::set(db, &behind_fact(app), who)
}

/// It does, or did not come up with them.
pub fn caught_up(db: &Connection, app: AppId) -> Result<(), StoreError> {
    super::facts::remove(db, &behind_fact(app))
}

/// The apps of which that is still to be seen, and who wished it.
pub fn behind(db: &Connection) -> Result<Vec<(App, String)>, StoreError> {
    let with_who = |app: App| Ok(super::facts::get(db, &behind_fact(app.id))?.map(|who| (app, who)));
    super::apps::list(db)?.into_iter().filter_map(|app| with_who(app).transpose()).collect()
}

fn behind_fact(app: AppId) -> String {
    format!("behind.{}", app.0)
}
