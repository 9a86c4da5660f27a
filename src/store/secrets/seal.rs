//! Sealing of single values: XChaCha20-Poly1305, bound to the place they stand in.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// First byte of every sealed value: the form that this file describes.
const FORM: u8 = 1;

/// Bytes of a key's id.
const ID: usize = 8;

/// Bytes of a nonce: long enough to be drawn at random for ever.
const NONCE: usize = 24;

/// Bytes of a key.
const KEY: usize = 32;

/// Names a key without telling anything of it; stands in every sealed value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretKeyId([u8; ID]);

impl SecretKeyId {
    /// An id for tests of messages.
    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        Self([0x1f, 0x0c, 0x9a, 0x3b, 0x5d, 0x7e, 0x90, 0x12])
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SecretKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SecretKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One key. Overwritten in memory when dropped; `Debug` shows its id only.
#[derive(Clone)]
pub(super) struct Key {
    secret: Zeroizing<[u8; KEY]>,
    id: SecretKeyId,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    /// A new key from the system's random numbers.
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = Zeroizing::new([0; KEY]);
        getrandom::fill(&mut *secret)?;
        Ok(Self::new(secret))
    }

    fn new(secret: Zeroizing<[u8; KEY]>) -> Self {
        let digest = Sha256::new().chain_update(b"paas key id\0").chain_update(*secret).finalize();
        let mut id = [0; ID];
        id.copy_from_slice(&digest[..ID]);
        Self { secret, id: SecretKeyId(id) }
    }

    /// Reads 64 hex digits.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 2 * KEY {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut secret = Zeroizing::new([0; KEY]);
        for (byte, pair) in secret.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self::new(secret))
    }

    /// 64 hex digits.
    pub(super) fn to_hex(&self) -> Zeroizing<String> {
        let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY));
        for byte in self.secret.iter() {
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
        text
    }

    pub(super) fn id(&self) -> SecretKeyId {
        self.id
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.secret).into())
    }
}

/// Where a value stands. It opens there and nowhere else, so that whoever can
/// write to the database cannot give one app another's values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// `config`, `global`, `release` or `webhook`.
    pub kind: &'a str,
    /// The app's number; 0 for what is of no app.
    pub owner: i64,
    /// The name of the var, the number of the release or webhook.
    pub name: &'a str,
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        format!("paas/{}/{}/{}", self.kind, self.owner, self.name).into_bytes()
    }
}

/// Why a value does not open; what it says goes to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    /// The system gives no random numbers.
    #[error("no random numbers")]
    Random,
    /// Not what [`seal`] makes.
    #[error("a stored value is not sealed")]
    Form,
    /// Sealed with a key that is not here.
    #[error("a stored value is sealed with the key {0}, which is not here")]
    NoKey(SecretKeyId),
    /// Damaged, or moved here from another place.
    #[error("a stored value was changed, or moved from elsewhere")]
    Changed,
}

/// `form | key id | nonce | ciphertext and tag`.
pub(super) fn seal(key: &Key, place: Place<'_>, value: &str) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(|_| SealError::Random)?;
    let payload = Payload { msg: value.as_bytes(), aad: &place.bytes() };
    let sealed = key.cipher().encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError::Random)?;
    let mut record = Vec::with_capacity(1 + ID + NONCE + sealed.len());
    record.push(FORM);
    record.extend(key.id.0);
    record.extend(nonce);
    record.extend(sealed);
    Ok(record)
}

/// The value, if it was sealed for this place with one of `keys`.
pub(super) fn open(keys: &[Key], place: Place<'_>, record: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let rest = record.strip_prefix(&[FORM]).ok_or(SealError::Form)?;
    let (id, rest) = rest.split_first_chunk::<ID>().ok_or(SealError::Form)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(SealError::Form)?;
    let key = keys.iter().find(|key| key.id.0 == *id).ok_or(SealError::NoKey(SecretKeyId(*id)))?;
    let payload = Payload { msg: sealed, aad: &place.bytes() };
    let value = key.cipher().decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError::Changed)?;
    Ok(Zeroizing::new(value))
}

/// The id of the key that a record was sealed with.
pub(super) fn key_of(record: &[u8]) -> Option<SecretKeyId> {
    record.strip_prefix(&[FORM])?.first_chunk().map(|id| SecretKeyId(*id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const HERE: Place<'static> = Place { kind: "config", owner: 5, name: "TOKEN" };

    #[test]
    fn a_value_opens_in_its_place_alone() {
        let key = Key::generate().unwrap();
        let record = seal(&key, HERE, "hunter2").unwrap();
        let keys = [key];
        assert_eq!(&**open(&keys, HERE, &record).unwrap(), b"hunter2");
        for elsewhere in [
            Place { kind: "global", ..HERE },
            Place { owner: 6, ..HERE },
            Place { name: "OTHER", ..HERE },
            Place { owner: 0, name: "5/TOKEN", ..HERE },
        ] {
            assert_eq!(open(&keys, elsewhere, &record), Err(SealError::Changed), "{elsewhere:?}");
        }
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let keys = [Key::generate().unwrap()];
        let record = seal(&keys[0], HERE, "hunter2").unwrap();
        for bit in 0..record.len() * 8 {
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&keys, HERE, &changed).is_err(), "bit {bit}");
        }
        for length in 0..record.len() {
            assert!(open(&keys, HERE, &record[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn another_key_is_named_and_none_is_shown() {
        let key = Key::generate().unwrap();
        let record = seal(&key, HERE, "x").unwrap();
        assert_eq!(key_of(&record), Some(key.id()));
        let others = [Key::generate().unwrap()];
        assert_eq!(open(&others, HERE, &record), Err(SealError::NoKey(key.id())));
        assert_eq!(format!("{key:?}"), format!("Key({})", key.id()));
        assert!(!key.to_hex().contains(&key.id().to_string()));
    }

    #[test]
    fn the_same_value_is_never_sealed_alike() {
        let key = Key::generate().unwrap();
        assert_ne!(seal(&key, HERE, "x").unwrap(), seal(&key, HERE, "x").unwrap());
    }

    #[test]
    fn what_was_sealed_before_still_opens() {
        let key = Key::from_hex(&"0123456789abcdef".repeat(4)).unwrap();
        assert_eq!(key.to_hex().as_str(), "0123456789abcdef".repeat(4));
        let record: Vec<u8> = (0..SEALED_BEFORE.len() / 2)
            .map(|at| u8::from_str_radix(&SEALED_BEFORE[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        assert_eq!(&**open(&[key], HERE, &record).unwrap(), "grüße".as_bytes());
    }

    const SEALED_BEFORE: &str = "01b30facb63361f325d93bb7ab27e617dd3734b627f6926975295b2e25774649457cb1da516954f107a21d23be3e7c87dc0abe22f7bef2bc";

    proptest! {
        #[test]
        fn any_text_comes_back(value in any::<String>()) {
            let keys = [Key::generate().unwrap()];
            let record = seal(&keys[0], HERE, &value).unwrap();
            let opened = open(&keys, HERE, &record).unwrap();
            prop_assert_eq!(opened.as_slice(), value.as_bytes());
        }

        #[test]
        fn no_bytes_panic(record in prop::collection::vec(any::<u8>(), 0..80)) {
            let keys = [Key::generate().unwrap()];
            prop_assert!(open(&keys, HERE, &record).is_err());
        }
    }
}
