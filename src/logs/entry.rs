//! One line of a log, in memory, in a file, and for people.

use crate::output::tame;
use std::fmt;

/// Longest text of one entry, in bytes; longer lines become several entries.
const LONGEST: usize = 16 << 10;

/// Who printed a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A process of the app.
    App,
    /// The build of a release.
    Build,
    /// The proxy, about a request.
    Router,
    /// We ourselves: deploys, restarts, crashes.
    Platform,
}

impl Source {
    /// All of them, in the order in which help names them.
    pub const ALL: [Self; 4] = [Self::App, Self::Build, Self::Router, Self::Platform];

    /// The word by which `logs -s` chooses it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Build => "build",
            Self::Router => "router",
            Self::Platform => "platform",
        }
    }

    /// From that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == word)
    }

    /// The word in front of a line.
    fn label(self) -> &'static str {
        match self {
            Self::Platform => "paas",
            other => other.as_str(),
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// When it was printed: nanoseconds since the epoch, UTC.
    pub at_nanos: i64,
    /// Who printed it.
    pub source: Source,
    /// Which part of it: `web.1`, `v3`, `deploy`.
    pub process: String,
    /// Number of the release; 0 if none.
    pub release: u32,
    /// The line as it was printed, control bytes and all.
    pub text: String,
}

impl LogEntry {
    /// An entry of this moment.
    pub fn now(source: Source, process: impl Into<String>, release: u32, text: impl Into<String>) -> Self {
        let at_nanos = jiff::Timestamp::now().as_nanosecond();
        let at_nanos = i64::try_from(at_nanos).unwrap_or(i64::MAX);
        Self { at_nanos, source, process: process.into(), release, text: text.into() }
    }

    /// The entry as a person reads it, safe for a terminal, no line end.
    pub fn line(&self) -> String {
        self.to_string()
    }

    /// Bytes that it takes while it waits.
    pub(super) fn weight(&self) -> u32 {
        u32::try_from(self.text.len() + self.process.len() + 96).unwrap_or(u32::MAX)
    }

    /// An entry for each line, none longer than the limit.
    pub(super) fn split(mut self) -> Vec<Self> {
        if self.text.len() <= LONGEST && !self.text.contains('\n') {
            return vec![self];
        }
        let text = std::mem::take(&mut self.text);
        let lines = text.strip_suffix('\n').unwrap_or(&text).split('\n');
        lines.flat_map(pieces).map(|text| Self { text: text.to_owned(), ..self.clone() }).collect()
    }

    /// Appends the form that is stored: fields with tabs between and a line
    /// end; the text is last and holds whatever it holds.
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        let process: String = self.process.chars().filter(|c| !c.is_control()).collect();
        let head = format!("{}\t{}\t{process}\t{}\t", self.at_nanos, self.source.as_str(), self.release);
        buffer.extend_from_slice(head.as_bytes());
        buffer.extend_from_slice(self.text.as_bytes());
        buffer.push(b'\n');
    }

    /// The entry of a stored line, without its line end.
    pub(super) fn decode(line: &[u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(line).ok()?.splitn(5, '\t');
        Some(Self {
            at_nanos: fields.next()?.parse().ok()?,
            source: Source::parse(fields.next()?)?,
            process: fields.next()?.to_owned(),
            release: fields.next()?.parse().ok()?,
            text: fields.next()?.to_owned(),
        })
    }
}

/// A line in parts of at most [`LONGEST`] bytes; an empty one stays one part.
fn pieces(line: &str) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), line);
    while rest.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&end| rest.is_char_boundary(end)).unwrap_or(LONGEST);
        let (part, more) = rest.split_at(end);
        parts.push(part);
        rest = more;
    }
    parts.push(rest);
    parts
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = jiff::Timestamp::from_nanosecond(self.at_nanos.into()).unwrap_or_default();
        let at = at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00");
        write!(f, "{at} {}[{}]: {}", self.source.label(), tame(&self.process), tame(&self.text))
    }
}

/// Which entries are wanted; all that is set must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// This source.
    pub source: Option<Source>,
    /// This process (`web.1`), or all processes of this type (`web`).
    pub process: Option<String>,
    /// This release.
    pub release: Option<u32>,
}

impl Filter {
    /// Whether an entry passes.
    pub fn matches(&self, entry: &LogEntry) -> bool {
        self.source.is_none_or(|source| source == entry.source)
            && self.release.is_none_or(|release| release == entry.release)
            && self.process.as_ref().is_none_or(|wanted| is_process(&entry.process, wanted))
    }
}

fn is_process(process: &str, wanted: &str) -> bool {
    process.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn entry(source: Source, process: &str, text: &str) -> LogEntry {
        let at_nanos = 1_767_323_045_678_901_234;
        LogEntry { at_nanos, source, process: process.to_owned(), release: 3, text: text.to_owned() }
    }

    #[test]
    fn lines_look_like_herokus() {
        let lines = [
            entry(Source::App, "web.1", "\x1b[31mred\x1b[0m and \x1b]0;title\x07quiet\r"),
            entry(Source::Build, "v3", "\tCollecting flask"),
            entry(Source::Platform, "deploy", "v3 is live"),
            entry(Source::Router, "web.1", "at=info method=GET path=\"/\""),
        ];
        let text: Vec<String> = lines.iter().map(|entry| entry.line().replace('\x1b', "<ESC>")).collect();
        insta::assert_snapshot!(text.join("\n"), @r#"
        2026-01-02T03:04:05.678901+00:00 app[web.1]: <ESC>[31mred<ESC>[0m and ]0;titlequiet
        2026-01-02T03:04:05.678901+00:00 build[v3]: 	Collecting flask
        2026-01-02T03:04:05.678901+00:00 paas[deploy]: v3 is live
        2026-01-02T03:04:05.678901+00:00 router[web.1]: at=info method=GET path="/"
        "#);
    }

    #[test]
    fn a_filter_takes_a_type_or_one_process() {
        let given = entry(Source::App, "web.1", "");
        let by = |process: &str| Filter { process: Some(process.to_owned()), ..Filter::default() };
        assert!(by("web").matches(&given) && by("web.1").matches(&given));
        assert!(!by("we").matches(&given) && !by("web.11").matches(&given) && !by("web.").matches(&given));
        assert!(!Filter { source: Some(Source::Build), ..Filter::default() }.matches(&given));
        assert!(!Filter { release: Some(2), ..Filter::default() }.matches(&given));
        assert!(Filter::default().matches(&given));
    }

    #[test]
    fn lines_and_long_lines_are_split() {
        let texts = |text: &str| -> Vec<String> {
            entry(Source::App, "web.1", text).split().into_iter().map(|entry| entry.text).collect()
        };
        assert_eq!(texts("a\n\nb\n"), ["a", "", "b"]);
        assert_eq!(texts(""), [""]);
        assert_eq!(texts("\n"), [""]);
        let long = "ж".repeat(20_000);
        let parts = texts(&long);
        assert!(parts.len() == 3 && parts.iter().all(|part| part.len() <= LONGEST));
        assert_eq!(parts.concat(), long);
    }

    proptest! {
        #[test]
        fn what_is_stored_comes_back(text in "[^\n]{0,200}", at_nanos in any::<i64>(), release in any::<u32>()) {
            let given = LogEntry { at_nanos, release, ..entry(Source::Build, "v3", &text) };
            let mut stored = Vec::new();
            given.encode(&mut stored);
            prop_assert_eq!(stored.pop(), Some(b'\n'));
            prop_assert_eq!(LogEntry::decode(&stored), Some(given));
        }

        #[test]
        fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = LogEntry::decode(&line);
        }
    }
}
