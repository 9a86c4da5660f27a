//! The apps that are pushed: what a commit has in it, and how it behaves.

use crate::model::CommitId;
use git2::{Oid, Repository, Signature, Time};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// How an app behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// It answers.
    Good,
    /// It answers, and is to be tried beside the release that serves.
    Tried,
    /// Its build fails.
    BuildFails,
    /// Its release command fails.
    ReleaseFails,
    /// Its web process exits at once.
    Exits,
    /// Its web process answers with 500.
    Answers500,
    /// Its web process accepts requests and never answers.
    Hangs,
    /// It is nothing that can be detected.
    Nothing,
}

/// One commit that can be pushed; equal ones are the same commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Commit {
    pub number: u8,
    pub behaviour: Behaviour,
}

const BEHAVIOUR: &str = "behaviour";

impl Commit {
    fn files(self) -> Vec<(&'static str, String)> {
        let behaviour = format!("{:?} {}", self.behaviour, self.number);
        if self.behaviour == Behaviour::Nothing {
            return vec![(BEHAVIOUR, behaviour)];
        }
        let is_tried = self.behaviour == Behaviour::Tried;
        let canary = if is_tried { "[deploy]\ncanary = \"20% for 1s\"\n" } else { "" };
        vec![
            ("Dockerfile", "FROM scratch\n".to_owned()),
            ("Procfile", "web: serve\nworker: work\nrelease: migrate\n".to_owned()),
            (BEHAVIOUR, behaviour),
            ("paas.toml", format!("[checks]\nstart_period = 1\n{canary}")),
        ]
    }

    /// Writes it into a repository, as the pack of a push does; its name.
    pub fn write(self, repository: &Path) -> CommitId {
        let repository = Repository::open_bare(repository).unwrap();
        let mut tree = repository.treebuilder(None).unwrap();
        for (name, text) in self.files() {
            let blob: Oid = repository.blob(text.as_bytes()).unwrap();
            tree.insert(name, blob, 0o100_644).unwrap();
        }
        let tree = repository.find_tree(tree.write().unwrap()).unwrap();
        let ada = Signature::new("Ada", "ada@example.com", &Time::new(1, 0)).unwrap();
        let commit = repository.commit(None, &ada, &ada, "A commit", &tree, &[]).unwrap();
        CommitId::parse(&commit.to_string()).unwrap()
    }
}

impl Behaviour {
    /// What a build context says, and the id of the image made of it.
    pub fn of_context(tar: &[u8]) -> (Self, String) {
        let mut text = String::new();
        for entry in tar::Archive::new(tar).entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap().as_os_str() == BEHAVIOUR {
                entry.read_to_string(&mut text).unwrap();
            }
        }
        let all =
            [Self::Good, Self::Tried, Self::BuildFails, Self::ReleaseFails, Self::Exits, Self::Answers500];
        let name = text.split(' ').next().unwrap_or_default();
        let found = all.into_iter().find(|behaviour| format!("{behaviour:?}") == name);
        let digest = Sha256::digest(text.as_bytes());
        let id: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        (found.unwrap(), format!("sha256:{id}"))
    }
}

/// Where the processes of all worlds run: they outlive any server.
static HOST: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
});

/// A web process that listens, until it is dropped.
pub(super) struct Serving(JoinHandle<()>);

impl Serving {
    /// It listens at once, and is well from a moment on, if it comes to that.
    pub async fn start(behaviour: Behaviour, at: SocketAddr, ready: Instant) -> Option<Self> {
        let status = match behaviour {
            Behaviour::Good | Behaviour::Tried => "200 OK",
            Behaviour::Answers500 => "500 Internal Server Error",
            Behaviour::Hangs => "",
            _ => return None,
        };
        let mut tries = 0;
        let listener = loop {
            match std::net::TcpListener::bind(at) {
                Ok(listener) => break listener,
                // A former process of this address may be closing.
                Err(error) => assert!(tries < 2000, "{at}: {error}"),
            }
            tries += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        listener.set_nonblocking(true).unwrap();
        let _host = HOST.enter();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        Some(Self(HOST.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                if behaviour == Behaviour::Hangs {
                    tokio::spawn(async move { stream.read(&mut [0; 1]).await });
                    continue;
                }
                let status = if Instant::now() < ready { "503 Service Unavailable" } else { status };
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await;
            }
        })))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}
