//! Our own identity, made on first start.

use super::SshError;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// More than any key file; keeps a wrong path from filling the memory.
const LARGEST: u64 = 64 << 10;

/// The Ed25519 host key at `path`; made there (mode 0600, all or nothing) if
/// there is none. A damaged or exposed one is an error, never replaced.
pub fn host_key(path: &Path) -> Result<PrivateKey, SshError> {
    match File::open(path) {
        Ok(file) => read(path, &file),
        Err(cause) if cause.kind() == ErrorKind::NotFound => create(path),
        Err(cause) => Err(unreadable(path, cause)),
    }
}

fn unreadable(path: &Path, cause: Error) -> SshError {
    SshError::HostKeyUnreadable { path: path.to_owned(), cause }
}

fn read(path: &Path, file: &File) -> Result<PrivateKey, SshError> {
    let mode = file.metadata().map_err(|cause| unreadable(path, cause))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SshError::HostKeyExposed { path: path.to_owned(), mode });
    }
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).map_err(|cause| unreadable(path, cause))?;
    match PrivateKey::from_openssh(&text) {
        Ok(key) if key.key_data().ed25519().is_some() => Ok(key),
        _ => Err(SshError::HostKeyDamaged { path: path.to_owned() }),
    }
}

fn create(path: &Path) -> Result<PrivateKey, SshError> {
    let unwritable = |cause| SshError::HostKeyUnwritable { path: path.to_owned(), cause };
    let key = generate().map_err(unwritable)?;
    let text = key.to_openssh(LineEnding::LF).map_err(|error| unwritable(Error::other(error)))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(unwritable)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(unwritable)?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        // Somebody else was faster: theirs is the key.
        Err(lost) if lost.error.kind() == ErrorKind::AlreadyExists => return host_key(path),
        Err(failed) => return Err(unwritable(failed.error)),
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(unwritable)?;
    Ok(key)
}

fn generate() -> Result<PrivateKey, Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(Error::other)?;
    Ok(PrivateKey::from(Ed25519Keypair::from_seed(&seed)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{Permissions, set_permissions, write};

    #[test]
    fn made_once_with_mode_0600_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("host_key");
        let first = host_key(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(host_key(&path).unwrap().public_key(), first.public_key());
        assert_eq!(directory.path().read_dir().unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_damaged_or_exposed_key_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("host_key");
        write(&path, "").unwrap();
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(host_key(&path), Err(SshError::HostKeyDamaged { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(host_key(&path), Err(SshError::HostKeyExposed { mode: 0o640, .. })));
    }

    #[test]
    fn a_key_cut_short_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("host_key");
        host_key(&path).unwrap();
        let text = std::fs::read(&path).unwrap();
        write(&path, &text[..text.len() / 2]).unwrap();
        assert!(matches!(host_key(&path), Err(SshError::HostKeyDamaged { .. })));
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = host_key(Path::new("/nonexistent/host_key")).unwrap_err();
        assert!(matches!(error, SshError::HostKeyUnwritable { .. }));
    }
}
