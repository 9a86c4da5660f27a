//! Single values: the route table's version, the image source that was found.

use super::StoreError;
use rusqlite::{Connection, OptionalExtension};

/// Reads a fact.
pub fn get(db: &Connection, name: &str) -> Result<Option<String>, StoreError> {
    Ok(db.query_row("SELECT value FROM facts WHERE name = ?1", [name], |row| row.get(0)).optional()?)
}

/// Writes a fact.
pub fn set(db: &Connection, name: &str, value: &str) -> Result<(), StoreError> {
    db.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)", [name, value])?;
    Ok(())
}

/// Forgets a fact.
pub fn remove(db: &Connection, name: &str) -> Result<(), StoreError> {
    db.execute("DELETE FROM facts WHERE name = ?1", [name])?;
    Ok(())
}

/// Counts up and returns the new value.
pub fn next(db: &Connection, name: &str) -> Result<u64, StoreError> {
    let value = get(db, name)?.and_then(|text| text.parse().ok()).unwrap_or(0u64) + 1;
    set(db, name, &value.to_string())?;
    Ok(value)
}
