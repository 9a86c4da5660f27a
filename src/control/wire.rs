//! What goes over the control socket.
//!
//! First one [`Hello`] as a JSON frame from the client, then chunks both ways:
//! one byte channel, four bytes big-endian length, that many bytes.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest chunk, bytes.
pub const CHUNK: usize = 1 << 20;

/// What a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Channel {
    /// Client to server; an empty chunk ends it.
    Stdin = 0,
    /// Server to client.
    Stdout = 1,
    /// Server to client.
    Stderr = 2,
    /// Server to client, last: the exit status as four bytes big-endian.
    Exit = 3,
}

impl Channel {
    fn from_byte(byte: u8) -> io::Result<Self> {
        match byte {
            0 => Ok(Self::Stdin),
            1 => Ok(Self::Stdout),
            2 => Ok(Self::Stderr),
            3 => Ok(Self::Exit),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "unknown channel")),
        }
    }
}

/// Who connects. `Debug` shows no more than that: words may be values of config
/// vars, and a push's id lets its bearer in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hello {
    /// A local command.
    Command {
        /// Its words.
        argv: Vec<String>,
    },
    /// pre-receive of a push.
    PreReceive {
        /// The push's one-time id.
        push: String,
        /// Its input: `OLD NEW REF` each.
        updates: Vec<String>,
        /// `GIT_QUARANTINE_PATH`.
        quarantine: Option<PathBuf>,
    },
    /// post-receive of a push.
    PostReceive {
        /// The push's one-time id.
        push: String,
    },
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Command { .. } => "Command",
            Self::PreReceive { .. } => "PreReceive",
            Self::PostReceive { .. } => "PostReceive",
        })
    }
}

fn head(channel: Channel, length: usize) -> [u8; 5] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [channel as u8, length[0], length[1], length[2], length[3]]
}

fn parse_head(head: [u8; 5]) -> io::Result<(Channel, usize)> {
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > CHUNK {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "chunk too long"));
    }
    Ok((Channel::from_byte(head[0])?, length))
}

/// Sends one chunk of at most [`CHUNK`] bytes.
pub async fn send(to: &mut (impl AsyncWrite + Unpin), channel: Channel, bytes: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(5 + bytes.len());
    message.extend_from_slice(&head(channel, bytes.len()));
    message.extend_from_slice(bytes);
    to.write_all(&message).await
}

/// The next chunk; `None` at the end.
pub async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(Channel, Vec<u8>)>> {
    let mut bytes = [0; 5];
    if from.read(&mut bytes[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut bytes[1..]).await?;
    let (channel, length) = parse_head(bytes)?;
    let mut content = vec![0; length];
    from.read_exact(&mut content).await?;
    Ok(Some((channel, content)))
}

/// The client's side, blocking: hooks and local commands start faster without
/// a runtime.
pub mod blocking {
    use super::{Channel, Hello, head, parse_head};
    use std::io::{self, Read, Write};

    /// Sends the first message.
    pub fn greet(to: &mut impl Write, hello: &Hello) -> io::Result<()> {
        let document = serde_json::to_vec(hello)?;
        let length = u32::try_from(document.len()).map_err(io::Error::other)?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(&document);
        to.write_all(&frame)
    }

    /// Sends one chunk.
    pub fn send(to: &mut impl Write, channel: Channel, bytes: &[u8]) -> io::Result<()> {
        let mut message = head(channel, bytes.len()).to_vec();
        message.extend_from_slice(bytes);
        to.write_all(&message)
    }

    /// The next chunk.
    pub fn receive(from: &mut impl Read) -> io::Result<(Channel, Vec<u8>)> {
        let mut bytes = [0; 5];
        from.read_exact(&mut bytes)?;
        let (channel, length) = parse_head(bytes)?;
        let mut content = vec![0; length];
        from.read_exact(&mut content)?;
        Ok((channel, content))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn both_sides_speak_the_same() {
        let mut wire = Vec::new();
        blocking::greet(&mut wire, &Hello::PostReceive { push: "x".into() }).unwrap();
        blocking::send(&mut wire, Channel::Stdin, b"\0\xff").unwrap();
        send(&mut wire, Channel::Exit, &7u32.to_be_bytes()).await.unwrap();
        let mut reader = &wire[..];
        assert_eq!(
            crate::frame::read::<Hello>(&mut reader).await.unwrap().unwrap(),
            Hello::PostReceive { push: "x".into() }
        );
        assert_eq!(receive(&mut reader).await.unwrap().unwrap(), (Channel::Stdin, b"\0\xff".to_vec()));
        assert_eq!(blocking::receive(&mut reader).unwrap(), (Channel::Exit, vec![0, 0, 0, 7]));
        assert!(receive(&mut reader).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_chunk_that_claims_gigabytes_is_refused() {
        let wire = [0u8, 0xff, 0xff, 0xff, 0xff];
        assert!(receive(&mut &wire[..]).await.is_err());
    }
}
