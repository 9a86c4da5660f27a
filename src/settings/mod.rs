//! The sole reader of environment and config file.

mod acme;
mod environment;
mod file;
mod load;
mod place;

pub use acme::{AcmeSettings, ChallengeKind, External};
pub use environment::{
    HookVariables, engine_sockets, flags_from_environment, hook_variables, host_ca_bundle, local_socket,
    notify_socket, proxy_environment,
};
#[cfg(debug_assertions)]
pub use environment::{clock_ahead, stop_at};
pub use load::{DEFAULT_BUILDPACKS, Flags, Located, SettingsError, load};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::{BuildLimits, HostName, ImageSource, Limits, Size};

/// Which source of base images to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageSourceChoice {
    /// Registry if one answers, else Debian; found out once.
    Auto,
    /// This one.
    Only(ImageSource),
}

/// How log lines of the server itself look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON document a line.
    Json,
}

/// How long app logs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Age; zero stores nothing and reads the engine's log instead.
    pub keep: Duration,
    /// Bytes per app; the oldest go first.
    pub max_bytes: u64,
    /// Lines about requests, per app and second; of errors as many besides.
    pub requests: u32,
}

/// Where the key of the config vars is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// A file of ours, made on first start.
    File(PathBuf),
    /// A credential that systemd hands over (`LoadCredential=secrets.key:…`).
    Credential(PathBuf),
}

impl KeyPlace {
    /// The file.
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::File(path) | Self::Credential(path) => path,
        }
    }
}

/// What reaches builds and never an image's environment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BuildSettings {
    /// PEM bundle of trusted certificates; by default the host's own, so that a
    /// company's certificate that the host trusts is trusted by builds.
    pub ca_bundle: Option<Vec<u8>>,
    /// Predeclared build arguments: `http_proxy`, `https_proxy`, `no_proxy`,
    /// `PIP_INDEX_URL`, `UV_INDEX_URL`, `npm_config_registry`, `GOPROXY`,
    /// `GOSUMDB`, `BUNDLE_MIRROR__ALL`. May hold credentials.
    pub args: BTreeMap<String, String>,
    /// Debian's package mirror, `http://deb.debian.org/debian`.
    pub debian_mirror: String,
    /// Whether builds are kept from the host's ports.
    pub isolate: bool,
    /// Seconds until a build is given up.
    pub timeout: Duration,
    /// Seconds without any sign of life until it is given up; zero: never.
    pub silence: Duration,
    /// How many run side by side.
    pub parallel: usize,
    /// What all of them together may take of the host.
    pub limits: BuildLimits,
    /// Bytes that BuildKit's cache may have; `None`: any number.
    pub cache: Option<u64>,
    /// What must be free on the disks before a build.
    pub least_free: LeastFree,
}

/// What must be free on a disk before a build is begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LeastFree {
    /// A twentieth of it, at most 1 GiB.
    #[default]
    Auto,
    /// So many bytes.
    Bytes(u64),
}

/// Everything that can be set, checked.
#[derive(Clone)]
pub struct Settings {
    /// `/var/lib/paas`.
    pub data_dir: PathBuf,
    /// SSH.
    pub ssh_listen: SocketAddr,
    /// HTTP.
    pub http_listen: SocketAddr,
    /// HTTPS; `None`: off.
    pub https_listen: Option<SocketAddr>,
    /// Where certificates are ordered; `None`: nowhere.
    pub acme: Option<AcmeSettings>,
    /// Reserved for the API and the dashboard.
    pub api_listen: SocketAddr,
    /// Where monitoring reads the proxy's numbers; `None`: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Apps are `<name>.<domain>`.
    pub domain: HostName,
    /// Engine URL, from the setting or `DOCKER_HOST`; `None`: looked for.
    pub engine: Option<String>,
    /// Base images.
    pub image_source: ImageSourceChoice,
    /// The server's own log.
    pub log_format: LogFormat,
    /// Stable loopback ports of apps.
    pub port_range: RangeInclusive<u16>,
    /// App networks are /26 subnets of this.
    pub network_range: ipnet::Ipv4Net,
    /// App logs.
    pub logs: LogSettings,
    /// Builds.
    pub build: BuildSettings,
    /// What may build an app: `dockerfile` and buildpacks; `None`: everything.
    pub allow: Option<Vec<String>>,
    /// The administrator's own buildpacks.
    pub buildpacks: PathBuf,
    /// Each container's limits, unless its app says otherwise.
    pub limits: Limits,
    /// What an app may say at most.
    pub most: Size,
    /// How long a release is watched after it went live, unless its app says otherwise.
    pub watch: Duration,
    /// What can be rolled back to.
    pub retention: Retention,
    /// How long the audit trail is kept.
    pub audit_keep: Duration,
    /// Private networks that webhooks may reach.
    pub webhooks_allow: Vec<ipnet::IpNet>,
    /// What is in front of the proxy.
    pub front: Front,
    /// The settings file, for other processes of ours that need it.
    pub file: Option<PathBuf>,
}

/// Load balancers and their kin in front of the proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Front {
    /// Whose word on where requests come from is believed.
    pub trusted: Vec<ipnet::IpNet>,
    /// Whether they begin each connection with the PROXY protocol.
    pub protocol: bool,
}

/// Which images of former releases are kept: those of the last ones, and those
/// that served until not long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Releases, besides the current one.
    pub releases: usize,
    /// Since they stopped serving.
    pub time: Duration,
}

impl Settings {
    /// Where sockets live: `/run/paas` for the system's own server, else the data
    /// directory itself, so that two servers on a machine never meet.
    pub fn run_dir_of(data_dir: &std::path::Path) -> PathBuf {
        if data_dir == std::path::Path::new("/var/lib/paas") {
            PathBuf::from("/run/paas")
        } else {
            data_dir.to_owned()
        }
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        Self::run_dir_of(&self.data_dir).join("paas.sock")
    }

    /// The socket that proxies connect to.
    pub fn proxy_socket(&self) -> PathBuf {
        Self::run_dir_of(&self.data_dir).join("proxy.sock")
    }

    /// Where the proxy keeps what is its own: beside the system's own data
    /// directory, which its user may not enter; else in the data directory.
    pub fn proxy_dir(&self) -> PathBuf {
        let system = self.data_dir == std::path::Path::new("/var/lib/paas");
        if system { PathBuf::from("/var/lib/paas-proxy") } else { self.data_dir.clone() }
    }

    /// The lock that a running proxy holds; its text is the proxy's pid.
    pub fn proxy_lock(&self) -> PathBuf {
        self.proxy_dir().join("proxy.lock")
    }

    /// Where a new proxy asks the one that runs to hand over.
    pub fn proxy_handover(&self) -> PathBuf {
        self.proxy_dir().join("proxy.handover")
    }

    /// Has the pid of the proxy that a server has started, so that the next one
    /// knows it for its own.
    pub fn proxy_mark(&self) -> PathBuf {
        self.data_dir.join("proxy.ours")
    }

    /// The proxy's last route table.
    pub fn route_snapshot(&self) -> PathBuf {
        self.proxy_dir().join("routes.snapshot")
    }

    /// The proxy's last certificates.
    pub fn certificate_snapshot(&self) -> PathBuf {
        self.proxy_dir().join("certificates.snapshot")
    }

    /// The key of the config vars.
    pub fn secrets_key(&self) -> KeyPlace {
        let name = "secrets.key";
        let credential =
            environment::credentials().map(|directory| directory.join(name)).filter(|path| path.exists());
        credential.map_or_else(|| KeyPlace::File(self.data_dir.join(name)), KeyPlace::Credential)
    }

    /// Bare repositories, by app number.
    pub fn repositories(&self) -> PathBuf {
        self.data_dir.join("repos")
    }
}
