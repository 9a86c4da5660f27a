//! Which base images a release was built on.

use serde::{Deserialize, Serialize};

/// What all bases of ours are called.
const OURS: &str = "paas/base-";

/// What images of certificates are called: builds use them, and no app stands on them.
pub const CERTIFICATES: &str = "paas/base-certificates:";

/// The same for what makes a Debian take Dockerfiles that are written for Alpine.
pub const ALPINE: &str = "paas/base-alpine:";

/// Whether builds take something from an image of this name, and nothing stands on it.
pub fn is_aid(name: &str) -> bool {
    name.starts_with(CERTIFICATES) || name.starts_with(ALPINE)
}

/// One base image, exactly: what the same recipe gives a month later is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasePin {
    /// Its recipe, `paas/base-python:3.11-1f0c9a…`, or the official image that it
    /// is, `golang:1.27-bookworm`.
    pub name: String,
    /// The engine's name of exactly this one.
    pub reference: String,
    /// The engine's id of it, `sha256:…`; empty where only BuildKit saw it.
    pub image_id: String,
    /// The registry's digest of it, or of the official image that it stands on.
    #[serde(default)]
    pub digest: Option<String>,
    /// When it was made or pulled: seconds since the epoch, UTC.
    pub made_at: i64,
}

impl BasePin {
    /// Name and version for people, `python 3.11`: what stays the same when the
    /// recipe changes.
    pub fn title(&self) -> String {
        title(&self.name)
    }
}

/// The same for the name of a recipe.
pub fn title(name: &str) -> String {
    let Some(ours) = name.strip_prefix(OURS) else { return name.replacen(':', " ", 1) };
    let (image, tag) = ours.split_once(':').unwrap_or((ours, ""));
    match tag.rsplit_once('-') {
        Some((version, _)) => format!("{image} {version}"),
        None => image.to_owned(),
    }
}

/// Our own name for an official image of this digest, so that a build finds it
/// without asking a registry: `paas/base-golang:1.27-bookworm-1f0c9a2b3c4d`.
pub fn local_name(image: &str, digest: &str) -> String {
    let (path, tag) = match image.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (image, "latest"),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '-' };
    let path: String = path.chars().map(plain).collect();
    let hex = digest.rsplit(':').next().unwrap_or_default();
    format!("{OURS}{}:{tag}-{}", path.to_ascii_lowercase(), &hex[..hex.len().min(12)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_has_a_title_for_people() {
        for (name, expected) in [
            ("paas/base-python-build:3.11-1f0c9a2b3c4d", "python-build 3.11"),
            ("paas/base-node:20.11.1-1f0c9a2b3c4d", "node 20.11.1"),
            ("paas/base-certificates:66848390d4bd", "certificates"),
            ("golang:1.27-bookworm", "golang 1.27-bookworm"),
        ] {
            assert_eq!(title(name), expected);
        }
    }

    #[test]
    fn an_official_image_gets_a_name_of_ours_by_its_digest() {
        let digest = "sha256:1f0c9a2b3c4d5e6f";
        for (image, expected) in [
            ("golang:1.27-bookworm", "paas/base-golang:1.27-bookworm-1f0c9a2b3c4d"),
            ("ghcr.io/Org/tool", "paas/base-ghcr.io-org-tool:latest-1f0c9a2b3c4d"),
            ("localhost:5000/a/b:2", "paas/base-localhost-5000-a-b:2-1f0c9a2b3c4d"),
        ] {
            assert_eq!(local_name(image, digest), expected);
        }
    }
}
