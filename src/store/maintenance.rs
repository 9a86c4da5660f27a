//! Which apps are being worked on, and their pages for that.

use super::StoreError;
use crate::model::{ALL_PAGES, AppId};
use rusqlite::{Connection, params};

/// Begins it, or ends it.
pub fn set(db: &Connection, id: AppId, on: bool) -> Result<(), StoreError> {
    db.execute("UPDATE apps SET maintenance = ?2 WHERE id = ?1", params![id.0, on])?;
    Ok(())
}

/// Keeps an app's own page, or (`None`) none any more. All together are sent to the
/// proxies in one message.
pub fn set_page(db: &Connection, id: AppId, page: Option<&str>) -> Result<(), StoreError> {
    let sql = "SELECT coalesce(sum(octet_length(maintenance_page)), 0) FROM apps WHERE id != ?1";
    let others: i64 = db.query_row(sql, [id.0], |row| row.get(0))?;
    let all = usize::try_from(others).unwrap_or(usize::MAX).saturating_add(page.map_or(0, str::len));
    if page.is_some() && all > ALL_PAGES {
        return Err(StoreError::NoRoomForPages);
    }
    db.execute("UPDATE apps SET maintenance_page = ?2 WHERE id = ?1", params![id.0, page])?;
    Ok(())
}

/// How long an app's own page is.
pub fn page_length(db: &Connection, id: AppId) -> Result<Option<usize>, StoreError> {
    let sql = "SELECT octet_length(maintenance_page) FROM apps WHERE id = ?1";
    let length: Option<i64> = db.query_row(sql, [id.0], |row| row.get(0))?;
    Ok(length.and_then(|length| usize::try_from(length).ok()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::LONGEST_PAGE;
    use crate::store::apps;
    use crate::store::tests::scratch;

    #[tokio::test]
    async fn a_page_is_kept_while_it_is_not_shown_and_all_of_them_are_bounded() {
        let (_dir, store) = scratch();
        let result = store.write(|db| {
            for id in 1..=200 {
                db.execute(
                    "INSERT INTO apps (id, name, repository, port, subnet, created_at) VALUES (?1, ?2, ?2, ?1, ?2, 0)",
                    params![id, format!("a{id}")],
                )?;
            }
            let shown = |db: &Connection| Ok::<_, StoreError>(apps::get(db, AppId(1))?.unwrap().maintenance);
            assert_eq!(shown(db)?, None);
            set_page(db, AppId(1), Some("<p>ö"))?;
            assert_eq!((shown(db)?, page_length(db, AppId(1))?), (None, Some(5)));
            set(db, AppId(1), true)?;
            assert_eq!(shown(db)?.unwrap().page.as_deref(), Some("<p>ö"));
            set_page(db, AppId(1), None)?;
            assert_eq!(shown(db)?.unwrap().page, None);
            let long = "x".repeat(LONGEST_PAGE);
            let kept = (1..=200).take_while(|&id| set_page(db, AppId(id), Some(&long)).is_ok()).count();
            assert_eq!(kept, ALL_PAGES / LONGEST_PAGE);
            assert!(matches!(set_page(db, AppId(200), Some("x")), Err(StoreError::NoRoomForPages)));
            set_page(db, AppId(1), Some("shorter"))?;
            set_page(db, AppId(200), Some("x"))
        });
        result.await.unwrap();
    }
}
