//! What can be wrong with a certificate, in the words of whoever brings it.

use crate::model::Domain;

/// Why a certificate is not taken; each is one clear line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// No PEM block of a certificate.
    #[error("there is no certificate in it (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// More than any authority needs.
    #[error("there are {0} certificates in it; a chain has at most 10")]
    TooMany(usize),
    /// No PEM block of a key.
    #[error("there is no private key in it (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// Two keys.
    #[error("there is more than one private key in it")]
    TwoKeys,
    /// A passphrase protects the key.
    #[error("the private key is encrypted; without the passphrase: openssl pkey -in key.pem")]
    Encrypted,
    /// A certificate that does not read; from 1.
    #[error("certificate {0} can't be read")]
    Unreadable(usize),
    /// A key that does not read.
    #[error(
        "the private key can't be read or is of a kind that is not supported (RSA from 2048 bits, P-256, P-384 and Ed25519 are)"
    )]
    UnreadableKey,
    /// The key is that of none of them.
    #[error("the private key is another certificate's")]
    OtherKey,
    /// The key is that of a later one; from 1.
    #[error("the certificate of the private key is number {0}; it must be the first")]
    NotFirst(usize),
    /// One was not issued by the next; from 1, and where its issuer is.
    #[error("the chain is out of order: certificate {after} was not issued by the next{}", issuer.map_or(String::new(), |place| format!(" but by number {place}")))]
    Order {
        /// The certificate.
        after: usize,
        /// Its issuer's place.
        issuer: Option<usize>,
    },
    /// The chain ends before somebody who is trusted.
    #[error("the chain is not complete: the certificate of {issuer:?} is missing at its end")]
    Incomplete {
        /// Who is missing.
        issuer: String,
    },
    /// Over.
    #[error("certificate {place} has expired on {}", day(*until))]
    Expired {
        /// From 1.
        place: usize,
        /// When.
        until: i64,
    },
    /// Not begun.
    #[error("certificate {place} is not valid before {}", day(*from))]
    NotYet {
        /// From 1.
        place: usize,
        /// When.
        from: i64,
    },
    /// No DNS names.
    #[error("the certificate has no DNS names (subjectAltName)")]
    NoNames,
    /// None of the app's names.
    #[error("the certificate is for {}, and the app has none of these names: add them first (domains:add)", list(.0))]
    OtherNames(Vec<Domain>),
}

fn day(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn list(names: &[Domain]) -> String {
    let shown: Vec<String> = names.iter().take(5).map(ToString::to_string).collect();
    let more = if names.len() > 5 { " and others" } else { "" };
    shown.join(", ") + more
}
