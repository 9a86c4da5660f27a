//! Public SSH keys as they are stored, compared and shown.

use russh::keys::ssh_key::{self, Algorithm, HashAlg};

/// A public key without its comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    text: String,
    fingerprint: String,
}

/// Why a text is no key that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Nothing but blanks and comments.
    #[error("standard input is empty")]
    Empty,
    /// The half that its owner keeps.
    #[error("this is the private key; keep it to yourself")]
    Private,
    /// More than one line.
    #[error("there are several; add them one by one")]
    Several,
    /// Not OpenSSH's form.
    #[error("it does not read as one")]
    Malformed,
    /// An algorithm that proves nothing any more.
    #[error("DSA is broken; make one with ssh-keygen -t ed25519")]
    Dsa,
}

impl PublicKey {
    /// Reads the content of a `.pub` file.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = lines.next().ok_or(KeyFault::Empty)?;
        if line.contains("PRIVATE KEY") {
            return Err(KeyFault::Private);
        }
        if lines.next().is_some() {
            return Err(KeyFault::Several);
        }
        let key = ssh_key::PublicKey::from_openssh(line).map_err(|_| KeyFault::Malformed)?;
        if matches!(key.algorithm(), Algorithm::Dsa) {
            return Err(KeyFault::Dsa);
        }
        Ok(Self::from(&key))
    }

    /// `TYPE BASE64`: what is stored and compared.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `SHA256:…`
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl From<&ssh_key::PublicKey> for PublicKey {
    fn from(key: &ssh_key::PublicKey) -> Self {
        let text = key.to_openssh().unwrap_or_default();
        let text = text.split(' ').take(2).collect::<Vec<_>>().join(" ");
        Self { text, fingerprint: key.fingerprint(HashAlg::Sha256).to_string() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_comment_makes_no_other_key() {
        let with = PublicKey::parse(&format!("# mine\n{KEY} ada@laptop\n")).unwrap();
        assert_eq!(with, PublicKey::parse(KEY).unwrap());
        assert_eq!(with.as_str(), KEY);
    }

    #[test]
    fn what_is_no_key_is_told_apart() {
        let two = format!("{KEY}\n{KEY}");
        let faults = ["# x\n", "hello", "-----BEGIN OPENSSH PRIVATE KEY-----", &two]
            .map(|text| PublicKey::parse(text).unwrap_err());
        assert_eq!(faults, [KeyFault::Empty, KeyFault::Malformed, KeyFault::Private, KeyFault::Several]);
    }
}
