//! Git's own receive-pack and upload-pack as children, bridged to a session.

use super::GitError;
use super::error::NO_ROOM;
use crate::output::Streams;
use crate::spawn;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Largest pack that is taken, bytes.
const MAX_PACK: u64 = 4 << 30;

/// Bytes; what git says at once is not longer, unless it sends objects.
const MESSAGE: usize = 4096;

/// Ids of fsck that real histories violate without harm; as errors they would
/// refuse half of the old repositories on earth.
/// <https://git-scm.com/docs/git-fsck#_fsck_messages>
const HARMLESS: [&str; 9] = [
    "badTimezone",
    "zeroPaddedFilemode",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "missingNameBeforeEmail",
    "badDate",
    "badFilemode",
    "zeroPaddedDate",
    "missingTaggerEntry",
];

/// What a push's hooks need to find their way back to us.
pub struct HookEnvironment<'a> {
    /// The shipped hooks.
    pub hooks: &'a Path,
    /// This binary.
    pub executable: &'a Path,
    /// The control socket.
    pub socket: &'a Path,
    /// The one-time id of this push.
    pub push: &'a str,
}

fn receive_settings(hooks: &Path) -> Vec<String> {
    let mut settings = vec![
        format!("core.hooksPath={}", hooks.display()),
        "core.fsync=all".to_owned(),
        "core.alternateRefsCommand=false".to_owned(),
        "gc.auto=0".to_owned(),
        "receive.autogc=false".to_owned(),
        "receive.advertisePushOptions=false".to_owned(),
        "receive.denyCurrentBranch=ignore".to_owned(),
        "receive.denyDeleteCurrent=ignore".to_owned(),
        "receive.fsckObjects=true".to_owned(),
        "receive.hideRefs=refs/releases".to_owned(),
        format!("receive.maxInputSize={MAX_PACK}"),
        "receive.shallowUpdate=true".to_owned(),
        "receive.procReceiveRefs=".to_owned(),
        // A pack stays a pack: unpacking thousands of objects one by one, each
        // with its fsync, is what makes a small push slow.
        "receive.unpackLimit=64".to_owned(),
        "pack.threads=2".to_owned(),
    ];
    settings.retain(|setting| !setting.ends_with('='));
    settings.extend(HARMLESS.iter().map(|id| format!("receive.fsck.{id}=warn")));
    settings
}

/// `git receive-pack`, holding the lease.
pub fn receive_pack(
    repository: &Path,
    protocol: Option<&str>,
    lease: OwnedFd,
    hooks: &HookEnvironment<'_>,
) -> Result<Child, GitError> {
    let settings = receive_settings(hooks.hooks);
    let mut arguments: Vec<&OsStr> = Vec::new();
    for setting in &settings {
        arguments.extend([OsStr::new("-c"), OsStr::new(setting)]);
    }
    arguments.extend([OsStr::new("receive-pack"), repository.as_os_str()]);
    let mut command = spawn::git(arguments);
    command
        .env("PAAS_EXECUTABLE", hooks.executable)
        .env("PAAS_SOCKET", hooks.socket)
        .env("PAAS_PUSH", hooks.push);
    start(spawn::holding(command, lease), protocol)
}

/// `git upload-pack`, for clone and fetch.
pub fn upload_pack(repository: &Path, protocol: Option<&str>) -> Result<Child, GitError> {
    let fixed = ["-c", "uploadpack.allowAnySHA1InWant=false", "upload-pack", "--strict", "--timeout=600"];
    let arguments = fixed.iter().map(OsStr::new).chain([repository.as_os_str()]);
    start(spawn::git(arguments), protocol)
}

fn start(mut command: Command, protocol: Option<&str>) -> Result<Child, GitError> {
    if let Some(protocol) = protocol {
        command.env("GIT_PROTOCOL", protocol);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| GitError::Io("start git", error))
}

/// A git that has ended.
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// It said that a disk is full. Its own, if no hook of ours has said so.
    pub disk_full: bool,
    /// What is left of the session.
    pub streams: Streams,
}

/// Carries the session's bytes to git and back until git has ended and all that
/// it said is delivered. `received` counts the user's bytes. When the user goes away, git's whole group is ended.
pub async fn bridge(
    mut child: Child,
    streams: Streams,
    received: &Arc<AtomicU64>,
) -> Result<Ended, GitError> {
    let Streams { stdin, mut stdout, mut stderr, gone } = streams;
    let group = child.id();
    let input = child.stdin.take();
    let received = received.clone();
    let feeding = tokio::spawn(async move { feed(stdin, input, &received).await });
    let (child_out, child_err) = (child.stdout.take(), child.stderr.take());
    let full = AtomicBool::new(false);
    let output = async {
        tokio::join!(drain(child_out, &mut stdout, &full), drain(child_err, &mut stderr, &full));
    };
    tokio::select! {
        () = output => {}
        () = gone.cancelled() => spawn::end_group(group),
    }
    let status = child.wait().await.map_err(|error| GitError::Io("wait for git", error))?;
    feeding.abort();
    let stdin = Box::new(tokio::io::empty());
    Ok(Ended { status, disk_full: full.into_inner(), streams: Streams { stdin, stdout, stderr, gone } })
}

async fn feed(
    mut from: Box<dyn AsyncRead + Send + Unpin>,
    into: Option<tokio::process::ChildStdin>,
    received: &AtomicU64,
) {
    let Some(mut into) = into else { return };
    // An error here is git having read enough; its exit status tells the story.
    let count = |bytes: &[u8]| {
        received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    };
    let _ = copy(&mut from, &mut into, count).await;
    let _ = into.shutdown().await;
}

/// Carries what git says, and notes whether that is of a full disk.
async fn drain(
    from: Option<impl AsyncRead + Unpin>,
    into: &mut (impl AsyncWrite + Unpin + ?Sized),
    full: &AtomicBool,
) {
    let Some(mut from) = from else { return };
    let look = |bytes: &[u8]| {
        // Messages are short, and packs are not for reading.
        let message =
            bytes.len() < MESSAGE && bytes.windows(NO_ROOM.len()).any(|at| at == NO_ROOM.as_bytes());
        full.fetch_or(message, Ordering::Relaxed);
    };
    let _ = copy(&mut from, into, look).await;
}

/// As `tokio::io::copy`, with a buffer as large as a pipe; `look` sees all that passes.
async fn copy(
    from: &mut (impl AsyncRead + Unpin + ?Sized),
    into: &mut (impl AsyncWrite + Unpin + ?Sized),
    look: impl Fn(&[u8]),
) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return into.flush().await;
        }
        look(&buffer[..length]);
        into.write_all(&buffer[..length]).await?;
        into.flush().await?;
    }
}
