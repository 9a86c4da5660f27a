//! Apps, their formation, and the scarce things they hold: a port, a subnet, addresses.

use super::{StoreError, now};
use crate::model::{
    App, AppId, AppName, CheckChange, Formation, HttpsChoice, Maintenance, ProcessName, ProcessType, Release,
    Size, Sleep, Woken,
};
use ipnet::Ipv4Net;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

const COLUMNS: &str = "id, name, repository, deploy_branch, port, stopped, created_at, checks, https,
    (SELECT json_group_array(domains.name ORDER BY domains.name) FROM domains WHERE domains.app = apps.id),
    maintenance, CASE WHEN maintenance THEN maintenance_page END,
    (SELECT json_group_array(json_object('name', users.name, 'hash', users.hash) ORDER BY users.name)
     FROM users WHERE users.app = apps.id),
    (SELECT json_group_array(json_object('from', redirects.name, 'to', target, 'code', code) ORDER BY redirects.name)
     FROM redirects WHERE redirects.app = apps.id),
    (SELECT json_group_array(json_object('host', mounts.name, 'path', path, 'strip', json(iif(strip, 'true', 'false')))
            ORDER BY mounts.name, path)
     FROM mounts WHERE mounts.app = apps.id),
    sleep_after, asleep_since, woken_at, wake_took";

/// Prefix length of an app's network: 61 addresses for processes.
const SUBNET_BITS: u8 = 26;

/// So many processes of an app can be there at once, by [`SUBNET_BITS`].
pub const ADDRESSES: u32 = 61;

/// What a new app is given from.
#[derive(Clone)]
pub struct Pools {
    /// Stable ports.
    pub ports: RangeInclusive<u16>,
    /// Subnets are cut from this.
    pub networks: Ipv4Net,
    /// The host's own routes, which no subnet may overlap.
    pub taken: Vec<Ipv4Net>,
}

/// App numbers of a server: a range of this size at a random place, so that two
/// servers on one engine never take each other's containers for their own.
const RANGE: i64 = 100_000;

/// Sets where app numbers begin, once in a database's life.
pub(super) fn number_from_own_range(db: &Connection) -> Result<(), StoreError> {
    let set: bool =
        db.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'apps')", [], |row| {
            row.get(0)
        })?;
    if !set {
        let place = getrandom::u32().map_err(|error| StoreError::Value(error.to_string()))? % 99_998 + 1;
        db.execute(
            "INSERT INTO sqlite_sequence (name, seq) VALUES ('apps', ?1)",
            [i64::from(place) * RANGE],
        )?;
    }
    Ok(())
}

/// Whether a number is of this server's range, be the app there or gone.
pub fn is_own(db: &Connection, id: AppId) -> Result<bool, StoreError> {
    let last: i64 =
        db.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'apps'", [], |row| row.get(0))?;
    Ok(last / RANGE == id.0 / RANGE)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<App> {
    let name: String = row.get(1)?;
    let page = row.get::<_, Option<String>>(11)?.map(Into::into);
    let name = AppName::parse(&name).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(App {
        id: AppId(row.get(0)?),
        name,
        repository: row.get(2)?,
        deploy_branch: row.get(3)?,
        port: row.get(4)?,
        stopped: row.get(5)?,
        created_at: row.get(6)?,
        checks: json(7, &row.get::<_, String>(7)?)?,
        https: json(8, &row.get::<_, String>(8)?)?,
        domains: json(9, &row.get::<_, String>(9)?)?,
        maintenance: row.get::<_, bool>(10)?.then_some(Maintenance { page }),
        users: json(12, &row.get::<_, String>(12)?)?,
        redirects: json(13, &row.get::<_, String>(13)?)?,
        mounts: json(14, &row.get::<_, String>(14)?)?,
        sleep: Sleep {
            after: row.get(15)?,
            since: row.get(16)?,
            woken: row.get::<_, Option<i64>>(17)?.zip(row.get(18)?).map(|(at, took)| Woken { at, took }),
        },
    })
}

fn json<T: DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// The app of this name.
pub fn find(db: &Connection, name: &AppName) -> Result<Option<App>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM apps WHERE name = ?1");
    Ok(db.query_row(&sql, [name.as_str()], from_row).optional()?)
}

/// The app of this number.
pub fn get(db: &Connection, id: AppId) -> Result<Option<App>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM apps WHERE id = ?1");
    Ok(db.query_row(&sql, [id.0], from_row).optional()?)
}

/// All apps by name.
pub fn list(db: &Connection) -> Result<Vec<App>, StoreError> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM apps ORDER BY name"))?;
    Ok(statement.query_map([], from_row)?.collect::<Result<Vec<_>, _>>()?)
}

/// Creates an app with a port and a subnet of its own, over an existing repository.
pub fn create(db: &Connection, name: &AppName, repository: &str, pools: &Pools) -> Result<App, StoreError> {
    if find(db, name)?.is_some() {
        return Err(StoreError::NameTaken(name.to_string()));
    }
    let port = free_port(db, name, &pools.ports)?;
    let subnet = free_subnet(db, pools)?;
    db.execute(
        "INSERT INTO apps (name, repository, port, subnet, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![name.as_str(), repository, port, subnet.to_string(), now()],
    )?;
    find(db, name)?.ok_or_else(|| StoreError::Value(format!("app {name}")))
}

/// Forgets an app and everything that hangs on it.
pub fn remove(db: &Connection, id: AppId) -> Result<(), StoreError> {
    db.execute("DELETE FROM apps WHERE id = ?1", [id.0])?;
    super::facts::remove(db, &turn(id))?;
    super::facts::remove(db, &first(id))?;
    super::config::caught_up(db, id)?;
    super::windows::forget_unrouted(db, id)?;
    super::facts::remove(db, &end(id))
}

/// Stores the wish that an app be removed, which is then done to its end.
pub fn set_ending(db: &Connection, id: AppId) -> Result<(), StoreError> {
    super::facts::set(db, &end(id), "wanted")
}

/// Whether an app is being removed.
pub fn is_ending(db: &Connection, id: AppId) -> Result<bool, StoreError> {
    Ok(super::facts::get(db, &end(id))?.is_some())
}

/// Notes that what an app runs at its first deploy has run.
pub fn set_begun(db: &Connection, id: AppId) -> Result<(), StoreError> {
    super::facts::set(db, &first(id), "run")
}

/// Whether what an app runs at its first deploy has run, or it has been deployed without.
pub fn is_begun(db: &Connection, id: AppId) -> Result<bool, StoreError> {
    Ok(super::facts::get(db, &first(id))?.is_some() || super::releases::any_served(db, id)?)
}

/// The fact that what is run at the first deploy has run.
fn first(id: AppId) -> String {
    format!("first.{}", id.0)
}

/// The fact that an app is being removed.
fn end(id: AppId) -> String {
    format!("end.{}", id.0)
}

/// The fact whose turn it is among an app's addresses.
fn turn(id: AppId) -> String {
    format!("address-turn.{}", id.0)
}

/// Stores the branch whose push deploys.
pub fn set_deploy_branch(db: &Connection, id: AppId, branch: &str) -> Result<(), StoreError> {
    db.execute("UPDATE apps SET deploy_branch = ?2 WHERE id = ?1", params![id.0, branch])?;
    Ok(())
}

/// Stores the wish that nothing runs, or its end. What is stopped does not sleep.
pub fn set_stopped(db: &Connection, id: AppId, stopped: bool) -> Result<(), StoreError> {
    if stopped {
        super::sleep::wake(db, id)?;
    }
    db.execute("UPDATE apps SET stopped = ?2 WHERE id = ?1", params![id.0, stopped])?;
    Ok(())
}

/// `first + hash(name) % count`, then the next free one: the same name gets the
/// same port on every server where it is free.
fn free_port(db: &Connection, name: &AppName, range: &RangeInclusive<u16>) -> Result<u16, StoreError> {
    let mut statement = db.prepare("SELECT port FROM apps")?;
    let taken: HashSet<u16> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let count = u64::from(range.end() - range.start()) + 1;
    let digest = Sha256::digest(name.as_str().as_bytes());
    let hash = digest.iter().take(8).fold(0u64, |sum, &byte| (sum << 8) | u64::from(byte));
    (0..count)
        .map(|step| range.start() + u16::try_from((hash % count + step) % count).unwrap_or(0))
        .find(|port| !taken.contains(port))
        .ok_or(StoreError::NoPort)
}

fn free_subnet(db: &Connection, pools: &Pools) -> Result<Ipv4Net, StoreError> {
    let mut statement = db.prepare("SELECT subnet FROM apps")?;
    let taken: HashSet<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let overlaps = |net: &Ipv4Net| pools.taken.iter().any(|other| other.contains(net) || net.contains(other));
    pools
        .networks
        .subnets(SUBNET_BITS)
        .map_err(|_| StoreError::NoSubnet)?
        .find(|net| !taken.contains(&net.to_string()) && !overlaps(net))
        .ok_or(StoreError::NoSubnet)
}

/// Gives the app another subnet, because the engine found the first one taken.
pub fn move_subnet(db: &Connection, id: AppId, pools: &Pools) -> Result<Ipv4Net, StoreError> {
    let net = free_subnet(db, pools)?;
    db.execute("UPDATE apps SET subnet = ?2 WHERE id = ?1", params![id.0, net.to_string()])?;
    db.execute("DELETE FROM addresses WHERE app = ?1", [id.0])?;
    Ok(net)
}

/// The app's network.
pub fn subnet(db: &Connection, id: AppId) -> Result<Ipv4Net, StoreError> {
    let text: String = db.query_row("SELECT subnet FROM apps WHERE id = ?1", [id.0], |row| row.get(0))?;
    text.parse().map_err(|_| StoreError::Value(text))
}

/// The fixed address of a process of a release, chosen once and kept.
///
/// Addresses are taken in turn, not lowest first, so that one that was just
/// given up is not used again while somebody may still send to it.
pub fn address(
    db: &Connection,
    id: AppId,
    release: u32,
    process: &ProcessName,
) -> Result<Ipv4Addr, StoreError> {
    let kept: Option<String> = db
        .query_row(
            "SELECT address FROM addresses WHERE app = ?1 AND release = ?2 AND process = ?3",
            params![id.0, release, process.to_string()],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(text) = kept {
        return text.parse().map_err(|_| StoreError::Value(text));
    }
    let address = free_address(db, id)?;
    // Of an app that is asleep none takes requests before it is awake.
    db.execute(
        "INSERT INTO addresses (app, release, process, address, fresh)
         VALUES (?1, ?2, ?3, ?4, (SELECT asleep_since IS NOT NULL FROM apps WHERE id = ?1))",
        params![id.0, release, process.to_string(), address.to_string()],
    )?;
    Ok(address)
}

fn free_address(db: &Connection, id: AppId) -> Result<Ipv4Addr, StoreError> {
    let mut statement = db.prepare_cached("SELECT address FROM addresses WHERE app = ?1")?;
    let taken: HashSet<String> = statement.query_map([id.0], |row| row.get(0))?.collect::<Result<_, _>>()?;
    // The first host address is the gateway's.
    let hosts: Vec<Ipv4Addr> = subnet(db, id)?.hosts().skip(1).collect();
    let turn = usize::try_from(super::facts::next(db, &turn(id))?).unwrap_or(0) % hosts.len().max(1);
    hosts[turn..]
        .iter()
        .chain(&hosts[..turn])
        .find(|address| !taken.contains(&address.to_string()))
        .copied()
        .ok_or(StoreError::NoAddress)
}

/// Notes of a process that has an address whether it has taken no requests so far.
pub fn set_fresh(
    db: &Connection,
    id: AppId,
    release: u32,
    process: &ProcessName,
    fresh: bool,
) -> Result<(), StoreError> {
    db.execute(
        "UPDATE addresses SET fresh = ?4 WHERE app = ?1 AND release = ?2 AND process = ?3",
        params![id.0, release, process.to_string(), fresh],
    )?;
    Ok(())
}

/// Those of an app's processes that have taken none: number and name.
pub fn fresh(db: &Connection, id: AppId) -> Result<Vec<(u32, String)>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT release, process FROM addresses WHERE app = ?1 AND fresh")?;
    Ok(statement.query_map([id.0], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
}

/// How many more processes of an app could be given an address.
pub fn free_addresses(db: &Connection, id: AppId) -> Result<usize, StoreError> {
    let taken: u32 =
        db.query_row("SELECT count(*) FROM addresses WHERE app = ?1", [id.0], |row| row.get(0))?;
    let hosts = subnet(db, id)?.hosts().skip(1).count();
    Ok(hosts.saturating_sub(usize::try_from(taken).unwrap_or(hosts)))
}

/// Gives up the addresses of processes that are gone.
pub fn release_addresses(
    db: &Connection,
    id: AppId,
    release: u32,
    process: Option<&ProcessName>,
) -> Result<(), StoreError> {
    db.execute(
        "DELETE FROM addresses WHERE app = ?1 AND release = ?2 AND (?3 IS NULL OR process = ?3)",
        params![id.0, release, process.map(ToString::to_string)],
    )?;
    Ok(())
}

/// Gives up all addresses of an app but those of these processes.
pub fn keep_addresses(
    db: &Connection,
    id: AppId,
    processes: &[(u32, ProcessName)],
) -> Result<(), StoreError> {
    let mut statement = db.prepare_cached("SELECT release, process FROM addresses WHERE app = ?1")?;
    let rows = statement.query_map([id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for row in rows.collect::<Result<Vec<(u32, String)>, _>>()? {
        if !processes.iter().any(|(release, process)| *release == row.0 && process.to_string() == row.1) {
            db.execute(
                "DELETE FROM addresses WHERE app = ?1 AND release = ?2 AND process = ?3",
                params![id.0, row.0, row.1],
            )?;
        }
    }
    Ok(())
}

/// Counts per process type, as far as they were set.
pub fn formation(db: &Connection, id: AppId) -> Result<Formation, StoreError> {
    let mut statement = db.prepare_cached("SELECT type, count FROM formation WHERE app = ?1")?;
    let rows = statement
        .query_map([id.0], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    let parse = |(kind, count): (String, u32)| {
        ProcessType::parse(&kind)
            .map(|kind| (kind, count))
            .map_err(|error| StoreError::Value(error.to_string()))
    };
    Ok(Formation(rows.into_iter().map(parse).collect::<Result<_, _>>()?))
}

/// Replaces all counts.
pub fn set_formation(db: &Connection, id: AppId, formation: &Formation) -> Result<(), StoreError> {
    db.execute("DELETE FROM formation WHERE app = ?1", [id.0])?;
    formation.0.iter().try_for_each(|(kind, &count)| scale(db, id, kind, count))
}

/// Writes down the counts that a first release came with, where none was set.
pub fn fill_formation(db: &Connection, release: &Release) -> Result<(), StoreError> {
    let known = formation(db, release.app)?;
    let fresh = release.types.keys().filter(|kind| !known.0.contains_key(*kind));
    let counts = fresh.filter_map(|kind| Some((kind, release.first_count(kind)?)));
    counts.into_iter().try_for_each(|(kind, count)| scale(db, release.app, kind, count))
}

/// Sets the count of a type.
pub fn scale(db: &Connection, id: AppId, kind: &ProcessType, count: u32) -> Result<(), StoreError> {
    db.execute(
        "INSERT OR REPLACE INTO formation (app, type, count) VALUES (?1, ?2, ?3)",
        params![id.0, kind.as_str(), count],
    )?;
    Ok(())
}

/// Stores what `checks:set` has said.
pub fn set_checks(db: &Connection, id: AppId, checks: &CheckChange) -> Result<(), StoreError> {
    let text = serde_json::to_string(checks)?;
    db.execute("UPDATE apps SET checks = ?2 WHERE id = ?1", params![id.0, text])?;
    Ok(())
}

/// Stores what `https:set` has said.
pub fn set_https(db: &Connection, id: AppId, https: &HttpsChoice) -> Result<(), StoreError> {
    let text = serde_json::to_string(https)?;
    db.execute("UPDATE apps SET https = ?2 WHERE id = ?1", params![id.0, text])?;
    Ok(())
}

/// Sizes per process type that were set by command.
pub fn sizes(db: &Connection, id: AppId) -> Result<BTreeMap<ProcessType, Size>, StoreError> {
    let text: String = db.query_row("SELECT sizes FROM apps WHERE id = ?1", [id.0], |row| row.get(0))?;
    Ok(serde_json::from_str(&text)?)
}

/// Replaces all of them.
pub fn set_sizes(db: &Connection, id: AppId, sizes: &BTreeMap<ProcessType, Size>) -> Result<(), StoreError> {
    let text = serde_json::to_string(sizes)?;
    db.execute("UPDATE apps SET sizes = ?2 WHERE id = ?1", params![id.0, text])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::scratch;
    use super::*;

    fn pools(ports: RangeInclusive<u16>) -> Pools {
        Pools {
            ports,
            networks: "10.210.0.0/24".parse().unwrap(),
            taken: vec!["10.210.0.64/28".parse().unwrap()],
        }
    }

    fn name(text: &str) -> AppName {
        AppName::parse(text).unwrap()
    }

    #[tokio::test]
    async fn ports_are_fixed_by_the_name_and_move_on_collision() {
        let (_dir, store) = scratch();
        let ports = store
            .write(|db| {
                let first = create(db, &name("hello"), "hello", &pools(9000..=9001))?.port;
                let second = create(db, &name("other"), "other", &pools(9000..=9001))?.port;
                assert!(matches!(
                    create(db, &name("third"), "third", &pools(9000..=9001)),
                    Err(StoreError::NoPort)
                ));
                Ok([first, second])
            })
            .await
            .unwrap();
        assert_ne!(ports[0], ports[1]);
        let (_dir, again) = scratch();
        let wide = again
            .write(|db| Ok(create(db, &name("hello"), "hello", &pools(10_000..=29_999))?.port))
            .await
            .unwrap();
        assert_eq!(wide, 25_342);
    }

    #[tokio::test]
    async fn subnets_avoid_the_hosts_routes_and_each_other() {
        let (_dir, store) = scratch();
        let nets = store
            .write(|db| {
                let mut nets = Vec::new();
                for app in ["a", "b", "c"] {
                    let id = create(db, &name(app), app, &pools(1..=99))?.id;
                    nets.push(subnet(db, id)?.to_string());
                }
                assert!(matches!(create(db, &name("d"), "d", &pools(1..=99)), Err(StoreError::NoSubnet)));
                Ok(nets)
            })
            .await
            .unwrap();
        assert_eq!(nets, ["10.210.0.0/26", "10.210.0.128/26", "10.210.0.192/26"]);
    }

    #[tokio::test]
    async fn an_address_is_kept_and_not_given_out_again_at_once() {
        let (_dir, store) = scratch();
        store
            .write(|db| {
                let id = create(db, &name("a"), "a", &pools(1..=99))?.id;
                let web = ProcessName::parse("web.1").unwrap();
                assert_eq!(free_addresses(db, id)?, 61);
                let first = address(db, id, 1, &web)?;
                assert_eq!(address(db, id, 1, &web)?, first);
                assert_eq!(free_addresses(db, id)?, 60);
                release_addresses(db, id, 1, None)?;
                assert_ne!(address(db, id, 2, &web)?, first);
                Ok(())
            })
            .await
            .unwrap();
    }
}
