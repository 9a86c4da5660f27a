//! Scripts with the line ends of Windows, which no interpreter finds: the kernel
//! looks for `/bin/sh\r`.

use super::source::Files;
use super::version::shorten;
use crate::model::{EntryKind, SourceEntry};
use std::collections::BTreeSet;

/// Largest script that is looked at.
const LARGEST: u64 = 64 << 10;
/// Most files that are looked at.
const MOST: usize = 300;
/// Most names that a notice has.
const NAMED: usize = 3;
/// Folders of other people's code.
const FOREIGN: [&str; 2] = ["node_modules", "vendor"];
/// Folders of programs.
const PROGRAMS: [&str; 4] = ["bin", "script", "scripts", ".docker"];

/// Files that are run and end their lines as Windows does; the build gets them without.
pub(super) fn to_mend(files: Files<'_>) -> BTreeSet<String> {
    let entries = files.tree.entries().iter().filter(|entry| may_be_script(entry)).take(MOST);
    let found = entries.filter(|entry| files.hint(&entry.path).is_some_and(|text| is_broken(entry, &text)));
    found.map(|entry| entry.path.clone()).collect()
}

/// What the user is told of them.
pub(super) fn notice(paths: &BTreeSet<String>) -> Option<String> {
    let named: Vec<String> = paths.iter().take(NAMED).map(|path| shorten(path)).collect();
    let (more, have) = match paths.len() {
        0 => return None,
        1 => (String::new(), "has"),
        many if many > NAMED => (format!(" and {} more", many - NAMED), "have"),
        _ => (String::new(), "have"),
    };
    let named = named.join(", ");
    Some(format!(
        "{named}{more} {have} the line ends of Windows, with which Linux runs nothing: the build gets them without (for good: * text=auto eol=lf in .gitattributes, then git add --renormalize .)"
    ))
}

fn may_be_script(entry: &SourceEntry) -> bool {
    let EntryKind::File { executable } = entry.kind else { return false };
    let (folder, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
    let foreign = || folder.split('/').any(|part| FOREIGN.contains(&part));
    let programs = || folder.rsplit('/').next().is_some_and(|last| PROGRAMS.contains(&last));
    let named = executable || is_shell(name) || !name.contains('.') || programs();
    named && entry.size <= LARGEST && !foreign()
}

fn is_shell(name: &str) -> bool {
    [".sh", ".bash"].iter().any(|suffix| name.ends_with(suffix))
}

/// Scripts without a first line of `#!` are run by a shell that somebody names.
fn is_broken(entry: &SourceEntry, text: &str) -> bool {
    let first = text.split('\n').next().unwrap_or_default();
    let hook = ["bin/pre_compile", "bin/post_compile"].contains(&entry.path.as_str());
    first.ends_with('\r') && (first.starts_with("#!") || is_shell(&entry.path) || hook)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::sketch::planned;

    #[test]
    fn scripts_alone_are_mended() {
        let plan = planned(&[
            ("start.sh", "#!/bin/sh\r\nexec x\r\n"),
            ("run.sh", "echo\r\n"),
            ("entrypoint", "#!/bin/sh\r\nx\r\n"),
            ("bin/pre_compile", "echo\r\n"),
            ("bin/www", "#!/usr/bin/env node\r\n"),
            ("bin/plain", "echo\r\n"),
            ("good.sh", "#!/bin/sh\nprintf 'a\r\n'\n"),
            ("app.py", "print()\r\n"),
            ("Procfile", "web: ./start.sh\r\n"),
            ("notes.txt", "#! no\r\n"),
            ("node_modules/a/bin/a", "#!/bin/sh\r\n"),
        ]);
        let plan = plan.unwrap();
        let mended: Vec<&str> = plan.unix_lines.iter().map(String::as_str).collect();
        assert_eq!(mended, ["bin/pre_compile", "bin/www", "entrypoint", "run.sh", "start.sh"]);
        insta::assert_snapshot!(plan.notices.join("\n"));
    }
}
