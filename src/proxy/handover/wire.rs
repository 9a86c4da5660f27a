//! What the two sides of a handover say, and descriptors over a socket.

use crate::model::{RouteTable, Target};
use crate::proxy::sockets::Purpose;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Descriptors per message; Linux takes 253.
const BATCH: usize = 64;
/// Descriptors of one handover: what an offer claims is not believed beyond.
const MOST: usize = 65_536;

/// What the new proxy says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FromNew {
    /// May I?
    Take {
        /// Who asks.
        pid: u32,
        /// Whether it takes a socket for monitoring.
        #[serde(default)]
        metrics: bool,
    },
    /// I know the routes and could begin.
    Ready,
}

/// What the old proxy says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FromOld {
    /// Followed by the lock and the sockets, in this order.
    Offer(Box<Offer>),
    /// Begin: I accept no more.
    Yours,
    /// I go on; with the reason.
    No(String),
}

/// Everything that the old proxy has, but for its connections.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    /// What each socket is for.
    pub(super) entries: Vec<Purpose>,
    /// The table in force.
    pub(super) table: RouteTable,
    /// Targets of older tables, of which the control plane may not have heard
    /// yet that nobody sends them anything.
    pub(super) gone: Vec<Target>,
}

/// Sends descriptors, each batch with one byte.
pub(super) async fn send(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for batch in descriptors.chunks(BATCH) {
        stream.async_io(Interest::WRITABLE, || send_batch(stream, batch)).await?;
    }
    Ok(())
}

fn send_batch(stream: &UnixStream, batch: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(batch));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(stream, &[IoSlice::new(b".")], &mut control, flags)?;
    Ok(())
}

/// Receives so many descriptors.
pub(super) async fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    if count > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many sockets"));
    }
    let mut descriptors = Vec::new();
    while descriptors.len() < count {
        let batch = stream.async_io(Interest::READABLE, || receive_batch(stream)).await?;
        if batch.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        descriptors.extend(batch);
    }
    Ok(descriptors)
}

fn receive_batch(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    #[tokio::test]
    async fn descriptors_arrive_in_order_however_many() {
        let (one, other) = UnixStream::pair().unwrap();
        let files: Vec<_> = (0..150u8)
            .map(|number| {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&[number]).unwrap();
                file.rewind().unwrap();
                file
            })
            .collect();
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let (sent, received) = tokio::join!(send(&one, &borrowed), receive(&other, 150));
        sent.unwrap();
        for (number, descriptor) in received.unwrap().into_iter().enumerate() {
            let mut byte = [0];
            std::fs::File::from(descriptor).read_exact(&mut byte).unwrap();
            assert_eq!(usize::from(byte[0]), number);
        }
    }

    #[tokio::test]
    async fn a_peer_that_ends_is_an_error() {
        let (one, other) = UnixStream::pair().unwrap();
        drop(one);
        assert!(receive(&other, 1).await.is_err());
    }
}
