//! Paths under names.

use super::StoreError;
use crate::model::{AppId, AppName, Domain, MOST_MOUNTS, Mount};
use rusqlite::{Connection, OptionalExtension, params};

/// Gives an app a path under a name that an app has: whoever has none can't be given parts
/// of it, or they would be another's when somebody gets the name.
pub fn set(db: &Connection, app: AppId, mount: &Mount) -> Result<(), StoreError> {
    if !super::domains::is_taken(db, &mount.host)? {
        return Err(StoreError::MountOnNobody(mount.host.to_string()));
    }
    let (name, path) = (mount.host.to_string(), mount.path.as_str());
    let sql = "SELECT app FROM mounts WHERE name = ?1 AND path = ?2";
    let owner: Option<i64> = db.query_row(sql, [&name, path], |row| row.get(0)).optional()?;
    if owner.is_some_and(|owner| owner != app.0) {
        return Err(StoreError::DomainTaken(mount.to_string()));
    }
    let sql = "SELECT count(*) FROM mounts WHERE app = ?1";
    let count: u32 = db.query_row(sql, [app.0], |row| row.get(0))?;
    if owner.is_none() && count >= MOST_MOUNTS {
        return Err(StoreError::NoMoreMounts);
    }
    db.execute(
        "INSERT OR REPLACE INTO mounts (name, path, app, strip) VALUES (?1, ?2, ?3, ?4)",
        params![name, path, app.0, mount.strip],
    )?;
    Ok(())
}

/// Takes a path from an app; `false` if it did not have it.
pub fn remove(db: &Connection, app: AppId, mount: &Mount) -> Result<bool, StoreError> {
    let sql = "DELETE FROM mounts WHERE name = ?1 AND path = ?2 AND app = ?3";
    Ok(db.execute(sql, params![mount.host.to_string(), mount.path.as_str(), app.0])? > 0)
}

/// The paths under an app's names that are other apps', and whose.
pub fn of_others(db: &Connection, app: AppId) -> Result<Vec<(String, AppName)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT mounts.name || mounts.path, apps.name FROM domains
         JOIN mounts ON mounts.name = domains.name JOIN apps ON apps.id = mounts.app
         WHERE domains.app = ?1 AND mounts.app != ?1 ORDER BY 1",
    )?;
    let rows = statement.query_map([app.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.map(|row| {
        let (part, owner): (String, String) = row?;
        Ok((part, AppName::parse(&owner).map_err(|error| StoreError::Value(error.to_string()))?))
    })
    .collect()
}

/// The other apps that have paths under an app's names.
pub fn mounted_below(db: &Connection, app: AppId) -> Result<Vec<AppId>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT DISTINCT mounts.app FROM domains JOIN mounts ON mounts.name = domains.name
         WHERE domains.app = ?1 AND mounts.app != ?1",
    )?;
    let rows = statement.query_map([app.0], |row| row.get(0))?;
    Ok(rows.map(|id| id.map(AppId)).collect::<Result<_, _>>()?)
}

/// Refuses to let go of a name while others have parts of it.
pub(super) fn expect_none_of_others(db: &Connection, app: AppId, name: &Domain) -> Result<(), StoreError> {
    let sql = "SELECT name || path FROM mounts WHERE name = ?1 AND app != ?2 ORDER BY path LIMIT 1";
    let part: Option<String> =
        db.query_row(sql, params![name.to_string(), app.0], |row| row.get(0)).optional()?;
    part.map_or(Ok(()), |part| Err(StoreError::MountedByOthers { name: name.to_string(), part }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::tests::scratch;
    use crate::store::{apps, domains};

    #[tokio::test]
    async fn parts_of_a_name_hang_on_it() {
        let (_dir, store) = scratch();
        let result = store.write(|db| {
            for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
                db.execute(
                    "INSERT INTO apps (id, name, repository, port, subnet, created_at) VALUES (?1, ?2, ?2, ?1, ?2, 0)",
                    params![id, name],
                )?;
            }
            let mount = |text: &str| Mount::given(text, false).unwrap();
            let (name, api) = (Domain::parse("a.example").unwrap(), mount("a.example/api"));
            assert!(matches!(set(db, AppId(2), &api), Err(StoreError::MountOnNobody(_))));
            domains::add(db, AppId(1), &name)?;
            set(db, AppId(2), &api)?;
            set(db, AppId(2), &Mount { strip: true, ..api.clone() })?;
            assert_eq!(apps::get(db, AppId(2))?.unwrap().mounts, [Mount { strip: true, ..api.clone() }]);
            assert!(matches!(set(db, AppId(3), &api), Err(StoreError::DomainTaken(_))));
            set(db, AppId(3), &mount("a.example/api/v2"))?;
            let others = of_others(db, AppId(1))?;
            let others: Vec<String> = others.iter().map(|(part, app)| format!("{part} {app}")).collect();
            assert_eq!(others, ["a.example/api b", "a.example/api/v2 c"]);
            assert_eq!(mounted_below(db, AppId(1))?, [AppId(2), AppId(3)]);
            assert!(matches!(domains::remove(db, AppId(1), &name), Err(StoreError::MountedByOthers { .. })));
            assert!(!remove(db, AppId(1), &api)? && remove(db, AppId(2), &api)?);
            // Who gets the name later has all of it.
            apps::remove(db, AppId(1))?;
            assert_eq!(apps::get(db, AppId(3))?.unwrap().mounts, []);
            Ok(())
        });
        result.await.unwrap();
    }
}
