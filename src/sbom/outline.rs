//! The part of YAML that package managers write: keys and values by indentation,
//! flow maps on one line. It has no anchors, so that nothing multiplies.
//!
//! A full YAML parser would be the largest of all readers here and would take
//! what no package manager writes; `serde_yaml` is not maintained.

use super::SbomError;
use std::borrow::Cow;

/// Deepest nesting: pnpm's own is four.
const DEPTH: usize = 16;

/// Most lines: ten times those of the largest monorepos.
const LINES: usize = 500_000;

/// Whose writing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `key: value`, of pnpm and yarn 2 and later.
    Yaml,
    /// `key value`, of yarn 1.
    Yarn,
}

/// A key with what stands under it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'t> {
    /// Without quotes.
    pub key: Cow<'t, str>,
    /// Text on its line; empty if there are entries.
    pub text: Cow<'t, str>,
    /// What is indented below it, or in braces behind it.
    pub entries: Vec<Entry<'t>>,
}

impl<'t> Entry<'t> {
    /// What stands under a key of this entry.
    pub fn get(&self, key: &str) -> Option<&Self> {
        find(&self.entries, key)
    }

    /// The text of a key of this entry.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).map(|entry| entry.text.as_ref()).filter(|text| !text.is_empty())
    }

    /// The entries of a key of this entry.
    pub fn below(&self, key: &str) -> &[Entry<'t>] {
        self.get(key).map_or(&[], |entry| &entry.entries)
    }
}

/// The entry of a key.
pub(super) fn find<'e, 't>(entries: &'e [Entry<'t>], key: &str) -> Option<&'e Entry<'t>> {
    entries.iter().find(|entry| entry.key == key)
}

/// A line with something on it.
struct Line<'t> {
    number: usize,
    indent: usize,
    text: &'t str,
}

struct Reader<'t> {
    file: &'t str,
    dialect: Dialect,
    lines: std::iter::Peekable<std::vec::IntoIter<Line<'t>>>,
}

/// Reads a whole file.
pub(super) fn read<'t>(file: &'t str, text: &'t str, dialect: Dialect) -> Result<Vec<Entry<'t>>, SbomError> {
    let mut lines = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let raw = raw.trim_end();
        let text = raw.trim_start_matches(' ');
        let line = Line { number: index + 1, indent: raw.len() - text.len(), text };
        if lines.len() >= LINES {
            return Err(fault(file, line.number, format!("more than {LINES} lines")));
        }
        if text.starts_with('\t') {
            return Err(fault(file, line.number, "a tab where blanks must be"));
        }
        if !text.is_empty() && !text.starts_with('#') && text != "---" {
            lines.push(line);
        }
    }
    let mut reader = Reader { file, dialect, lines: lines.into_iter().peekable() };
    let entries = reader.block(0, 0)?;
    match reader.lines.next() {
        None => Ok(entries),
        Some(line) => Err(fault(file, line.number, "its indentation fits no line above")),
    }
}

fn fault(file: &str, line: usize, reason: impl Into<String>) -> SbomError {
    SbomError::Malformed { file: file.to_owned(), line, format: "lock file", reason: reason.into() }
}

impl<'t> Reader<'t> {
    /// Entries that stand at this indentation.
    fn block(&mut self, indent: usize, depth: usize) -> Result<Vec<Entry<'t>>, SbomError> {
        let mut entries = Vec::new();
        while let Some(line) = self.lines.next_if(|line| line.indent == indent) {
            if depth > DEPTH {
                return Err(fault(self.file, line.number, format!("nested deeper than {DEPTH}")));
            }
            if line.text == "-" || line.text.starts_with("- ") {
                // No reader here needs a list.
                self.skip_below(indent);
            } else if let Some(key) = line.text.strip_prefix("? ") {
                entries.push(self.long_key(key, indent, depth)?);
            } else {
                entries.push(self.entry(&line, indent, depth)?);
            }
        }
        Ok(entries)
    }

    fn entry(&mut self, line: &Line<'t>, indent: usize, depth: usize) -> Result<Entry<'t>, SbomError> {
        let split = match self.dialect {
            Dialect::Yaml => yaml_pair(line.text),
            Dialect::Yarn => yarn_pair(line.text),
        };
        let Some((key, text)) = split else {
            return Err(fault(self.file, line.number, "no key and value"));
        };
        self.valued(key, text, indent, depth)
    }

    /// What follows a key.
    fn valued(
        &mut self,
        key: Cow<'t, str>,
        text: &'t str,
        indent: usize,
        depth: usize,
    ) -> Result<Entry<'t>, SbomError> {
        let plain = |text, entries| Entry { key, text, entries };
        if text.is_empty() {
            let deeper = self.lines.peek().map(|line| line.indent).filter(|next| *next > indent);
            let entries = deeper.map_or(Ok(Vec::new()), |deeper| self.block(deeper, depth + 1))?;
            return Ok(plain(Cow::Borrowed(""), entries));
        }
        // The rest of a text of several lines; nobody here needs one.
        self.skip_below(indent);
        if let Some(inside) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return Ok(plain(Cow::Borrowed(""), flow(inside)));
        }
        Ok(plain(scalar(text), Vec::new()))
    }

    /// `? key` on one line and `: value` on the next: keys beyond 1,024 characters.
    fn long_key(&mut self, key: &'t str, indent: usize, depth: usize) -> Result<Entry<'t>, SbomError> {
        let key = scalar(key);
        let Some(line) = self.lines.next_if(|line| line.indent == indent && line.text.starts_with(": "))
        else {
            return Ok(Entry { key, text: Cow::Borrowed(""), entries: Vec::new() });
        };
        let inside = line.indent + 2;
        let first = Line { number: line.number, indent: inside, text: line.text[2..].trim_start() };
        let mut entries = vec![self.entry(&first, inside, depth + 1)?];
        entries.extend(self.block(inside, depth + 1)?);
        Ok(Entry { key, text: Cow::Borrowed(""), entries })
    }

    fn skip_below(&mut self, indent: usize) {
        while self.lines.next_if(|line| line.indent > indent).is_some() {}
    }
}

/// The pair of a YAML line.
fn yaml_pair(line: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = quoted_end(line).or_else(|| {
        let colon = line.find(": ").or_else(|| line.len().checked_sub(1).filter(|_| line.ends_with(':')))?;
        Some(colon)
    })?;
    let rest = line[end..].strip_prefix(':')?;
    (rest.is_empty() || rest.starts_with(' ')).then(|| (scalar(&line[..end]), rest.trim_start()))
}

/// The pair of a line of yarn 1: `key value`, or `key, key:`.
fn yarn_pair(line: &str) -> Option<(Cow<'_, str>, &str)> {
    if let Some(key) = line.strip_suffix(':') {
        return Some((Cow::Borrowed(key), ""));
    }
    let end = quoted_end(line).or_else(|| line.find(' '))?;
    let value = line[end..].strip_prefix(' ')?.trim_start();
    (!value.is_empty()).then(|| (scalar(&line[..end]), value))
}

/// Where a text in quotes ends that a line begins with.
fn quoted_end(line: &str) -> Option<usize> {
    let quote = line.bytes().next().filter(|quote| matches!(quote, b'"' | b'\''))?;
    let mut bytes = line.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        if byte == b'\\' && quote == b'"' {
            bytes.next();
        } else if byte == quote {
            if quote == b'\'' && line.as_bytes().get(at + 1) == Some(&b'\'') {
                bytes.next();
                continue;
            }
            return Some(at + 1);
        }
    }
    None
}

/// A text without its quotes.
fn scalar(text: &str) -> Cow<'_, str> {
    let inside = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(text) = inside('\'') {
        return if text.contains("''") { Cow::Owned(text.replace("''", "'")) } else { Cow::Borrowed(text) };
    }
    match inside('"') {
        Some(inner) if inner.contains('\\') => {
            // Their escapes are JSON's.
            serde_json::from_str(text).map_or(Cow::Borrowed(inner), Cow::Owned)
        }
        Some(inner) => Cow::Borrowed(inner),
        None => Cow::Borrowed(text),
    }
}

/// `integrity: x, tarball: y`, without further braces.
fn flow(text: &str) -> Vec<Entry<'_>> {
    let pair = |part| {
        let (key, value) = yaml_pair(part)?;
        Some(Entry { key, text: scalar(value), entries: Vec::new() })
    };
    text.split(", ").map(str::trim).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_quoted_or_not_and_values_are_flow_or_block() {
        let text = "lockfileVersion: '9.0'\n\npackages:\n\n  '@a/b@1.0.0':\n    resolution: {integrity: sha512-x==, tarball: https://x/y.tgz}\n    deprecated: |-\n      no: longer\n      kept\n    cpu:\n      - x64\n    hasBin: true\n";
        let entries = read("f", text, Dialect::Yaml).unwrap();
        assert_eq!(find(&entries, "lockfileVersion").unwrap().text, "9.0");
        let package = find(&entries, "packages").unwrap().get("@a/b@1.0.0").unwrap();
        assert_eq!(package.get("resolution").unwrap().text("tarball"), Some("https://x/y.tgz"));
        assert_eq!(package.text("hasBin"), Some("true"));
        assert_eq!(package.entries.len(), 4);
    }

    #[test]
    fn long_keys_stand_behind_a_question_mark() {
        let text = "packages:\n  ? /a@1(b@2)\n  : resolution: {integrity: x}\n    dev: true\n  /c@1:\n    dev: false\n";
        let entries = read("f", text, Dialect::Yaml).unwrap();
        let packages = find(&entries, "packages").unwrap();
        assert_eq!(packages.get("/a@1(b@2)").unwrap().text("dev"), Some("true"));
        assert_eq!(packages.get("/c@1").unwrap().text("dev"), Some("false"));
    }

    #[test]
    fn yarn_writes_without_colons() {
        let text = "\"@a/b@^1\", c@2:\n  version \"1.0.0\"\n  dependencies:\n    \"@x/y\" \"^7\"\n    z \">= 1 < 3\"\n";
        let entries = read("f", text, Dialect::Yarn).unwrap();
        assert_eq!(entries[0].key, "\"@a/b@^1\", c@2");
        assert_eq!(entries[0].text("version"), Some("1.0.0"));
        let dependencies = entries[0].below("dependencies");
        assert_eq!((dependencies[0].key.as_ref(), dependencies[0].text.as_ref()), ("@x/y", "^7"));
        assert_eq!(dependencies[1].text, ">= 1 < 3");
    }

    #[test]
    fn faults_name_their_line() {
        let line = |text: &str| match read("f", text, Dialect::Yaml).unwrap_err() {
            SbomError::Malformed { line, .. } => line,
            other => panic!("{other:?}"),
        };
        assert_eq!(line("a:\n  b: 1\n\nc\n"), 4);
        assert_eq!(line("a:\n    b: 1\n  c: 2\n"), 3);
        assert_eq!(line("  a: 1\n"), 1);
        let deep: String = (0..10_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert_eq!(line(&deep), DEPTH + 2);
        assert_eq!(line(&"a: 1\n".repeat(LINES + 1)), LINES + 1);
    }
}
