//! Passwords that people choose: kept as Argon2id hashes, and compared with those.

use argon2::{Algorithm, Argon2, Params, Version};
use std::fmt::Write;
use std::str::FromStr;

/// Memory in KiB and passes: as much as keeps guessing slow, and little enough that a few
/// at a time do not matter (about 20 ms each).
const COST: (u32, u32) = (9216, 4);

const SALT: usize = 16;
const HASH: usize = 32;

/// The hash of a password, with its salt and what it cost. `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    cost: (u32, u32),
    salt: [u8; SALT],
    hash: [u8; HASH],
}

/// A text that is no hash of ours, or the system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("no hash of a password: {0}")]
pub struct NoHash(&'static str);

impl PasswordHash {
    /// Of a password. Takes a while.
    pub fn of(password: &str) -> Result<Self, NoHash> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|_| NoHash("no random numbers"))?;
        Ok(Self { cost: COST, salt, hash: hash(password, &salt, COST)? })
    }

    /// Whether it is this password's. Takes a while.
    pub fn is_of(&self, password: &str) -> bool {
        let Ok(hash) = hash(password, &self.salt, self.cost) else { return false };
        // How much of it is right is not told by the time either.
        let pairs = self.hash.iter().zip(&hash);
        pairs.fold(0, |differences, (one, other)| differences | (one ^ other)) == 0
    }
}

fn hash(password: &str, salt: &[u8], (memory, passes): (u32, u32)) -> Result<[u8; HASH], NoHash> {
    let params = Params::new(memory, passes, 1, Some(HASH)).map_err(|_| NoHash("its cost"))?;
    let mut hash = [0; HASH];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password.as_bytes(), salt, &mut hash).map_err(|_| NoHash("no memory"))?;
    Ok(hash)
}

impl std::fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        let (memory, passes) = self.cost;
        write!(f, "argon2id${memory}${passes}${}${}", hex(&self.salt), hex(&self.hash))
    }
}

impl FromStr for PasswordHash {
    type Err = NoHash;
    fn from_str(text: &str) -> Result<Self, NoHash> {
        let none = NoHash("not of our form");
        let mut parts = text.split('$');
        let mut next = || parts.next().unwrap_or_default();
        if next() != "argon2id" {
            return Err(none);
        }
        let (Ok(memory), Ok(passes)) = (next().parse(), next().parse()) else { return Err(none) };
        let (Some(salt), Some(hash)) = (unhex(next()), unhex(next())) else { return Err(none) };
        Ok(Self { cost: (memory, passes), salt, hash })
    }
}

fn unhex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let digits = text.as_bytes();
    let mut bytes = [0; LENGTH];
    if digits.len() != 2 * LENGTH {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_hash_is_of_its_password_alone_and_comes_back_from_its_text() {
        let hash = PasswordHash::of("correct horse").unwrap();
        let text = hash.to_string();
        let read: PasswordHash = text.parse().unwrap();
        assert!(read == hash && read.is_of("correct horse") && !read.is_of("correct horsf"));
        assert_ne!(PasswordHash::of("correct horse").unwrap().to_string(), text, "a salt of its own");
        assert!(!format!("{hash:?}").contains(&text[20..40]));
        for bad in ["", "argon2id", "argon2id$1$1$$", "hunter2", &text[..text.len() - 1], &text[1..]] {
            assert!(bad.parse::<PasswordHash>().is_err(), "{bad}");
        }
    }
}
