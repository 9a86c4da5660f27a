//! The control socket: local commands and the hooks of pushes.

use super::wire::{self, Channel, Hello};
use crate::command::{self, Invocation};
use crate::deploy::{Hook, Pipeline, Report};
use crate::frame;
use crate::git::RefUpdate;
use crate::model::{Caller, Origin};
use crate::output::Streams;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

/// Longest first message: a push of 32 refs, or a command with its values.
const HELLO: usize = 4 << 20;

/// How long a client may take for its first message.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves the control socket until `stop`.
pub async fn serve(listener: UnixListener, pipeline: Arc<Pipeline>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a local connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop.cancelled() => return,
        };
        let Some(uid) = super::is_trusted(&stream) else { continue };
        let pipeline = pipeline.clone();
        tokio::spawn(async move {
            if let Err(error) = attend(stream, uid, pipeline).await {
                tracing::debug!(%error, "a local connection was lost");
            }
        });
    }
}

async fn attend(stream: UnixStream, uid: u32, pipeline: Arc<Pipeline>) -> io::Result<()> {
    let (mut from, to) = stream.into_split();
    let hello = tokio::time::timeout(PATIENCE, frame::read_limited::<Hello>(&mut from, HELLO)).await??;
    match hello {
        None => Ok(()),
        Some(Hello::Command { argv }) => local_command(argv, uid, from, to, pipeline).await,
        Some(Hello::PreReceive { push, updates, quarantine }) => {
            let updates = updates.iter().filter_map(|line| RefUpdate::parse(line)).collect();
            hook(&push, Hook::PreReceive { updates, quarantine }, from, to, pipeline).await
        }
        Some(Hello::PostReceive { push }) => hook(&push, Hook::PostReceive, from, to, pipeline).await,
    }
}

/// A hook: its lines as they come, then its exit status.
async fn hook(
    push: &str,
    hook: Hook,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    pipeline: Arc<Pipeline>,
) -> io::Result<()> {
    let (report, mut lines) = Report::channel();
    let gone = CancellationToken::new();
    let _when_dropped = gone.clone().drop_guard();
    let watcher = gone.clone();
    tokio::spawn(async move {
        // The hook says nothing more; the end of its stream is the end of it.
        while let Ok(Some(_)) = wire::receive(&mut from).await {}
        watcher.cancel();
    });
    let id = push.to_owned();
    // In a task of its own: a connection that breaks cancels through `gone`, and
    // then what was begun is undone in order.
    let work = tokio::spawn(async move { Box::pin(pipeline.hook(&id, hook, report, gone)).await });
    while let Some(line) = lines.next().await {
        let _ = wire::send(&mut to, Channel::Stdout, format!("{line}\n").as_bytes()).await;
    }
    let good = work.await.unwrap_or(false);
    wire::send(&mut to, Channel::Exit, &u32::from(!good).to_be_bytes()).await
}

async fn local_command(
    argv: Vec<String>,
    uid: u32,
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
    pipeline: Arc<Pipeline>,
) -> io::Result<()> {
    let gone = CancellationToken::new();
    let (stdin, mut feed) = tokio::io::duplex(64 << 10);
    let watcher = gone.clone();
    tokio::spawn(async move {
        let mut open = true;
        while let Ok(Some((channel, bytes))) = wire::receive(&mut from).await {
            if channel == Channel::Stdin && open {
                open = !bytes.is_empty() && feed.write_all(&bytes).await.is_ok();
                if !open {
                    let _ = feed.shutdown().await;
                }
            }
        }
        watcher.cancel();
    });
    let to = Arc::new(Mutex::new(to));
    let (stdout, out) = pump(to.clone(), Channel::Stdout);
    let (stderr, err) = pump(to.clone(), Channel::Stderr);
    let streams =
        Streams { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: Box::new(stderr), gone };
    let caller = Caller { key: None, origin: Origin::Local(uid) };
    let status = command::run(&pipeline, Invocation { caller, argv, streams }).await;
    let _ = tokio::join!(out, err);
    wire::send(&mut *to.lock().await, Channel::Exit, &status.to_be_bytes()).await
}

/// A writer whose bytes become chunks of a channel, and the task that sends them.
fn pump(to: Arc<Mutex<OwnedWriteHalf>>, channel: Channel) -> (Chunks, tokio::task::JoinHandle<()>) {
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(64);
    let task = tokio::spawn(async move {
        while let Some(bytes) = receiver.recv().await {
            if wire::send(&mut *to.lock().await, channel, &bytes).await.is_err() {
                return;
            }
        }
    });
    (Chunks { sender: tokio_util::sync::PollSender::new(sender) }, task)
}

struct Chunks {
    sender: tokio_util::sync::PollSender<Vec<u8>>,
}

impl AsyncWrite for Chunks {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(wire::CHUNK)];
        match self.sender.poll_reserve(context) {
            Poll::Ready(Ok(())) => {
                let sent = self.sender.send_item(bytes.to_vec());
                Poll::Ready(sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.close();
        Poll::Ready(Ok(()))
    }
}
