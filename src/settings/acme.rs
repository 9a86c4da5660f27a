//! Which authority certificates are ordered from, and how names are proven.

use super::SettingsError;
use super::file::Acme;
use super::load::value;
use std::path::PathBuf;

/// The two directories that have a name here.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// How a name is proven to be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeKind {
    /// By a path on port 80.
    Http01,
    /// By a handshake on port 443.
    TlsAlpn01,
    /// By a TXT record, which a program of the administrator's writes.
    Dns01,
}

/// An external account's id and key.
#[derive(Clone, PartialEq, Eq)]
pub struct External {
    /// As the authority names it.
    pub id: String,
    /// The bytes of the key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for External {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "External({:?})", self.id)
    }
}

/// Where certificates are ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The directory's URL.
    pub directory: String,
    /// Whom the authority may write to.
    pub email: Option<String>,
    /// Authorities of HTTPS to trust besides the host's, for the directory alone.
    pub ca_file: Option<PathBuf>,
    /// Ways to prove a name, in turn.
    pub challenges: Vec<ChallengeKind>,
    /// Writes DNS records; wildcards need it.
    pub dns_hook: Option<PathBuf>,
    /// For authorities that want to know us.
    pub external: Option<External>,
}

impl AcmeSettings {
    /// Whether what it issues is for trying out, and nobody trusts it.
    pub fn is_staging(&self) -> bool {
        self.directory == STAGING
    }
}

/// Nothing is ordered until somebody has given an address or a directory, and with it
/// agreed to the authority's terms.
pub(super) fn resolve(file: Acme) -> Result<Option<AcmeSettings>, SettingsError> {
    if file.email.is_none() && file.directory.is_none() {
        return Ok(None);
    }
    let directory = match file.directory.as_deref() {
        None | Some("letsencrypt") => LETS_ENCRYPT.to_owned(),
        Some("letsencrypt-staging") => STAGING.to_owned(),
        Some(url) if url.starts_with("https://") && url.len() > 8 => url.to_owned(),
        Some(other) => {
            return Err(value(
                "acme.directory",
                other,
                "use letsencrypt, letsencrypt-staging or an https:// URL",
            ));
        }
    };
    if let Some(email) = file.email.as_deref()
        && !is_address(email)
    {
        return Err(value("acme.email", email, "use an address such as ops@example.com"));
    }
    if let Some(hook) = file.dns_hook.as_ref().filter(|hook| !hook.is_absolute()) {
        return Err(value(
            "acme.dns_hook",
            &hook.display().to_string(),
            "use the absolute path of a program",
        ));
    }
    Ok(Some(AcmeSettings {
        directory,
        email: file.email,
        ca_file: file.ca_file,
        challenges: challenges(file.challenges)?,
        dns_hook: file.dns_hook,
        external: external(file.eab_key_id, file.eab_key_file)?,
    }))
}

fn is_address(text: &str) -> bool {
    let parts = text.split_once('@');
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>,;?&".contains(&byte));
    plain && parts.is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
}

fn challenges(given: Option<Vec<String>>) -> Result<Vec<ChallengeKind>, SettingsError> {
    let Some(names) = given else { return Ok(vec![ChallengeKind::Http01, ChallengeKind::TlsAlpn01]) };
    let expected = "use http-01, tls-alpn-01 and dns-01";
    if names.is_empty() {
        return Err(value("acme.challenges", "[]", expected));
    }
    let kind = |name: &String| match name.as_str() {
        "http-01" => Ok(ChallengeKind::Http01),
        "tls-alpn-01" => Ok(ChallengeKind::TlsAlpn01),
        "dns-01" => Ok(ChallengeKind::Dns01),
        other => Err(value("acme.challenges", other, expected)),
    };
    names.iter().map(kind).collect()
}

fn external(id: Option<String>, file: Option<PathBuf>) -> Result<Option<External>, SettingsError> {
    let (id, path) = match (id, file) {
        (None, None) => return Ok(None),
        (Some(id), Some(path)) => (id, path),
        (Some(id), None) => return Err(value("acme.eab_key_id", &id, "eab_key_file belongs to it")),
        (None, Some(path)) => {
            return Err(value("acme.eab_key_file", &path.display().to_string(), "eab_key_id belongs to it"));
        }
    };
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(&path)
        .map_err(|error| value("acme.eab_key_file", &shown, format!("it can't be read ({error})")))?;
    let key = base64url(text.trim())
        .ok_or_else(|| value("acme.eab_key_file", &shown, "it must have the key in base64url"))?;
    Ok(Some(External { id, key }))
}

/// Base64 with `-` and `_`, padded or not.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn acme(text: &str) -> Result<Option<AcmeSettings>, String> {
        resolve(toml::from_str(text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_ordered_until_somebody_agrees() {
        assert_eq!(acme("").unwrap(), None);
        let settings = acme("email = 'ops@example.com'").unwrap().unwrap();
        assert_eq!(settings.directory, LETS_ENCRYPT);
        assert!(!settings.is_staging());
        assert!(acme("directory = 'letsencrypt-staging'").unwrap().unwrap().is_staging());
        assert_eq!(
            acme("directory = 'https://ca.example/dir'").unwrap().unwrap().directory,
            "https://ca.example/dir"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let bad = [
            "directory = 'http://ca.example/dir'",
            "directory = 'lets-encrypt'",
            "email = 'ops'",
            "email = 'a@b.c?x=y'",
            "email = 'a@b.c'\nchallenges = ['dns']",
            "email = 'a@b.c'\nchallenges = []",
            "email = 'a@b.c'\ndns_hook = 'hook.sh'",
            "email = 'a@b.c'\neab_key_id = 'x'",
            "email = 'a@b.c'\neab_key_file = '/nonexistent'",
            "email = 'a@b.c'\neab_key_id = 'x'\neab_key_file = '/nonexistent'",
            "email = 'a@b.c'\neab_key_id = 'x'\neab_key_file = '/dev/null'",
        ];
        insta::assert_snapshot!(bad.map(|text| acme(text).unwrap_err()).join("\n"));
    }

    #[test]
    fn keys_are_read_as_authorities_show_them() {
        assert_eq!(base64url("aGVsbG8").unwrap(), b"hello");
        assert_eq!(base64url("aGVsbG8=").unwrap(), b"hello");
        assert_eq!(base64url("-_8").unwrap(), [0xfb, 0xff]);
        assert_eq!(base64url("a b"), None);
        assert_eq!(base64url(""), None);
    }
}
