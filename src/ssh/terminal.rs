//! The client's terminal. `ssh -t` switches it to raw mode and leaves line
//! ends and Ctrl-C to us; a command that talks to a terminal of its own (a
//! shell in a container) takes both over with [`Terminal::raw`].

use crate::output::Streams;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Ctrl-C.
const INTERRUPT: u8 = 3;
/// Ctrl-D.
const END_OF_INPUT: u8 = 4;
/// Either is sent for the key that takes a character back.
const BACKSPACE: u8 = 8;
const DELETE: u8 = 127;
/// Most bytes of a typed line.
const LONGEST: usize = 1024;

/// A terminal as its client described it.
#[derive(Debug, Clone)]
pub struct Terminal {
    /// Its kind, such as `xterm-256color`; a stranger's word.
    pub name: String,
    /// Width in characters when the command began.
    pub columns: u32,
    /// Height in characters when the command began.
    pub rows: u32,
    /// Width and height, now and whenever they change.
    pub size: watch::Receiver<(u32, u32)>,
    pub(super) discipline: Discipline,
}

impl Terminal {
    /// From now on all bytes pass unchanged, Ctrl-C too.
    pub fn raw(&self) {
        self.discipline.0.store(true, Relaxed);
    }

    /// A line that the user types, echoed, Backspace working; nothing if input
    /// ends first. Not for secrets, and not after [`Terminal::raw`].
    pub async fn read_line(&self, streams: &mut Streams) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        loop {
            let mut key = [0];
            if streams.stdin.read(&mut key).await? == 0 || (line.is_empty() && key == [END_OF_INPUT]) {
                return Ok(None);
            }
            let echo = match key[0] {
                b'\n' => {
                    streams.stdout.write_all(b"\n").await?;
                    return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
                }
                BACKSPACE | DELETE => {
                    if erase(&mut line) {
                        &b"\x08 \x08"[..]
                    } else {
                        b""
                    }
                }
                0..b' ' => b"",
                _ if line.len() >= LONGEST => b"",
                byte => {
                    line.push(byte);
                    &key
                }
            };
            streams.stdout.write_all(echo).await?;
            streams.stdout.flush().await?;
        }
    }
}

/// Takes back the last character, if there is one.
fn erase(line: &mut Vec<u8>) -> bool {
    // The bytes after the first of a UTF-8 character have these two bits.
    while line.pop_if(|byte| *byte & 0xc0 == 0x80).is_some() {}
    line.pop().is_some()
}

/// What we do to the bytes between a command and a terminal.
#[derive(Debug, Clone, Default)]
pub(super) struct Discipline(Arc<AtomicBool>);

impl Discipline {
    pub(super) fn is_raw(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Whether Ctrl-C is among the keys pressed.
    pub(super) fn interrupts(&self, keys: &[u8]) -> bool {
        !self.is_raw() && keys.contains(&INTERRUPT)
    }

    /// What a command reads for the keys pressed: Enter is a line end.
    pub(super) fn typed(&self, keys: &[u8]) -> Vec<u8> {
        let enter = |&key: &u8| if key == b'\r' && !self.is_raw() { b'\n' } else { key };
        keys.iter().map(enter).collect()
    }
}

/// Each `\n` becomes `\r\n`, unless it is one already.
pub(super) fn line_ends(data: &[u8]) -> Vec<u8> {
    let mut rewritten = Vec::with_capacity(data.len() + data.len() / 16);
    for (index, &byte) in data.iter().enumerate() {
        if byte == b'\n' && (index == 0 || data[index - 1] != b'\r') {
            rewritten.push(b'\r');
        }
        rewritten.push(byte);
    }
    rewritten
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio_util::sync::CancellationToken;

    #[test]
    fn a_cooked_terminal_gets_line_ends_and_its_enter_is_one() {
        let cooked = Discipline::default();
        assert_eq!(line_ends(b"a\nb\r\nc\n\n"), b"a\r\nb\r\nc\r\n\r\n");
        assert_eq!(cooked.typed(b"yes\r"), b"yes\n");
        assert!(cooked.interrupts(b"x\x03"));
    }

    #[test]
    fn a_raw_terminal_gets_what_was_sent() {
        let raw = Discipline::default();
        raw.0.store(true, Relaxed);
        assert_eq!(raw.typed(b"yes\r"), b"yes\r");
        assert!(!raw.interrupts(b"\x03"));
    }

    async fn type_keys(keys: &'static [u8]) -> (Option<String>, Vec<u8>) {
        let (_sender, size) = watch::channel((80, 24));
        let discipline = Discipline::default();
        let terminal = Terminal { name: "xterm".to_owned(), columns: 80, rows: 24, size, discipline };
        let (stdout, mut screen) = tokio::io::duplex(4096);
        let (stderr, gone) = (Box::new(tokio::io::sink()), CancellationToken::new());
        let mut streams = Streams { stdin: Box::new(keys), stdout: Box::new(stdout), stderr, gone };
        let line = terminal.read_line(&mut streams).await.unwrap();
        drop(streams);
        let mut shown = Vec::new();
        screen.read_to_end(&mut shown).await.unwrap();
        (line, shown)
    }

    #[tokio::test]
    async fn a_typed_line_is_echoed_and_can_be_corrected() {
        let (line, shown) = type_keys("my-apж\x7fp\x1b\n".as_bytes()).await;
        assert_eq!(line.as_deref(), Some("my-app"));
        assert_eq!(shown, "my-apж\x08 \x08p\n".as_bytes());
        assert_eq!(type_keys(b"\x7f\n").await, (Some(String::new()), b"\n".to_vec()));
        assert_eq!(type_keys(b"\x04").await.0, None);
        assert_eq!(type_keys(b"half").await.0, None);
    }
}
