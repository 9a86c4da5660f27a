//! What comes from the environment: here and nowhere else.

use super::load::Flags;
use std::path::{Path, PathBuf};

const HOST_CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Build settings that are taken from the server's environment when server.toml
/// says nothing: the usual variables of a company network.
pub(super) const BUILD_VARIABLES: [&str; 13] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "UV_INDEX_URL",
    "npm_config_registry",
    "GOPROXY",
    "GOSUMDB",
    "BUNDLE_MIRROR__ALL",
];

#[allow(clippy::disallowed_methods)] // here and nowhere else
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where systemd puts the credentials of its unit.
pub(super) fn credentials() -> Option<PathBuf> {
    variable("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// Where systemd wants to hear that we are ready.
pub fn notify_socket() -> Option<std::ffi::OsString> {
    variable("NOTIFY_SOCKET").map(Into::into)
}

/// What a proxy that takes over from us has to find in its environment.
pub fn proxy_environment() -> Vec<(&'static str, String)> {
    let names = [
        "PAAS_CONFIG",
        "PAAS_DATA_DIR",
        "PAAS_HTTP_LISTEN",
        "PAAS_HTTPS_LISTEN",
        "PAAS_TLS",
        "PAAS_METRICS_LISTEN",
        "PAAS_DOMAIN",
        "PAAS_LOG_FORMAT",
        "NOTIFY_SOCKET",
    ];
    names.into_iter().filter_map(|name| Some((name, variable(name)?))).collect()
}

/// Where a test wants the control plane to stop, as it says in the file that it
/// names; see `failpoint`.
#[cfg(debug_assertions)]
pub fn stop_at() -> Option<String> {
    std::fs::read_to_string(variable("PAAS_STOP_AT_FILE")?).ok()
}

/// Seconds that a test wants the state's clock to be ahead, as it says in the file
/// that it names; see `clock`.
#[cfg(debug_assertions)]
pub fn clock_ahead() -> i64 {
    static FILE: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let file = FILE.get_or_init(|| variable("PAAS_CLOCK_FILE")).as_ref();
    let text = file.and_then(|file| std::fs::read_to_string(file).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// What a hook finds in git's environment.
pub struct HookVariables {
    /// The push's one-time id.
    pub push: String,
    /// The control socket.
    pub socket: PathBuf,
    /// Where git keeps the pushed objects until the hook agrees; absolute.
    pub quarantine: Option<PathBuf>,
}

/// The variables of a hook; `None` if this is not one.
pub fn hook_variables() -> Option<HookVariables> {
    Some(HookVariables {
        push: variable("PAAS_PUSH")?,
        socket: variable("PAAS_SOCKET")?.into(),
        quarantine: variable("GIT_QUARANTINE_PATH").map(PathBuf::from),
    })
}

/// The flags of local commands as far as variables give them.
pub fn flags_from_environment() -> Flags {
    Flags {
        config: variable("PAAS_CONFIG").map(PathBuf::from),
        data_dir: variable("PAAS_DATA_DIR").map(PathBuf::from),
        ..Flags::default()
    }
}

/// Candidates for the engine's socket, most likely first.
pub fn engine_sockets() -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/var/run/docker.sock")];
    if let Some(runtime) = variable("XDG_RUNTIME_DIR") {
        paths.push(Path::new(&runtime).join("docker.sock"));
    }
    paths
}

/// The socket of the server that `data_dir` belongs to.
///
/// `/var/lib/paas` listens in `/run/paas`, any other directory inside itself.
pub fn local_socket(data_dir: &Path) -> PathBuf {
    super::Settings::run_dir_of(data_dir).join("paas.sock")
}

/// Authorities that this host trusts, as PEM.
pub fn host_ca_bundle() -> &'static Path {
    Path::new(HOST_CA_BUNDLE)
}
