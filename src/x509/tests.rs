#![allow(clippy::unwrap_used)]
use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};

/// 2026-06-01
const NOW: i64 = 1_780_272_000;

struct Made {
    root: String,
    middle: String,
    leaf: String,
    key: String,
    other: String,
}

fn params(name: &str, names: &[&str], ca: bool) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

fn make() -> Made {
    let key = || KeyPair::generate().unwrap();
    let root = CertifiedIssuer::self_signed(params("Root", &[], true), key()).unwrap();
    let middle = CertifiedIssuer::signed_by(params("Middle", &[], true), key(), &root).unwrap();
    let own = key();
    let issuer: &Issuer<'_, KeyPair> = &middle;
    let leaf = params("Leaf", &["shop.example", "*.shop.example"], false).signed_by(&own, issuer).unwrap();
    Made {
        root: root.pem(),
        middle: middle.pem(),
        leaf: leaf.pem(),
        key: own.serialize_pem(),
        other: key().serialize_pem(),
    }
}

#[test]
fn a_chain_and_its_key_are_read_in_any_order_of_the_two() {
    let Made { root, middle, leaf, key, .. } = make();
    let names = ["shop.example", "*.shop.example"].map(|name| Domain::parse(name).unwrap());
    for text in [
        format!("{leaf}{middle}{root}{key}"),
        format!("{key}\n# a comment\n{leaf}{middle}{root}").replace('\n', "\r\n"),
    ] {
        let read = read(&text, &[], NOW).unwrap();
        assert_eq!((&read.names[..], read.issuer.as_str()), (&names[..], "Middle"));
        assert_eq!(read.chain.matches("BEGIN CERTIFICATE").count(), 3);
        assert!(!read.chain.contains("PRIVATE"));
    }
    let roots = [CertificateDer::from_pem_slice(root.as_bytes()).unwrap()];
    assert!(read(&format!("{leaf}{middle}{key}"), &roots, NOW).is_ok());
}

#[test]
fn each_fault_is_one_line() {
    let Made { root, middle, leaf, key, other } = make();
    let alone = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let cut = leaf.replace("MII", "");
    let nameless = {
        let key = KeyPair::generate().unwrap();
        params("x", &[], false).self_signed(&key).unwrap().pem() + &key.serialize_pem()
    };
    let own = alone.cert.pem() + &alone.signing_key.serialize_pem();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let garbled = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let cases = [
        (String::new(), NOW),
        ("-----BEGIN ".repeat(2000), NOW),
        (key.clone(), NOW),
        (leaf.clone(), NOW),
        (format!("{leaf}{key}{other}"), NOW),
        (format!("{leaf}{encrypted}"), NOW),
        (format!("{leaf}{garbled}"), NOW),
        (format!("{cut}{key}"), NOW),
        (format!("{leaf}{middle}{root}{other}"), NOW),
        (format!("{middle}{leaf}{root}{key}"), NOW),
        (format!("{leaf}{root}{middle}{key}"), NOW),
        (format!("{leaf}{root}{key}"), NOW),
        (format!("{leaf}{key}"), NOW),
        (format!("{leaf}{middle}{key}"), NOW),
        (format!("{leaf}{middle}{root}{key}"), NOW + 365 * 86_400),
        (format!("{leaf}{middle}{root}{key}"), NOW - 365 * 86_400),
        (format!("{}{own}", alone.cert.pem().repeat(11)), NOW),
        (nameless, NOW),
    ];
    let said = cases.map(|(text, now)| read(&text, &[], now).unwrap_err().to_string());
    insta::assert_snapshot!(said.join("\n"));
    assert!(said.iter().all(|line| !line.contains('\n')));
    assert!(read(&own, &[], NOW).is_ok(), "one that vouches for itself is its own chain");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(-----(BEGIN|END) (CERTIFICATE|PRIVATE KEY)-----|[a-zA-Z0-9+/=\n-]{0,80}){0,12}") {
        let _ = read(&text, &[], NOW);
    }
}
