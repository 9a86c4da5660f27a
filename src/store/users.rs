//! Who may use an app.

use super::{StoreError, now};
use crate::model::{AppId, MOST_USERS, User};
use rusqlite::{Connection, params};

/// Lets a user in, or gives one another password.
pub fn set(db: &Connection, app: AppId, user: &User) -> Result<(), StoreError> {
    let sql = "SELECT count(*) FROM users WHERE app = ?1 AND name != ?2";
    let others: i64 = db.query_row(sql, params![app.0, user.name], |row| row.get(0))?;
    if usize::try_from(others).unwrap_or(usize::MAX) >= MOST_USERS {
        return Err(StoreError::NoMoreUsers);
    }
    db.execute(
        "INSERT OR REPLACE INTO users (app, name, hash, created_at) VALUES (?1, ?2, ?3, ?4)",
        params![app.0, user.name, user.hash, now()],
    )?;
    Ok(())
}

/// Lets a user in no more; `false` if there is none of that name.
pub fn remove(db: &Connection, app: AppId, name: &str) -> Result<bool, StoreError> {
    Ok(db.execute("DELETE FROM users WHERE app = ?1 AND name = ?2", params![app.0, name])? > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::tests::scratch;

    #[tokio::test]
    async fn users_come_and_go_and_there_are_not_too_many() {
        let (_dir, store) = scratch();
        let result = store.write(|db| {
            db.execute(
                "INSERT INTO apps (id, name, repository, port, subnet, created_at) VALUES (1, 'a', 'a', 1, 'a', 0)",
                [],
            )?;
            let user = |name: &str, hash: &str| User { name: name.into(), hash: hash.into() };
            let users = |db: &Connection| Ok::<_, StoreError>(crate::store::apps::get(db, AppId(1))?.unwrap().users);
            assert_eq!(users(db)?, []);
            for one in [user("bob", "x"), user("alice", "x"), user("bob", "y")] {
                set(db, AppId(1), &one)?;
            }
            assert_eq!(users(db)?, [user("alice", "x"), user("bob", "y")]);
            assert!(remove(db, AppId(1), "bob")? && !remove(db, AppId(1), "bob")?);
            for number in 1..MOST_USERS {
                set(db, AppId(1), &user(&number.to_string(), "x"))?;
            }
            assert!(matches!(set(db, AppId(1), &user("more", "x")), Err(StoreError::NoMoreUsers)));
            set(db, AppId(1), &user("alice", "z"))
        });
        result.await.unwrap();
    }
}
