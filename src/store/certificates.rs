//! Certificates with their keys, sealed as config vars are, and what came of orders.

use super::StoreError;
use crate::model::{AppId, CertificateOrigin, Domain, PrivateKeyPem, StoredCertificate};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Failures are remembered for so many seconds after the next attempt was due.
const FORGET: i64 = 7 * 86_400;

/// Four attempts an hour: authorities forgive five failures.
const SOON: i64 = 900;

const COLUMNS: &str = "id, app, origin, names, chain, unseal('certificate', 0, id, key), issuer, trusted, not_before, not_after, created_at";

fn from_row(row: &Row<'_>) -> rusqlite::Result<StoredCertificate> {
    let text: String = row.get(3)?;
    let names = serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let origin: String = row.get(2)?;
    Ok(StoredCertificate {
        id: row.get(0)?,
        app: row.get::<_, Option<i64>>(1)?.map(AppId),
        origin: match origin.as_str() {
            "own" => CertificateOrigin::Own,
            "acme" => CertificateOrigin::Acme,
            _ => CertificateOrigin::Selfmade,
        },
        names,
        chain: row.get(4)?,
        key: PrivateKeyPem::new(row.get(5)?),
        issuer: row.get(6)?,
        trusted: row.get(7)?,
        not_before: row.get(8)?,
        not_after: row.get(9)?,
        created_at: row.get(10)?,
    })
}

/// All certificates, the newest first.
pub fn list(db: &Connection) -> Result<Vec<StoredCertificate>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM certificates ORDER BY created_at DESC, id");
    let mut statement = db.prepare_cached(&sql)?;
    Ok(statement.query_map([], from_row)?.collect::<Result<Vec<_>, _>>()?)
}

/// Stores one.
pub fn add(db: &Connection, certificate: &StoredCertificate) -> Result<(), StoreError> {
    let origin = match certificate.origin {
        CertificateOrigin::Own => "own",
        CertificateOrigin::Acme => "acme",
        CertificateOrigin::Selfmade => "self",
    };
    db.execute(
        "INSERT INTO certificates
         (id, app, origin, names, chain, key, issuer, trusted, not_before, not_after, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, seal('certificate', 0, ?1, ?6), ?7, ?8, ?9, ?10, ?11)",
        params![
            certificate.id,
            certificate.app.map(|app| app.0),
            origin,
            serde_json::to_string(&certificate.names)?,
            certificate.chain,
            certificate.key.as_str(),
            certificate.issuer,
            certificate.trusted,
            certificate.not_before,
            certificate.not_after,
            certificate.created_at,
        ],
    )?;
    Ok(())
}

/// Removes one.
pub fn remove(db: &Connection, id: &str) -> Result<bool, StoreError> {
    Ok(db.execute("DELETE FROM certificates WHERE id = ?1", [id])? > 0)
}

/// What came of the last order for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedOrder {
    /// The name.
    pub name: Domain,
    /// How often in a row.
    pub failures: u32,
    /// When it is tried again.
    pub next_at: i64,
    /// Why, in one line.
    pub problem: String,
}

/// All names for which there is no certificate yet, with the reason.
pub fn failed_orders(db: &Connection) -> Result<Vec<FailedOrder>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT name, failures, next_at, problem FROM orders ORDER BY name")?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    rows.map(|row| {
        let (name, failures, next_at, problem) = row?;
        let name = Domain::parse(&name).map_err(|error| StoreError::Value(error.to_string()))?;
        Ok(FailedOrder { name, failures, next_at, problem })
    })
    .collect()
}

/// Writes down that an order failed. What failed long ago for a name that nobody has
/// any more is forgotten.
pub fn note_failure(db: &Connection, order: &FailedOrder) -> Result<(), StoreError> {
    db.execute("DELETE FROM orders WHERE next_at < ?1", [super::now() - FORGET])?;
    db.execute(
        "INSERT OR REPLACE INTO orders (name, failures, next_at, problem) VALUES (?1, ?2, ?3, ?4)",
        params![order.name.to_string(), order.failures, order.next_at, order.problem],
    )?;
    Ok(())
}

/// Somebody who adds a name again has mended something: it is not left waiting for a
/// day. Nor is it ordered at once, or adding and removing would be a way round the waiting.
pub fn order_sooner(db: &Connection, name: &Domain) -> Result<(), StoreError> {
    let soon = super::now() + SOON;
    db.execute(
        "UPDATE orders SET next_at = min(next_at, ?2) WHERE name = ?1",
        params![name.to_string(), soon],
    )?;
    Ok(())
}

/// Forgets what came of former orders for a name.
pub fn forget_order(db: &Connection, name: &Domain) -> Result<(), StoreError> {
    db.execute("DELETE FROM orders WHERE name = ?1", [name.to_string()])?;
    Ok(())
}

/// Our account with an authority, as its client has written it.
pub fn account(db: &Connection, directory: &str) -> Result<Option<String>, StoreError> {
    let sql = "SELECT unseal('acme', 0, directory, account) FROM acme_accounts WHERE directory = ?1";
    Ok(db.query_row(sql, [directory], |row| row.get(0)).optional()?)
}

/// Keeps it.
pub fn set_account(db: &Connection, directory: &str, account: &str) -> Result<(), StoreError> {
    db.execute(
        "INSERT OR REPLACE INTO acme_accounts (directory, account) VALUES (?1, seal('acme', 0, ?1, ?2))",
        params![directory, account],
    )?;
    Ok(())
}

/// Forgets it: the authority does not know it any more.
pub fn forget_account(db: &Connection, directory: &str) -> Result<(), StoreError> {
    db.execute("DELETE FROM acme_accounts WHERE directory = ?1", [directory])?;
    Ok(())
}

/// A number for a new certificate.
pub fn new_id() -> Result<String, StoreError> {
    let number = getrandom::u32().map_err(|error| StoreError::Value(error.to_string()))?;
    Ok(format!("{number:08x}"))
}
