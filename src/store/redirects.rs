//! Names whose requests are sent on to another name.

use super::StoreError;
use crate::model::{AppId, Domain, HostName, Redirect};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashSet;

/// Has a name of the app's sent on. One that would come back to where it began is refused.
pub fn set(db: &Connection, app: AppId, redirect: &Redirect) -> Result<(), StoreError> {
    let Redirect { from, to, code } = redirect;
    let mut seen = HashSet::new();
    let mut name = to.clone();
    while seen.insert(name.clone()) {
        let Some(further) = next(db, &name, redirect)? else {
            db.execute(
                "INSERT OR REPLACE INTO redirects (name, app, target, code) VALUES (?1, ?2, ?3, ?4)",
                params![from.to_string(), app.0, to.as_str(), code],
            )?;
            return Ok(());
        };
        name = further;
    }
    Err(StoreError::RedirectLoop { from: from.to_string(), to: to.to_string() })
}

/// Where requests of a name would be sent on to, with one more redirect than there are.
fn next(db: &Connection, name: &HostName, new: &Redirect) -> Result<Option<HostName>, StoreError> {
    let target = |domain: &Domain| {
        if *domain == new.from { Ok(Some(new.to.clone())) } else { target(db, domain) }
    };
    let exact = Domain::Exact(name.clone());
    if let Some(to) = target(&exact)? {
        return Ok(Some(to));
    }
    let parent = name.as_str().split_once('.').and_then(|(_, parent)| HostName::parse(parent).ok());
    match parent {
        // An exact name beats a wildcard.
        Some(parent) if !super::domains::is_taken(db, &exact)? => target(&Domain::Below(parent)),
        _ => Ok(None),
    }
}

fn target(db: &Connection, name: &Domain) -> Result<Option<HostName>, StoreError> {
    let sql = "SELECT target FROM redirects WHERE name = ?1";
    let text: Option<String> = db.query_row(sql, [name.to_string()], |row| row.get(0)).optional()?;
    text.map(|text| HostName::parse(&text).map_err(|error| StoreError::Value(error.to_string()))).transpose()
}

/// Lets the app answer to a name itself; `false` if it does.
pub fn remove(db: &Connection, app: AppId, name: &Domain) -> Result<bool, StoreError> {
    let sql = "DELETE FROM redirects WHERE name = ?1 AND app = ?2";
    Ok(db.execute(sql, params![name.to_string(), app.0])? > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::tests::scratch;
    use crate::store::{apps, domains};

    fn redirect(from: &str, to: &str) -> Redirect {
        Redirect { from: Domain::parse(from).unwrap(), to: HostName::parse(to).unwrap(), code: 301 }
    }

    #[tokio::test]
    async fn names_are_sent_on_and_never_in_a_circle() {
        let (_dir, store) = scratch();
        let result = store.write(|db| {
            for (id, name) in [(1, "a"), (2, "b")] {
                db.execute(
                    "INSERT INTO apps (id, name, repository, port, subnet, created_at) VALUES (?1, ?2, ?2, ?1, ?2, 0)",
                    params![id, name],
                )?;
            }
            let put = |id: i64, from: &str, to: &str| set(db, AppId(id), &redirect(from, to));
            for name in ["www.a.example", "*.a.example", "x.b.example"] {
                domains::add(db, AppId(1), &Domain::parse(name).unwrap())?;
            }
            put(1, "www.a.example", "a.example")?;
            put(1, "www.a.example", "elsewhere.example")?;
            assert_eq!(apps::get(db, AppId(1))?.unwrap().redirects, [redirect("www.a.example", "elsewhere.example")]);
            for (id, from, to) in [
                (1, "www.a.example", "www.a.example"),
                (2, "elsewhere.example", "www.a.example"),
                (1, "*.a.example", "other.a.example"),
            ] {
                let refused = put(id, from, to);
                assert!(matches!(refused, Err(StoreError::RedirectLoop { .. })), "{from} {to}");
            }
            // An exact name is not the wildcard's.
            put(1, "*.a.example", "www.a.example")?;
            assert!(put(2, "elsewhere.example", "new.a.example").is_err());
            assert!(remove(db, AppId(1), &Domain::parse("*.a.example").unwrap())?);
            put(2, "elsewhere.example", "new.a.example")?;
            // A name takes its redirect along.
            domains::remove(db, AppId(1), &Domain::parse("www.a.example").unwrap())?;
            assert_eq!(apps::get(db, AppId(1))?.unwrap().redirects, []);
            Ok(())
        });
        result.await.unwrap();
    }
}
