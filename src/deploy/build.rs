//! The build, one step of [`super::prepare`]: bases, request, what is shown of it.

use super::error::DeployError;
use super::pipeline::Pipeline;
use super::prepare::{DEFAULT_PORT, Job, relay};
use super::report::Report;
use crate::buildpack::{CacheScope, IGNORE_LIMIT, ignore_file};
use crate::engine::{BuildLine, BuildRequest, BuiltImage, LABEL_APP};
use crate::failpoint::reached;
use crate::git::PushedTree;
use crate::git::context::{self, Dates};
use crate::model::dockerignore::Patterns;
use crate::model::{BasePin, BuildPlan, Dockerfile, EnvKey, ImageSource, Release, SourceTree};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Where the generated Dockerfile stands in the build context.
const DOCKERFILE: &str = ".paas/Dockerfile";

/// The language of a plan that builds the repository's own Dockerfile.
const OWN: &str = "dockerfile";

/// The language whose server makes ETags of size and date alone.
const FILES: &str = "static";

/// The one config var that builds know: Heroku's switch for Django.
const NO_COLLECTSTATIC: &str = "DISABLE_COLLECTSTATIC";

/// Goes before the ids of all cache mounts.
/// <https://docs.docker.com/reference/dockerfile/#buildkit-built-in-build-args>
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

impl Pipeline {
    /// Streams the tree into the engine's builder.
    pub(super) async fn build(
        &self,
        job: &Job,
        release: &mut Release,
        tree: PushedTree,
        plan: &BuildPlan,
    ) -> Result<(), DeployError> {
        job.turn.step("building");
        self.limit_builds();
        job.report.step("Building");
        let request = self.build_request(job, release, plan, tree)?;
        let report = job.report.clone();
        let official = Arc::<Mutex<Vec<Official>>>::default();
        let seen = official.clone();
        let (lines, relay) = relay(move |line: BuildLine| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).extend(official_image(&line));
            show(&report, &line);
        });
        let generated = !matches!(plan.dockerfile, Dockerfile::Own(_));
        let build = async {
            // Bases of a generated Dockerfile are here already; only the
            // repository's own one may ask a registry, which needs a session.
            if generated && self.workers.source == ImageSource::Debian {
                self.engine().build_local(request, lines).await
            } else {
                self.engine().build(request, lines).await
            }
        };
        let built = job.report.alive("still building", build).await;
        self.prune_cache();
        let _ = relay.await;
        let built = built?;
        reached("built");
        Self::adopt_image(job, release, &built);
        let official = std::mem::take(&mut *official.lock().unwrap_or_else(PoisonError::into_inner));
        self.note_official(release, official).await;
        self.save(release).await
    }

    /// Notes which official images a repository's own Dockerfile was built on. They
    /// are its own affair: the next build asks the registry again.
    async fn note_official(&self, release: &mut Release, official: Vec<Official>) {
        for Official { image, digest } in official {
            if release.bases.iter().any(|pin| pin.name == image || pin.reference == image) {
                continue;
            }
            // Where the engine had it already, the builder does not name its digest.
            let here =
                if digest.is_none() { self.engine().identity(&image).await.ok().flatten() } else { None };
            let digest = digest.or(here.and_then(|identity| identity.digest));
            let (reference, made_at) = (image.clone(), crate::store::now());
            release.bases.push(BasePin { name: image, reference, image_id: String::new(), digest, made_at });
        }
    }

    /// Without the right to, builds run unlimited, and `status` says so.
    fn limit_builds(&self) {
        let outcome = self.engine().limit_builds(self.workers.settings.build.limits).err();
        let mut unlimited = self.unlimited.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let (Some(why), None) = (&outcome, &*unlimited) {
            tracing::warn!(why, "builds are not limited in memory and processes");
        }
        *unlimited = outcome;
    }

    fn build_request(
        &self,
        job: &Job,
        release: &Release,
        plan: &BuildPlan,
        tree: PushedTree,
    ) -> Result<BuildRequest, DeployError> {
        let mut added = plan.files.clone();
        let dockerfile = match &plan.dockerfile {
            Dockerfile::Generated(text) => {
                added.insert(DOCKERFILE.to_owned(), text.clone().into_bytes());
                DOCKERFILE.to_owned()
            }
            Dockerfile::Rewritten { path, text } => {
                added.insert(path.clone(), text.clone().into_bytes());
                path.clone()
            }
            Dockerfile::Own(path) => path.clone(),
        };
        let mut args = self.workers.settings.build.args.clone();
        let generated =
            matches!(&plan.dockerfile, Dockerfile::Generated(text) if text.contains("ARG GIT_REV"));
        if plan.language == OWN || generated {
            args.insert("GIT_REV".to_owned(), job.commit.to_string());
            args.insert("SOURCE_VERSION".to_owned(), job.commit.to_string());
        }
        if plan.language == OWN {
            // The history of a single-stage image shows its build arguments.
            args.retain(|_, value| !value.contains('@'));
        } else if release.var(NO_COLLECTSTATIC) == Some("1") {
            // Our own word: arguments stay visible, and no value of a config var is.
            args.insert(NO_COLLECTSTATIC.to_owned(), "1".to_owned());
        }
        args.extend(plan.build_args.clone());
        if plan.language == OWN {
            // Last: no repository names the caches of another app.
            args.insert(CACHE_NAMESPACE.to_owned(), CacheScope::from(&job.app).as_str().to_owned());
        }
        let dates = if plan.language == FILES { Dates::Content } else { Dates::Commit };
        Ok(BuildRequest {
            context: stream_context(tree, plan, added, dockerfile.clone(), dates),
            dockerfile,
            tag: release.image.clone(),
            args,
            secrets: secrets(release, plan)?,
            labels: BTreeMap::from([(LABEL_APP.to_owned(), job.app.id.0.to_string())]),
            fresh: false,
            timeout: self.workers.settings.build.timeout,
            silence: self.workers.settings.build.silence,
            cancel: job.gone.clone(),
        })
    }

    /// Takes over what only the image tells: its id, ports and user.
    fn adopt_image(job: &Job, release: &mut Release, built: &BuiltImage) {
        release.image_id.clone_from(&built.id);
        if let Some(check) = &built.check {
            release.checks.take(check);
        }
        release.root = matches!(built.user.as_str(), "" | "0" | "root" | "0:0" | "root:root");
        if release.port == 0 {
            let lowest = built.exposed_ports.iter().min().copied();
            release.port = lowest.unwrap_or(DEFAULT_PORT);
            if built.exposed_ports.len() > 1 {
                job.report.warning(&format!("Several ports are exposed; traffic goes to {}.", release.port));
            }
        }
    }
}

/// The config vars that a build may read.
fn secrets(release: &Release, plan: &BuildPlan) -> Result<BTreeMap<String, String>, DeployError> {
    let value = |name: &EnvKey| match release.var(name.as_str()) {
        Some(value) => Ok((name.to_string(), value.to_owned())),
        None => Err(DeployError::NoSecret(name.to_string())),
    };
    let or_nothing = |name: &EnvKey| {
        let value = release.var(name.as_str()).unwrap_or_default();
        Ok((name.to_string(), value.to_owned()))
    };
    plan.secrets.iter().map(value).chain(plan.secrets_if_set.iter().map(or_nothing)).collect()
}

/// An image that a Dockerfile names.
#[derive(Debug, PartialEq, Eq)]
struct Official {
    /// `docker.io/library/python:3.11`
    image: String,
    /// `sha256:…`, if the registry was asked.
    digest: Option<String>,
}

/// The image of a step that is a FROM, unless it is one of ours.
fn official_image(line: &BuildLine) -> Option<Official> {
    let BuildLine::Step { name, .. } = line else { return None };
    let image = name.strip_prefix('[')?.split_once("] FROM ")?.1;
    let (image, digest) = match image.split_once('@') {
        Some((image, digest)) => (image, Some(digest.to_owned())),
        None => (image, None),
    };
    let image = image.trim().to_owned();
    (!image.contains("paas/base-") && image != "scratch").then_some(Official { image, digest })
}

/// Columns for the name of a step; git adds 8 and the report 7.
const STEP_WIDTH: usize = 60;

/// Whether a step does something for the app: the builder's own business
/// (loading, exporting, naming bases) says nothing to the one who pushes.
fn is_of_the_app(step: &str) -> bool {
    step.starts_with('[') && !step.starts_with("[internal]") && !step.contains("] FROM ")
}

/// A step's name without the mounts of its RUN, cut to one line.
fn abridged(step: &str) -> String {
    let words: Vec<&str> = step.split(' ').filter(|word| !word.starts_with("--mount=")).collect();
    let text = words.join(" ");
    if text.chars().count() <= STEP_WIDTH {
        return text;
    }
    text.chars().take(STEP_WIDTH - 1).chain(['…']).collect()
}

/// One line of a build for the one who pushes.
fn show(report: &Report, line: &BuildLine) {
    match line {
        BuildLine::Step { name, cached } if is_of_the_app(name) => {
            report.foreign(&format!("{}{}", abridged(name), if *cached { " (cached)" } else { "" }));
        }
        BuildLine::Step { .. } => {}
        BuildLine::Output(text) => report.foreign(&format!("  {text}")),
        BuildLine::Notice(text) => report.warning(text),
    }
}

/// The tree and what we add to it as a stream of tar bytes, written by a thread
/// as fast as the engine reads.
fn stream_context(
    tree: PushedTree,
    plan: &BuildPlan,
    added: BTreeMap<String, Vec<u8>>,
    dockerfile: String,
    dates: Dates,
) -> crate::engine::Context {
    let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(16);
    let (root, unix_lines) = (plan.context_root.clone(), plan.unix_lines.clone());
    tokio::task::spawn_blocking(move || {
        let ignore = tree.read(&ignore_file(&tree, &dockerfile), IGNORE_LIMIT).unwrap_or_default();
        let patterns = Patterns::parse(&String::from_utf8_lossy(&ignore));
        let excluded = |path: &str| added.contains_key(path) || path != dockerfile && patterns.excludes(path);
        let into = std::io::BufWriter::with_capacity(256 << 10, Chunks(sender.clone()));
        if let Err(error) = context::write_tar(&tree, &root, &excluded, &added, &unix_lines, dates, into) {
            let _ = sender.blocking_send(Err(std::io::Error::other(error)));
        }
    });
    Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    }))
}

/// A writer whose bytes go into a channel.
struct Chunks(mpsc::Sender<std::io::Result<Bytes>>);

impl std::io::Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let chunk = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(Ok(chunk)).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_images_are_read_from_the_steps() {
        let step = |name: &str| BuildLine::Step { name: name.to_owned(), cached: false };
        let found = |name| official_image(&step(name)).map(|found| (found.image, found.digest));
        assert_eq!(
            found("[build 1/4] FROM docker.io/library/golang:1.27@sha256:0a1b"),
            Some(("docker.io/library/golang:1.27".to_owned(), Some("sha256:0a1b".to_owned())))
        );
        assert_eq!(found("[1/2] FROM busybox:1"), Some(("busybox:1".to_owned(), None)));
        for other in ["[1/2] FROM docker.io/paas/base-go:1-a", "[2/4] RUN echo FROM x", "exporting to image"]
        {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn steps_are_shown_as_people_wrote_them() {
        let long = "[build 5/5] RUN --mount=type=cache,id=paas-app-1-uv,target=/root/.cache/uv uv pip install -r requirements.txt && true";
        assert_eq!(abridged(long), "[build 5/5] RUN uv pip install -r requirements.txt && true");
        assert_eq!(abridged(&"x".repeat(99)).chars().count(), STEP_WIDTH);
        assert!(is_of_the_app(long));
        for step in
            ["[internal] load metadata", "copy /context /", "exporting to image", "[build 1/5] FROM x"]
        {
            assert!(!is_of_the_app(step), "{step}");
        }
    }
}
