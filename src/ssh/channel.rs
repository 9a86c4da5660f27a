//! One session channel: what the client asked for beforehand, and the one
//! command that it may run.

use super::input::{Inbox, Offer};
use super::output::{Output, Traffic};
use super::terminal::{Discipline, Terminal};
use super::words::Refusal;
use super::{Door, Exec, Limits, command_line};
use crate::model::Caller;
use crate::output::Streams;
use bytes::Bytes;
use futures_util::FutureExt;
use russh::server::Msg;
use russh::{ChannelId, ChannelWriteHalf};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// SSH's number for standard error.
const STDERR: u32 = 1;
/// Exit status of what was refused.
const REFUSED: u32 = 1;

/// One open session channel.
pub(super) struct Channel {
    write: ChannelWriteHalf<Msg>,
    inbox: Arc<Inbox>,
    traffic: Arc<Traffic>,
    used: AtomicBool,
    asked: Mutex<Asked>,
    /// The client has closed the channel or is gone.
    closed: CancellationToken,
    /// That, or the client wants the command to end.
    gone: CancellationToken,
}

/// What came before the command.
#[derive(Default)]
struct Asked {
    git_protocol: Option<String>,
    terminal: Option<(Terminal, watch::Sender<(u32, u32)>)>,
}

impl Channel {
    pub(super) fn new(
        write: ChannelWriteHalf<Msg>,
        traffic: Arc<Traffic>,
        closed: CancellationToken,
        limits: &Limits,
        spill_dir: &Path,
    ) -> Arc<Self> {
        let inbox = Inbox::new(limits.input_memory, limits.input_disk, spill_dir.to_owned());
        let (used, asked, gone) = (AtomicBool::new(false), Mutex::default(), closed.child_token());
        Arc::new(Self { write, inbox, traffic, used, asked, closed, gone })
    }

    pub(super) fn id(&self) -> ChannelId {
        self.write.id()
    }

    /// True once: each channel runs one command.
    pub(super) fn claim(&self) -> bool {
        !self.used.swap(true, SeqCst)
    }

    fn asked<T>(&self, with: impl FnOnce(&mut Asked) -> T) -> T {
        with(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_git_protocol(&self, value: &str) {
        self.asked(|asked| asked.git_protocol = Some(value.to_owned()));
    }

    pub(super) fn set_terminal(&self, name: &str, columns: u32, rows: u32) {
        let (sender, size) = watch::channel((columns, rows));
        let terminal =
            Terminal { name: name.to_owned(), columns, rows, size, discipline: Discipline::default() };
        self.asked(|asked| asked.terminal = Some((terminal, sender)));
    }

    pub(super) fn resize(&self, columns: u32, rows: u32) {
        self.asked(|asked| asked.terminal.as_ref().map(|(_, size)| size.send_replace((columns, rows))));
    }

    fn discipline(&self) -> Option<Discipline> {
        self.asked(|asked| asked.terminal.as_ref().map(|(terminal, _)| terminal.discipline.clone()))
    }

    /// The user wants the command to end, and is still there.
    pub(super) fn interrupt(&self) {
        self.gone.cancel();
    }

    /// The client has closed the channel.
    pub(super) fn close(&self) {
        self.inbox.broken();
        self.closed.cancel();
    }

    /// The client has no more input.
    pub(super) fn end_input(&self) {
        self.inbox.complete();
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Takes input, or gives it back if there is no room in memory.
    pub(super) fn offer(&self, data: &[u8]) -> Offer {
        let Some(discipline) = self.discipline() else {
            return self.inbox.offer(Bytes::copy_from_slice(data));
        };
        if discipline.interrupts(data) {
            self.interrupt();
        }
        self.inbox.offer(discipline.typed(data).into())
    }

    fn output(&self, extension: Option<u32>) -> Output {
        let writer = self.write.make_writer_ext(extension);
        Output::new(writer, self.closed.clone(), Arc::clone(&self.traffic), self.discipline())
    }

    /// Says why and ends the channel.
    pub(super) async fn refuse(&self, refusal: &Refusal) {
        // A client that can't be told has gone.
        let _ = self.output(Some(STDERR)).write_all(format!("{refusal}\n").as_bytes()).await;
        self.finish(REFUSED).await;
    }

    /// Runs the command of `line` to its end, or refuses it.
    pub(super) async fn run(&self, door: &impl Door, caller: Caller, line: &[u8], stop: Stop) {
        let argv = match command_line::words(line) {
            Ok(argv) => argv,
            Err(refusal) => {
                tracing::info!(caller = caller.name(), %refusal, "command refused");
                return self.refuse(&refusal).await;
            }
        };
        let asked =
            self.asked(|asked| (asked.git_protocol.clone(), asked.terminal.as_ref().map(|(t, _)| t.clone())));
        let (git_protocol, terminal) = asked;
        let streams = Streams {
            stdin: Box::new(self.inbox.reader()),
            stdout: Box::new(self.output(None)),
            stderr: Box::new(self.output(Some(STDERR))),
            gone: self.gone.clone(),
        };
        // A command that panics must not leave its client waiting.
        let running =
            AssertUnwindSafe(door.run(Exec { caller, argv, git_protocol, terminal, streams })).catch_unwind();
        match self.until_stopped(running, stop).await {
            Some(Ok(status)) => self.finish(status).await,
            Some(Err(_)) => self.refuse(&Refusal::Broken).await,
            None => {}
        }
    }

    /// The exit status, or nothing if we had to drop the command.
    async fn until_stopped<T>(&self, running: impl Future<Output = T>, stop: Stop) -> Option<T> {
        tokio::pin!(running);
        tokio::select! {
            status = &mut running => return Some(status),
            () = stop.interrupt.cancelled() => self.interrupt(),
        }
        tokio::select! {
            status = &mut running => Some(status),
            () = stop.abort.cancelled() => None,
        }
    }

    /// Exit status, end of output, close; in this order, behind all output.
    async fn finish(&self, status: u32) {
        let _ = self.write.exit_status(status).await;
        let _ = self.write.eof().await;
        let _ = self.write.close().await;
        self.closed.cancel();
    }
}

/// The two steps by which commands end when we stop.
#[derive(Clone, Default)]
pub(super) struct Stop {
    /// Commands are told to end.
    pub(super) interrupt: CancellationToken,
    /// Commands are dropped.
    pub(super) abort: CancellationToken,
}
