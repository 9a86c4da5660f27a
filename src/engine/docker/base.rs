//! Base images: pulled, bootstrapped from Debian's packages, or built.

use super::{DockerEngine, debootstrap, rootfs};
use crate::engine::{BuildLine, BuildRequest, EngineError};
use crate::model::{BaseImage, Recipe};
use crate::settings::BuildSettings;
use bollard::query_parameters::CreateImageOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Name of a base's Dockerfile in its own context, beside `files`.
const DOCKERFILE: &str = ".paas/Dockerfile";

/// What an imported Debian lacks of an official image's configuration.
const IMPORT_CHANGES: [&str; 2] =
    ["ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "CMD [\"bash\"]"];

impl DockerEngine {
    /// Makes sure that the engine has this base, by its recipe if it lacks it;
    /// parents first. The same base is made once, however many ask, and what has
    /// been begun is finished though the caller is dropped: the next one finds it.
    /// What the tools print goes to `lines`; `scratch_dir` needs about 1 GiB.
    pub fn ensure_base<'a>(
        &'a self,
        base: &'a BaseImage,
        settings: &'a BuildSettings,
        scratch_dir: &'a Path,
        lines: mpsc::Sender<String>,
    ) -> Pin<Box<dyn Future<Output = Result<(), EngineError>> + Send + 'a>> {
        Box::pin(async move {
            if self.is_made(base).await? {
                return Ok(());
            }
            let one_at_a_time = self.shared.base_locks.lock(base.reference.clone()).await;
            if self.is_made(base).await? {
                return Ok(());
            }
            let (engine, base, settings) = (self.clone(), base.clone(), settings.clone());
            let scratch_dir = scratch_dir.to_owned();
            let making = tokio::spawn(async move {
                let made = engine.make_base(&base, &settings, &scratch_dir, lines).await;
                drop(one_at_a_time);
                made
            });
            making.await.unwrap_or_else(|panic| {
                Err(EngineError::Io { doing: "make the base image".to_owned(), source: panic.into() })
            })
        })
    }

    /// What is made anew has a name of its own; a pull's has not.
    async fn is_made(&self, base: &BaseImage) -> Result<bool, EngineError> {
        let asks = base.anew && base.recipe == Recipe::Pull;
        Ok(!asks && self.has_image(&base.reference).await?)
    }

    async fn make_base(
        &self,
        base: &BaseImage,
        settings: &BuildSettings,
        scratch_dir: &Path,
        lines: mpsc::Sender<String>,
    ) -> Result<(), EngineError> {
        match &base.recipe {
            Recipe::Pull => {
                self.pull(&base.name, &lines).await?;
                // A certain one that is gone: what its name is now stands in for it.
                if base.reference == base.name { Ok(()) } else { self.tag(&base.name, &base.reference).await }
            }
            Recipe::Debootstrap { suite } => {
                self.bootstrap(&base.reference, suite, settings, scratch_dir, &lines).await
            }
            Recipe::Build { dockerfile, files, parents } => {
                for parent in parents {
                    self.ensure_base(parent, settings, scratch_dir, lines.clone()).await?;
                }
                self.build_base(base, dockerfile, files, settings, lines).await
            }
        }
    }

    pub(super) async fn pull(
        &self,
        reference: &str,
        lines: &mpsc::Sender<String>,
    ) -> Result<(), EngineError> {
        // Without a tag the engine would pull them all.
        let name = reference.rsplit('/').next().unwrap_or(reference);
        let full =
            if name.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") };
        let options = CreateImageOptionsBuilder::default().from_image(&full).build();
        let mut answers = self.docker.create_image(Some(options), None, None);
        while let Some(answer) = answers.next().await {
            let answer = answer
                .map_err(|source| EngineError::Pull { reference: full.clone(), source: source.into() })?;
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
        base: &BaseImage,
        dockerfile: &str,
        files: &BTreeMap<String, Vec<u8>>,
        settings: &BuildSettings,
        lines: mpsc::Sender<String>,
    ) -> Result<(), EngineError> {
        let tar = context(dockerfile, files).map_err(|source| EngineError::Context { source })?;
        let request = BuildRequest {
            context: futures_util::stream::once(async { Ok(tar) }).boxed(),
            dockerfile: DOCKERFILE.to_owned(),
            tag: base.reference.clone(),
            args: settings.args.clone(),
            secrets: BTreeMap::new(),
            labels: BTreeMap::new(),
            fresh: base.anew,
            timeout: settings.timeout,
            silence: settings.silence,
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
        debootstrap::run(suite, &root, settings, lines).await?;
        self.import(reference, root).await?;
        let removal = tokio::task::spawn_blocking(move || scratch.close()).await;
        removal.map_err(io::Error::other).and_then(|closed| closed).map_err(io("remove the base's directory"))
    }

    /// Sends a tree to the engine as an image, without a copy on disk.
    async fn import(&self, reference: &str, root: PathBuf) -> Result<(), EngineError> {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(8);
        let packing = tokio::task::spawn_blocking(move || rootfs::pack(&root, &sender));
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
            answer.map_err(|source| EngineError::Api {
                doing: format!("import {reference}"),
                source: source.into(),
            })?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::testing::TestApp;
    use super::*;
    use crate::model::RunCommand;
    use std::os::unix::fs::{MetadataExt, chown, symlink};

    #[tokio::test]
    async fn a_tree_becomes_an_image_with_its_owners_and_without_this_machine() {
        let app = TestApp::bare().await;
        app.engine.ensure_network(app.id, app.subnet).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for path in ["bin", "dev", "etc", "debootstrap", "var/cache/apt/archives"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        for path in
            ["dev/null", "etc/hostname", "etc/owned", "debootstrap/log", "var/cache/apt/archives/x.deb"]
        {
            std::fs::write(root.join(path), "").unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        symlink("busybox", root.join("bin/sh")).unwrap();
        let owner = if nix::unistd::geteuid().is_root() { 33 } else { root.metadata().unwrap().uid() };
        chown(root.join("etc/owned"), Some(owner), None).unwrap();
        app.engine.import(&app.image(), root.to_owned()).await.unwrap();

        let list = "cd /; busybox ls debootstrap/log var/cache/apt/archives/x.deb 2>&1; busybox stat -c %u etc/owned";
        let mut workload = app.workload(list);
        workload.command = RunCommand::Exec(vec!["sh".to_owned(), "-c".to_owned(), list.to_owned()]);
        let id = app.engine.start(&workload).await.unwrap();
        let lines: Vec<String> =
            app.engine.logs(&id, None, true).map(|line| line.unwrap().text).collect().await;
        let missing = |path: &str| format!("ls: {path}: No such file or directory");
        assert_eq!(
            lines,
            [missing("debootstrap/log"), missing("var/cache/apt/archives/x.deb"), owner.to_string()]
        );
    }
}
