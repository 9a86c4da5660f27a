//! BuildKit's status messages turned into lines for people.

use crate::engine::{BuildFailure, BuildLine};
use bollard::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog};
use std::collections::{HashMap, HashSet, VecDeque};

/// Longest line, in bytes; a longer one is shown in pieces, so that output
/// without a line end neither waits for ever nor fills the memory.
const LINE_LIMIT: usize = 8 << 10;

/// Most output that a build may print, in bytes.
const OUTPUT_LIMIT: usize = 64 << 20;

/// Lines of the failing step that are kept for the error.
const TAIL: usize = 20;

/// Everything remembered of a build while its messages come in.
#[derive(Default)]
pub(super) struct Progress {
    steps: HashMap<String, Step>,
    /// Unfinished lines by (vertex, stream).
    partial: HashMap<(String, i64), Vec<u8>>,
    printed: usize,
    /// Steps in the order of their failing; the first is the cause.
    failed: Option<String>,
    /// Steps that run, in the order of their beginning.
    running: Vec<String>,
    said: HashSet<String>,
}

#[derive(Default)]
struct Step {
    name: String,
    error: String,
    tail: VecDeque<String>,
}

impl Progress {
    /// Whether a step is known to have failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// The lines that a message completes, in order.
    pub(super) fn read(&mut self, status: StatusResponse) -> Vec<BuildLine> {
        let mut lines = Vec::new();
        let mut ended = Vec::new();
        for vertex in status.vertexes {
            if vertex.completed.is_some() || vertex.cached {
                ended.push(vertex.digest.clone());
            } else if vertex.started.is_some() && !self.running.contains(&vertex.digest) {
                self.running.push(vertex.digest.clone());
            }
            self.vertex(vertex, &mut lines);
        }
        for log in status.logs {
            self.log(&log, &mut lines);
        }
        for digest in ended {
            self.running.retain(|running| *running != digest);
            self.flush(&digest, &mut lines);
        }
        lines
    }

    /// The step that the build is at: of several the first that began.
    pub(super) fn step(&self) -> Option<String> {
        let running = self.running.iter().find_map(|digest| self.steps.get(digest));
        running.map(|step| step.name.clone())
    }

    fn vertex(&mut self, vertex: Vertex, lines: &mut Vec<BuildLine>) {
        let step = self.steps.entry(vertex.digest.clone()).or_default();
        step.name = one_line(&vertex.name);
        if !vertex.error.is_empty() {
            step.error = vertex.error;
            // A step that is only cancelled because another failed is no cause.
            if self.failed.is_none() && !step.error.contains("context canceled") {
                self.failed = Some(vertex.digest.clone());
            }
        }
        let begun = vertex.cached || vertex.started.is_some();
        if begun && !step.name.starts_with("[internal]") && self.said.insert(vertex.digest) {
            lines.push(BuildLine::Step { name: step.name.clone(), cached: vertex.cached });
        }
    }

    fn log(&mut self, log: &VertexLog, lines: &mut Vec<BuildLine>) {
        if self.printed > OUTPUT_LIMIT {
            return;
        }
        self.printed += log.msg.len();
        let key = (log.vertex.clone(), log.stream);
        let mut pending = self.partial.remove(&key).unwrap_or_default();
        pending.extend_from_slice(&log.msg);
        let mut rest = pending.as_slice();
        while let Some(length) = next_line(rest) {
            self.say(&log.vertex, &rest[..length], lines);
            rest = &rest[length..];
        }
        if !rest.is_empty() {
            self.partial.insert(key, rest.to_vec());
        }
        if self.printed > OUTPUT_LIMIT {
            let limit = OUTPUT_LIMIT >> 20;
            lines.push(BuildLine::Notice(format!(
                "The build printed more than {limit} MiB; the rest is not shown."
            )));
        }
    }

    /// Ends the unfinished lines of a step.
    fn flush(&mut self, digest: &str, lines: &mut Vec<BuildLine>) {
        for stream in [0, 1, 2] {
            if let Some(rest) = self.partial.remove(&(digest.to_owned(), stream)) {
                self.say(digest, &rest, lines);
            }
        }
    }

    fn say(&mut self, digest: &str, bytes: &[u8], lines: &mut Vec<BuildLine>) {
        let text = last_drawn(bytes);
        if let Some(step) = self.steps.get_mut(digest) {
            if step.tail.len() == TAIL {
                step.tail.pop_front();
            }
            step.tail.push_back(text.clone());
        }
        lines.push(BuildLine::Output(text));
    }

    /// Ends all unfinished lines, at the end of the build.
    pub(super) fn finish(&mut self) -> Vec<BuildLine> {
        let mut lines = Vec::new();
        let mut digests: Vec<String> = self.partial.keys().map(|(digest, _)| digest.clone()).collect();
        digests.sort_unstable();
        for digest in digests {
            self.flush(&digest, &mut lines);
        }
        lines
    }

    /// What failed, given the builder's last words.
    pub(super) fn failure(&self, message: &str) -> BuildFailure {
        let step = self.failed.as_ref().and_then(|digest| self.steps.get(digest));
        let code = |text: &str| exit_code(text);
        BuildFailure {
            step: step.map(|step| step.name.clone()),
            exit_code: code(message).or_else(|| step.and_then(|step| code(&step.error))),
            message: plain(message),
            lines: step.map(|step| step.tail.iter().cloned().collect()).unwrap_or_default(),
        }
    }
}

/// Length of the first line with its end, or of a piece if it is too long;
/// `None`: wait for more.
fn next_line(bytes: &[u8]) -> Option<usize> {
    let window = &bytes[..bytes.len().min(LINE_LIMIT)];
    if let Some(end) = window.iter().position(|&byte| byte == b'\n') {
        return Some(end + 1);
    }
    if bytes.len() <= LINE_LIMIT {
        return None;
    }
    // Not within a character.
    let inner = |&at: &usize| bytes[at] & 0xC0 != 0x80;
    Some((LINE_LIMIT - 3..=LINE_LIMIT).rev().find(inner).unwrap_or(LINE_LIMIT))
}

/// What a terminal would show of a line that `\r` redrew.
fn last_drawn(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\n', '\r']);
    text.rsplit('\r').next().unwrap_or_default().to_owned()
}

/// A step's name with the line ends of its command removed.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The number behind `exit code: `.
fn exit_code(message: &str) -> Option<i64> {
    let (_, rest) = message.rsplit_once("exit code: ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}

/// The builder's message without the layers that passed it on.
fn plain(message: &str) -> String {
    const LAYERS: [&str; 6] = [
        "failed to solve with frontend dockerfile.v0: ",
        "failed to solve: ",
        "failed to create LLB definition: ",
        "failed to build LLB: ",
        "failed to read dockerfile: ",
        "rpc error: code = Unknown desc = ",
    ];
    let mut rest = message.trim();
    while let Some(shorter) = LAYERS.iter().find_map(|layer| rest.strip_prefix(layer)) {
        rest = shorter;
    }
    one_line(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn vertex(name: &str, cached: bool) -> Vertex {
        Vertex {
            digest: "d".to_owned(),
            name: name.to_owned(),
            cached,
            started: Some(<_>::default()),
            ..Default::default()
        }
    }

    fn log(stream: i64, msg: &[u8]) -> StatusResponse {
        let log = VertexLog { vertex: "d".to_owned(), stream, msg: msg.to_vec(), timestamp: None };
        StatusResponse { logs: vec![log], ..Default::default() }
    }

    fn output(lines: Vec<BuildLine>) -> Vec<String> {
        lines
            .into_iter()
            .filter_map(|line| if let BuildLine::Output(text) = line { Some(text) } else { None })
            .collect()
    }

    #[test]
    fn a_step_is_named_once_and_internal_ones_never() {
        let mut progress = Progress::default();
        let status = |vertex| StatusResponse { vertexes: vec![vertex], ..Default::default() };
        let waiting = Vertex { started: None, ..vertex("[1/2] RUN  a\nb", false) };
        assert_eq!(progress.read(status(waiting)), []);
        let step = BuildLine::Step { name: "[1/2] RUN a b".to_owned(), cached: true };
        assert_eq!(progress.read(status(vertex("[1/2] RUN  a\nb", true))), [step]);
        assert_eq!(progress.read(status(vertex("[1/2] RUN  a\nb", true))), []);
        let internal = Vertex { digest: "e".to_owned(), ..vertex("[internal] load", false) };
        assert_eq!(progress.read(status(internal)), []);
    }

    #[test]
    fn lines_are_whole_and_the_streams_do_not_mix() {
        let mut progress = Progress::default();
        assert_eq!(output(progress.read(log(1, b"he"))), [""; 0]);
        assert_eq!(output(progress.read(log(2, b"oops\n"))), ["oops"]);
        assert_eq!(output(progress.read(log(1, b"llo\n10%\r50%\r100%\r\nrest"))), ["hello", "100%"]);
        assert_eq!(output(progress.finish()), ["rest"]);
    }

    #[test]
    fn an_endless_line_comes_in_pieces_cut_between_characters() {
        let mut progress = Progress::default();
        let text = "ä".repeat(10_000);
        let mut lines = output(progress.read(log(1, &[b"x", text.as_bytes()].concat())));
        lines.extend(output(progress.finish()));
        assert!(lines.iter().all(|line| line.len() <= LINE_LIMIT && !line.contains('\u{fffd}')));
        assert_eq!(lines.concat().len(), 20_001);
    }

    #[test]
    fn output_ends_at_the_limit_with_one_notice() {
        let mut progress = Progress::default();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let megabyte = line.repeat(1024);
        let mut notices = 0;
        for _ in 0..70 {
            let lines = progress.read(log(1, &megabyte));
            notices += lines.iter().filter(|line| matches!(line, BuildLine::Notice(_))).count();
        }
        assert_eq!(notices, 1);
        assert_eq!(progress.read(log(1, b"more\n")), []);
    }

    #[test]
    fn the_failing_step_is_the_cause_not_those_cancelled_with_it() {
        let mut progress = Progress::default();
        let cancelled = Vertex {
            digest: "c".to_owned(),
            error: "context canceled".to_owned(),
            ..vertex("[a 1/1] RUN sleep", false)
        };
        let failed = Vertex { error: "exit code: 3".to_owned(), ..vertex("[b 1/1] RUN x", false) };
        progress.read(StatusResponse { vertexes: vec![cancelled, failed], ..Default::default() });
        progress.read(log(2, b"no such thing\n"));
        let failure = progress.failure(
            "failed to solve with frontend dockerfile.v0: rpc error: code = Unknown desc = executor failed \
             running [/bin/sh -c x]: exit code: 3",
        );
        assert_eq!(failure.step.as_deref(), Some("[b 1/1] RUN x"));
        assert_eq!(failure.exit_code, Some(3));
        assert_eq!(failure.message, "executor failed running [/bin/sh -c x]: exit code: 3");
        assert_eq!(failure.lines, ["no such thing"]);
    }
}
