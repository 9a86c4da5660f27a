//! The Procfile, by our own rules: it is no YAML.

use std::collections::BTreeMap;

use super::error::{DetectError, ProcfileFault};
use crate::model::ProcessType;

/// Commands per process type as they were declared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Procfile {
    /// Command lines, `release` among them.
    pub commands: BTreeMap<ProcessType, String>,
}

impl Procfile {
    /// The program that a type's command begins with, behind variables, `exec` and the
    /// way into a folder: `web: cd api && PORT=1 exec node server.js`.
    pub fn program(&self, kind: &ProcessType) -> Option<&str> {
        let line = self.commands.get(kind)?.trim();
        let line =
            line.strip_prefix("cd ").and_then(|rest| rest.split_once("&&")).map_or(line, |(_, rest)| rest);
        line.split_whitespace().find(|word| !["exec", "env"].contains(word) && !word.contains('='))
    }
}

/// Most process types of an app.
const MOST: usize = 100;

/// Reads `<type>: <command>` lines; `#` begins a comment line.
pub(super) fn parse(text: &str) -> Result<Procfile, DetectError> {
    let mut commands = BTreeMap::new();
    let mut lines: BTreeMap<ProcessType, usize> = BTreeMap::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let fault = |fault| DetectError::Procfile { line, fault };
        let Some((kind, command)) = declaration(raw).map_err(fault)? else { continue };
        if let Some(first) = lines.insert(kind.clone(), line) {
            return Err(fault(ProcfileFault::Duplicate(kind.to_string(), first)));
        }
        commands.insert(kind, command);
        if commands.len() > MOST {
            return Err(fault(ProcfileFault::TooMany(MOST)));
        }
    }
    if commands.is_empty() {
        return Err(DetectError::Procfile { line: 0, fault: ProcfileFault::Empty });
    }
    Ok(Procfile { commands })
}

fn declaration(raw: &str) -> Result<Option<(ProcessType, String)>, ProcfileFault> {
    let line = raw.trim();
    if line.contains('\0') {
        return Err(ProcfileFault::Nul);
    }
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (kind, command) = line.split_once(':').ok_or_else(|| ProcfileFault::NoColon(line.to_owned()))?;
    let kind = kind.trim_end();
    let parsed = ProcessType::parse(kind).map_err(|_| ProcfileFault::BadType(kind.to_owned()))?;
    let command = command.trim();
    if command.is_empty() {
        return Err(ProcfileFault::NoCommand(kind.to_owned()));
    }
    Ok(Some((parsed, command.to_owned())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().commands.into_iter().map(|(kind, line)| (kind.to_string(), line)).collect()
    }

    #[test]
    fn commands_are_kept_to_the_byte() {
        let text =
            "# a comment\r\nweb: gunicorn app:app --bind 0.0.0.0:$PORT\r\n\r\nworker :  echo 'a: b' # c\r\n";
        assert_eq!(
            read(text),
            [
                ("web".to_owned(), "gunicorn app:app --bind 0.0.0.0:$PORT".to_owned()),
                ("worker".to_owned(), "echo 'a: b' # c".to_owned())
            ]
        );
    }

    #[test]
    fn a_hundred_types_are_read_and_no_more() {
        let lines = |count| (0..count).map(|n| format!("w{n}: run {n}\n")).collect::<String>();
        assert_eq!(parse(&lines(100)).unwrap().commands.len(), 100);
        let error = parse(&format!("# many\n{}", lines(10_000))).unwrap_err();
        assert_eq!(error, DetectError::Procfile { line: 102, fault: ProcfileFault::TooMany(100) });
    }

    #[test]
    fn faults_name_their_line() {
        let fault = |text| match parse(text).unwrap_err() {
            DetectError::Procfile { line, fault } => (line, fault),
            other => panic!("{other:?}"),
        };
        assert_eq!(fault("web: a\nworker b"), (2, ProcfileFault::NoColon("worker b".to_owned())));
        assert_eq!(fault("\nwe b: a"), (2, ProcfileFault::BadType("we b".to_owned())));
        assert_eq!(fault("web:"), (1, ProcfileFault::NoCommand("web".to_owned())));
        assert_eq!(fault("web: a\n#\nweb: b"), (3, ProcfileFault::Duplicate("web".to_owned(), 1)));
        assert_eq!(fault("web: a\0b"), (1, ProcfileFault::Nul));
        assert_eq!(fault("# nothing\n"), (0, ProcfileFault::Empty));
    }
}
