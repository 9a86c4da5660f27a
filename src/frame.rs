//! Messages over our Unix sockets: a 4-byte big-endian length, then a JSON
//! document of that many bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;

/// The longest document of a frame that [`read`] and [`write`] let pass, in bytes.
pub const LIMIT: usize = 64 * 1024 * 1024;

/// Memory taken on the word of a length alone; more only as the bytes arrive.
const TRUSTED: usize = 64 * 1024;

/// A socket for our own user and root alone; one that a killed process left is
/// replaced. That nobody is alive there is known by that process's lock.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The next message, or `None` if the peer closed between two messages.
///
/// Not cancel safe: a read given up in the middle of a frame loses its place.
///
/// # Errors
/// `InvalidData` for a frame over [`LIMIT`] or one that is no `T`,
/// `UnexpectedEof` for a connection closed inside a frame, and what the
/// reader itself fails with.
pub async fn read<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    read_limited(from, LIMIT).await
}

/// As [`read`], with a limit of one's own in bytes.
pub async fn read_limited<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> io::Result<Option<T>> {
    let Some(length) = read_length(from).await? else {
        return Ok(None);
    };
    if length > limit {
        return Err(too_long(length, limit));
    }
    let mut document = Vec::with_capacity(length.min(TRUSTED));
    let read = from.take(length as u64).read_to_end(&mut document).await?;
    if read < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let message = serde_json::from_slice(&document).map_err(invalid)?;
    Ok(Some(message))
}

/// Sends one message and flushes it.
///
/// # Errors
/// `InvalidData` for a message over [`LIMIT`] or that JSON can't hold, and
/// what the writer itself fails with.
pub async fn write<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(invalid)?;
    let length = frame.len() - 4;
    if length > LIMIT {
        return Err(too_long(length, LIMIT));
    }
    let prefix = u32::try_from(length).map_err(|_| too_long(length, LIMIT))?;
    frame[..4].copy_from_slice(&prefix.to_be_bytes());
    to.write_all(&frame).await?;
    to.flush().await
}

/// The length in front of a frame; `None` at the end of the stream.
async fn read_length(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<usize>> {
    let mut prefix = [0; 4];
    let first = from.read(&mut prefix).await?;
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(&mut prefix[first..]).await?;
    Ok(usize::try_from(u32::from_be_bytes(prefix)).ok())
}

fn invalid(error: serde_json::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn too_long(length: usize, limit: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a message of {length} bytes is over the limit of {limit}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn messages_come_back_in_order_and_end_with_none() {
        let mut wire = Vec::new();
        write(&mut wire, &vec!["one", "two"]).await.unwrap();
        write(&mut wire, &Vec::<String>::new()).await.unwrap();
        assert_eq!(wire[..4], [0, 0, 0, 13]);
        let mut wire = wire.as_slice();
        let first: Option<Vec<String>> = read(&mut wire).await.unwrap();
        assert_eq!(first.unwrap(), ["one", "two"]);
        assert_eq!(read::<Vec<String>>(&mut wire).await.unwrap().unwrap().len(), 0);
        assert!(read::<Vec<String>>(&mut wire).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_frame_cut_short_is_an_error_and_not_an_end() {
        for cut in [&[0, 0][..], &[0, 0, 0, 5, b'"'][..]] {
            let mut wire = cut;
            let error = read::<String>(&mut wire).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn a_length_over_the_limit_is_refused_unread() {
        let mut wire = &[0xff, 0xff, 0xff, 0xff, b'{'][..];
        let error = read::<String>(&mut wire).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(wire, b"{");
        let mut wire = &[0, 0, 0, 3, b'"', b'a', b'"'][..];
        assert!(read_limited::<String>(&mut wire, 2).await.is_err());
    }

    #[tokio::test]
    async fn a_document_of_another_shape_is_invalid_data() {
        let mut wire = &[0, 0, 0, 2, b'{', b'}'][..];
        let error = read::<String>(&mut wire).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
