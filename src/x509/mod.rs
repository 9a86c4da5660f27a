//! Certificates that people bring, and that authorities issue: what is in them, and
//! whether clients will take them. No I/O.

mod fault;
#[cfg(test)]
mod tests;

pub use fault::CertificateFault;

use crate::model::{Domain, PrivateKeyPem};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Certificates in one chain.
const LONGEST: usize = 10;

/// A certificate with what vouches for it and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What it is for.
    pub names: Vec<Domain>,
    /// PEM: itself first, then its issuers in order.
    pub chain: String,
    /// Its key.
    pub key: PrivateKeyPem,
    /// From when on it counts, seconds since the epoch.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
    /// Who issued it, in the certificate's words.
    pub issuer: String,
    /// Whether one of those vouches for it whom clients trust.
    pub trusted: bool,
}

/// Reads a chain and a key, in any order of the two, and checks that clients will take
/// them now, if they trust one of `roots` or the chain's own last.
pub fn read(text: &str, roots: &[CertificateDer<'_>], now: i64) -> Result<Certificate, CertificateFault> {
    let (chain, key) = parts(text)?;
    let ders = chain.iter().enumerate().map(|(index, block)| {
        CertificateDer::from_pem_slice(block.as_bytes()).map_err(|_| CertificateFault::Unreadable(index + 1))
    });
    let ders = ders.collect::<Result<Vec<_>, _>>()?;
    let parsed = ders.iter().enumerate().map(|(index, der)| parse(der, index));
    let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
    expect_key(&ders, key)?;
    expect_order(&parsed)?;
    let trusted = is_vouched_for(&parsed, roots);
    if !trusted {
        expect_complete(&parsed)?;
    }
    parsed.iter().enumerate().try_for_each(|(index, one)| expect_valid(one, index, now))?;
    let leaf = &parsed[0];
    let names = names(leaf);
    if names.is_empty() {
        return Err(CertificateFault::NoNames);
    }
    Ok(Certificate {
        names,
        chain: chain.concat(),
        key: PrivateKeyPem::new(key.to_owned()),
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
        issuer: issuer(leaf),
        trusted,
    })
}

/// A chain as an authority has issued it, and the key that it was asked for with.
pub fn issued(chain: String, key: PrivateKeyPem) -> Result<Certificate, CertificateFault> {
    let first = CertificateDer::from_pem_slice(chain.as_bytes());
    let first = first.map_err(|_| CertificateFault::Unreadable(1))?;
    let leaf = parse(&first, 0)?;
    Ok(Certificate {
        names: names(&leaf),
        not_before: leaf.validity().not_before.timestamp(),
        not_after: leaf.validity().not_after.timestamp(),
        issuer: issuer(&leaf),
        trusted: true,
        chain,
        key,
    })
}

/// Until when a certificate counts, in seconds since the epoch; `None` if it is none.
pub fn until(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// A certificate that vouches for itself, for names of this machine.
pub fn selfmade(names: Vec<String>, until: i64) -> Result<Certificate, SelfmadeError> {
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "paas on this machine");
    let end = jiff::Timestamp::from_second(until).unwrap_or(jiff::Timestamp::MAX);
    let end = end.to_zoned(jiff::tz::TimeZone::UTC);
    let (month, day) = (end.month().unsigned_abs(), end.day().unsigned_abs());
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(end.year().into(), month, day);
    let key = rcgen::KeyPair::generate()?;
    let chain = params.self_signed(&key)?.pem();
    Ok(issued(chain, PrivateKeyPem::new(key.serialize_pem()))?)
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum SelfmadeError {
    /// No key.
    #[error(transparent)]
    Key(#[from] rcgen::Error),
    /// What was made is none.
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
}

/// The blocks of certificates, and that of the key.
fn parts(text: &str) -> Result<(Vec<String>, &str), CertificateFault> {
    let (mut chain, mut key) = (Vec::new(), None);
    for (label, block) in blocks(text) {
        match label {
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => chain.push(format!("{block}\n")),
            "ENCRYPTED PRIVATE KEY" => return Err(CertificateFault::Encrypted),
            _ if label.ends_with("PRIVATE KEY") && block.contains("ENCRYPTED") => {
                return Err(CertificateFault::Encrypted);
            }
            _ if label.ends_with("PRIVATE KEY") && key.is_some() => return Err(CertificateFault::TwoKeys),
            _ if label.ends_with("PRIVATE KEY") => key = Some(block),
            // EC PARAMETERS and the like.
            _ => {}
        }
    }
    match (chain.len(), key) {
        (0, _) => Err(CertificateFault::NoCertificate),
        (count, _) if count > LONGEST => Err(CertificateFault::TooMany(count)),
        (_, None) => Err(CertificateFault::NoKey),
        (_, Some(key)) => Ok((chain, key)),
    }
}

/// Label and text of each PEM block.
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find("-----BEGIN ")?;
        let block = &rest[start..];
        let label = block["-----BEGIN ".len()..].split_once("-----")?.0;
        let end = format!("-----END {label}-----");
        let length = block.find(&end)? + end.len();
        rest = &block[length..];
        Some((label, &block[..length]))
    })
}

fn parse<'a>(der: &'a CertificateDer<'_>, index: usize) -> Result<X509Certificate<'a>, CertificateFault> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateFault::Unreadable(index + 1)),
    }
}

fn matches(der: &CertificateDer<'_>, key: &PrivateKeyDer<'_>) -> Result<(), rustls::Error> {
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(vec![der.clone().into_owned()], key.clone_key(), &provider).map(drop)
}

/// The key is that of the first certificate.
fn expect_key(ders: &[CertificateDer<'_>], key: &str) -> Result<(), CertificateFault> {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| CertificateFault::UnreadableKey)?;
    match matches(&ders[0], &key) {
        Ok(()) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let place = ders.iter().position(|der| matches(der, &key).is_ok());
            Err(place.map_or(CertificateFault::OtherKey, |place| CertificateFault::NotFirst(place + 1)))
        }
        Err(_) => Err(CertificateFault::UnreadableKey),
    }
}

fn has_issued(issuer: &X509Certificate<'_>, one: &X509Certificate<'_>) -> bool {
    issuer.subject().as_raw() == one.issuer().as_raw()
        && one.verify_signature(Some(issuer.public_key())).is_ok()
}

/// Each was issued by the next.
fn expect_order(chain: &[X509Certificate<'_>]) -> Result<(), CertificateFault> {
    for (index, pair) in chain.windows(2).enumerate() {
        if !has_issued(&pair[1], &pair[0]) {
            let place = chain.iter().position(|other| has_issued(other, &pair[0]));
            let place = place.filter(|&place| place != index).map(|place| place + 1);
            return Err(CertificateFault::Order { after: index + 1, issuer: place });
        }
    }
    Ok(())
}

/// Somebody whom clients trust vouches for the last one, or it is one of these.
fn is_vouched_for(chain: &[X509Certificate<'_>], roots: &[CertificateDer<'_>]) -> bool {
    let Some(last) = chain.last() else { return false };
    let mut roots = roots.iter().filter_map(|root| parse(root, 0).ok());
    roots.any(|root| has_issued(&root, last))
}

/// The last one vouches for itself. Whoever brings it may have clients that know it.
fn expect_complete(chain: &[X509Certificate<'_>]) -> Result<(), CertificateFault> {
    let Some(last) = chain.last() else { return Err(CertificateFault::NoCertificate) };
    if has_issued(last, last) {
        return Ok(());
    }
    Err(CertificateFault::Incomplete { issuer: issuer(last) })
}

fn expect_valid(one: &X509Certificate<'_>, index: usize, now: i64) -> Result<(), CertificateFault> {
    let validity = one.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    if now > until {
        return Err(CertificateFault::Expired { place: index + 1, until });
    }
    if now < from {
        return Err(CertificateFault::NotYet { place: index + 1, from });
    }
    Ok(())
}

/// DNS names, as browsers read them: the subject's common name is none.
fn names(leaf: &X509Certificate<'_>) -> Vec<Domain> {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Domain::parse(&name.to_ascii_lowercase()).ok(),
        _ => None,
    });
    let mut seen = std::collections::BTreeSet::new();
    names.filter(|name| seen.insert(name.clone())).collect()
}

/// The issuer's common name or organisation, for people.
fn issuer(one: &X509Certificate<'_>) -> String {
    let name = one.issuer();
    let mut common = name.iter_common_name().chain(name.iter_organization());
    let text = common.find_map(|part| part.as_str().ok()).map_or_else(|| name.to_string(), str::to_owned);
    crate::output::tame(&text).chars().take(100).collect()
}
