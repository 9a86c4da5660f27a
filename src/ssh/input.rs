//! A command's input: what the client sent and the command has not read yet.
//!
//! The SSH library hands data to the same loop that sends output, so waiting
//! there for a slow command can stop both directions for good. So unread input
//! waits in memory first; beyond that the client is made to wait, but only
//! while nothing else wants the loop; and what can't wait goes to a file.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;

/// Bytes read back from the file at a time.
const CHUNK: u64 = 256 << 10;

/// Where the session loop puts what arrives.
pub(super) struct Inbox {
    state: Mutex<State>,
    room: Notify,
    memory_limit: usize,
    disk_limit: u64,
    spill_dir: PathBuf,
}

#[derive(Default)]
struct State {
    memory: VecDeque<Bytes>,
    memory_bytes: usize,
    /// Read after the memory is empty; nothing goes to memory while it holds any.
    spill: Option<Spill>,
    ending: Option<Ending>,
    /// Pieces read so far, and how many it were when waiting was given up.
    reads: u64,
    stalled: Option<u64>,
    reader_gone: bool,
    reader: Option<Waker>,
}

struct Spill {
    file: Arc<File>,
    read: u64,
    written: u64,
}

#[derive(Clone, Copy)]
enum Ending {
    /// The client has closed its input.
    Complete,
    /// The client went away in the middle.
    Broken,
}

/// What `Inbox::offer` did with a piece of input.
pub(super) enum Offer {
    /// It waits for the command, or nobody will read it any more.
    Taken,
    /// The memory is full: wait for room, or call `Inbox::spill`.
    Full(Bytes),
}

impl Inbox {
    pub(super) fn new(memory_limit: usize, disk_limit: u64, spill_dir: PathBuf) -> Arc<Self> {
        let (state, room) = (Mutex::default(), Notify::new());
        Arc::new(Self { state, room, memory_limit, disk_limit, spill_dir })
    }

    /// The reading end; there should be one.
    pub(super) fn reader(self: &Arc<Self>) -> Input {
        Input { inbox: Arc::clone(self) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `data` if there is room in memory.
    pub(super) fn offer(&self, data: Bytes) -> Offer {
        let mut state = self.state();
        if state.reader_gone || state.ending.is_some() {
            return Offer::Taken;
        }
        if state.unread() >= self.memory_limit as u64 || state.spilled() > 0 {
            return Offer::Full(data);
        }
        if let Some(spill) = &mut state.spill {
            spill.rewind();
        }
        state.memory_bytes += data.len();
        state.memory.push_back(data);
        state.wake();
        Offer::Taken
    }

    /// Returns when the reader has made room since the last call, perhaps.
    pub(super) async fn room(&self) {
        self.room.notified().await;
    }

    /// The command has not read for a while: nobody should wait for it until it
    /// does, or a client that has gone would not be noticed behind its own data.
    pub(super) fn give_up_waiting(&self) {
        let mut state = self.state();
        state.stalled = Some(state.reads);
    }

    /// Whether it makes sense to wait for room.
    pub(super) fn is_being_read(&self) -> bool {
        let state = self.state();
        state.stalled != Some(state.reads)
    }

    /// Whether the file may take `length` bytes more.
    pub(super) fn may_spill(&self, length: usize) -> bool {
        let state = self.state();
        state.spill.as_ref().map_or(0, |spill| spill.written) + length as u64 <= self.disk_limit
    }

    /// Puts `data` into the file. Only the session loop writes there, one piece
    /// after the other.
    pub(super) async fn spill(&self, data: Bytes) -> Result<()> {
        let (file, offset) = self.spill_end()?;
        let length = data.len() as u64;
        tokio::task::spawn_blocking(move || file.write_all_at(&data, offset)).await??;
        let mut state = self.state();
        if let Some(spill) = &mut state.spill {
            spill.written = offset + length;
        }
        state.wake();
        Ok(())
    }

    fn spill_end(&self) -> Result<(Arc<File>, u64)> {
        let mut state = self.state();
        if state.spill.is_none() {
            let file = Arc::new(tempfile::tempfile_in(&self.spill_dir)?);
            tracing::debug!("input goes to disk");
            state.spill = Some(Spill { file, read: 0, written: 0 });
        }
        state.spill.as_ref().map(|spill| (Arc::clone(&spill.file), spill.written)).ok_or_else(gone)
    }

    /// The client has sent all its input.
    pub(super) fn complete(&self) {
        self.end(Ending::Complete);
    }

    /// The client has gone; what was unread and unfinished ends in an error.
    pub(super) fn broken(&self) {
        self.end(Ending::Broken);
    }

    fn end(&self, ending: Ending) {
        let mut state = self.state();
        state.ending.get_or_insert(ending);
        state.wake();
    }
}

impl State {
    fn spilled(&self) -> u64 {
        self.spill.as_ref().map_or(0, |spill| spill.written - spill.read)
    }

    fn unread(&self) -> u64 {
        self.memory_bytes as u64 + self.spilled()
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Moves a piece of the file to the empty memory.
    fn load(&mut self) -> Result<()> {
        let Some(spill) = &mut self.spill else { return Ok(()) };
        let length = (spill.written - spill.read).min(CHUNK);
        let mut chunk = vec![0; usize::try_from(length).unwrap_or(0)];
        spill.file.read_exact_at(&mut chunk, spill.read)?;
        spill.read += length;
        self.memory_bytes += chunk.len();
        self.memory.push_back(chunk.into());
        Ok(())
    }
}

impl Spill {
    /// Everything was read: start again at the front, giving the space back.
    fn rewind(&mut self) {
        if self.written > 0 && self.file.set_len(0).is_ok() {
            (self.read, self.written) = (0, 0);
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::UnexpectedEof, "the client has gone")
}

/// The reading end of an [`Inbox`]: a command's standard input.
pub(super) struct Input {
    inbox: Arc<Inbox>,
}

impl AsyncRead for Input {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let mut state = self.inbox.state();
        if state.memory.is_empty() && state.spilled() > 0 {
            state.load()?;
        }
        let Some(front) = state.memory.front_mut() else {
            return match state.ending {
                Some(Ending::Complete) => Poll::Ready(Ok(())),
                Some(Ending::Broken) => Poll::Ready(Err(gone())),
                None => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        let count = front.len().min(buffer.remaining());
        buffer.put_slice(&front[..count]);
        front.advance(count);
        let empty = front.is_empty();
        state.memory_bytes -= count;
        state.reads += 1;
        if empty {
            state.memory.pop_front();
        }
        if state.unread() < self.inbox.memory_limit as u64 {
            self.inbox.room.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let mut state = self.inbox.state();
        state.reader_gone = true;
        state.memory = VecDeque::new();
        state.memory_bytes = 0;
        state.spill = None;
        self.inbox.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::AsyncReadExt;

    fn inbox(memory: usize, disk: u64) -> Arc<Inbox> {
        Inbox::new(memory, disk, std::env::temp_dir())
    }

    async fn put(inbox: &Inbox, data: &[u8]) {
        if let Offer::Full(data) = inbox.offer(Bytes::copy_from_slice(data)) {
            inbox.spill(data).await.unwrap();
        }
    }

    #[tokio::test]
    async fn order_is_kept_through_memory_and_disk_and_back() {
        let inbox = inbox(10, 1 << 20);
        let mut reader = inbox.reader();
        let mut expected = Vec::new();
        let mut seen = Vec::new();
        for round in 0..50_u8 {
            for piece in 0..=(round % 7) {
                let data = vec![round ^ piece; usize::from(piece) * 3 + 1];
                expected.extend_from_slice(&data);
                put(&inbox, &data).await;
            }
            let mut part = vec![0; usize::from(round)];
            let count = if seen.len() + part.len() <= expected.len() {
                reader.read(&mut part).await.unwrap()
            } else {
                0
            };
            seen.extend_from_slice(&part[..count]);
        }
        inbox.complete();
        reader.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, expected);
    }

    #[tokio::test]
    async fn the_disk_limit_counts_and_is_given_back() {
        let inbox = inbox(4, 100);
        let mut reader = inbox.reader();
        put(&inbox, b"full").await;
        put(&inbox, &[1; 90]).await;
        assert!(!inbox.may_spill(11));
        let mut all = [0; 94];
        reader.read_exact(&mut all).await.unwrap();
        put(&inbox, b"x").await;
        assert!(inbox.may_spill(100));
    }

    #[tokio::test]
    async fn a_client_that_vanishes_is_no_end_of_file() {
        let inbox = inbox(100, 0);
        let mut reader = inbox.reader();
        put(&inbox, b"half").await;
        inbox.broken();
        let mut text = Vec::new();
        let error = reader.read_to_end(&mut text).await.unwrap_err();
        assert_eq!((text.as_slice(), error.kind()), (&b"half"[..], ErrorKind::UnexpectedEof));
    }

    #[tokio::test]
    async fn a_command_that_does_not_read_takes_everything_off_our_hands() {
        let inbox = inbox(1, 0);
        drop(inbox.reader());
        for _ in 0..3 {
            assert!(matches!(inbox.offer(Bytes::from_static(b"xx")), Offer::Taken));
        }
    }
}
