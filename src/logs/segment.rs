//! The files of one app's log: numbered segments that only grow at their end.

use super::LogError;
use super::entry::{Filter, LogEntry};
use std::fs::{DirEntry, File, OpenOptions};
use std::io::{ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Bytes read at a time, from the end to the front.
const BLOCK: u64 = 64 << 10;

/// One segment on disk.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) number: u64,
    pub(super) length: u64,
    modified: SystemTime,
}

/// The segments of a directory, oldest first; none if there is no directory.
pub(super) fn list(directory: &Path) -> Result<Vec<Segment>> {
    let entries = match directory.read_dir() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut segments: Vec<Segment> = entries.filter_map(|entry| segment(&entry.ok()?)).collect();
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

fn segment(entry: &DirEntry) -> Option<Segment> {
    let path = entry.path();
    let number = path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()?;
    let about = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(Segment { path, number, length: about.len(), modified: about.modified().ok()? })
}

/// Removes the oldest segments until the rest is young and small enough.
pub(super) fn prune(directory: &Path, keep: Duration, max_bytes: u64) -> Result<()> {
    let segments = list(directory)?;
    let mut total: u64 = segments.iter().map(|segment| segment.length).sum();
    let now = SystemTime::now();
    for segment in segments {
        let age = now.duration_since(segment.modified).unwrap_or_default();
        if total <= max_bytes && age < keep {
            break;
        }
        std::fs::remove_file(&segment.path)?;
        total -= segment.length;
    }
    Ok(())
}

/// The segment that grows.
pub(super) struct Active {
    file: File,
    number: u64,
    length: u64,
    began: SystemTime,
}

impl Active {
    /// Goes on with the last segment, without the line that a crash tore.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let Some(last) = list(directory)?.pop() else { return Self::create(directory, 1) };
        let file = OpenOptions::new().read(true).append(true).open(&last.path)?;
        let length = whole_lines(&file, last.length)?;
        if length < last.length {
            tracing::warn!(path = %last.path.display(), bytes = last.length - length, "torn log line removed");
            file.set_len(length)?;
        }
        let began = first_time(&file, length).unwrap_or(last.modified);
        Ok(Self { file, number: last.number, length, began })
    }

    fn create(directory: &Path, number: u64) -> Result<Self> {
        let path = directory.join(format!("{number:012}.log"));
        let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { file, number, length: 0, began: SystemTime::now() })
    }

    /// Whether another segment should begin before `more` bytes.
    pub(super) fn is_full(&self, more: usize, max_bytes: u64, max_age: Duration) -> bool {
        let age = SystemTime::now().duration_since(self.began).unwrap_or_default();
        self.length > 0 && (self.length + more as u64 > max_bytes || age >= max_age)
    }

    pub(super) fn next(&self, directory: &Path) -> Result<Self> {
        Self::create(directory, self.number + 1)
    }

    pub(super) fn write(&mut self, lines: &[u8]) -> Result<()> {
        self.file.write_all(lines)?;
        self.length += lines.len() as u64;
        Ok(())
    }
}

/// When the first line of a segment was printed.
fn first_time(file: &File, length: u64) -> Option<SystemTime> {
    let mut start = [0; 24];
    let count = file.read_at(&mut start, 0).ok()?.min(usize::try_from(length).ok()?);
    let nanos: u64 = std::str::from_utf8(&start[..count]).ok()?.split('\t').next()?.parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos))
}

/// Length of a file up to its last line end.
fn whole_lines(file: &File, length: u64) -> Result<u64> {
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.resize(usize::try_from(end - start).unwrap_or(0), 0);
        file.read_exact_at(&mut block, start)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// So many bytes of lines are given at once, at most: each line may have thousands.
const MOST_BYTES: usize = 16 << 20;

/// The last `count` entries that pass the filter, oldest first, or fewer if they are long. Reads from the
/// end, no further than it needs to; a segment removed meanwhile is skipped.
pub(super) fn last(
    segments: &[(PathBuf, u64)],
    count: usize,
    filter: &Filter,
) -> std::result::Result<Vec<LogEntry>, LogError> {
    let mut entries = Vec::new();
    let mut left = MOST_BYTES;
    for (path, length) in segments.iter().rev() {
        if entries.len() >= count || left == 0 {
            break;
        }
        match gather(path, *length, count, filter, &mut left, &mut entries) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                return Err(LogError::File { path: path.clone(), cause });
            }
            _ => {}
        }
    }
    entries.reverse();
    Ok(entries)
}

/// Adds the entries of one segment, newest first.
fn gather(
    path: &Path,
    length: u64,
    count: usize,
    filter: &Filter,
    left: &mut usize,
    entries: &mut Vec<LogEntry>,
) -> Result<()> {
    let mut file = File::open(path)?;
    let mut end = whole_lines(&file, length)?;
    // The bytes of a line whose front has not been read yet.
    let mut tail = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        block.append(&mut tail);
        let mut lines = block.split(|&byte| byte == b'\n');
        if start > 0 {
            tail = lines.next().unwrap_or_default().to_vec();
        }
        for line in lines.rev() {
            let Some(entry) = LogEntry::decode(line).filter(|entry| filter.matches(entry)) else { continue };
            *left = left.saturating_sub(line.len());
            if *left == 0 && !entries.is_empty() {
                return Ok(());
            }
            entries.push(entry);
            if entries.len() >= count {
                return Ok(());
            }
        }
        end = start;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Source;
    use super::*;

    #[test]
    fn long_lines_are_given_up_to_a_bound_however_many_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut bytes = Vec::new();
        for number in 0..48 {
            let text = format!("{number} {}", "x".repeat(1 << 19));
            LogEntry::now(Source::App, "web.1", 1, text).encode(&mut bytes);
        }
        std::fs::write(&path, &bytes).unwrap();
        let segments = [(path, bytes.len() as u64)];
        let entries = last(&segments, 100_000, &Filter::default()).unwrap();
        assert_eq!(entries.len(), 31, "half a MiB each");
        assert!(entries[30].text.starts_with("47 "), "the last ones");
    }
}
