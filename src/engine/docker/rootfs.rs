//! A tree on disk as the tar of an image.

use bytes::Bytes;
use std::io;
use std::path::Path;
use tokio::sync::mpsc;

/// Parts of a bootstrapped tree that are this machine's or of no use, each with
/// whether the directory itself stays.
const LEFT_OUT: [(&str, bool); 9] = [
    ("dev", true),
    ("proc", true),
    ("sys", true),
    ("run", true),
    ("debootstrap", false),
    ("etc/resolv.conf", false),
    ("etc/hostname", false),
    ("var/cache/apt/archives", true),
    ("var/lib/apt/lists", true),
];

/// Writes a tree as a tar into a channel, owners and modes kept.
pub(super) fn pack(root: &Path, to: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let writer = io::BufWriter::with_capacity(256 << 10, Channel(to.clone()));
    let mut tar = tar::Builder::new(writer);
    tar.follow_symlinks(false);
    let packed = pack_directory(root, Path::new(""), &mut tar)
        .and_then(|()| tar.into_inner())
        .and_then(|mut writer| io::Write::flush(&mut writer));
    if let Err(error) = &packed {
        // The engine must not take half a tree for a whole one.
        let _ = to.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
    }
    packed
}

fn pack_directory(root: &Path, inner: &Path, tar: &mut tar::Builder<impl io::Write>) -> io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(root.join(inner))?.collect::<io::Result<_>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = inner.join(entry.file_name());
        let left_out = LEFT_OUT.iter().find(|(name, _)| path == Path::new(name));
        let kind = entry.file_type()?;
        if left_out.is_some_and(|(_, stays)| !stays)
            || !(kind.is_dir() || kind.is_file() || kind.is_symlink())
        {
            continue;
        }
        tar.append_path_with_name(entry.path(), &path)?;
        if kind.is_dir() && left_out.is_none() {
            pack_directory(root, &path, tar)?;
        }
    }
    Ok(())
}

/// The writing end of a channel, for a blocking thread.
struct Channel(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
