//! The file that holds the key: one line of 64 hex digits per key, the one in
//! use first, those that a rotation has not done with yet behind it.

use super::seal::Key;
use crate::settings::KeyPlace;
use crate::store::StoreError;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// More than any key file; keeps a wrong path from filling the memory.
const LARGEST: u64 = 64 << 10;

const HEAD: &str = "\
# Encrypts the config vars in paas.db. Keep a copy in another place than the
# copies of paas.db: whoever has both can read them, and without it nobody can.
";

/// The keys, the one in use first; `None` if there is no such file.
pub(super) fn read(place: &KeyPlace) -> Result<Option<Vec<Key>>, StoreError> {
    let path = place.path();
    let failed = |cause| StoreError::KeyFile { doing: "read", path: path.to_owned(), cause };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    // Who may read a credential is systemd's to say; it shows other modes there.
    if matches!(place, KeyPlace::File(_)) && mode & 0o077 != 0 {
        return Err(StoreError::KeyExposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LARGEST).read_to_string(&mut text).map_err(|cause| match cause.kind() {
        ErrorKind::InvalidData => StoreError::KeyDamaged { path: path.to_owned(), line: 1 },
        _ => failed(cause),
    })?;
    parse(&text).map(Some).map_err(|line| StoreError::KeyDamaged { path: path.to_owned(), line })
}

/// The keys, or the line that holds none.
fn parse(text: &str) -> Result<Vec<Key>, usize> {
    let mut keys = Vec::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if !line.is_empty() && !line.starts_with('#') {
            keys.push(Key::from_hex(line).ok_or(index + 1)?);
        }
    }
    if keys.is_empty() { Err(text.lines().count().max(1)) } else { Ok(keys) }
}

/// Writes the keys: all or nothing, on disk when this returns.
pub(super) fn write(path: &Path, keys: &[Key]) -> Result<(), StoreError> {
    replace(path, keys).map_err(|cause| StoreError::KeyFile { doing: "write", path: path.to_owned(), cause })
}

fn replace(path: &Path, keys: &[Key]) -> Result<(), Error> {
    forget_half_written(path);
    let new = half_written(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(HEAD.as_bytes())?;
    for key in keys {
        file.write_all(key.to_hex().as_bytes())?;
        file.write_all(b"\n")?;
    }
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Where a file stands until it is complete.
fn half_written(path: &Path) -> PathBuf {
    path.with_extension("key.new")
}

/// Removes what a crash left of a file that was being written.
pub(super) fn forget_half_written(path: &Path) {
    let _ = std::fs::remove_file(half_written(path));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ids(keys: &[Key]) -> Vec<String> {
        keys.iter().map(|key| key.id().to_string()).collect()
    }

    #[test]
    fn what_was_written_is_read_and_nobody_else_may() {
        let directory = tempfile::tempdir().unwrap();
        let place = KeyPlace::File(directory.path().join("secrets.key"));
        assert!(read(&place).unwrap().is_none());
        let keys = [Key::generate().unwrap(), Key::generate().unwrap()];
        write(place.path(), &keys).unwrap();
        assert_eq!(ids(&read(&place).unwrap().unwrap()), ids(&keys));
        let mode = place.path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(directory.path().read_dir().unwrap().count(), 1, "nothing is left beside it");
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&place), Err(StoreError::KeyExposed { mode: 0o640, .. })));
    }

    #[test]
    fn a_line_that_is_no_key_is_named_and_not_repeated() {
        let good = "0123456789abcdef".repeat(4);
        assert_eq!(parse(&format!("# head\r\n\r\n{good}\r\n")).unwrap().len(), 1);
        for (text, line) in [
            (String::new(), 1),
            ("# head\n# more\n".to_owned(), 2),
            (format!("{good}\n{}\n", &good[1..]), 2),
            (format!("\n{}g\n", &good[1..]), 2),
            (format!("{good}{good}"), 1),
        ] {
            assert_eq!(parse(&text).unwrap_err(), line, "{text:?}");
        }
    }
}
