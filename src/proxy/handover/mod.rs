//! From one proxy to the next without a refused connection: `paas proxy --upgrade`.
//!
//! The new one asks over a Unix socket of the old one's and gets copies of the
//! listening sockets and of the lock, and the table. It follows the control
//! plane and says when it is ready; only then the old one stops accepting and
//! says so, and the new one begins. What arrives in between waits in the
//! sockets' queues. Whatever goes wrong before that moment, the old one goes on.

mod wire;

use super::lock::Lock;
use super::ports::Ports;
use super::sockets::{Sockets, described};
use super::{ProxyError, Shared};
use crate::frame;
use crate::model::{RouteTable, Target};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Mutex, MutexGuard};
use tracing::{info, warn};
use wire::{FromNew, FromOld, Offer};

/// How long the new proxy may take; no route changes meanwhile.
const PATIENCE: Duration = Duration::from_secs(15);

/// The old proxy, as the new one knows it.
pub(super) struct Predecessor {
    /// It waits for us.
    pub(super) waiting: Waiting,
    /// Its lock.
    pub(super) lock: Lock,
    /// Its sockets.
    pub(super) sockets: Sockets,
    /// Its table.
    pub(super) table: RouteTable,
    /// Targets of its older tables.
    pub(super) gone: Vec<Target>,
}

impl Predecessor {
    /// Meets the proxy that runs; `None` if there is none.
    pub(super) async fn meet(path: &Path) -> Result<Option<Self>, ProxyError> {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(None),
            Err(error) => return Err(failed(path, error)),
        };
        let asking = tokio::time::timeout(PATIENCE, Self::ask(stream, path));
        let answer = asking.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        answer.map(Some).map_err(|error| failed(path, error))
    }

    async fn ask(mut stream: UnixStream, path: &Path) -> io::Result<Self> {
        frame::write(&mut stream, &FromNew::Take { pid: std::process::id(), metrics: true }).await?;
        let Offer { entries, table, gone } = match read(&mut stream).await? {
            FromOld::Offer(offer) => *offer,
            FromOld::No(why) => return Err(io::Error::other(why)),
            FromOld::Yours => return Err(io::ErrorKind::InvalidData.into()),
        };
        let mut descriptors = wire::receive(&stream, entries.len() + 1).await?.into_iter();
        let lock = Lock::from_copy(descriptors.next().ok_or(io::ErrorKind::UnexpectedEof)?);
        let sockets = Sockets::from_descriptors(entries.into_iter().zip(descriptors))?;
        let waiting = Waiting { stream, path: path.to_owned() };
        Ok(Self { waiting, lock, sockets, table, gone })
    }
}

/// The old proxy, once its sockets and its table have been taken.
pub(super) struct Waiting {
    stream: UnixStream,
    path: PathBuf,
}

impl Waiting {
    /// Tells the old proxy to accept no more, and waits until it doesn't.
    pub(super) async fn take_over(mut self) -> Result<(), ProxyError> {
        let asking = async {
            frame::write(&mut self.stream, &FromNew::Ready).await?;
            read(&mut self.stream).await
        };
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(FromOld::Yours) => Ok(()),
            Ok(FromOld::No(why)) => Err(failed(&self.path, io::Error::other(why))),
            Ok(FromOld::Offer(_)) => Err(failed(&self.path, io::ErrorKind::InvalidData.into())),
            // One that goes on says so; this one has died, and the sockets are ours alone.
            Err(error) if error.kind() != io::ErrorKind::TimedOut => Ok(()),
            Err(error) => Err(failed(&self.path, error)),
        }
    }
}

fn failed(path: &Path, source: io::Error) -> ProxyError {
    ProxyError::Handover { path: path.to_owned(), source }
}

async fn read<T: serde::de::DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    frame::read(stream).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The side that may be succeeded.
pub(super) struct Handover {
    /// The proxy.
    pub(super) shared: Arc<Shared>,
    /// The HTTP sockets.
    pub(super) http: Vec<Arc<TcpListener>>,
    /// The HTTPS sockets.
    pub(super) https: Vec<Arc<TcpListener>>,
    /// The socket for monitoring.
    pub(super) metrics: Option<Arc<TcpListener>>,
    /// The apps' ports; held while a handover is under way, so that they stay as
    /// they were offered.
    pub(super) ports: Arc<Mutex<Ports>>,
    /// The lock.
    pub(super) lock: Lock,
    /// Where successors ask; none if it can't be opened.
    pub(super) listener: Option<UnixListener>,
}

impl Handover {
    /// Waits for a successor and gives it everything; returns when it is its turn.
    pub(super) async fn wait(&self) {
        let Some(listener) = &self.listener else {
            return std::future::pending().await;
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) if is_ours(&stream) => {
                    if self.give(stream).await {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    warn!(%error, "a new proxy could not connect");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Closes the sockets, of which a successor has copies; the lock is kept only
    /// if there is none.
    pub(super) async fn close(self, succeeded: bool) -> Option<Lock> {
        self.shared.accepting.cancel();
        self.ports.lock().await.close_all();
        (!succeeded).then_some(self.lock)
    }

    /// Gives everything to one successor; `false` if that came to nothing.
    async fn give(&self, mut stream: UnixStream) -> bool {
        let offered = tokio::time::timeout(PATIENCE, self.offer(&mut stream)).await;
        let error = match offered.unwrap_or_else(|_| Err(io::Error::other("it took too long"))) {
            Ok((pid, mut ports)) => {
                info!(pid, "another proxy takes over");
                // There is no way back: first nothing more is accepted, then it is said.
                self.shared.leave().await;
                ports.close_all();
                let _ = frame::write(&mut stream, &FromOld::Yours).await;
                return true;
            }
            Err(error) => error,
        };
        warn!(%error, "another proxy wanted to take over and did not; going on");
        let refusal = FromOld::No(error.to_string());
        let _ = tokio::time::timeout(PATIENCE, frame::write(&mut stream, &refusal)).await;
        false
    }

    /// Until the successor is ready; the ports stay as they are meanwhile.
    async fn offer(&self, stream: &mut UnixStream) -> io::Result<(u32, MutexGuard<'_, Ports>)> {
        let FromNew::Take { pid, metrics } = read(stream).await? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let ports = self.ports.lock().await;
        let metrics = self.metrics.as_ref().filter(|_| metrics);
        let (entries, sockets) = described(&self.http, &self.https, ports.sockets(), metrics);
        let (table, gone) = self.shared.board.inheritance();
        let offer = FromOld::Offer(Box::new(Offer { entries, table, gone }));
        frame::write(stream, &offer).await?;
        let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(self.lock.as_fd()).chain(sockets).collect();
        wire::send(stream, &descriptors).await?;
        let FromNew::Ready = read(stream).await? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok((pid, ports))
    }
}

/// The socket where successors ask; without it there is a proxy all the same.
pub(super) fn listen(path: &Path) -> Option<UnixListener> {
    frame::listen(path)
        .inspect_err(
            |error| warn!(path = %path.display(), %error, "this proxy can't be upgraded without a restart"),
        )
        .ok()
}

fn is_ours(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}
