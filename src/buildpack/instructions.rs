//! A Dockerfile as its instructions, here-documents included.
//!
//! <https://docs.docker.com/reference/dockerfile/#here-documents>

use std::ops::Range;

/// One instruction, which may span lines.
pub(super) struct Instruction<'t> {
    /// Index of its first line, from 0.
    pub first: usize,
    /// Upper case.
    pub keyword: String,
    /// The rest of its first line.
    pub rest: &'t str,
    /// Its own lines, without what its here-documents say.
    pub head: Range<usize>,
    /// The here-documents that it names, in order.
    pub documents: Vec<Document<'t>>,
}

/// A here-document: `<<EOF` and the lines up to `EOF`.
pub(super) struct Document<'t> {
    /// `EOF`
    pub name: &'t str,
    /// Whether it is taken as it stands: `<<'EOF'`.
    pub literal: bool,
    /// Whether tabs at the beginning of its lines do not count: `<<-EOF`.
    pub tabs: bool,
    /// Its lines, without the last one that ends it.
    pub lines: Range<usize>,
}

/// The instructions of a Dockerfile. Continuation lines belong to the first, and
/// so do here-documents.
pub(super) fn instructions(text: &str) -> Vec<Instruction<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            at += 1;
            continue;
        }
        let head = at..end_of_head(&lines, at);
        let (keyword, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        let keyword = keyword.to_ascii_uppercase();
        let documents = if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") {
            documents(&lines, &head)
        } else {
            Vec::new()
        };
        at = documents.last().map_or(head.end, |last| last.lines.end + 1);
        found.push(Instruction { first: head.start, keyword, rest: rest.trim(), head, documents });
    }
    found
}

/// Where the lines end that backslashes join; comments and empty lines between
/// them belong to it.
fn end_of_head(lines: &[&str], first: usize) -> usize {
    let mut end = first;
    for line in &lines[first..] {
        let trimmed = line.trim();
        end += 1;
        let counts = !trimmed.is_empty() && !trimmed.starts_with('#');
        if counts && !trimmed.ends_with('\\') {
            break;
        }
    }
    end
}

fn documents<'t>(lines: &[&'t str], head: &Range<usize>) -> Vec<Document<'t>> {
    let words = lines[head.clone()].iter().flat_map(|line| line.split_whitespace());
    let mut at = head.end;
    let mut found = Vec::new();
    for word in words {
        let Some((name, tabs)) = opened(word) else { continue };
        let literal = word.contains(['"', '\'']);
        let ends = |line: &&str| if tabs { line.trim_start_matches('\t') == name } else { **line == *name };
        let Some(length) = lines.get(at..).and_then(|rest| rest.iter().position(ends)) else { break };
        found.push(Document { name, literal, tabs, lines: at..at + length });
        at += length + 1;
    }
    found
}

/// The name in `<<NAME`, `<<-NAME`, `<<"NAME"`, `3<<NAME`; and whether tabs go.
pub(super) fn opened(word: &str) -> Option<(&str, bool)> {
    let word = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (word, tabs) = word.strip_prefix('-').map_or((word, false), |rest| (rest, true));
    let name = word.trim_matches(['"', '\'']);
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-';
    (!name.is_empty() && name.chars().all(fits)).then_some((name, tabs))
}

/// A RUN with here-documents in a form that every builder knows: the words of
/// `shell` and what it is to run. Older engines know here-documents only by a
/// frontend from a registry.
pub(super) fn without_documents(
    instruction: &Instruction<'_>,
    lines: &[String],
    shell: &[String],
) -> Option<String> {
    let (options, command) = instruction.words(lines)?;
    let script = script(&command, instruction, lines);
    let words = serde_json::to_string(&shell.iter().chain([&script]).collect::<Vec<_>>()).ok()?;
    Some(format!("RUN {options}{words}"))
}

impl Instruction<'_> {
    /// Its options, each with a blank behind it, and what follows them, on one line.
    pub fn words(&self, lines: &[String]) -> Option<(String, String)> {
        let joined: Vec<&str> = self
            .head
            .clone()
            .map(|at| lines[at].trim())
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.trim_end_matches('\\'))
            .collect();
        let joined = joined.join(" ");
        let mut command = joined.split_once(char::is_whitespace)?.1.trim_start();
        let mut options = String::new();
        while let Some((option, rest)) =
            command.split_once(char::is_whitespace).filter(|_| command.starts_with("--"))
        {
            options = options + option + " ";
            command = rest.trim_start();
        }
        Some((options, command.trim().to_owned()))
    }
}

impl Document<'_> {
    /// What it says.
    pub fn text(&self, lines: &[String]) -> String {
        let each = lines[self.lines.clone()].iter();
        each.map(|line| format!("{}\n", if self.tabs { line.trim_start_matches('\t') } else { line }))
            .collect()
    }
}

fn script(command: &str, instruction: &Instruction<'_>, lines: &[String]) -> String {
    match instruction.documents.as_slice() {
        [only] if opened(command).is_some() => {
            let text = only.text(lines);
            if text.starts_with("#!") { as_program(only.name, &text) } else { text }
        }
        all => all.iter().fold(format!("{command}\n"), |script, document| {
            script + &document.text(lines) + document.name + "\n"
        }),
    }
}

/// A script whose first line says what runs it.
fn as_program(name: &str, text: &str) -> String {
    format!(
        "program=$(mktemp) && cat >\"$program\" <<'{name}'\n{text}{name}\nchmod 700 \"$program\" && \"$program\"\nstatus=$?\nrm -f \"$program\"\nexit $status\n"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = "FROM debian\n# a\nRUN apt-get update && \\\n  # why\n  apt-get install -y curl\n\
        RUN <<EOF\nset -e\nFROM=1\necho \"$FROM\"\nEOF\nCOPY <<-'X' /etc/x\n\thello\n\tX\n\
        RUN --mount=type=cache,target=/c python3 - <<PY\nprint(1)\nPY\nRUN cat <<<word\nCMD [\"x\"]\n";

    #[test]
    fn what_a_here_document_says_is_no_instruction() {
        let found = instructions(TEXT);
        let keywords: Vec<(&str, usize)> =
            found.iter().map(|one| (one.keyword.as_str(), one.documents.len())).collect();
        assert_eq!(
            keywords,
            [("FROM", 0), ("RUN", 0), ("RUN", 1), ("COPY", 1), ("RUN", 1), ("RUN", 0), ("CMD", 0)]
        );
        assert_eq!(instructions("RUN cat <<EOF\nnever ended\n").len(), 2, "as the builder takes it");
        assert_eq!(instructions("RUN a \\").len(), 1);
    }

    #[test]
    fn a_run_with_a_here_document_becomes_one_that_every_builder_knows() {
        let lines: Vec<String> = TEXT.lines().map(str::to_owned).collect();
        let found = instructions(TEXT);
        let shell = ["/bin/sh".to_owned(), "-c".to_owned()];
        let of = |index: usize| without_documents(&found[index], &lines, &shell).unwrap();
        assert_eq!(of(2), r#"RUN ["/bin/sh","-c","set -e\nFROM=1\necho \"$FROM\"\n"]"#);
        assert_eq!(
            of(4),
            r#"RUN --mount=type=cache,target=/c ["/bin/sh","-c","python3 - <<PY\nprint(1)\nPY\n"]"#
        );
        let text = "RUN <<E\n#!/usr/bin/python3\nprint(1)\nE\n";
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let run = without_documents(&instructions(text)[0], &lines, &shell).unwrap();
        assert!(run.contains("cat >\\\"$program\\\" <<'E'\\n#!/usr/bin/python3\\nprint(1)\\nE\\n"), "{run}");
    }
}
