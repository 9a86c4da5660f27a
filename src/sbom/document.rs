//! The document: CycloneDX 1.5 as JSON.
//! <https://cyclonedx.org/docs/1.5/json/>

use super::component::{Archive, Component, Hash, encoded};
use super::find::Bill;
use serde_json::{Map, Value, json};

/// What the document is about.
pub struct Subject<'a> {
    /// The app.
    pub app: &'a str,
    /// Its release's number.
    pub release: u32,
    /// What was built.
    pub commit: &'a str,
    /// The image's id.
    pub image: &'a str,
    /// Name and version of the language's runtime: `Python`, `3.11`.
    pub runtime: Option<(&'a str, &'a str)>,
    /// What the image is built on.
    pub bases: Vec<Base>,
    /// When the document is made: `2026-01-02T03:04:05Z`.
    pub made: &'a str,
    /// Its own number, random.
    pub serial: [u8; 16],
}

/// A base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `python:3.12-slim`, with its digest if that is known.
    pub reference: String,
    /// Whether it is a registry's.
    pub public: bool,
    /// Whether the app runs in it; else it only builds.
    pub runs: bool,
}

/// The whole document.
pub fn document(subject: &Subject<'_>, bill: &Bill) -> Value {
    let version = format!("v{}", subject.release);
    let mut components: Vec<Value> = Vec::new();
    if let Some((name, version)) = subject.runtime {
        components.push(json!({
            "type": "platform", "bom-ref": format!("runtime:{name}@{version}"), "name": name, "version": version,
        }));
    }
    components.extend(subject.bases.iter().map(base));
    components.extend(bill.components.iter().map(component));
    let mut properties = vec![property("paas:commit", subject.commit)];
    if !subject.image.is_empty() {
        properties.push(property("paas:image", subject.image));
    }
    properties.extend(bill.notes.iter().map(|note| property("paas:note", note)));
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": format!("urn:uuid:{}", uuid(subject.serial)),
        "version": 1,
        "metadata": {
            "timestamp": subject.made,
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{
                "type": "application", "name": "paas", "version": env!("CARGO_PKG_VERSION"),
            }]},
            "component": {
                "type": "application", "bom-ref": format!("{}@{version}", subject.app),
                "name": subject.app, "version": version,
            },
            "properties": properties,
        },
        "components": components,
    })
}

/// A random UUID (version 4).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn property(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

/// What only builds or develops is not there when the app runs.
fn scope(runs: bool) -> &'static str {
    if runs { "required" } else { "optional" }
}

fn base(base: &Base) -> Value {
    let (name, digest) =
        base.reference.split_once('@').map_or((base.reference.as_str(), None), |(n, d)| (n, Some(d)));
    let tagged = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let (name, tag) = tagged.map_or((name, None), |(name, tag)| (name, Some(tag)));
    let mut fields = Map::new();
    fields.insert("type".into(), "container".into());
    fields.insert("bom-ref".into(), format!("image:{}", base.reference).into());
    fields.insert("name".into(), name.into());
    if let Some(version) = tag.or(digest) {
        fields.insert("version".into(), version.into());
    }
    if base.public {
        let path: Vec<String> = name.split('/').map(encoded).collect();
        let version = digest.or(tag).map(|version| format!("@{}", encoded(version))).unwrap_or_default();
        fields.insert("purl".into(), format!("pkg:docker/{}{version}", path.join("/")).into());
    }
    fields.insert("scope".into(), scope(base.runs).into());
    Value::Object(fields)
}

fn component(component: &Component) -> Value {
    let purl = component.purl();
    let mut fields = Map::new();
    fields.insert("type".into(), "library".into());
    fields.insert("bom-ref".into(), purl.clone().into());
    let (group, name) = grouped(component);
    if let Some(group) = group {
        fields.insert("group".into(), group.into());
    }
    fields.insert("name".into(), name.into());
    if let Some(version) = &component.version {
        fields.insert("version".into(), version.clone().into());
    }
    fields.insert("purl".into(), purl.into());
    fields.insert("scope".into(), scope(!component.development).into());
    if !component.hashes.is_empty() {
        fields.insert("hashes".into(), component.hashes.iter().map(hash).collect());
    }
    if !component.licences.is_empty() {
        fields.insert("licenses".into(), component.licences.iter().map(|name| licence(name)).collect());
    }
    let repository = component.repository.iter().map(|url| json!({"type": "vcs", "url": url}));
    let places: Vec<Value> = repository.chain(component.archives.iter().map(archive)).collect();
    if !places.is_empty() {
        fields.insert("externalReferences".into(), places.into());
    }
    let mut properties = vec![property("paas:lock", &component.file)];
    properties.extend(component.asked.as_ref().map(|asked| property("paas:asked", asked)));
    fields.insert("properties".into(), properties.into());
    Value::Object(fields)
}

/// npm's scope and Composer's vendor are groups of names.
fn grouped(component: &Component) -> (Option<&str>, &str) {
    use super::Ecosystem::{Composer, Npm};
    match component.name.split_once('/') {
        Some((group, name)) if matches!(component.ecosystem, Npm | Composer) => (Some(group), name),
        _ => (None, &component.name),
    }
}

fn hash(hash: &Hash) -> Value {
    json!({"alg": hash.kind, "content": hash.digits})
}

/// A file of a package; where the lock tells no address, its name.
fn archive(archive: &Archive) -> Value {
    let mut fields = Map::new();
    fields.insert("type".into(), "distribution".into());
    let place = if archive.place.contains("://") { archive.place.clone() } else { encoded(&archive.place) };
    fields.insert("url".into(), place.into());
    if let Some(known) = &archive.hash {
        fields.insert("hashes".into(), json!([hash(known)]));
    }
    Value::Object(fields)
}

/// The identifiers of SPDX that most packages have; CycloneDX wants any other
/// words as a name.
const SPDX: [&str; 20] = [
    "0BSD",
    "AGPL-3.0-only",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BlueOak-1.0.0",
    "CC-BY-4.0",
    "CC0-1.0",
    "GPL-2.0-only",
    "GPL-3.0-only",
    "ISC",
    "LGPL-3.0-only",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "PSF-2.0",
    "Python-2.0",
    "Unlicense",
    "Zlib",
];

fn licence(name: &str) -> Value {
    let name = super::component::plain(name);
    if SPDX.contains(&name.as_str()) {
        return json!({"license": {"id": name}});
    }
    json!({"license": {"name": name}})
}

/// The same for people: rows of kind, name, version, what needs it, and file.
pub fn table(subject: &Subject<'_>, bill: &Bill) -> Vec<Vec<String>> {
    let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
    let runtime = subject.runtime.iter().map(|(name, version)| row(["runtime", name, version, "app", ""]));
    let bases = subject
        .bases
        .iter()
        .map(|base| row(["image", &base.reference, "", if base.runs { "app" } else { "build" }, ""]));
    let packages = bill.components.iter().map(|one| {
        let version = one.version.as_deref().unwrap_or("?");
        let needed_by = if one.development { "development" } else { "app" };
        row([one.ecosystem.purl_type(), &one.name, version, needed_by, &one.file])
    });
    runtime.chain(bases).chain(packages).collect()
}
