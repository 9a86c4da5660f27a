//! Start and stop of `paas serve`, in order.

use super::ServerError;
use super::door::PlatformDoor;
use super::proxy_process::{self, ProxyProcess};
use crate::control;
use crate::deploy::{Pipeline, Workers};
use crate::engine::{DockerEngine, EngineError};
use crate::frame;
use crate::logs::Logs;
use crate::model::ImageSource;
use crate::settings::{ImageSourceChoice, Settings};
use crate::ssh;
use crate::store::{self, Store};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

/// How long the engine may take to come up before we give up.
const ENGINE: Duration = Duration::from_secs(60);

/// How long a proxy may take to connect.
const PROXY: Duration = Duration::from_secs(10);

/// How soon a proxy that has died is missed.
const PROXY_WATCH: Duration = Duration::from_millis(100);

/// The hooks, as they stand in the repository of this program.
const HOOKS: [(&str, &str); 2] = [
    ("pre-receive", include_str!("../../hooks/pre-receive")),
    ("post-receive", include_str!("../../hooks/post-receive")),
];

/// Everything that `serve` holds open.
struct Opened {
    ssh: TcpListener,
    control: UnixListener,
    proxies: UnixListener,
    key: russh::keys::PrivateKey,
    store: Store,
    logs: Logs,
    _lock: File,
}

/// Checks everything that `serve` would need, and starts nothing.
pub async fn check_config(settings: &Settings) -> Result<(), ServerError> {
    check_git().await?;
    crate::buildpack::extend(&settings.buildpacks)?;
    DockerEngine::connect_among(settings.engine.as_deref(), &crate::settings::engine_sockets()).await?;
    let key = settings.data_dir.join("host_key");
    if key.exists() {
        ssh::host_key(&key)?;
    }
    let database = settings.data_dir.join("paas.db");
    if database.exists() {
        Store::check(&database, &settings.secrets_key())?;
    }
    let listens =
        [("SSH", "--ssh-listen", settings.ssh_listen), ("HTTP", "--http-listen", settings.http_listen)];
    let https = settings.https_listen.map(|address| ("HTTPS", "--https-listen", address));
    let metrics = settings.metrics_listen.map(|address| ("Metrics", "--metrics-listen", address));
    for (what, flag, address) in listens.into_iter().chain(https).chain(metrics) {
        drop(listen(what, flag, address).await?);
    }
    Ok(())
}

/// Runs the server until `stop`.
pub async fn serve(settings: Settings, stop: CancellationToken) -> Result<(), ServerError> {
    check_git().await?;
    for line in crate::buildpack::extend(&settings.buildpacks)? {
        tracing::info!("buildpack {line}");
    }
    let opened = open(&settings).await?;
    let engine = engine(&settings).await?;
    let source = image_source(&engine, &opened.store, settings.image_source).await?;
    let executable = crate::spawn::own_executable().map_err(|cause| ServerError::File {
        what: "find",
        path: "paas".into(),
        cause,
    })?;
    let Opened { ssh, control, proxies, key, store, logs, _lock } = opened;
    let hooks = settings.data_dir.join("hooks");
    let workers = Workers {
        store,
        engine: Arc::new(engine),
        logs,
        settings: settings.clone(),
        source,
        hooks,
        executable: executable.clone(),
    };
    let inner = CancellationToken::new();
    let pipeline = Pipeline::new(workers, inner.clone());
    pipeline.routes.seed(crate::proxy::last_table(&settings.route_snapshot()));
    let mut proxy = proxy_process::ensure(&settings, &executable)?;
    let entrances = Entrances { ssh, control, proxies, key };
    let result = run(&settings, &executable, &pipeline, &mut proxy, entrances, stop, &inner).await;
    inner.cancel();
    pipeline.close().await;
    if result.is_ok() || matches!(proxy, ProxyProcess::Started(_)) {
        proxy.stop(&settings).await;
    }
    let _ = std::fs::remove_file(settings.socket());
    let _ = std::fs::remove_file(settings.proxy_socket());
    result
}

/// Where people come in.
struct Entrances {
    ssh: TcpListener,
    control: UnixListener,
    proxies: UnixListener,
    key: russh::keys::PrivateKey,
}

async fn run(
    settings: &Settings,
    executable: &Path,
    pipeline: &Arc<Pipeline>,
    proxy: &mut ProxyProcess,
    entrances: Entrances,
    stop: CancellationToken,
    inner: &CancellationToken,
) -> Result<(), ServerError> {
    let Entrances { ssh: listener, control, proxies, key } = entrances;
    // Recovery publishes the routes first: a proxy that connects earlier would
    // be told of a state that is just being put in order.
    pipeline.recover().await?;
    pipeline.certify_localhost().await?;
    pipeline.publish_certificates().await?;
    let follows = control::Follows {
        routes: pipeline.routes.clone(),
        certificates: pipeline.certificates.clone(),
        access: pipeline.access_logs(),
    };
    tokio::spawn(control::serve_proxies(proxies, follows, inner.clone()));
    wait_for_proxy(settings, pipeline, proxy).await?;
    pipeline.background_work();
    let spill = settings.data_dir.join("tmp");
    let config = ssh::Config::new(key, spill);
    let door = Arc::new(PlatformDoor { pipeline: pipeline.clone() });
    let mut sessions = tokio::spawn(ssh::serve(listener, config, door, stop.clone()));
    // Until the sessions have ended: the hooks of their pushes come this way.
    tokio::spawn(control::serve_local(control, pipeline.clone(), inner.clone()));
    tracing::info!(ssh = %settings.ssh_listen, http = %settings.http_listen, "paas serves");
    loop {
        tokio::select! {
            ended = &mut sessions => return match ended {
                Ok(result) => Ok(result?),
                Err(error) => Err(ServerError::Proxy(error.to_string())),
            },
            // A look every 100 ms costs nothing while one is connected.
            () = tokio::time::sleep(PROXY_WATCH) => if !pipeline.routes.connected() {
                proxy.revive(settings, executable);
            },
        }
    }
}

async fn wait_for_proxy(
    settings: &Settings,
    pipeline: &Arc<Pipeline>,
    proxy: &mut ProxyProcess,
) -> Result<(), ServerError> {
    let begin = std::time::Instant::now();
    while !pipeline.routes.wait_connected(Duration::from_millis(50)).await {
        if let Some(status) = proxy.ended() {
            let log = std::fs::read_to_string(settings.data_dir.join("proxy.log")).unwrap_or_default();
            let last = log.lines().last().unwrap_or_default().to_owned();
            return Err(ServerError::Proxy(if last.is_empty() { status } else { last }));
        }
        if begin.elapsed() > PROXY {
            if matches!(proxy, ProxyProcess::Foreign) {
                tracing::warn!("no proxy has connected yet; deploys are refused until one does");
                return Ok(());
            }
            return Err(ServerError::Proxy("it did not connect within 10 s; see proxy.log".to_owned()));
        }
    }
    Ok(())
}

/// Opens files and sockets, cheapest and most telling first.
async fn open(settings: &Settings) -> Result<Opened, ServerError> {
    let data = &settings.data_dir;
    make_directory(data)?;
    make_directory(&Settings::run_dir_of(data))?;
    let lock = lock(data)?;
    for name in ["repos", "logs", "hooks", "tmp"] {
        make_directory(&data.join(name))?;
    }
    empty(&data.join("tmp"));
    write_hooks(&data.join("hooks"))?;
    let key = ssh::host_key(&data.join("host_key"))?;
    let store = Store::open(&data.join("paas.db"), &settings.secrets_key())?;
    let logs = Logs::open(&data.join("logs"), settings.logs)?;
    let ssh = listen("SSH", "--ssh-listen", settings.ssh_listen).await?;
    let control = socket(&settings.socket(), frame::listen)?;
    make_directory(&settings.proxy_dir())?;
    let proxies = socket(&settings.proxy_socket(), control::listen_for_proxies)?;
    Ok(Opened { ssh, control, proxies, key, store, logs, _lock: lock })
}

fn make_directory(path: &Path) -> Result<(), ServerError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|cause| ServerError::File {
        what: "make the directory",
        path: path.to_owned(),
        cause,
    })
}

/// Temporary files of a former life.
fn empty(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        // A debootstrap that was killed leaves this mounted.
        let _ = nix::mount::umount2(&path.join("proc"), nix::mount::MntFlags::MNT_DETACH);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(%error, "{} stays", path.display());
        }
    }
}

/// One server per data directory; the lock goes with the process.
fn lock(data: &Path) -> Result<File, ServerError> {
    let path = data.join("serve.lock");
    let failed = |cause| ServerError::File { what: "lock", path: path.clone(), cause };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::Taken(data.to_owned())),
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

fn write_hooks(directory: &Path) -> Result<(), ServerError> {
    for (name, text) in HOOKS {
        let path = directory.join(name);
        let write = || -> io::Result<()> {
            // Replaced as a whole: a push under way may be running the old one.
            let new = directory.join(format!(".{name}"));
            std::fs::write(&new, text)?;
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
            std::fs::rename(&new, &path)
        };
        write().map_err(|cause| ServerError::File { what: "write the hook", path: path.clone(), cause })?;
    }
    Ok(())
}

async fn listen(
    what: &'static str,
    flag: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|cause| ServerError::Listen { what, flag, address, cause })
}

fn socket(path: &Path, open: fn(&Path) -> io::Result<UnixListener>) -> Result<UnixListener, ServerError> {
    if path.as_os_str().len() > 107 {
        return Err(ServerError::LongPath(path.to_owned()));
    }
    open(path).map_err(|cause| ServerError::File {
        what: "open the socket",
        path: PathBuf::from(path),
        cause,
    })
}

async fn check_git() -> Result<(), ServerError> {
    let output = crate::spawn::git([std::ffi::OsStr::new("--version")]).output().await;
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(ServerError::Git(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ServerError::Git("it is not installed".to_owned()))
        }
        Err(error) => Err(ServerError::Git(error.to_string())),
    }
}

/// Connects to the engine. One that is not there yet may come (a reboot starts
/// everything at once); one that refuses us will not change its mind.
async fn engine(settings: &Settings) -> Result<DockerEngine, ServerError> {
    let begin = std::time::Instant::now();
    let candidates = crate::settings::engine_sockets();
    let mut said = false;
    loop {
        let error = match DockerEngine::connect_among(settings.engine.as_deref(), &candidates).await {
            Ok(engine) => return Ok(engine),
            Err(error) => error,
        };
        let may_come = matches!(error, EngineError::NotFound { .. } | EngineError::NoAnswer { .. });
        if !may_come || begin.elapsed() > ENGINE {
            return Err(error.into());
        }
        if !said {
            tracing::warn!(%error, "waiting for the container engine, up to {} s", ENGINE.as_secs());
            said = true;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// The image source; what `auto` found is kept, so that a short outage of the
/// registry does not change the bases of all apps.
async fn image_source(
    engine: &DockerEngine,
    store: &Store,
    choice: ImageSourceChoice,
) -> Result<ImageSource, ServerError> {
    let known = store.read(|db| store::facts::get(db, "image-source")).await?;
    let source = match (choice, known.as_deref()) {
        (ImageSourceChoice::Auto, Some("registry")) => ImageSource::Registry,
        (ImageSourceChoice::Auto, Some("debian")) => ImageSource::Debian,
        (choice, _) => engine.probe_source(choice).await,
    };
    let name = match source {
        ImageSource::Registry => "registry",
        ImageSource::Debian => "debian",
    };
    tracing::info!(source = name, "base images");
    if choice == ImageSourceChoice::Auto && known.as_deref() != Some(name) {
        store.write(move |db| store::facts::set(db, "image-source", name)).await?;
    }
    Ok(source)
}
