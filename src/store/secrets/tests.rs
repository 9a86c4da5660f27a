#![allow(clippy::unwrap_used)]
use super::super::releases::{self, NewRelease};
use super::super::tests::{first_version, open, scratch};
use super::super::{apps, config, facts};
use super::*;
use crate::model::{AppId, AppName, CommitId, ConfigVars, EnvKey, Why};
use crate::store::Store;
use std::collections::BTreeMap;
use std::path::PathBuf;

const SECRET: &str = "hunter2-correct-horse";

fn vars(value: &str) -> ConfigVars {
    ConfigVars(BTreeMap::from([(EnvKey::parse("TOKEN").unwrap(), value.to_owned())]))
}

fn app(db: &Connection, name: &str) -> Result<AppId, StoreError> {
    let pools = apps::Pools { ports: 1..=99, networks: "10.210.0.0/16".parse().unwrap(), taken: Vec::new() };
    Ok(apps::create(db, &AppName::parse(name).unwrap(), name, &pools)?.id)
}

/// Two apps with config vars, one of them with releases; and a var of all apps.
async fn fill(store: &Store) {
    let fill = |db: &rusqlite::Transaction<'_>| {
        config::replace_global(db, &vars("for-all-of-them"))?;
        for name in ["shop", "blog"] {
            let app = app(db, name)?;
            config::replace(db, app, &vars(SECRET))?;
            let commit = CommitId::parse(&"a".repeat(40)).unwrap();
            let (config, why, who) = (vars(SECRET), Why::Push, "ada".to_owned());
            releases::create(db, &NewRelease { app, commit, config, why, who, sizes: None, source: None })?;
        }
        Ok(())
    };
    store.write(fill).await.unwrap();
}

async fn expect_all_readable(store: &Store) {
    let look = |db: &Connection| {
        assert_eq!(config::load_global(db)?, vars("for-all-of-them"));
        for app in apps::list(db)? {
            assert_eq!(config::load(db, app.id)?, vars(SECRET));
            let release = releases::latest(db, app.id)?.unwrap();
            assert_eq!((release.config, release.global), (vars(SECRET), vars("for-all-of-them")));
        }
        Ok(apps::list(db)?.len())
    };
    assert_eq!(store.read(look).await.unwrap(), 2);
}

/// Everything that stands in the files of `dir`.
fn files(dir: &Path) -> String {
    let all = std::fs::read_dir(dir).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
    all.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

fn key_of_file(dir: &Path) -> Vec<Key> {
    key_file::read(&KeyPlace::File(dir.join("secrets.key"))).unwrap().unwrap()
}

#[tokio::test]
async fn no_value_stands_in_any_file_and_all_come_back() {
    let (dir, store) = scratch();
    fill(&store).await;
    expect_all_readable(&store).await;
    assert!(files(dir.path()).contains("TOKEN"), "names are no secret");
    assert!(!files(dir.path()).contains(SECRET));
    assert!(!files(dir.path()).contains("for-all-of-them"));
    drop(store);
    expect_all_readable(&open(dir.path()).unwrap()).await;
}

#[tokio::test]
async fn what_an_earlier_version_kept_as_text_is_sealed_on_start_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let db = first_version(&dir.path().join("paas.db"));
    db.execute_batch(&format!(
        "INSERT INTO apps (id, name, repository, port, subnet, created_at)
             VALUES (7, 'shop', 'r1', 1, 's1', 0), (8, 'blog', 'r2', 2, 's2', 0);
         INSERT INTO config VALUES (7, 'TOKEN', '{SECRET}'), (8, 'TOKEN', '{SECRET}');
         INSERT INTO config VALUES (8, 'GONE', 'gone-{SECRET}'); DELETE FROM config WHERE key = 'GONE';
         INSERT INTO releases (app, number, commit_id, config, why, who, state, created_at) VALUES
             (7, 3, '{0}', '{{\"TOKEN\":\"{SECRET}\"}}', 'push', 'ada', 'current', 0),
             (8, 1, '{0}', '{{\"TOKEN\":\"{SECRET}\"}}', 'push', 'ada', 'failed', 0);",
        "a".repeat(40)
    ))
    .unwrap();
    drop(db);
    assert!(files(dir.path()).contains(SECRET));
    let store = open(dir.path()).unwrap();
    assert!(!files(dir.path()).contains(SECRET));
    let sealed = |db: &Connection| {
        for app in [AppId(7), AppId(8)] {
            assert_eq!(config::load(db, app)?, vars(SECRET));
            assert_eq!(releases::latest(db, app)?.unwrap().config, vars(SECRET));
        }
        facts::get(db, "tidy")
    };
    assert_eq!(store.read(sealed).await.unwrap(), None);
}

#[tokio::test]
async fn a_missing_or_wrong_key_is_told_and_nothing_is_touched() {
    let (dir, store) = scratch();
    fill(&store).await;
    drop(store);
    let key = dir.path().join("secrets.key");
    let place = KeyPlace::File(key.clone());
    let right = std::fs::read(&key).unwrap();
    let records = || -> String {
        let db = Connection::open(dir.path().join("paas.db")).unwrap();
        let sql =
            "SELECT group_concat(hex(value)) || (SELECT group_concat(hex(vars)) FROM releases) FROM config";
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let before = records();

    std::fs::remove_file(&key).unwrap();
    assert!(matches!(open(dir.path()), Err(StoreError::KeyMissing { .. })));
    let checked = Store::check(&dir.path().join("paas.db"), &place);
    assert!(matches!(checked, Err(StoreError::KeyMissing { .. })), "{checked:?}");
    assert!(!key.exists(), "no other key is made");

    key_file::write(&key, &[Key::generate().unwrap()]).unwrap();
    let wrong = std::fs::read(&key).unwrap();
    assert!(matches!(open(dir.path()), Err(StoreError::KeyWrong { .. })));
    let checked = Store::check(&dir.path().join("paas.db"), &place);
    assert!(matches!(checked, Err(StoreError::KeyWrong { .. })), "{checked:?}");
    assert_eq!(std::fs::read(&key).unwrap(), wrong);
    assert!(records() == before, "something was written");

    std::fs::write(&key, right).unwrap();
    Store::check(&dir.path().join("paas.db"), &place).unwrap();
    expect_all_readable(&open(dir.path()).unwrap()).await;
}

#[tokio::test]
async fn a_value_that_is_moved_to_another_app_does_not_open() {
    let (_dir, store) = scratch();
    fill(&store).await;
    let [first, second] = &store.read(apps::list).await.unwrap()[..] else { panic!() };
    let (from, to) = (first.id, second.id);
    let moved = move |db: &rusqlite::Transaction<'_>| {
        for (table, column) in [("config", "value"), ("releases", "vars")] {
            let value = format!("(SELECT {column} FROM {table} WHERE app = ?1)");
            db.execute(&format!("UPDATE {table} SET {column} = {value} WHERE app = ?2"), [from.0, to.0])?;
        }
        Ok(())
    };
    store.write(moved).await.unwrap();
    assert_eq!(store.read(move |db| config::load(db, from)).await.unwrap(), vars(SECRET));
    let refused = store.read(move |db| config::load(db, to)).await.unwrap_err().to_string();
    assert!(refused.contains("moved from elsewhere"), "{refused}");
    store.read(move |db| releases::latest(db, to)).await.unwrap_err();
}

#[tokio::test]
async fn a_rotation_seals_everything_anew_and_drops_the_old_key() {
    let (dir, store) = scratch();
    fill(&store).await;
    let old = key_of_file(dir.path());
    let rotated = store.rotate_key().await.unwrap();
    // Two vars of apps, one of all, two releases.
    assert_eq!(rotated.values, 5);
    let new = key_of_file(dir.path());
    assert_eq!(new.iter().map(Key::id).collect::<Vec<_>>(), [rotated.key]);
    assert_ne!(old[0].id(), rotated.key);
    expect_all_readable(&store).await;
    let trace = old[0].id();
    let bytes = std::fs::read(dir.path().join("paas.db")).unwrap();
    assert!(
        !bytes.windows(8).any(|part| part == trace.as_bytes()),
        "something sealed with the old key is left"
    );
    drop(store);
    expect_all_readable(&open(dir.path()).unwrap()).await;
}

/// The instants at which a rotation can be cut off: after the new key is on disk,
/// after some values, after all of them.
#[tokio::test]
async fn a_rotation_that_a_crash_cut_off_is_completed_on_the_next_start() {
    for values in [0, 1, 1000] {
        let (dir, store) = scratch();
        fill(&store).await;
        let old = key_of_file(dir.path());
        let new = Key::generate().unwrap();
        let id = new.id();
        key_file::write(&dir.path().join("secrets.key"), &[new.clone(), old[0].clone()]).unwrap();
        store.keys.put_in_front(new);
        if values > 0 {
            store.write(move |db| rotate::seal_anew(db, id, values)).await.unwrap();
        }
        expect_all_readable(&store).await;
        drop(store);
        std::fs::write(dir.path().join("secrets.key.new"), "half of a k").unwrap();
        Store::check(&dir.path().join("paas.db"), &KeyPlace::File(dir.path().join("secrets.key"))).unwrap();
        assert_eq!(key_of_file(dir.path()).len(), 2, "a check changes nothing");
        let store = open(dir.path()).unwrap();
        expect_all_readable(&store).await;
        let keys: Vec<SecretKeyId> = key_of_file(dir.path()).iter().map(Key::id).collect();
        assert_eq!(keys, [id], "after {values} values");
        assert!(!dir.path().join("secrets.key.new").exists());
    }
}

/// Reads and writes go on all the while.
#[tokio::test]
async fn everything_is_readable_at_every_instant_of_a_rotation() {
    let (_dir, store) = scratch();
    fill(&store).await;
    let rotations = async {
        for _ in 0..5 {
            store.rotate_key().await.unwrap();
        }
    };
    let reads = async {
        loop {
            expect_all_readable(&store).await;
            let app = store.read(apps::list).await.unwrap()[0].id;
            store.write(move |db| config::replace(db, app, &vars(SECRET))).await.unwrap();
        }
    };
    tokio::select! {
        () = rotations => {}
        () = reads => {}
    }
    expect_all_readable(&store).await;
}

#[tokio::test]
async fn a_credential_is_read_and_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let place = KeyPlace::Credential(dir.path().join("credential"));
    let open = || Store::open(&dir.path().join("paas.db"), &place);
    assert!(matches!(open(), Err(StoreError::KeyFile { .. })));
    let (old, new) = (Key::generate().unwrap(), Key::generate().unwrap());
    let write = |keys: &[&Key]| {
        let lines: Vec<String> = keys.iter().map(|key| key.to_hex().to_string()).collect();
        std::fs::write(place.path(), lines.join("\n")).unwrap();
    };
    write(&[&old]);
    let store = open().unwrap();
    fill(&store).await;
    assert!(matches!(store.rotate_key().await, Err(StoreError::KeyIsCredential)));
    drop(store);
    // Its rotation: a start with both, then one with the new alone.
    write(&[&new, &old]);
    expect_all_readable(&open().unwrap()).await;
    write(&[&new]);
    expect_all_readable(&open().unwrap()).await;
    let made: Vec<PathBuf> =
        std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!made.iter().any(|path| path.ends_with("secrets.key")), "{made:?}");
}
