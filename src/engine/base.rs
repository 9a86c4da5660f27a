//! Base images: pulled, bootstrapped from Debian's packages, or built.

use super::build::BuildRequest;
use super::error::EngineError;
use super::progress::BuildLine;
use super::Engine;
use crate::model::{BaseImage, Recipe};
use crate::settings::BuildSettings;
use bollard::query_parameters::CreateImageOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Name of a base's Dockerfile in its own context, beside `files`.
const DOCKERFILE: &str = ".paas/Dockerfile";

/// What an imported Debian lacks of an official image's configuration.
const IMPORT_CHANGES: [&str; 2] =
    ["ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "CMD [\"bash\"]"];

/// Parts of a bootstrapped tree that are this machine's or of no use, each with
/// whether the directory itself stays.
const LEFT_OUT: [(&str, bool); 9] = [
    ("dev", true),
    ("proc", true),
    ("sys", true),
    ("run", true),
    ("debootstrap", false),
    ("etc/resolv.conf", false),
    ("etc/hostname", false),
    ("var/cache/apt/archives", true),
    ("var/lib/apt/lists", true),
];

/// Lines of debootstrap that are kept for the error.
const TAIL: usize = 10;

/// How long debootstrap may take to unmount what it mounted once it is told to end.
const CLEAN_UP: Duration = Duration::from_secs(3);

impl Engine {
    /// Makes sure that the engine has this base, by its recipe if it lacks it;
    /// parents first. The same base is made once, however many ask. What the
    /// tools print goes to `lines`; `scratch_dir` needs about 1 GiB.
    pub fn ensure_base<'a>(
        &'a self,
        base: &'a BaseImage,
        settings: &'a BuildSettings,
        scratch_dir: &'a Path,
        lines: mpsc::Sender<String>,
    ) -> Pin<Box<dyn Future<Output = Result<(), EngineError>> + Send + 'a>> {
        Box::pin(async move {
            if self.has_image(&base.reference).await? {
                return Ok(());
            }
            let _one_at_a_time = self.shared.base_locks.lock(base.reference.clone()).await;
            if self.has_image(&base.reference).await? {
                return Ok(());
            }
            match &base.recipe {
                Recipe::Pull => self.pull(&base.reference, &lines).await,
                Recipe::Debootstrap { suite } => {
                    self.bootstrap(&base.reference, suite, settings, scratch_dir, &lines).await
                }
                Recipe::Build { dockerfile, files, parents } => {
                    for parent in parents {
                        self.ensure_base(parent, settings, scratch_dir, lines.clone()).await?;
                    }
                    self.build_base(&base.reference, dockerfile, files, settings, lines).await
                }
            }
        })
    }

    async fn pull(&self, reference: &str, lines: &mpsc::Sender<String>) -> Result<(), EngineError> {
        // Without a tag the engine would pull them all.
        let name = reference.rsplit('/').next().unwrap_or(reference);
        let full = if name.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") };
        let options = CreateImageOptionsBuilder::default().from_image(&full).build();
        let mut answers = self.docker.create_image(Some(options), None, None);
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|source| EngineError::Pull { reference: full.clone(), source })?;
            // Layers' progress bars are left out: lines are never redrawn.
            if answer.progress_detail.is_none_or(|detail| detail.total.is_none())
                && let Some(status) = answer.status
            {
                let line = answer.id.map_or_else(|| status.clone(), |id| format!("{id}: {status}"));
                let _ = lines.send(line).await;
            }
        }
        Ok(())
    }

    async fn build_base(
        &self,
        reference: &str,
        dockerfile: &str,
        files: &BTreeMap<String, Vec<u8>>,
        settings: &BuildSettings,
        lines: mpsc::Sender<String>,
    ) -> Result<(), EngineError> {
        let tar = context(dockerfile, files).map_err(|source| EngineError::Context { source })?;
        let request = BuildRequest {
            context: futures_util::stream::once(async { Ok(tar) }).boxed(),
            dockerfile: DOCKERFILE.to_owned(),
            tag: reference.to_owned(),
            args: settings.args.clone(),
            labels: BTreeMap::new(),
            timeout: settings.timeout,
            cancel: CancellationToken::new(),
        };
        let (sender, mut receiver) = mpsc::channel(64);
        let relay = async move {
            while let Some(line) = receiver.recv().await {
                let text = match line {
                    BuildLine::Step { name, cached: true } => format!("{name} (cached)"),
                    BuildLine::Step { name, .. } => name,
                    BuildLine::Output(text) | BuildLine::Notice(text) => text,
                };
                let _ = lines.send(text).await;
            }
        };
        let (built, ()) = tokio::join!(self.build(request, sender), relay);
        built.map(|_| ())
    }

    async fn bootstrap(
        &self,
        reference: &str,
        suite: &str,
        settings: &BuildSettings,
        scratch_dir: &Path,
        lines: &mpsc::Sender<String>,
    ) -> Result<(), EngineError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(EngineError::NeedsRoot { suite: suite.to_owned() });
        }
        let io = |doing: &str| {
            let doing = doing.to_owned();
            move |source| EngineError::Io { doing, source }
        };
        let scratch = tempfile::Builder::new()
            .prefix("base-")
            .tempdir_in(scratch_dir)
            .map_err(io("make a directory for the new base"))?;
        let root = scratch.path().join("root");
        debootstrap(suite, &root, settings, lines).await?;
        self.import(reference, root).await?;
        let removal = tokio::task::spawn_blocking(move || scratch.close()).await;
        removal.map_err(io::Error::other).and_then(|closed| closed).map_err(io("remove the base's directory"))
    }

    /// Sends a tree to the engine as an image, without a copy on disk.
    async fn import(&self, reference: &str, root: PathBuf) -> Result<(), EngineError> {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(8);
        let packing = tokio::task::spawn_blocking(move || pack(&root, sender));
        let body = futures_util::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|part| (part, receiver))
        });
        let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(repository)
            .tag(tag)
            .changes(IMPORT_CHANGES.map(str::to_owned).to_vec())
            .build();
        let mut answers = self.docker.create_image(Some(options), Some(bollard::body_try_stream(body)), None);
        while let Some(answer) = answers.next().await {
            answer.map_err(|source| EngineError::Api { doing: format!("import {reference}"), source })?;
        }
        let packed = packing.await.map_err(io::Error::other).and_then(|packed| packed);
        packed.map_err(|source| EngineError::Io { doing: "read the new base".to_owned(), source })
    }
}

/// The context of a base's build: its Dockerfile and its files.
fn context(dockerfile: &str, files: &BTreeMap<String, Vec<u8>>) -> io::Result<Bytes> {
    let mut tar = tar::Builder::new(Vec::new());
    let all = files.iter().map(|(path, content)| (path.as_str(), content.as_slice()));
    for (path, content) in all.chain([(DOCKERFILE, dockerfile.as_bytes())]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content)?;
    }
    tar.into_inner().map(Bytes::from)
}

/// Runs debootstrap to its end. When dropped, it is ended as a group.
async fn debootstrap(
    suite: &str,
    root: &Path,
    settings: &BuildSettings,
    lines: &mpsc::Sender<String>,
) -> Result<(), EngineError> {
    let io = |source| EngineError::Io { doing: "start debootstrap".to_owned(), source };
    let proxies: Vec<(String, String)> = settings
        .args
        .iter()
        .filter(|(key, _)| key.to_ascii_lowercase().ends_with("_proxy"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut command = crate::spawn::debootstrap(suite, root, &settings.debian_mirror, &proxies);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(io)?;
    let mut group = Group::of(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut tail = VecDeque::new();
    let (sender, mut printed) = mpsc::channel(64);
    let readers = [tokio::spawn(read_lines(stdout, sender.clone())), tokio::spawn(read_lines(stderr, sender))];
    let run = async {
        while let Some(line) = printed.recv().await {
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(line);
            if let Some(line) = tail.back() {
                let _ = lines.send(line.clone()).await;
            }
        }
        child.wait().await
    };
    let limit = settings.timeout;
    let status = tokio::time::timeout(limit, run).await;
    for reader in readers {
        reader.abort();
    }
    let Ok(status) = status else {
        group.end(CLEAN_UP).await;
        return Err(EngineError::TimedOut { what: "debootstrap", limit });
    };
    group.ended();
    let status = status.map_err(io)?;
    if status.success() {
        return Ok(());
    }
    Err(EngineError::Debootstrap { suite: suite.to_owned(), exit_code: status.code(), lines: tail.into() })
}

async fn read_lines(from: Option<impl AsyncRead + Unpin>, to: mpsc::Sender<String>) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if to.send(line).await.is_err() {
            return;
        }
    }
}

/// A child's process group: debootstrap is a shell script with children, and
/// unmounts what it mounted when it gets SIGTERM.
struct Group(Option<nix::unistd::Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(nix::unistd::Pid::from_raw))
    }

    fn ended(&mut self) {
        self.0 = None;
    }

    async fn end(&mut self, patience: Duration) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        tokio::time::sleep(patience).await;
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.0 = None;
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = nix::sys::signal::killpg(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
    }
}

/// Writes a tree as a tar into a channel, owners and modes kept.
fn pack(root: &Path, to: mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let writer = io::BufWriter::with_capacity(256 << 10, Channel(to.clone()));
    let mut tar = tar::Builder::new(writer);
    tar.follow_symlinks(false);
    let packed = pack_directory(root, Path::new(""), &mut tar)
        .and_then(|()| tar.into_inner())
        .and_then(|mut writer| io::Write::flush(&mut writer));
    if let Err(error) = &packed {
        // The engine must not take half a tree for a whole one.
        let _ = to.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
    }
    packed
}

fn pack_directory(root: &Path, inner: &Path, tar: &mut tar::Builder<impl io::Write>) -> io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(root.join(inner))?.collect::<io::Result<_>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = inner.join(entry.file_name());
        let left_out = LEFT_OUT.iter().find(|(name, _)| path == Path::new(name));
        let kind = entry.file_type()?;
        if left_out.is_some_and(|(_, stays)| !stays) || !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
            continue;
        }
        tar.append_path_with_name(entry.path(), &path)?;
        if kind.is_dir() && left_out.is_none() {
            pack_directory(root, &path, tar)?;
        }
    }
    Ok(())
}

/// The writing end of a channel, for a blocking thread.
struct Channel(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
