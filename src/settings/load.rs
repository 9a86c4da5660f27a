//! Flags, `PAAS_…` variables, the file and the defaults, in that order.

use super::environment::{BUILD_VARIABLES, host_ca_bundle, variable};
use super::file::File;
use super::place::{nearest, placed};
use super::{
    BuildSettings, Front, ImageSourceChoice, LeastFree, LogFormat, LogSettings, Retention, Settings,
};
use crate::model::{BuildLimits, Cpu, HostName, ImageSource, Limits, Memory, Size};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The settings' flags, shared by `serve` and (in part) by local commands.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Settings file [default: /etc/paas/server.toml, if it is there]
    #[arg(long, env = "PAAS_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Where state, repositories and logs are kept [default: /var/lib/paas]
    #[arg(long, env = "PAAS_DATA_DIR", value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Address of the SSH server [default: 127.0.0.1:2222]
    #[arg(long, env = "PAAS_SSH_LISTEN", value_name = "ADDR")]
    pub ssh_listen: Option<SocketAddr>,
    /// Address of the HTTP proxy [default: 127.0.0.1:8080]
    #[arg(long, env = "PAAS_HTTP_LISTEN", value_name = "ADDR")]
    pub http_listen: Option<SocketAddr>,
    /// Address of the HTTPS proxy [default: port 443 or 8443 beside HTTP's 80 or 8080]
    #[arg(long, env = "PAAS_HTTPS_LISTEN", value_name = "ADDR")]
    pub https_listen: Option<SocketAddr>,
    /// HTTPS: on or off [default: on]
    #[arg(long, env = "PAAS_TLS", value_name = "ON|OFF")]
    pub tls: Option<String>,
    /// Address of the API and dashboard (reserved) [default: 127.0.0.1:8090]
    #[arg(long, env = "PAAS_API_LISTEN", value_name = "ADDR")]
    pub api_listen: Option<SocketAddr>,
    /// Address where monitoring reads the proxy's metrics, such as 127.0.0.1:9100 [default: none]
    #[arg(long, env = "PAAS_METRICS_LISTEN", value_name = "ADDR")]
    pub metrics_listen: Option<SocketAddr>,
    /// Apps answer at <app>.<DOMAIN> [default: localhost]
    #[arg(long, env = "PAAS_DOMAIN", value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Docker engine, such as unix:///var/run/docker.sock [default: DOCKER_HOST, else found]
    #[arg(long, env = "PAAS_ENGINE", value_name = "URL")]
    pub engine: Option<String>,
    /// Where base images come from: auto, registry or debian [default: auto]
    #[arg(long, env = "PAAS_IMAGE_SOURCE", value_name = "SOURCE")]
    pub image_source: Option<String>,
    /// The server's own log: text or json [default: text]
    #[arg(long, env = "PAAS_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// Settings, and where they came from.
pub struct Located {
    /// The checked settings.
    pub settings: Settings,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

/// What was wrong with a setting.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error("cannot read {}: {reason}; check the path given by --config", path.display())]
    Unreadable {
        /// The settings file.
        path: PathBuf,
        /// The system's words.
        reason: std::io::Error,
    },
    /// The file is no such TOML.
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        /// The settings file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What was expected.
        reason: String,
    },
    /// A value is not of its form.
    #[error("{}{name} = {value:?} is not valid: {expected}", place.as_deref().unwrap_or_default())]
    Value {
        /// File and line, if it is there: `server.toml:3: `.
        place: Option<String>,
        /// The setting.
        name: &'static str,
        /// What was given.
        value: String,
        /// What would be.
        expected: String,
    },
}

const DEFAULT_FILE: &str = "/etc/paas/server.toml";
const DAY: u64 = 24 * 60 * 60;

/// Most of BuildKit's cache, unless it is set.
const CACHE_MIB: u32 = 20 << 10;

/// Reads everything there is and checks it.
pub fn load(flags: &Flags) -> Result<Located, SettingsError> {
    let path = flags.config.clone().or_else(|| {
        let default = PathBuf::from(DEFAULT_FILE);
        default.exists().then_some(default)
    });
    let settings = match &path {
        Some(path) => {
            let text = read_file(path)?;
            resolve(flags, parse_file(path, &text)?).map_err(|error| placed(error, path, &text))?
        }
        None => resolve(flags, File::default())?,
    };
    if let Some(https) = settings.https_listen
        && https.port() != 0
        && [settings.ssh_listen, settings.http_listen].contains(&https)
    {
        let both = https.to_string();
        return Err(value("https_listen", &both, "SSH or HTTP has this address; give HTTPS another"));
    }
    if settings.ssh_listen == settings.http_listen && settings.ssh_listen.port() != 0 {
        let both = settings.ssh_listen.to_string();
        return Err(value("http_listen", &both, "SSH has this address; give HTTP another"));
    }
    Ok(Located { settings: Settings { file: path.clone(), ..settings }, file: path })
}

fn read_file(path: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path)
        .map_err(|reason| SettingsError::Unreadable { path: path.to_owned(), reason })
}

fn parse_file(path: &Path, text: &str) -> Result<File, SettingsError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let said = error.message().lines().next().unwrap_or_default();
        SettingsError::Syntax { path: path.to_owned(), line, reason: nearest(said) }
    })
}

fn address(given: Option<SocketAddr>, file: Option<SocketAddr>, port: u16) -> SocketAddr {
    given.or(file).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Beside the well-known ports of HTTP, HTTPS has its own; beside any other it is
/// off until it is given an address.
fn https_listen(
    given: Option<SocketAddr>,
    tls: Option<&str>,
    http: SocketAddr,
) -> Result<Option<SocketAddr>, SettingsError> {
    let port = match http.port() {
        80 => Some(443),
        8080 => Some(8443),
        _ => None,
    };
    match tls {
        None | Some("on") => Ok(given.or_else(|| port.map(|port| SocketAddr::new(http.ip(), port)))),
        Some("off") => Ok(None),
        Some(other) => Err(value("tls", other, "use on or off")),
    }
}

/// An address of this machine alone, unless it is said that others may read too: names
/// of apps and what they have to do are nobody else's business.
fn metrics_listen(
    address: Option<SocketAddr>,
    public: Option<bool>,
) -> Result<Option<SocketAddr>, SettingsError> {
    match address {
        Some(address) if !address.ip().is_loopback() && public != Some(true) => {
            let expected =
                "others can reach it; use 127.0.0.1, or say metrics_public = true in the settings file";
            Err(value("metrics_listen", &address.to_string(), expected))
        }
        address => Ok(address),
    }
}

fn resolve(flags: &Flags, file: File) -> Result<Settings, SettingsError> {
    let domain = flags.domain.clone().or(file.domain).unwrap_or_else(|| "localhost".to_owned());
    let http_listen = address(flags.http_listen, file.http_listen, 8080);
    let tls = flags.tls.as_deref().or(file.tls.as_deref());
    let apps = network_range(file.network_range.as_deref())?;
    Ok(Settings {
        acme: super::acme::resolve(file.acme)?,
        data_dir: absolute(flags.data_dir.clone().or(file.data_dir)),
        ssh_listen: address(flags.ssh_listen, file.ssh_listen, 2222),
        http_listen,
        https_listen: https_listen(flags.https_listen.or(file.https_listen), tls, http_listen)?,
        api_listen: address(flags.api_listen, file.api_listen, 8090),
        metrics_listen: metrics_listen(flags.metrics_listen.or(file.metrics_listen), file.metrics_public)?,
        domain: HostName::parse(&domain.to_ascii_lowercase())
            .map_err(|_| value("domain", &domain, "use a host name such as example.com"))?,
        engine: flags.engine.clone().or(file.engine).or_else(|| variable("DOCKER_HOST")),
        image_source: image_source(flags.image_source.as_deref().or(file.image_source.as_deref()))?,
        log_format: log_format(flags.log_format.as_deref().or(file.log_format.as_deref()))?,
        port_range: port_range(file.port_range.as_deref())?,
        network_range: apps,
        logs: log_settings(&file.logs)?,
        build: build_settings(file.build)?,
        allow: allow(file.builds.allow)?,
        buildpacks: file.buildpacks.unwrap_or_else(|| PathBuf::from(DEFAULT_BUILDPACKS)),
        limits: limits(&file.limits)?,
        most: most(&file.limits)?,
        watch: watch(&file.deploy)?,
        retention: retention(&file.releases)?,
        audit_keep: audit_keep(&file.audit)?,
        webhooks_allow: webhooks_allow(&file.webhooks)?,
        front: front(&file.proxy, apps)?,
        file: None,
    })
}

fn allow(given: Option<Vec<String>>) -> Result<Option<Vec<String>>, SettingsError> {
    match given {
        Some(names) if names.is_empty() => Err(value(
            "builds.allow",
            "[]",
            "name what may build an app, such as dockerfile; or leave it out",
        )),
        given => Ok(given),
    }
}

/// Where the administrator's buildpacks are looked for, by `paas detect` too.
pub const DEFAULT_BUILDPACKS: &str = "/etc/paas/buildpacks";

fn absolute(data_dir: Option<PathBuf>) -> PathBuf {
    let path = data_dir.unwrap_or_else(|| PathBuf::from("/var/lib/paas"));
    std::path::absolute(&path).unwrap_or(path)
}

pub(super) fn value(name: &'static str, value: &str, expected: impl Into<String>) -> SettingsError {
    SettingsError::Value { place: None, name, value: value.to_owned(), expected: expected.into() }
}

fn image_source(text: Option<&str>) -> Result<ImageSourceChoice, SettingsError> {
    match text {
        None | Some("auto") => Ok(ImageSourceChoice::Auto),
        Some("registry") => Ok(ImageSourceChoice::Only(ImageSource::Registry)),
        Some("debian") => Ok(ImageSourceChoice::Only(ImageSource::Debian)),
        Some(other) => Err(value("image_source", other, "use auto, registry or debian")),
    }
}

fn log_format(text: Option<&str>) -> Result<LogFormat, SettingsError> {
    match text {
        None | Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => Err(value("log_format", other, "use text or json")),
    }
}

/// Below Linux's ephemeral ports (32768), so that no outgoing connection holds one.
const DEFAULT_PORTS: RangeInclusive<u16> = 10_000..=29_999;

fn port_range(text: Option<&str>) -> Result<RangeInclusive<u16>, SettingsError> {
    let Some(text) = text else { return Ok(DEFAULT_PORTS) };
    let parsed = text.split_once('-').and_then(|(first, last)| {
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first >= 1 && first <= last).then_some(first..=last)
    });
    parsed.ok_or_else(|| value("port_range", text, "use two ports, such as 8001-8100"))
}

fn network_range(text: Option<&str>) -> Result<ipnet::Ipv4Net, SettingsError> {
    let text = text.unwrap_or("10.210.0.0/16");
    let range = text.parse::<ipnet::Ipv4Net>().ok().filter(|net| (8..=24).contains(&net.prefix_len()));
    range
        .map(|net| net.trunc())
        .ok_or_else(|| value("network_range", text, "use an IPv4 network between /8 and /24"))
}

/// Reads `14d`, `12h`, `30m`, `45s` and `0`.
fn duration(name: &'static str, text: &str) -> Result<Duration, SettingsError> {
    let (digits, unit) = text.split_at(text.len() - usize::from(text.ends_with(['d', 'h', 'm', 's'])));
    let factor = match unit {
        "d" => DAY,
        "h" => 3600,
        "m" => 60,
        _ => 1,
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    seconds
        .filter(|&seconds| seconds == 0 || !unit.is_empty())
        .map(Duration::from_secs)
        .ok_or_else(|| value(name, text, "use a number and d, h, m or s, such as 14d; or 0"))
}

fn log_settings(file: &super::file::Logs) -> Result<LogSettings, SettingsError> {
    let keep = duration("logs.keep", file.keep.as_deref().unwrap_or("14d"))?;
    let max_bytes = file.max_mib.unwrap_or(256).saturating_mul(1 << 20);
    Ok(LogSettings { keep, max_bytes, requests: file.requests.unwrap_or(50) })
}

/// The longest watch: meanwhile two releases take memory.
const LONGEST_WATCH: Duration = Duration::from_secs(3600);

fn watch(file: &super::file::Deploy) -> Result<Duration, SettingsError> {
    let text = file.watch.as_deref().unwrap_or("60s");
    let watch = duration("deploy.watch", text)?;
    let fits = watch <= LONGEST_WATCH;
    fits.then_some(watch).ok_or_else(|| value("deploy.watch", text, "use at most 1h; 0 for none"))
}

/// Load balancers and their kin, as networks or single addresses. No app is one: it
/// could say of others where their requests come from.
fn front(file: &super::file::Proxy, apps: ipnet::Ipv4Net) -> Result<Front, SettingsError> {
    let net = |text: &String| {
        let net = text.parse::<ipnet::IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(Into::into));
        net.map_err(|_| {
            value(
                "proxy.trusted",
                text,
                "use networks or addresses, such as [\"192.0.2.0/28\", \"2001:db8::1\"]",
            )
        })
    };
    let trusted = file.trusted.iter().flatten().map(net).collect::<Result<Vec<_>, _>>()?;
    let apps = ipnet::IpNet::from(apps);
    if let Some(wide) = trusted.iter().find(|net| net.contains(&apps) || apps.contains(*net)) {
        let expected = format!("apps have addresses in it ({apps}); name the load balancers alone");
        return Err(value("proxy.trusted", &wide.to_string(), expected));
    }
    let protocol = file.protocol.unwrap_or(false);
    if protocol && trusted.is_empty() {
        return Err(value("proxy.protocol", "true", "name those that speak it in proxy.trusted"));
    }
    Ok(Front { trusted, protocol })
}

fn retention(file: &super::file::Releases) -> Result<Retention, SettingsError> {
    let time = duration("releases.keep_time", file.keep_time.as_deref().unwrap_or("7d"))?;
    Ok(Retention { releases: usize::from(file.keep.unwrap_or(10)), time })
}

fn audit_keep(file: &super::file::Audit) -> Result<Duration, SettingsError> {
    let text = file.keep.as_deref().unwrap_or("365d");
    let keep = duration("audit.keep", text)?;
    let fits = keep >= Duration::from_secs(DAY);
    fits.then_some(keep).ok_or_else(|| value("audit.keep", text, "use at least 1d"))
}

fn webhooks_allow(file: &super::file::Webhooks) -> Result<Vec<ipnet::IpNet>, SettingsError> {
    let read = |text: &String| {
        let address = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from).ok();
        let refuse = || value("webhooks.allow", text, "use networks such as 10.1.0.0/16");
        text.parse().ok().or_else(address).ok_or_else(refuse)
    };
    file.allow.iter().flatten().map(read).collect()
}

fn build_settings(file: super::file::Build) -> Result<BuildSettings, SettingsError> {
    let mut args: BTreeMap<String, String> = BUILD_VARIABLES
        .iter()
        .filter_map(|name| variable(name).map(|value| ((*name).to_owned(), value)))
        .collect();
    args.extend(file.args.clone());
    if file.parallel == Some(0) {
        return Err(value("build.parallel", "0", "use at least 1"));
    }
    Ok(BuildSettings {
        parallel: file.parallel.map_or_else(cores, usize::from),
        limits: build_limits(&file)?,
        cache: Some(u64::from(file.cache_mib.unwrap_or(CACHE_MIB)) << 20).filter(|&bytes| bytes > 0),
        least_free: file.free_mib.map_or(LeastFree::Auto, |mib| LeastFree::Bytes(u64::from(mib) << 20)),
        isolate: file.isolate.unwrap_or(true),
        ca_bundle: ca_bundle(file.ca_bundle.as_deref())?,
        args,
        debian_mirror: file.debian_mirror.unwrap_or_else(|| "http://deb.debian.org/debian".to_owned()),
        timeout: duration("build.timeout", file.timeout.as_deref().unwrap_or("30m"))?,
        silence: duration("build.silence", file.silence.as_deref().unwrap_or("20m"))?,
    })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// By default three quarters of the host's memory: the apps need the rest.
fn build_limits(file: &super::file::Build) -> Result<BuildLimits, SettingsError> {
    if let Some(mib) = file.memory_mib.filter(|&mib| mib < 64) {
        return Err(value("build.memory_mib", &mib.to_string(), "use at least 64"));
    }
    if let Some(pids) = file.pids.filter(|&pids| pids < 64) {
        return Err(value("build.pids", &pids.to_string(), "use at least 64"));
    }
    let memory = match file.memory_mib {
        Some(mib) => u64::from(mib) << 20,
        None => host_memory().map_or(4 << 30, |bytes| bytes / 4 * 3),
    };
    Ok(BuildLimits { memory, pids: file.pids.unwrap_or(4096) })
}

/// Bytes of memory of this host. <https://man7.org/linux/man-pages/man5/proc_meminfo.5.html>
fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn ca_bundle(given: Option<&str>) -> Result<Option<Vec<u8>>, SettingsError> {
    match given {
        Some("") => Ok(None),
        Some(path) => std::fs::read(path)
            .map(Some)
            .map_err(|error| value("build.ca_bundle", path, format!("cannot read it: {error}"))),
        None => Ok(std::fs::read(host_ca_bundle()).ok()),
    }
}

#[allow(clippy::cast_possible_truncation)] // 0.01 to 1024 CPUs fit
fn limits(file: &super::file::Limits) -> Result<Limits, SettingsError> {
    let default = Limits::default();
    let cpus = file.cpus.unwrap_or(1.0);
    if !(0.01..=1024.0).contains(&cpus) {
        return Err(value("limits.cpus", &cpus.to_string(), "use a number such as 0.5"));
    }
    if let Some(mib) = file.memory_mib.filter(|&mib| mib < 16) {
        return Err(value("limits.memory_mib", &mib.to_string(), "use at least 16"));
    }
    if let Some(pids) = file.pids.filter(|&pids| pids < 8) {
        return Err(value("limits.pids", &pids.to_string(), "use at least 8"));
    }
    Ok(Limits {
        memory: file.memory_mib.map_or(default.memory, |mib| i64::from(mib) << 20),
        nano_cpus: (cpus * 1e9) as i64,
        pids: file.pids.map_or(default.pids, i64::from),
        ..default
    })
}

/// By default an app may take what the host has.
fn most(file: &super::file::Limits) -> Result<Size, SettingsError> {
    let host = host_memory().and_then(|bytes| u32::try_from(bytes >> 20).ok()).unwrap_or(u32::MAX);
    if let Some(mib) = file.max_memory_mib.filter(|&mib| mib < 16) {
        return Err(value("limits.max_memory_mib", &mib.to_string(), "use at least 16"));
    }
    let memory = Memory(file.max_memory_mib.unwrap_or(host));
    let cpus = match file.max_cpus {
        None => Cpu(u32::try_from(cores()).unwrap_or(1024).saturating_mul(1000)),
        Some(cpus) => Cpu::parse(&cpus.to_string())
            .ok_or_else(|| value("limits.max_cpus", &cpus.to_string(), format!("use {}", Cpu::EXPECTED)))?,
    };
    Ok(Size { memory: Some(memory), cpu: Some(cpus) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(text: &str) -> String {
        let path = Path::new("server.toml");
        let parsed = parse_file(path, text)
            .and_then(|file| resolve(&Flags::default(), file).map_err(|error| placed(error, path, text)));
        parsed.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_would_be_right() {
        insta::assert_snapshot!(
            [
                "data_dri = \"/x\"",
                "[logs]\n\ncolour = \"red\"",
                "\n\nssh_listen = 22",
                "domain = \"a b\"",
                "image_source = \"hub\"",
                "log_format = \"xml\"",
                "port_range = \"9-8\"",
                "network_range = \"10.0.0.0/30\"",
                "[logs]\nkeep = \"14\"",
                "[limits]\ncpus = 0.0",
                "[deploy]\nwatch = \"2h\"",
                "[audit]\nkeep = \"1h\"",
                "[webhooks]\nallow = [\"intranet\"]",
                "[builds]\nallow = []",
                "[build]\nca_bundle = \"/nonexistent\"",
                "[build]\nparallel = 0",
                "[build]\nmemory_mib = 1",
                "[limits]\nmax_memory_mib = 1",
                "[limits]\nmax_cpus = 0.0",
                "[proxy]\ntrusted = [\"10.0.0.0/33\"]",
                "[proxy]\ntrusted = [\"10.0.0.0/8\"]",
                "[proxy]\nprotocol = true",
                "metrics_listen = \"0.0.0.0:9100\"",
            ]
            .map(refused)
            .join("\n")
        );
    }

    #[test]
    fn metrics_are_this_machines_alone_unless_it_is_said() {
        let read = |text: &str, flag: Option<&str>| {
            let flags = Flags { metrics_listen: flag.map(|flag| flag.parse().unwrap()), ..Flags::default() };
            let settings = resolve(&flags, parse_file(Path::new("f"), text).unwrap());
            settings.map(|settings| settings.metrics_listen.map(|address| address.to_string())).ok()
        };
        assert_eq!(read("", None), Some(None));
        assert_eq!(read("", Some("[::1]:9100")), Some(Some("[::1]:9100".to_owned())));
        assert_eq!(read("", Some("10.0.0.1:9100")), None);
        let public = "metrics_public = true\nmetrics_listen = \"10.0.0.1:9100\"";
        assert_eq!(read(public, None), Some(Some("10.0.0.1:9100".to_owned())));
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = parse_file(Path::new("f"), "domain = \"a.example\"\nport_range = \"8001-8100\"").unwrap();
        let flags = Flags { domain: Some("B.example".into()), ..Flags::default() };
        let settings = resolve(&flags, file).unwrap();
        assert_eq!(settings.domain.as_str(), "b.example");
        assert_eq!(settings.port_range, 8001..=8100);
        assert_eq!(settings.logs.keep, Duration::from_secs(14 * DAY));
    }
}
