//! A container's output as the engine keeps it.

use super::DockerEngine;
use crate::engine::{EngineError, LogLine, Output};
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::stream::{self, BoxStream, StreamExt};

/// Longest line, in bytes. The engine cuts lines in pieces of 16 KiB, which are
/// put together again up to here.
const LINE_LIMIT: usize = 64 << 10;

impl DockerEngine {
    /// Lines newer than `since` (nanoseconds since the epoch), oldest first;
    /// with `follow` until the container's end. Starts when polled.
    pub fn logs(
        &self,
        container: &str,
        since: Option<i64>,
        follow: bool,
    ) -> BoxStream<'static, Result<LogLine, EngineError>> {
        let after = since.unwrap_or(i64::MIN);
        // The engine is asked in whole seconds; the rest is left out here.
        let from = i32::try_from((after / 1_000_000_000).max(0)).unwrap_or(i32::MAX);
        let options = LogsOptionsBuilder::default()
            .follow(follow)
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .since(from)
            .build();
        let container = container.to_owned();
        let answers = self.docker.logs(&container, Some(options)).boxed();
        let pieces = Pieces { answers, joined: Joined::default(), container };
        stream::unfold(pieces, Pieces::next)
            .filter(move |line| {
                let fresh = line.as_ref().map_or(true, |line| line.nanos > after);
                std::future::ready(fresh)
            })
            .boxed()
    }
}

/// The engine's pieces of lines on their way to whole ones.
struct Pieces {
    answers: BoxStream<'static, Result<LogOutput, bollard::errors::Error>>,
    joined: Joined,
    container: String,
}

impl Pieces {
    async fn next(mut self) -> Option<(Result<LogLine, EngineError>, Self)> {
        loop {
            match self.answers.next().await {
                Some(Ok(answer)) => {
                    if let Some(line) = self.joined.push(&answer) {
                        return Some((Ok(line), self));
                    }
                }
                Some(Err(source)) => {
                    let doing = format!("read the log of {}", self.container);
                    return Some((Err(EngineError::Api { doing, source: source.into() }), self));
                }
                None => return self.joined.rest().map(|line| (Ok(line), self)),
            }
        }
    }
}

/// Lines that have begun, one for each output.
#[derive(Default)]
struct Joined {
    stdout: Option<Partial>,
    stderr: Option<Partial>,
}

/// The beginning of a line.
struct Partial {
    nanos: i64,
    bytes: Vec<u8>,
}

impl Joined {
    /// Takes one piece; the line that it completes.
    fn push(&mut self, answer: &LogOutput) -> Option<LogLine> {
        let (output, message) = match answer {
            LogOutput::StdErr { message } => (Output::Stderr, message),
            LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
                (Output::Stdout, message)
            }
        };
        let (nanos, text) = stamped(message);
        let slot = self.slot(output);
        let partial = slot.get_or_insert_with(|| Partial { nanos, bytes: Vec::new() });
        partial.bytes.extend_from_slice(text);
        if !text.ends_with(b"\n") && partial.bytes.len() < LINE_LIMIT {
            return None;
        }
        slot.take().map(|partial| partial.line(output))
    }

    /// A line that never ended.
    fn rest(&mut self) -> Option<LogLine> {
        [Output::Stdout, Output::Stderr]
            .into_iter()
            .find_map(|output| self.slot(output).take().map(|partial| partial.line(output)))
    }

    fn slot(&mut self, output: Output) -> &mut Option<Partial> {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }
}

impl Partial {
    fn line(self, output: Output) -> LogLine {
        let text = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        LogLine { nanos: self.nanos, output, text: String::from_utf8_lossy(text).into_owned() }
    }
}

/// Splits the engine's time stamp off a piece; time 0 if there is none.
fn stamped(message: &[u8]) -> (i64, &[u8]) {
    let time = |stamp: &[u8]| -> Option<i64> {
        let time: jiff::Timestamp = std::str::from_utf8(stamp).ok()?.parse().ok()?;
        i64::try_from(time.as_nanosecond()).ok()
    };
    let split = message.iter().position(|&byte| byte == b' ');
    match split.and_then(|at| time(&message[..at]).map(|nanos| (nanos, &message[at + 1..]))) {
        Some(found) => found,
        None => (0, message),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stdout(text: &str) -> LogOutput {
        LogOutput::StdOut { message: text.to_owned().into() }
    }

    #[test]
    fn pieces_become_one_line_with_the_first_ones_time() {
        let mut joined = Joined::default();
        assert_eq!(joined.push(&stdout("1970-01-01T00:00:01.000000002Z a b")), None);
        let other = LogOutput::StdErr { message: "1970-01-01T00:00:02Z err\n".into() };
        assert_eq!(joined.push(&other).unwrap().text, "err");
        let line = joined.push(&stdout("1970-01-01T00:00:03Z c\r\n")).unwrap();
        assert_eq!(line, LogLine { nanos: 1_000_000_002, output: Output::Stdout, text: "a bc".to_owned() });
        assert_eq!(joined.rest(), None);
    }

    #[test]
    fn a_line_without_end_is_cut_at_the_limit() {
        let mut joined = Joined::default();
        let piece = format!("1970-01-01T00:00:01Z {}", "x".repeat(16 << 10));
        let lines: Vec<LogLine> = (0..9).filter_map(|_| joined.push(&stdout(&piece))).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].text.len(), LINE_LIMIT);
        assert_eq!(joined.rest().unwrap().text.len(), 16 << 10);
    }
}
