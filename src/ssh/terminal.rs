//! The client's terminal. `ssh -t` switches it to raw mode and leaves line
//! ends and Ctrl-C to us; a command that talks to a terminal of its own (a
//! shell in a container) takes both over with [`Terminal::raw`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::watch;

/// Ctrl-C.
const INTERRUPT: u8 = 3;

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
    use super::*;

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
}
