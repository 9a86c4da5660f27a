//! The line to the control plane: tables in, acknowledgements out.

use super::Shared;
use super::board::Board;
use super::lines::Lines;
use super::ports::Ports;
use super::snapshot;
use crate::frame;
use crate::model::{CertificateTable, Challenges, FromProxy, RouteChanges, RouteTable, ToProxy};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, Notify, mpsc};
use tracing::{debug, info, warn};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Follows the control plane.
pub(super) struct Link {
    /// The proxy.
    pub(super) shared: Arc<Shared>,
    /// The apps' ports.
    pub(super) ports: Arc<Mutex<Ports>>,
    /// The control plane's socket.
    pub(super) socket: PathBuf,
    /// Who keeps the table hears here that there is another one.
    pub(super) changed: Arc<Notify>,
    /// Where certificates are kept.
    pub(super) certificates: PathBuf,
}

/// An acknowledgement to be sent, and up to which turn it lets us report
/// removed targets.
struct Ack {
    message: FromProxy,
    turn: Option<u64>,
}

impl Link {
    /// Connects, again and again, and does as it is told; never returns.
    pub(super) async fn follow(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut away = false;
        loop {
            let (tables, error) = self.session().await;
            if tables > 0 {
                pause = FIRST_PAUSE;
                away = false;
            }
            self.shared.linked.cancel();
            if !away {
                info!(%error, "the control plane is away; serving on with the routes at hand");
                away = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection, to its end: tables received, and why it ended.
    async fn session(&mut self) -> (u64, io::Error) {
        let mut tables = 0;
        let ended = match UnixStream::connect(&self.socket).await {
            Ok(stream) => self.talk(stream, &mut tables).await,
            Err(error) => Err(error),
        };
        let error = ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
        (tables, error)
    }

    async fn talk(&mut self, stream: UnixStream, tables: &mut u64) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let version = self.shared.board.table().version;
        let hello = FromProxy::Hello {
            pid: std::process::id(),
            version,
            tls: self.shared.tls.is_some(),
            changes: true,
            loads: true,
            weights: true,
            sleep: true,
        };
        frame::write(&mut writer, &hello).await?;
        let (acks, queue) = mpsc::unbounded_channel();
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            ended = self.listen(reader, &acks, tables) => ended,
            ended = speak(&shared, writer, queue) => ended,
        }
    }

    async fn listen(
        &mut self,
        mut reader: OwnedReadHalf,
        acks: &mpsc::UnboundedSender<Ack>,
        tables: &mut u64,
    ) -> io::Result<()> {
        while let Some(message) = frame::read(&mut reader).await? {
            let ack = match message {
                ToProxy::Table(table) => {
                    *tables += 1;
                    self.put_in_force(Arc::new(table)).await
                }
                ToProxy::Changes(changes) => {
                    *tables += 1;
                    self.change(&changes).await.ok_or(io::ErrorKind::InvalidData)?
                }
                ToProxy::Certificates(table) => self.show(table).await,
                ToProxy::Challenges(challenges) => self.answer(&challenges),
            };
            if acks.send(ack).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Everything that a new table changes, in the order in which nobody
    /// finds a port or a host without its app.
    async fn put_in_force(&mut self, table: Arc<RouteTable>) -> Ack {
        let wanted = Board::ports(&table);
        // Not while a new proxy takes over: it has been told of the ports as they are.
        let mut ports = self.ports.lock().await;
        ports.close_others(&wanted).await;
        let version = table.version;
        let turn = self.shared.board.put_in_force(table);
        let refused_ports = ports.open(&wanted);
        drop(ports);
        self.in_force(version, refused_ports, turn)
    }

    /// Likewise for what is new of it, at no more cost than that; `None` if it is of
    /// another table than ours.
    async fn change(&self, changes: &RouteChanges) -> Option<Ack> {
        let table = self.shared.board.table();
        let before = changes.routes.keys().filter_map(|app| table.routes.get(app)?.port);
        let wanted: BTreeSet<u16> =
            changes.routes.values().flatten().filter_map(|route| route.port).collect();
        let given_up: BTreeSet<u16> = before.filter(|port| !wanted.contains(port)).collect();
        drop(table);
        let mut ports = self.ports.lock().await;
        ports.close(&given_up).await;
        let turn = self.shared.board.change(changes)?;
        let refused_ports = ports.open(&wanted);
        drop(ports);
        Some(self.in_force(changes.version, refused_ports, turn))
    }

    fn in_force(&self, version: u64, refused_ports: BTreeMap<u16, String>, turn: u64) -> Ack {
        self.changed.notify_one();
        debug!(version, "routes in force");
        self.shared.linked.cancel();
        Ack { message: FromProxy::Ack { version, refused_ports }, turn: Some(turn) }
    }

    /// Without TLS there are no certificates, and none are kept.
    async fn show(&self, table: CertificateTable) -> Ack {
        let version = table.version;
        if self.shared.tls.is_some() {
            let (shared, path) = (Arc::clone(&self.shared), self.certificates.clone());
            let shown = tokio::task::spawn_blocking(move || {
                shared.tls.iter().for_each(|tls| tls.show(&table));
                snapshot::save(&path, &table)
            });
            if let Err(error) = shown.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
                let path = self.certificates.display();
                warn!(%path, %error, "can't store the certificates; a restart would show older ones");
            }
            debug!(version, "certificates in force");
        }
        Ack { message: FromProxy::Certified { version }, turn: None }
    }

    fn answer(&self, challenges: &Challenges) -> Ack {
        self.shared.tls.iter().for_each(|tls| tls.answer(challenges));
        Ack { message: FromProxy::Challenged { version: challenges.version }, turn: None }
    }
}

/// Sends acknowledgements, and then what has drained; and what was answered.
///
/// A removed target is reported after the table that removed it was
/// acknowledged on this connection: before that, the other side has not heard
/// that the target is gone, or may put it back.
async fn speak(
    shared: &Shared,
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Ack>,
) -> io::Result<()> {
    let (mut turn, mut retiring) = (None, false);
    let board = &shared.board;
    board.report_again();
    board.meters.begin_anew();
    board.waiting.ask_again();
    let mut tell = tokio::time::interval(shared.limits.tell);
    tell.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let _told = board.lines.told();
    let (counted, loaded, lines) = (board.counts.ripe(), board.meters.ripe(), board.lines.ripe());
    tokio::pin!(counted, loaded, lines);
    loop {
        tokio::select! {
            ack = queue.recv() => {
                let Some(ack) = ack else { return Ok(()) };
                frame::write(&mut writer, &ack.message).await?;
                turn = ack.turn.or(turn);
            }
            () = board.drain_news() => {}
            // Older control planes, which do not know this, have no apps that sleep.
            () = board.waiting.asked(), if turn.is_some() => {
                for app in board.waiting.take_asks() {
                    frame::write(&mut writer, &FromProxy::Wake { app }).await?;
                }
            }
            _ = tell.tick(), if turn.is_some() => {
                board.waiting.ask_again();
                let apps = board.idle();
                if !apps.is_empty() {
                    frame::write(&mut writer, &FromProxy::Idle { apps }).await?;
                }
            }
            () = shared.accepting.cancelled(), if !retiring => {
                retiring = true;
                frame::write(&mut writer, &FromProxy::Retiring).await?;
            }
            () = &mut counted => {
                counted.set(board.counts.ripe());
                let counts = board.counts.take();
                if !counts.is_empty() {
                    let loads = Vec::new();
                    frame::write(&mut writer, &FromProxy::Counts { counts, loads }).await?;
                }
            }
            () = &mut loaded => {
                loaded.set(board.meters.ripe());
                let (counts, loads) = (Vec::new(), board.meters.take());
                if !loads.is_empty() {
                    frame::write(&mut writer, &FromProxy::Counts { counts, loads }).await?;
                }
            }
            () = &mut lines => {
                lines.set(board.lines.ripe());
                tell_lines(&board.lines, &mut writer).await?;
            }
        }
        let drained = turn.map(|turn| board.take_drained(turn)).unwrap_or_default();
        for target in drained {
            frame::write(&mut writer, &FromProxy::Drained { target }).await?;
        }
    }
}

async fn tell_lines(lines: &Lines, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    let message = FromProxy::Lines { apps: lines.take() };
    let written = match &message {
        FromProxy::Lines { apps } if apps.is_empty() => return Ok(()),
        message => frame::write(writer, message).await,
    };
    if let (Err(_), FromProxy::Lines { apps }) = (&written, message) {
        lines.lost(apps);
    }
    written
}
