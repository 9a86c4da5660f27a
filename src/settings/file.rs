//! `server.toml`, exactly as it may be written.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The whole file. Every key may be left out; an unknown key is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub data_dir: Option<PathBuf>,
    pub ssh_listen: Option<SocketAddr>,
    pub http_listen: Option<SocketAddr>,
    pub https_listen: Option<SocketAddr>,
    /// `on`, `off`
    pub tls: Option<String>,
    pub api_listen: Option<SocketAddr>,
    pub metrics_listen: Option<SocketAddr>,
    /// Whether `metrics_listen` may be an address that others reach.
    pub metrics_public: Option<bool>,
    pub domain: Option<String>,
    pub engine: Option<String>,
    pub image_source: Option<String>,
    pub log_format: Option<String>,
    /// `8001-8100`
    pub port_range: Option<String>,
    /// `10.210.0.0/16`
    pub network_range: Option<String>,
    pub buildpacks: Option<PathBuf>,
    #[serde(default)]
    pub acme: Acme,
    #[serde(default)]
    pub logs: Logs,
    #[serde(default)]
    pub build: Build,
    #[serde(default)]
    pub builds: Builds,
    #[serde(default)]
    pub deploy: Deploy,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub releases: Releases,
    #[serde(default)]
    pub audit: Audit,
    #[serde(default)]
    pub webhooks: Webhooks,
    #[serde(default)]
    pub proxy: Proxy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audit {
    /// `365d`
    pub keep: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Webhooks {
    /// `["10.1.0.0/16"]`
    pub allow: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proxy {
    /// `["192.0.2.7"]`
    pub trusted: Option<Vec<String>>,
    /// Whether they speak the PROXY protocol.
    pub protocol: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acme {
    pub email: Option<String>,
    /// `letsencrypt`, `letsencrypt-staging`, or a URL.
    pub directory: Option<String>,
    pub ca_file: Option<PathBuf>,
    /// `["http-01", "tls-alpn-01"]`
    pub challenges: Option<Vec<String>>,
    pub dns_hook: Option<PathBuf>,
    pub eab_key_id: Option<String>,
    /// A file that has the key as the authority shows it, in base64url.
    pub eab_key_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Releases {
    /// How many images besides the current one.
    pub keep: Option<u16>,
    /// `7d`
    pub keep_time: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deploy {
    /// `60s`, `0`
    pub watch: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Logs {
    /// `14d`, `12h`, `0`
    pub keep: Option<String>,
    /// MiB per app.
    pub max_mib: Option<u64>,
    /// Lines about requests, per app and second.
    pub requests: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Build {
    /// PEM file; `""` for none.
    pub ca_bundle: Option<String>,
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    pub debian_mirror: Option<String>,
    /// `20m`
    pub timeout: Option<String>,
    /// `10m`
    pub silence: Option<String>,
    /// Builds side by side.
    pub parallel: Option<u16>,
    /// MiB for all builds together.
    pub memory_mib: Option<u32>,
    /// Processes of all builds together.
    pub pids: Option<u32>,
    /// MiB of BuildKit's cache; 0: any number.
    pub cache_mib: Option<u32>,
    /// Builds may not reach the host's ports.
    pub isolate: Option<bool>,
    /// MiB that must be free before a build; 0: none.
    pub free_mib: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Builds {
    /// `["dockerfile", "python"]`
    pub allow: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// MiB per container.
    pub memory_mib: Option<u32>,
    /// CPUs per container, `0.5`.
    pub cpus: Option<f64>,
    pub pids: Option<u32>,
    /// MiB that an app may give a process.
    pub max_memory_mib: Option<u32>,
    /// CPUs that an app may give a process.
    pub max_cpus: Option<f64>,
}
