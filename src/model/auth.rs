//! Who may use an app: names and passwords that browsers ask for (HTTP's basic
//! authentication).

use serde::{Deserialize, Serialize};
use std::fmt;

/// Users that an app may have.
pub const MOST_USERS: usize = 100;

/// One of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// The hash of the password, as [`crate::password`] writes it.
    pub hash: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({:?})", self.name)
    }
}

/// Why a name or a password is none; the words come ready for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAUser {
    /// The name has something else than what it may have.
    #[error("A user's name has 1 to 64 letters, digits and . _ - @ +")]
    Name,
    /// Standard input is no password.
    #[error("Standard input is the password, in one line of 8 to 200 characters")]
    Password,
}

/// Takes what a person gives as a name.
pub fn expect_user_name(text: &str) -> Result<(), NotAUser> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@+".contains(&byte);
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
    fits.then_some(()).ok_or(NotAUser::Name)
}

/// Takes what a person gives as a password: a line end is not of it.
pub fn password_of(text: &str) -> Result<&str, NotAUser> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let fits = (8..=200).contains(&line.chars().count()) && !line.contains(char::is_control);
    fits.then_some(line).ok_or(NotAUser::Password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_are_such_as_browsers_send() {
        for good in ["alice", "a.b@example.com", "A-1_+"] {
            assert_eq!(expect_user_name(good), Ok(()));
        }
        for bad in ["", "a:b", "a b", "ö", "-\n", &"a".repeat(65)] {
            assert_eq!(expect_user_name(bad), Err(NotAUser::Name), "{bad:?}");
        }
        for good in ["12345678", "12345678\n", "12345678\r\n", " 1234567", "pässwörd: ☃"] {
            assert_eq!(password_of(good), Ok(good.trim_end_matches(['\r', '\n'])));
        }
        for bad in ["", "1234567", "1234567\n", "12345678\n\n", "1234\t5678", &"a".repeat(201)] {
            assert_eq!(password_of(bad), Err(NotAUser::Password), "{bad:?}");
        }
    }
}
