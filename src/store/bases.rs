//! Base images known here, and those that apps shall have from their next build on.

use super::StoreError;
use crate::model::{App, AppId, BasePin};
use rusqlite::{Connection, Row, params};

/// A base image that was made or found here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBase {
    /// Which.
    pub pin: BasePin,
    /// Whether this server made it: only then is it ours to remove.
    pub ours: bool,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<KnownBase> {
    let pin = BasePin {
        reference: row.get(0)?,
        name: row.get(1)?,
        image_id: row.get(2)?,
        digest: row.get(3)?,
        made_at: row.get(4)?,
    };
    Ok(KnownBase { pin, ours: row.get(5)? })
}

/// All of them, the newest first.
pub fn known(db: &Connection) -> Result<Vec<KnownBase>, StoreError> {
    let sql = "SELECT reference, name, image_id, digest, made_at, ours FROM bases
               ORDER BY made_at DESC, reference DESC";
    let mut statement = db.prepare_cached(sql)?;
    Ok(statement.query_map([], from_row)?.collect::<Result<Vec<_>, _>>()?)
}

/// Notes a base; what was ours under this name stays so. A new one is newer than
/// those that are known, whatever the clock says.
pub fn remember(db: &Connection, base: &KnownBase) -> Result<(), StoreError> {
    let KnownBase { pin, ours } = base;
    db.execute(
        "INSERT INTO bases (reference, name, image_id, digest, made_at, ours) VALUES (?1, ?2, ?3, ?4,
                max(?5, (SELECT coalesce(max(made_at), 0) + 1 FROM bases WHERE name = ?2)), ?6)
         ON CONFLICT (reference) DO UPDATE SET name = ?2, image_id = ?3, digest = coalesce(?4, digest),
                made_at = max(made_at, ?5), ours = max(ours, ?6)",
        params![pin.reference, pin.name, pin.image_id, pin.digest, pin.made_at, ours],
    )?;
    Ok(())
}

/// Forgets a base that is gone.
pub fn forget(db: &Connection, reference: &str) -> Result<(), StoreError> {
    db.execute("DELETE FROM bases WHERE reference = ?1", [reference])?;
    for app in super::apps::list(db)? {
        let next: Vec<BasePin> = next(db, app.id)?;
        let kept: Vec<BasePin> = next.iter().filter(|pin| pin.reference != reference).cloned().collect();
        if kept.len() < next.len() {
            set_next(db, app.id, &kept)?;
        }
    }
    Ok(())
}

/// What `images:update` has given to an app since its last build.
pub fn next(db: &Connection, app: AppId) -> Result<Vec<BasePin>, StoreError> {
    let text: String =
        db.query_row("SELECT next_bases FROM apps WHERE id = ?1", [app.0], |row| row.get(0))?;
    Ok(serde_json::from_str(&text)?)
}

/// Stores that.
pub fn set_next(db: &Connection, app: AppId, pins: &[BasePin]) -> Result<(), StoreError> {
    let text = serde_json::to_string(pins)?;
    db.execute("UPDATE apps SET next_bases = ?2 WHERE id = ?1", params![app.0, text])?;
    Ok(())
}

/// A build that stands on `built` went live: what remains are those that were
/// given while it was under way.
pub(super) fn taken(db: &Connection, app: AppId, built: &[BasePin]) -> Result<(), StoreError> {
    let same = |pin: &&BasePin| built.iter().any(|base| base.name == pin.name);
    let taken = |pin: &&BasePin| built.iter().any(|base| base.reference == pin.reference);
    let next = next(db, app)?;
    let left: Vec<BasePin> = next.iter().filter(|pin| same(pin) && !taken(pin)).cloned().collect();
    if left.len() < next.len() { set_next(db, app, &left) } else { Ok(()) }
}

/// All that releases and apps name: an app, and its pins.
pub fn given(db: &Connection) -> Result<Vec<(App, Vec<BasePin>)>, StoreError> {
    super::apps::list(db)?.into_iter().map(|app| next(db, app.id).map(|pins| (app, pins))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::tests::scratch;

    fn pin(name: &str, mark: &str, made_at: i64) -> BasePin {
        let reference = format!("{name}{mark}");
        BasePin { name: name.to_owned(), reference, image_id: "sha256:1".to_owned(), digest: None, made_at }
    }

    async fn with_app<T: Send + 'static>(
        work: impl FnOnce(&Connection, AppId) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        let (_dir, store) = scratch();
        let done = store.write(move |db| {
            let name = crate::model::AppName::parse("shop").unwrap();
            let pools = crate::store::apps::Pools {
                ports: 10_000..=10_010,
                networks: "10.210.0.0/16".parse().unwrap(),
                taken: Vec::new(),
            };
            let app = crate::store::apps::create(db, &name, "r", &pools)?;
            work(db, app.id)
        });
        done.await.unwrap()
    }

    #[tokio::test]
    async fn bases_are_known_newest_first_and_stay_ours() {
        let known = with_app(|db, _| {
            remember(db, &KnownBase { pin: pin("a", "", 1), ours: true })?;
            remember(db, &KnownBase { pin: pin("a", "-2", 2), ours: false })?;
            remember(db, &KnownBase { pin: pin("a", "", 1), ours: false })?;
            known(db)
        })
        .await;
        let told: Vec<(&str, bool)> =
            known.iter().map(|base| (base.pin.reference.as_str(), base.ours)).collect();
        assert_eq!(told, [("a-2", false), ("a", true)]);
    }

    #[tokio::test]
    async fn a_base_that_is_made_after_the_clock_was_set_back_is_the_newest() {
        let known = with_app(|db, _| {
            remember(db, &KnownBase { pin: pin("a", "", 5000), ours: true })?;
            remember(db, &KnownBase { pin: pin("a", "-2", 1400), ours: true })?;
            remember(db, &KnownBase { pin: pin("a", "-2", 1400), ours: true })?;
            known(db)
        })
        .await;
        assert_eq!(known[0].pin.reference, "a-2");
    }

    #[tokio::test]
    async fn what_was_given_during_a_build_waits_for_the_next() {
        let left = with_app(|db, app| {
            set_next(db, app, &[pin("a", "-2", 2), pin("b", "-3", 3), pin("gone", "-2", 2)])?;
            taken(db, app, &[pin("a", "-2", 2), pin("b", "-2", 2)])?;
            next(db, app)
        })
        .await;
        assert_eq!(left, [pin("b", "-3", 3)]);
    }

    #[tokio::test]
    async fn one_that_is_gone_is_given_to_nobody() {
        let left = with_app(|db, app| {
            remember(db, &KnownBase { pin: pin("a", "-2", 2), ours: true })?;
            set_next(db, app, &[pin("a", "-2", 2), pin("b", "-2", 2)])?;
            forget(db, "a-2")?;
            Ok((known(db)?, next(db, app)?))
        })
        .await;
        assert_eq!(left, (vec![], vec![pin("b", "-2", 2)]));
    }
}
