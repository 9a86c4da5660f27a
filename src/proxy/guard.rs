//! Basic authentication: who may come in to an app that asks for names and passwords.
//!
//! A password is compared once, which takes long on purpose, and known again by a keyed
//! hash. Few are compared at a time, however many come.

use super::pages::Page;
use crate::model::{AppName, User};
use crate::password::PasswordHash;
use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Whom the app is told of.
const FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");
/// Passwords that are compared at a time, for all apps.
const AT_A_TIME: usize = 2;
/// Requests of one app that wait for that.
const WAITING: usize = 32;
/// Words that are known to be right, and as many that are known to be wrong.
const KNOWN: usize = 4096;
/// Longest `Authorization` that is looked at.
const LONGEST: usize = 1024;

/// What is known of passwords; for all apps.
pub(super) struct Passwords {
    /// None without random numbers: then nothing is known again.
    key: Option<[u8; 32]>,
    right: Mutex<HashSet<Mark>>,
    wrong: Mutex<HashSet<Mark>>,
    comparing: Arc<Semaphore>,
}

/// A name with a password and the hash that it was compared with.
type Mark = [u8; 32];

/// An app's users.
pub(super) struct Guard {
    realm: AppName,
    users: Vec<(String, PasswordHash)>,
    waiting: Semaphore,
}

impl PartialEq for Guard {
    /// The same users with the same passwords.
    fn eq(&self, other: &Self) -> bool {
        (&self.realm, &self.users) == (&other.realm, &other.users)
    }
}

impl Passwords {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        let key = getrandom::fill(&mut key).is_ok().then_some(key);
        let comparing = Arc::new(Semaphore::new(AT_A_TIME));
        Self { key, right: Mutex::default(), wrong: Mutex::default(), comparing }
    }

    fn mark(&self, name: &str, password: &str, hash: &PasswordHash) -> Option<Mark> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_ref()?).ok()?;
        for part in [name, password, &hash.to_string()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        Some(mac.finalize().into_bytes().into())
    }
}

impl Guard {
    /// The users of an app; none if everybody may come in. One whose hash can't be read
    /// can't come in.
    pub(super) fn of(app: &AppName, users: &[User]) -> Option<Self> {
        let read = |user: &User| Some((user.name.clone(), user.hash.parse().ok()?));
        (!users.is_empty()).then(|| Self {
            realm: app.clone(),
            users: users.iter().filter_map(read).collect(),
            waiting: Semaphore::new(WAITING),
        })
    }

    /// Lets a request pass that brings a name and its password, which the app is not to
    /// see; or the page for it.
    pub(super) async fn admit(&self, passwords: &Passwords, headers: &mut HeaderMap) -> Result<(), Page> {
        let Some((name, password)) = credentials(headers) else { return Err(self.refuse()) };
        let known = self.users.iter().find(|(known, _)| *known == name);
        // A name that there is not takes as long as one that there is.
        let Some((_, hash)) = known.or(self.users.first()) else { return Err(self.refuse()) };
        let right = self.is_right(passwords, &name, password, hash).await?;
        if !right || known.is_none() {
            return Err(self.refuse());
        }
        headers.remove(AUTHORIZATION);
        if let Ok(name) = HeaderValue::from_str(&name) {
            headers.insert(FORWARDED_USER, name);
        }
        Ok(())
    }

    async fn is_right(
        &self,
        passwords: &Passwords,
        name: &str,
        password: String,
        hash: &PasswordHash,
    ) -> Result<bool, Page> {
        let mark = passwords.mark(name, &password, hash);
        let is_in = |marks: &Mutex<HashSet<Mark>>| mark.is_some_and(|mark| lock(marks).contains(&mark));
        if is_in(&passwords.right) {
            return Ok(true);
        }
        if is_in(&passwords.wrong) {
            return Ok(false);
        }
        let _place = self.waiting.try_acquire().map_err(|_| Page::Signing)?;
        let comparing = Arc::clone(&passwords.comparing).acquire_owned().await.map_err(|_| Page::Signing)?;
        let hash = hash.clone();
        // To its end, whether the client waits for it or not: so there are no more at a time.
        let compare = move || {
            let _comparing = comparing;
            hash.is_of(&password)
        };
        let right = tokio::task::spawn_blocking(compare).await.map_err(|_| Page::Signing)?;
        if let Some(mark) = mark {
            remember(&mut lock(if right { &passwords.right } else { &passwords.wrong }), mark);
        }
        Ok(right)
    }

    fn refuse(&self) -> Page {
        Page::SignIn(self.realm.clone())
    }
}

fn lock(marks: &Mutex<HashSet<Mark>>) -> MutexGuard<'_, HashSet<Mark>> {
    marks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In place of any other, if there are too many.
fn remember(marks: &mut HashSet<Mark>, mark: Mark) {
    if marks.len() >= KNOWN
        && let Some(any) = marks.iter().next().copied()
    {
        marks.remove(&any);
    }
    marks.insert(mark);
}

/// Name and password of `Authorization: Basic …`, if there is one such line.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = lines.next().filter(|line| line.len() <= LONGEST)?.to_str().ok()?;
    let (scheme, words) = line.split_once(' ')?;
    if lines.next().is_some() || !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(base64(words.trim())?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// Standard base64, with padding or without.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len());
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(AUTHORIZATION, line.parse().unwrap());
        }
        headers
    }

    fn guard(names: &[(&str, &str)]) -> Guard {
        let user = |&(name, password): &(&str, &str)| {
            let hash = PasswordHash::of(password).unwrap().to_string();
            User { name: name.to_owned(), hash }
        };
        let users: Vec<User> = names.iter().map(user).collect();
        Guard::of(&AppName::parse("shop").unwrap(), &users).unwrap()
    }

    #[test]
    fn credentials_are_read_as_browsers_write_them() {
        let read = |lines: &[&str]| credentials(&headers(lines));
        let alice = Some(("Aladdin".to_owned(), "open sesame".to_owned()));
        assert_eq!(read(&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]), alice);
        assert_eq!(read(&["basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ"]), alice);
        assert_eq!(read(&["Basic OjpwOg=="]), Some((String::new(), ":p:".to_owned())));
        for bad in
            ["Basic", "Basic ", "Basic %%", "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic QQ==", "Basic gIA6"]
        {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&["Basic OjpwOg==", "Basic OjpwOg=="]), None);
        assert_eq!(read(&[&format!("Basic {}", "QUFB".repeat(300))]), None);
        assert_eq!(read(&[]), None);
    }

    #[tokio::test]
    async fn the_right_password_passes_and_is_known_again() {
        let (guard, passwords) = (guard(&[("alice", "open sesame")]), Passwords::new());
        for _ in 0..2 {
            let mut right = headers(&["Basic YWxpY2U6b3BlbiBzZXNhbWU="]);
            guard.admit(&passwords, &mut right).await.unwrap();
            assert!(!right.contains_key(AUTHORIZATION) && right[FORWARDED_USER] == "alice");
            // Another password; a name that there is not, with one that there is.
            for wrong in ["Basic YWxpY2U6b3BlbiBzZXNhbWY=", "Basic Ym9iOm9wZW4gc2VzYW1l"] {
                let refused = guard.admit(&passwords, &mut headers(&[wrong])).await.unwrap_err();
                assert_eq!(refused, Page::SignIn(AppName::parse("shop").unwrap()));
            }
        }
        assert_eq!((lock(&passwords.right).len(), lock(&passwords.wrong).len()), (2, 1));
        // Another password of hers makes the old one wrong.
        let changed = super::tests::guard(&[("alice", "open barley")]);
        let mut old = headers(&["Basic YWxpY2U6b3BlbiBzZXNhbWU="]);
        assert!(changed.admit(&passwords, &mut old).await.is_err());
    }

    #[tokio::test]
    async fn a_flood_of_guesses_is_turned_away_and_who_is_known_comes_in() {
        let (guard, passwords) = (Arc::new(guard(&[("alice", "open sesame")])), Passwords::new());
        let passwords = Arc::new(passwords);
        let right = || headers(&["Basic YWxpY2U6b3BlbiBzZXNhbWU="]);
        guard.admit(&passwords, &mut right()).await.unwrap();
        let busy = Arc::clone(&passwords.comparing).acquire_many_owned(2).await.unwrap();
        let guesses = (0..WAITING).map(|guess| {
            let (guard, passwords) = (Arc::clone(&guard), Arc::clone(&passwords));
            let password = format!("guess {guess}");
            tokio::spawn(
                async move { guard.is_right(&passwords, "alice", password, &guard.users[0].1).await },
            )
        });
        let guesses: Vec<_> = guesses.collect();
        while guard.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let more = guard.admit(&passwords, &mut headers(&["Basic YWxpY2U6b3BlbiBzZXNhbWY="])).await;
        assert_eq!(more, Err(Page::Signing));
        guard.admit(&passwords, &mut right()).await.unwrap();
        drop(busy);
        for guess in guesses {
            assert_eq!(guess.await.unwrap(), Ok(false));
        }
        assert_eq!(guard.waiting.available_permits(), WAITING);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut marks = HashSet::new();
        for number in 0..u32::try_from(KNOWN).unwrap() + 9 {
            let mut mark = [0; 32];
            mark[..4].copy_from_slice(&number.to_be_bytes());
            remember(&mut marks, mark);
        }
        assert_eq!(marks.len(), KNOWN);
    }
}
