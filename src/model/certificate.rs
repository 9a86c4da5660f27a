//! Certificates as the proxies get them, and what they answer while one is ordered.

use super::app::AppId;
use super::domain::Domain;
use super::name::HostName;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroize;

/// A private key as PEM. Overwritten in memory when dropped; `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKeyPem(String);

impl PrivateKeyPem {
    /// Takes PEM text, unread.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The PEM text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem")
    }
}

impl Drop for PrivateKeyPem {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A certificate with its key, and the names that it is shown for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedCertificate {
    /// Of the names that it was issued for those that its owner has.
    pub names: Vec<Domain>,
    /// PEM: the certificate itself, then those that vouch for it.
    pub chain: String,
    /// Its key.
    pub key: PrivateKeyPem,
    /// Whether it is shown for unknown names, too.
    #[serde(default)]
    pub fallback: bool,
    /// Whether clients trust it: plain requests are sent on to HTTPS by no other.
    #[serde(default)]
    pub trusted: bool,
}

/// All certificates; of two for one name the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateTable {
    /// Another with each change, over restarts too.
    pub version: u64,
    /// The certificates.
    pub certificates: Vec<ServedCertificate>,
}

/// What is to be answered to a certificate authority that asks whether a name is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenges {
    /// Another with each change.
    pub version: u64,
    /// By `/.well-known/acme-challenge/<token>`.
    pub http: Vec<HttpChallenge>,
    /// By a handshake for `acme-tls/1`.
    pub tls: Vec<TlsChallenge>,
}

/// HTTP-01 (RFC 8555, 8.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpChallenge {
    /// The name.
    pub host: HostName,
    /// Last part of the path.
    pub token: String,
    /// The body of the answer.
    pub answer: String,
}

/// TLS-ALPN-01 (RFC 8737).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsChallenge {
    /// The name.
    pub host: HostName,
    /// PEM: the certificate that has the answer in it.
    pub chain: String,
    /// Its key.
    pub key: PrivateKeyPem,
}

/// Where a certificate is from; the first is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateOrigin {
    /// Its user brought it.
    Own,
    /// It was ordered.
    Acme,
    /// It was made here, for names of this machine.
    Selfmade,
}

/// A certificate as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCertificate {
    /// Eight hex digits of ours.
    pub id: String,
    /// Whose; `None`: the server's, for all names that have no other.
    pub app: Option<AppId>,
    /// Where it is from.
    pub origin: CertificateOrigin,
    /// What it is for.
    pub names: Vec<Domain>,
    /// PEM.
    pub chain: String,
    /// Its key.
    pub key: PrivateKeyPem,
    /// Who issued it.
    pub issuer: String,
    /// Whether clients trust it, as far as we know.
    pub trusted: bool,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Likewise.
    pub not_after: i64,
    /// When it was stored.
    pub created_at: i64,
}
