//! Where requests begin and end, read from the bytes themselves and one way.
//!
//! hyper reads the same bytes after us and forgives more: bare line feeds,
//! two lengths of which it forgets one. What it forgives, another server in
//! front of us may have read differently, so here it ends the connection.

/// The longest line of a head, and the longest of a chunk's size, in bytes.
const LINE_LIMIT: usize = 64 * 1024;
const CHUNK_LINE_LIMIT: usize = 4 * 1024;
/// Empty lines that a client may send between two requests.
const EMPTY_LINES: u8 = 4;

/// Bytes that can be read in more than one way; says what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation(pub(super) &'static str);

/// A violation, and how many of the bytes read last come before the line with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// What is wrong.
    pub(super) violation: Violation,
    /// Bytes that can be read in one way.
    pub(super) good: usize,
}

/// Follows the framing of one client's requests.
pub(super) struct Framing {
    state: State,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between requests; empty lines seen.
    Between(u8),
    /// In the lines of a head, after the first.
    Head,
    /// In a body of which so many bytes are to come.
    Body(u64),
    /// At a chunk's size line.
    ChunkSize,
    /// In a chunk of which so many bytes are to come.
    Chunk(u64),
    /// At the line end after a chunk.
    ChunkEnd,
    /// In the lines after the last chunk.
    Trailers,
    /// After a request to change the protocol: no HTTP follows on this
    /// connection, whether it is granted or not.
    Raw,
}

/// What the connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A request, or nothing at all.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
}

impl Framing {
    /// At the beginning of a connection.
    pub(super) fn new() -> Self {
        Self { state: State::Between(0), line: Vec::new(), length: None, chunked: false, upgrade: false }
    }

    /// What is to come next.
    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Between(_) if self.line.is_empty() => Phase::Idle,
            State::Raw => Phase::Idle,
            State::Between(_) | State::Head => Phase::Head,
            State::Body(_) | State::ChunkSize | State::Chunk(_) | State::ChunkEnd | State::Trailers => {
                Phase::Body
            }
        }
    }

    /// Whether what comes is HTTP no more, as after an upgrade.
    pub(super) fn is_raw(&self) -> bool {
        matches!(self.state, State::Raw)
    }

    /// Reads on; `bytes` may be cut anywhere.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.state {
                State::Raw => return Ok(()),
                State::Body(left) => self.skip(rest, left, State::Between(0), State::Body),
                State::Chunk(left) => self.skip(rest, left, State::ChunkEnd, State::Chunk),
                _ => self.read_line(rest).map_err(|violation| {
                    let good = bytes.len() - rest.len();
                    Refused { violation, good }
                })?,
            };
        }
        Ok(())
    }

    /// Passes over body bytes; returns what follows them.
    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, end: State, more: fn(u64) -> State) -> &'a [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - here as u64;
        self.state = if left == 0 { end } else { more(left) };
        &bytes[here..]
    }

    fn read_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Violation> {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            self.line.extend_from_slice(bytes);
            return if self.line.len() > self.limit() { Err(Violation("an endless line")) } else { Ok(&[]) };
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if self.line.is_empty() {
            self.line_read(line)?;
        } else {
            let mut whole = std::mem::take(&mut self.line);
            whole.extend_from_slice(line);
            self.line_read(&whole)?;
        }
        Ok(rest)
    }

    fn limit(&self) -> usize {
        if self.state == State::ChunkSize { CHUNK_LINE_LIMIT } else { LINE_LIMIT }
    }

    /// One line without its line feed.
    fn line_read(&mut self, line: &[u8]) -> Result<(), Violation> {
        let Some(line) = line.strip_suffix(b"\r") else {
            return Err(Violation("a bare line feed"));
        };
        if line.iter().any(|&byte| byte == b'\r' || byte == 0) {
            return Err(Violation("a bare carriage return or NUL"));
        }
        self.state = match self.state {
            State::Between(EMPTY_LINES) if line.is_empty() => return Err(Violation("only empty lines")),
            State::Between(before) if line.is_empty() => State::Between(before + 1),
            State::Between(_) => State::Head,
            State::Head if line.is_empty() => self.body()?,
            State::Head => self.field(line)?,
            State::ChunkSize => chunk(line)?,
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::ChunkEnd => return Err(Violation("a chunk longer than its size")),
            State::Trailers if line.is_empty() => State::Between(0),
            State::Trailers => trailer(line)?,
            state @ (State::Body(_) | State::Chunk(_) | State::Raw) => state,
        };
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<State, Violation> {
        let (name, value) = split(line)?;
        // Most names are told apart by their length.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = number(value, 10).ok_or(Violation("a Content-Length that is no number"))?;
                if self.length.replace(length).is_some() {
                    return Err(Violation("two Content-Lengths"));
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation("a transfer coding other than chunked"));
                }
                self.chunked = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            _ => {}
        }
        Ok(State::Head)
    }

    /// At the end of a head: what its fields say about what follows.
    fn body(&mut self) -> Result<State, Violation> {
        let (length, chunked) = (self.length.take(), std::mem::take(&mut self.chunked));
        match (length, chunked, std::mem::take(&mut self.upgrade)) {
            (Some(_), true, _) => Err(Violation("both Content-Length and Transfer-Encoding")),
            (Some(1..), _, true) | (_, true, true) => Err(Violation("an upgrade with a body")),
            (_, _, true) => Ok(State::Raw),
            (_, true, _) => Ok(State::ChunkSize),
            (None | Some(0), ..) => Ok(State::Between(0)),
            (Some(length), ..) => Ok(State::Body(length)),
        }
    }
}

/// The name and the trimmed value of a field line.
fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(Violation("a folded header line"));
    }
    let colon =
        line.iter().position(|&byte| byte == b':').ok_or(Violation("a header line without a colon"))?;
    let name = &line[..colon];
    if name.is_empty() || name.iter().any(|&byte| byte <= b' ' || byte >= 0x7f) {
        return Err(Violation("a header name with blanks"));
    }
    Ok((name, line[colon + 1..].trim_ascii()))
}

fn trailer(line: &[u8]) -> Result<State, Violation> {
    split(line).map(|_| State::Trailers)
}

fn chunk(line: &[u8]) -> Result<State, Violation> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or(line);
    match number(digits, 16) {
        Some(0) => Ok(State::Trailers),
        Some(size) => Ok(State::Chunk(size)),
        None => Err(Violation("a chunk size that is no number")),
    }
}

/// Digits and nothing else.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.chars().all(|digit| digit.is_digit(radix));
    if digits { u64::from_str_radix(text, radix).ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nh\nllo\
        POST /c HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nHost: a\r\n\r\n\
        3;x=y\r\n\r\n\n\r\nA\r\n0123456789\r\n0\r\nSum: 1\r\n\r\n";

    #[test]
    fn requests_are_told_from_their_bodies() {
        let mut framing = Framing::new();
        framing.read(GOOD.as_bytes()).unwrap();
        assert_eq!(framing.phase(), Phase::Idle);
        framing.read(b"GET / HT").unwrap();
        assert_eq!(framing.phase(), Phase::Head);
        framing.read(b"TP/1.1\r\nContent-Length: 2\r\n\r\n!").unwrap();
        assert_eq!(framing.phase(), Phase::Body);
    }

    #[test]
    fn what_can_be_read_two_ways_is_refused() {
        let cases = [
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", "a bare line feed"),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", "a bare line feed"),
            ("GET / HTTP/1.1\r\nX: a\rY: b\r\n\r\n", "a bare carriage return or NUL"),
            ("GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", "a bare carriage return or NUL"),
            ("GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", "a folded header line"),
            ("GET / HTTP/1.1\r\nX : a\r\n\r\n", "a header name with blanks"),
            ("GET / HTTP/1.1\r\nX\r\n\r\n", "a header line without a colon"),
            ("GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", "a Content-Length that is no number"),
            ("GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", "a Content-Length that is no number"),
            ("GET / HTTP/1.1\r\nContent-Length:\r\n\r\n", "a Content-Length that is no number"),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "two Content-Lengths"),
            (
                "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "both Content-Length and Transfer-Encoding",
            ),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                "both Content-Length and Transfer-Encoding",
            ),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                "a transfer coding other than chunked",
            ),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                "a transfer coding other than chunked",
            ),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n", "a chunk size that is no number"),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\n", "a chunk size that is no number"),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\nx", "a bare line feed"),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n",
                "a chunk longer than its size",
            ),
            ("GET / HTTP/1.1\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\n", "an upgrade with a body"),
            ("\r\n\r\n\r\n\r\n\r\n\r\n", "only empty lines"),
        ];
        for (bytes, why) in cases {
            let refused = Framing::new().read(bytes.as_bytes()).unwrap_err();
            assert_eq!(refused.violation, Violation(why), "{bytes:?}");
        }
    }

    #[test]
    fn lines_without_end_are_not_collected() {
        let mut framing = Framing::new();
        let refused = (0..100).map(|_| framing.read(&[b'a'; 1024])).find(Result::is_err);
        assert_eq!(refused, Some(Err(Refused { violation: Violation("an endless line"), good: 0 })));
    }

    #[test]
    fn what_comes_before_a_violation_is_good() {
        let cases = [
            ("GET / HTTP/1.1\r\n", "Host: a\n"),
            ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", "GET / HTTP/1.1\n"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", "x\r\n"),
        ];
        for (good, bad) in cases {
            let refused = Framing::new().read(format!("{good}{bad}").as_bytes()).unwrap_err();
            assert_eq!(refused.good, good.len(), "{good:?}");
        }
    }

    #[test]
    fn after_an_upgrade_nothing_is_http() {
        let mut framing = Framing::new();
        framing.read(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\n\0").unwrap();
        assert_eq!(framing.phase(), Phase::Idle);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_bytes_are_cut(cuts in proptest::collection::vec(0..GOOD.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, GOOD.len()]);
            cuts.sort_unstable();
            let mut framing = Framing::new();
            for pair in cuts.windows(2) {
                framing.read(&GOOD.as_bytes()[pair[0]..pair[1]]).unwrap();
            }
            prop_assert_eq!(framing.state, State::Between(0));
            prop_assert!(framing.line.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Framing::new().read(&bytes);
        }
    }
}
