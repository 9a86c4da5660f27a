//! What the tests against the real engine share: an app of their own, with a
//! tiny image, which takes everything along when it goes, on a panic too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use super::DockerEngine;
use crate::engine::{BuildLine, BuildRequest, BuiltImage, EngineError, LABEL_APP, LABEL_NAME};
use crate::model::{AppId, AppName, Limits, ProcessName, Restart, RunCommand, Workload};
use bollard::query_parameters::ListImagesOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt;
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// From Debian's package busybox-static; one static file makes an image.
const BUSYBOX: &str = "/bin/busybox";

/// An app that no one else has.
pub(super) struct TestApp {
    pub(super) engine: DockerEngine,
    pub(super) id: AppId,
    pub(super) name: AppName,
    pub(super) subnet: Ipv4Net,
}

/// Waits for this process to end, however it ends; `Drop` is not run when it is killed.
static REAPER: OnceLock<Child> = OnceLock::new();

fn reaper() -> Child {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/docker-reaper.sh");
    Command::new("sh")
        .args([script, &(first_id() / 1000).to_string(), &format!("paas/test-{}-", std::process::id())])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// A thousand ids are this process's.
fn first_id() -> i64 {
    9_000_000_000 + i64::from(std::process::id() % 100_000) * 1000
}

impl TestApp {
    /// An app without image and network.
    pub(super) async fn bare() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(number < 1000, "the next app's id is another process's");
        let process = std::process::id();
        REAPER.get_or_init(reaper);
        let octets = [10, 200 + u8::try_from(process % 55).unwrap(), u8::try_from(number / 4).unwrap(), 0];
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::from(octets)) + 64 * (number % 4));
        Self {
            engine: DockerEngine::connect(None).await.expect("the tests need a Docker engine"),
            id: AppId(first_id() + i64::from(number)),
            name: AppName::parse(&format!("test-{process}-{number}")).unwrap(),
            subnet: Ipv4Net::new(address, 26).unwrap(),
        }
    }

    /// An app with its network, and busybox as `v1`.
    pub(super) async fn new() -> Self {
        let app = Self::bare().await;
        app.engine.ensure_network(app.id, app.subnet).await.unwrap();
        app.build("FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN [\"/bin/busybox\", \"true\"]\n")
            .await
            .1
            .unwrap();
        app
    }

    /// Reference of the app's image.
    pub(super) fn image(&self) -> String {
        format!("paas/{}:v1", self.name)
    }

    pub(super) fn request(&self, dockerfile: &str) -> BuildRequest {
        let tar = context(dockerfile);
        BuildRequest {
            context: futures_util::stream::iter([Ok(tar)]).boxed(),
            dockerfile: "Dockerfile".to_owned(),
            tag: self.image(),
            args: BTreeMap::new(),
            secrets: BTreeMap::new(),
            labels: BTreeMap::from([
                (LABEL_NAME.to_owned(), self.name.to_string()),
                (LABEL_APP.to_owned(), self.id.0.to_string()),
            ]),
            fresh: false,
            timeout: Duration::from_secs(60),
            silence: Duration::ZERO,
            cancel: CancellationToken::new(),
        }
    }

    pub(super) async fn build(&self, dockerfile: &str) -> (Vec<BuildLine>, Result<BuiltImage, EngineError>) {
        let (sender, receiver) = mpsc::channel(16);
        let (result, lines) =
            tokio::join!(self.engine.build(self.request(dockerfile), sender), drain(receiver));
        (lines, result)
    }

    /// A web process of release 1 that runs a line in the shell.
    pub(super) fn workload(&self, line: &str) -> Workload {
        Workload {
            app: self.id,
            app_name: self.name.clone(),
            release: 1,
            process: ProcessName::parse("web.1").unwrap(),
            image: self.image(),
            command: RunCommand::Shell(line.to_owned()),
            env: vec![("GREETING".to_owned(), "a \"b\" $c\nd".to_owned())],
            address: self.subnet.hosts().nth(4).unwrap(),
            limits: Limits { memory: 64 << 20, nano_cpus: 500_000_000, pids: 50, nofile: 1000 },
            root: false,
            restart: Restart::Never,
            stop_timeout: Duration::from_secs(30),
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let (id, name) = (self.id, self.name.clone());
        let clean_up = async move {
            let engine = DockerEngine::connect(None).await.unwrap();
            for process in engine.processes(Some(id)).await.unwrap() {
                engine.remove(&process.container).await.unwrap();
            }
            engine.remove_network(id).await.unwrap();
            // Labelled or not: an imported one has no labels.
            let named = HashMap::from([("reference", vec![format!("paas/{name}")])]);
            // What lost its tag to a later build of the same test.
            let untagged = HashMap::from([
                ("dangling", vec!["true".to_owned()]),
                ("label", vec![format!("{LABEL_NAME}={name}")]),
            ]);
            for filters in [named, untagged] {
                let options = ListImagesOptionsBuilder::default().filters(&filters).build();
                for image in engine.docker.list_images(Some(options)).await.unwrap() {
                    let names = if image.repo_tags.is_empty() { vec![image.id] } else { image.repo_tags };
                    for name in names {
                        engine.remove_image(&name).await.unwrap();
                    }
                }
            }
        };
        // A runtime of its own: this one may be on its way out.
        let thread = std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(clean_up);
        });
        let _ = thread.join();
    }
}

/// All that a channel gets until it is closed.
pub(super) async fn drain<T>(mut from: mpsc::Receiver<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(item) = from.recv().await {
        all.push(item);
    }
    all
}

/// A context of a Dockerfile and a root file system of busybox alone.
pub(super) fn context(dockerfile: &str) -> Bytes {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(dockerfile.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "Dockerfile", dockerfile.as_bytes()).unwrap();
    tar.append_path_with_name(BUSYBOX, "root/bin/busybox")
        .expect("the tests need the package busybox-static");
    for applet in [
        "sh", "sleep", "nc", "cat", "seq", "head", "tr", "env", "id", "grep", "yes", "true", "printf",
        "echo", "httpd",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("root/bin/{applet}"), "busybox").unwrap();
    }
    Bytes::from(tar.into_inner().unwrap())
}

/// Waits until a check is true, for at most `limit`.
pub(super) async fn until<F: Future<Output = bool>>(limit: Duration, mut check: impl FnMut() -> F) -> bool {
    let end = tokio::time::Instant::now() + limit;
    loop {
        if check().await {
            return true;
        }
        if tokio::time::Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
