//! Names that apps answer to, besides the one that they have of the server.

use super::{StoreError, now};
use crate::model::{AppId, Domain};
use rusqlite::{Connection, OptionalExtension, params};

/// An app's names.
pub fn of(db: &Connection, app: AppId) -> Result<Vec<Domain>, StoreError> {
    let mut statement = db.prepare_cached("SELECT name FROM domains WHERE app = ?1 ORDER BY name")?;
    let names =
        statement.query_map([app.0], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    names.iter().map(|name| parse(name)).collect()
}

/// Gives an app a name; `false` if it had it.
pub fn add(db: &Connection, app: AppId, name: &Domain) -> Result<bool, StoreError> {
    match owner(db, name)? {
        Some(owner) if owner == app => Ok(false),
        Some(_) => Err(StoreError::DomainTaken(name.to_string())),
        None => {
            let text = name.to_string();
            db.execute(
                "INSERT INTO domains (name, app, created_at) VALUES (?1, ?2, ?3)",
                params![text, app.0, now()],
            )?;
            super::certificates::order_sooner(db, name)?;
            Ok(true)
        }
    }
}

/// Takes a name from an app; `false` if it did not have it.
pub fn remove(db: &Connection, app: AppId, name: &Domain) -> Result<bool, StoreError> {
    let text = name.to_string();
    super::mounts::expect_none_of_others(db, app, name)?;
    super::redirects::remove(db, app, name)?;
    let removed = db.execute("DELETE FROM domains WHERE name = ?1 AND app = ?2", params![text, app.0])?;
    Ok(removed > 0)
}

/// Whether an app has this very name.
pub fn is_taken(db: &Connection, name: &Domain) -> Result<bool, StoreError> {
    Ok(owner(db, name)?.is_some())
}

fn owner(db: &Connection, name: &Domain) -> Result<Option<AppId>, StoreError> {
    let sql = "SELECT app FROM domains WHERE name = ?1";
    Ok(db.query_row(sql, [name.to_string()], |row| row.get(0).map(AppId)).optional()?)
}

fn parse(name: &str) -> Result<Domain, StoreError> {
    Domain::parse(name).map_err(|error| StoreError::Value(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::tests::scratch;

    #[tokio::test]
    async fn a_name_belongs_to_one_app_and_goes_with_it() {
        let (_dir, store) = scratch();
        let result = store.write(|db| {
            for (id, name) in [(1, "a"), (2, "b")] {
                db.execute(
                    "INSERT INTO apps (id, name, repository, port, subnet, created_at) VALUES (?1, ?2, ?2, ?1, ?2, 0)",
                    params![id, name],
                )?;
            }
            let name = Domain::parse("*.example.com").unwrap();
            assert!(add(db, AppId(1), &name)?);
            assert!(!add(db, AppId(1), &name)?);
            assert!(matches!(add(db, AppId(2), &name), Err(StoreError::DomainTaken(_))));
            assert!(!remove(db, AppId(2), &name)?);
            assert_eq!(of(db, AppId(1))?, std::slice::from_ref(&name));
            crate::store::apps::remove(db, AppId(1))?;
            assert!(add(db, AppId(2), &name)?);
            assert!(remove(db, AppId(2), &name)?);
            Ok(())
        });
        result.await.unwrap();
    }
}
