//! Sessions that stay with one process: a cookie says which, in a word that tells
//! nobody anything else.

use super::headers;
use super::upstream::Upstream;
use hyper::header::{COOKIE, HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// The cookie's name.
const NAME: &str = "paas_sticky";

/// The words of an app's processes.
pub(super) struct Sticky {
    words: Vec<(String, Arc<Upstream>)>,
}

impl Sticky {
    /// By a key of the app's own, so that the words are the same in any proxy.
    pub(super) fn new(key: &str, upstreams: &[Arc<Upstream>]) -> Self {
        let words = upstreams.iter().map(|upstream| (word(key, upstream), Arc::clone(upstream)));
        Self { words: words.collect() }
    }

    /// The process that a request asks for, if it is one of the app's.
    pub(super) fn asked_for(&self, headers: &HeaderMap) -> Option<&Arc<Upstream>> {
        let lines =
            headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
        let mut words =
            lines.filter_map(|pair| pair.trim_ascii().strip_prefix(NAME.as_bytes())?.strip_prefix(b"="));
        words.find_map(|word| self.words.iter().find(|(known, _)| known.as_bytes() == word)).map(|(_, it)| it)
    }

    /// The cookie that brings the next request of a client to the process that has this
    /// one, unless it has that already.
    pub(super) fn cookie(&self, headers: &HeaderMap, upstream: &Arc<Upstream>) -> Option<HeaderValue> {
        if self.asked_for(headers).is_some_and(|asked| Arc::ptr_eq(asked, upstream)) {
            return None;
        }
        let (word, _) = self.words.iter().find(|(_, known)| Arc::ptr_eq(known, upstream))?;
        let secure = if headers::is_secure(headers) { "; Secure" } else { "" };
        HeaderValue::try_from(format!("{NAME}={word}; Path=/; HttpOnly; SameSite=Lax{secure}")).ok()
    }
}

/// 32 hexadecimal digits. Two releases' processes of one name have two of them.
fn word(key: &str, upstream: &Upstream) -> String {
    let target = &upstream.target;
    let digest = Sha256::digest(format!("{key}\n{}\n{}", target.process, target.release));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
