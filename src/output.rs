//! Text for people: the lines of a push, and the streams a command speaks over.

use crate::model::Problem;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// The three streams of a command, wherever it came from (SSH, local socket).
pub struct Streams {
    /// What the user types or pipes in; ends when they close it.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Results.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// Notices and errors.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
    /// Cancelled when the user went away or pressed Ctrl-C.
    pub gone: CancellationToken,
}

impl Streams {
    /// Nothing to read, and nobody who listens.
    pub fn none() -> Self {
        Self {
            stdin: Box::new(tokio::io::empty()),
            stdout: Box::new(tokio::io::sink()),
            stderr: Box::new(tokio::io::sink()),
            gone: CancellationToken::new(),
        }
    }
}

/// `-----> text`
pub fn step(text: &str) -> String {
    format!("-----> {text}")
}

/// `       text`
pub fn detail(text: &str) -> String {
    format!("       {text}")
}

/// ` !     text`
pub fn warning(text: &str) -> String {
    format!(" !     {text}")
}

/// Every line of a problem behind ` !     `.
pub fn problem(problem: &Problem) -> Vec<String> {
    let lines = problem.lines().flat_map(wrapped);
    lines.map(|line| if line.is_empty() { " !".to_owned() } else { warning(&line) }).collect()
}

/// Columns for text: git adds 8 in front, the marks take 7, and 80 is the
/// narrowest terminal that people still have.
const WIDTH: usize = 65;

/// Programs that messages tell people to run.
const PROGRAMS: [&str; 11] =
    ["bundle", "chmod", "echo", "git", "go", "npm", "paas", "pip", "ssh", "sudo", "systemctl"];

/// A line in pieces that fit a push, broken between words, each with the
/// indentation of the first. A word that is longer stays whole, since it may be
/// a URL, and so does a command, which people copy.
pub fn wrapped(line: &str) -> Vec<String> {
    let indent: String = line.chars().take_while(|c| *c == ' ').collect();
    let mut pieces = vec![indent.clone()];
    let mut empty = true;
    for word in words(line.trim_start_matches(' ')) {
        let last = pieces.len() - 1;
        if !empty && pieces[last].chars().count() + 1 + word.chars().count() > WIDTH {
            pieces.push(format!("{indent}{word}"));
        } else {
            let gap = if empty { "" } else { " " };
            pieces[last].push_str(&format!("{gap}{word}"));
        }
        empty = false;
    }
    pieces
}

/// The parts of a line between which it may be broken.
fn words(line: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut inside = false;
    for word in line.split(' ') {
        let announced = parts.last().is_none_or(|last| last.ends_with(':'));
        let ends = word.starts_with('(') || parts.last().is_some_and(|last| last.ends_with([';', ',']));
        match parts.last_mut() {
            Some(command) if inside && !ends => {
                command.push(' ');
                command.push_str(word);
            }
            _ => {
                inside = announced && PROGRAMS.contains(&word);
                parts.push(word.to_owned());
            }
        }
    }
    parts
}

/// A line from a stranger (a build, an app) made safe for a terminal: control
/// bytes go, but tabs and colour (SGR, `ESC [ digits ; … m`) stay.
pub fn tame(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = sgr_length(rest) {
            safe.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        if c == '\t' || !c.is_control() {
            safe.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    safe
}

/// Length in bytes of the SGR sequence that `text` begins with.
fn sgr_length(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\x1b[")?;
    let digits = body.bytes().take_while(|c| c.is_ascii_digit() || *c == b';').count();
    (digits <= 32 && body.as_bytes().get(digits) == Some(&b'm')).then_some(2 + digits + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_between_words_and_keep_their_indentation() {
        let text = format!("  {} https://{}", "word ".repeat(20).trim(), "x".repeat(90));
        let pieces = wrapped(&text);
        assert_eq!(pieces.len(), 3, "{pieces:?}");
        assert!(pieces.iter().all(|piece| piece.starts_with("  ")));
        assert!(pieces[..2].iter().all(|piece| piece.chars().count() <= WIDTH));
        assert_eq!(pieces.concat().replace(' ', ""), text.replace(' ', ""));
        assert_eq!(wrapped(""), [""]);
    }

    #[test]
    fn a_command_is_never_cut_in_two() {
        let command = "git push --force-with-lease paas :refs/heads/a-longer-branch-name";
        let text = format!("Remove it first: {command} (then push again)");
        assert_eq!(wrapped(&text), ["Remove it first:", command, "(then push again)"]);
        assert_eq!(wrapped("Go on: paas apps"), ["Go on: paas apps"]);
    }

    #[test]
    fn colour_stays_and_cursor_tricks_go() {
        assert_eq!(tame("\x1b[31mred\x1b[0m\x1b[2J\x07\r\tok"), "\x1b[31mred\x1b[0m[2J\tok");
        assert_eq!(tame("\u{9b}2J"), "2J");
    }
}
