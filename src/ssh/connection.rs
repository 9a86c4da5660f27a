//! One client: an answer to every request, and nothing granted but commands.

use super::Door;
use super::channel::Channel;
use super::input::Offer;
use super::listener::Server;
use super::output::Traffic;
use super::words::Refusal;
use super::{command_line, socket};
use crate::model::{Caller, PublicKey};
use bytes::Bytes;
use russh::keys::Algorithm;
use russh::keys::ssh_key;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{ChannelId, ChannelOpenFailure, Error, Pty, Sig};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Longest wait for a command that reads nothing before its input goes to disk.
const PATIENCE: Duration = Duration::from_millis(300);
/// Longest wait for a command whose share of the disk is used up.
const LAST_PATIENCE: Duration = Duration::from_secs(60);
/// Longest part of a stranger's word that is logged or repeated, characters.
const ECHO: usize = 60;

type Channels = Arc<Mutex<HashMap<ChannelId, Arc<Channel>>>>;

/// What becomes known of a connection on its way.
#[derive(Clone, Default)]
pub(super) struct Milestones {
    pub(super) logged_in: CancellationToken,
    /// Its key was removed.
    pub(super) revoked: CancellationToken,
}

/// The state of one connection, driven by the SSH library.
pub(super) struct Connection<D: Door> {
    server: Arc<Server<D>>,
    tcp: Arc<TcpStream>,
    peer: SocketAddr,
    /// The key that signed.
    key: Option<PublicKey>,
    /// Fingerprints of keys that nobody here owns.
    strangers: Vec<String>,
    milestones: Milestones,
    channels: Channels,
    traffic: Arc<Traffic>,
    gone: CancellationToken,
}

impl<D: Door> Connection<D> {
    pub(super) fn new(
        server: Arc<Server<D>>,
        tcp: Arc<TcpStream>,
        peer: SocketAddr,
        milestones: Milestones,
    ) -> Self {
        Self {
            server,
            tcp,
            peer,
            key: None,
            strangers: Vec::new(),
            milestones,
            channels: Arc::default(),
            traffic: Arc::default(),
            gone: CancellationToken::new(),
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<ChannelId, Arc<Channel>>> {
        lock(&self.channels)
    }

    fn channel(&self, id: ChannelId) -> Option<Arc<Channel>> {
        self.channels().get(&id).cloned()
    }

    /// Old RSA signatures (SHA-1) prove nothing any more.
    async fn owner(&self, key: &ssh_key::PublicKey, algorithm: &Algorithm) -> Option<Caller> {
        if matches!(algorithm, Algorithm::Rsa { hash: None }) {
            return None;
        }
        self.server.door.admit(&PublicKey::from(key), self.peer).await
    }

    /// Ends this connection and its commands when its key is removed.
    fn watch(&self, key: &PublicKey) {
        let revoked = self.server.door.revoked(key);
        let (gone, milestone, peer) = (self.gone.clone(), self.milestones.revoked.clone(), self.peer);
        tokio::spawn(async move {
            if gone.run_until_cancelled(revoked).await.is_some() {
                tracing::info!(%peer, "connection closed: its key was removed");
                milestone.cancel();
                gone.cancel();
            }
        });
    }

    /// A command may begin on this channel: says yes to the client.
    fn begin(&self, id: ChannelId, session: &mut Session) -> Result<Option<Arc<Channel>>, Error> {
        match self.channel(id).filter(|channel| channel.claim()) {
            Some(channel) => session.channel_success(id).map(|()| Some(channel)),
            None => session.channel_failure(id).map(|()| None),
        }
    }

    fn refuse(&self, id: ChannelId, session: &mut Session, refusal: Refusal) -> Result<(), Error> {
        tracing::info!(peer = %self.peer, %refusal, "request refused");
        if let Some(channel) = self.begin(id, session)? {
            let channels = Arc::clone(&self.channels);
            self.server.commands.spawn(async move {
                channel.refuse(&refusal).await;
                lock(&channels).remove(&channel.id());
            });
        }
        Ok(())
    }

    fn forbid(&self, what: &str, detail: &str) {
        tracing::info!(peer = %self.peer, what, detail = shorten(detail), "request refused");
    }

    /// Input for which there is no room in memory: makes the client wait as long
    /// as nobody is hurt by that, then puts the input on disk.
    async fn hold(&self, channel: &Channel, mut data: Bytes) -> Result<(), Error> {
        let inbox = channel.inbox();
        if !channel.is_used() {
            return Err(self.overflow());
        }
        // Another channel's input must not wait for this one's command.
        let alone = self.channels().len() == 1;
        while alone && !self.traffic.is_blocked() && inbox.is_being_read() {
            if self.quiet(channel, PATIENCE).await? == Quiet::Over {
                break;
            }
            match inbox.offer(data) {
                Offer::Taken => return Ok(()),
                Offer::Full(back) => data = back,
            }
        }
        let end = Instant::now() + LAST_PATIENCE;
        while !inbox.may_spill(data.len()) {
            self.quiet(channel, PATIENCE).await?;
            match inbox.offer(data) {
                Offer::Taken => return Ok(()),
                Offer::Full(_) if Instant::now() > end => return Err(self.overflow()),
                Offer::Full(back) => data = back,
            }
        }
        Ok(inbox.spill(data).await?)
    }

    fn overflow(&self) -> Error {
        tracing::warn!(peer = %self.peer, "connection closed: its command does not read its input");
        Error::Disconnect
    }

    /// Waits for room, as long as the session loop is not wanted otherwise.
    async fn quiet(&self, channel: &Channel, patience: Duration) -> Result<Quiet, Error> {
        tokio::select! {
            () = channel.inbox().room() => Ok(Quiet::Room),
            () = self.traffic.written() => Ok(Quiet::Over),
            () = channel.closed().cancelled() => Ok(Quiet::Over),
            () = socket::hung_up(&self.tcp) => Err(Error::Disconnect),
            () = tokio::time::sleep(patience) => {
                channel.inbox().give_up_waiting();
                Ok(Quiet::Over)
            }
        }
    }
}

/// How waiting for room ended.
#[derive(PartialEq)]
enum Quiet {
    /// There may be room.
    Room,
    /// The session loop has something else to do.
    Over,
}

impl<D: Door> Drop for Connection<D> {
    fn drop(&mut self) {
        self.gone.cancel();
        for channel in self.channels().values() {
            channel.close();
        }
        if self.key.is_none() && !self.strangers.is_empty() {
            let fingerprints = self.strangers.join(" ");
            tracing::warn!(peer = %self.peer, fingerprints, "login refused: nobody owns these keys");
        }
    }
}

impl<D: Door> Handler for Connection<D> {
    type Error = Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        if self.owner(offer.public_key, offer.algorithm).await.is_some() {
            return Ok(Auth::Accept);
        }
        self.strangers.push(PublicKey::from(offer.public_key).fingerprint().to_owned());
        Ok(Auth::reject())
    }

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        let Some(caller) = self.owner(key.public_key, key.algorithm).await else {
            return Ok(Auth::reject());
        };
        tracing::debug!(peer = %self.peer, caller = caller.name(), "logged in");
        let key = PublicKey::from(key.public_key);
        self.watch(&key);
        self.key = Some(key);
        self.milestones.logged_in.cancel();
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: russh::Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        if self.channels().len() >= self.server.limits.channels {
            self.forbid("session", "too many in this connection");
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        // Data reaches `data` below; the reading half would only be filled.
        let (_, write) = channel.split();
        let (limits, disk) = (&self.server.limits, &self.server.disk);
        let channel = Channel::new(write, Arc::clone(&self.traffic), self.gone.child_token(), limits, disk);
        self.channels().insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        let Some(channel) = self.channel(id) else { return Ok(()) };
        channel.close();
        // A command that goes on without its client counts until it has ended.
        if !channel.is_used() {
            self.channels().remove(&id);
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        if let Some(channel) = self.channel(id) {
            channel.end_input();
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _session: &mut Session) -> Result<(), Error> {
        let Some(channel) = self.channel(id) else { return Ok(()) };
        match channel.offer(data) {
            Offer::Taken => Ok(()),
            Offer::Full(data) => self.hold(&channel, data).await,
        }
    }

    async fn exec_request(&mut self, id: ChannelId, line: &[u8], session: &mut Session) -> Result<(), Error> {
        if self.server.stopping.is_cancelled() {
            return self.refuse(id, session, Refusal::Stopping);
        }
        let Some(key) = self.key.clone() else { return session.channel_failure(id) };
        let Some(channel) = self.begin(id, session)? else { return Ok(()) };
        let (server, peer, line) = (Arc::clone(&self.server), self.peer, line.to_vec());
        let channels = Arc::clone(&self.channels);
        self.server.commands.spawn(async move {
            match server.door.admit(&key, peer).await {
                Some(caller) => channel.run(&*server.door, caller, &line, server.stop.clone()).await,
                None => channel.refuse(&Refusal::KeyRemoved).await,
            }
            lock(&channels).remove(&channel.id());
        });
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.refuse(id, session, Refusal::NoCommand)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.refuse(id, session, Refusal::Subsystem(shorten(name)))
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        if name == "GIT_PROTOCOL" && command_line::is_git_protocol(value) {
            if let Some(channel) = self.channel(id) {
                channel.set_git_protocol(value);
            }
            return session.channel_success(id);
        }
        // Clients send these unasked.
        if !matches!(name, "LANG" | "TERM" | "COLORTERM") && !name.starts_with("LC_") {
            self.forbid("environment variable", name);
        }
        session.channel_failure(id)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        name: &str,
        columns: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        if let Some(channel) = self.channel(id) {
            channel.set_terminal(&shorten(name), columns, rows);
        }
        session.channel_success(id)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        if let Some(channel) = self.channel(id) {
            channel.resize(columns, rows);
        }
        session.channel_success(id)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, session: &mut Session) -> Result<(), Error> {
        if let Some(channel) = self.channel(id)
            && matches!(signal, Sig::INT | Sig::TERM | Sig::HUP | Sig::KILL | Sig::QUIT)
        {
            channel.interrupt();
        }
        session.channel_success(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.forbid("X11 forwarding", "");
        session.channel_failure(id)
    }

    async fn agent_request(&mut self, _id: ChannelId, _session: &mut Session) -> Result<bool, Error> {
        self.forbid("agent forwarding", "");
        Ok(false)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _channel: russh::Channel<Msg>,
        host: &str,
        port: u32,
        _from: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.forbid("port forwarding", &format!("{}:{port}", shorten(host)));
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _channel: russh::Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.forbid("socket forwarding", path);
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        self.forbid("remote port forwarding", &format!("{}:{port}", shorten(address)));
        Ok(false)
    }

    async fn streamlocal_forward(&mut self, path: &str, _session: &mut Session) -> Result<bool, Error> {
        self.forbid("remote socket forwarding", path);
        Ok(false)
    }
}

fn lock(channels: &Channels) -> MutexGuard<'_, HashMap<ChannelId, Arc<Channel>>> {
    channels.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stranger's word for logs and answers: not long, nothing but printable.
fn shorten(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(ECHO).collect()
}
