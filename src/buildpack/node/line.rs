//! Scripts of `package.json` as commands: without a shell or a manager around
//! them where nothing is lost by that, so that SIGTERM reaches the app.

use std::collections::BTreeSet;

use super::manager::Tool;
use super::manifest::Manifest;
use crate::buildpack::draft::exec;
use crate::model::RunCommand;

/// First words that are the shell's own.
const SHELL_WORDS: [&str; 14] = [
    ".", "cd", "eval", "exec", "exit", "export", "if", "for", "set", "source", "test", "trap", "wait",
    "while",
];

/// The script `start` as a command. Only npm, pnpm and yarn 1 run what stands
/// in `prestart` before it.
pub(super) fn start(manifest: &Manifest, tool: Tool, plug_and_play: bool) -> Option<RunCommand> {
    let line = manifest.script("start")?.trim();
    let before = manifest.script("prestart").map(str::trim).filter(|_| tool != Tool::Berry);
    let whole = before.map_or_else(|| line.to_owned(), |before| format!("{before} && {line}"));
    let by_manager = || exec(&[tool.program(), "start"]);
    if plug_and_play && !whole.starts_with("node ") {
        return Some(by_manager());
    }
    Some(direct(&whole).unwrap_or_else(by_manager))
}

/// A line as a command that needs no manager, if it can be one.
pub(super) fn direct(line: &str) -> Option<RunCommand> {
    if line.contains("npm_") || line.contains(['\n', '\r', '\0']) {
        return None;
    }
    let parts: Vec<&str> = line.split("&&").map(str::trim).collect();
    let (last, before) = parts.split_last()?;
    if parts
        .iter()
        .any(|part| part.is_empty() || part.contains([';', '&', '|', '<', '>', '(', ')', '`', '#']))
    {
        return None;
    }
    if !before.is_empty() && line.contains(['\'', '"', '\\']) {
        return None;
    }
    let last = with_environment(last)?;
    if !before.is_empty() {
        return Some(RunCommand::Shell(format!("{} && exec {last}", before.join(" && "))));
    }
    let words: Vec<String> = last.split_ascii_whitespace().map(str::to_owned).collect();
    let plain = |word: &String| word.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-/=:@,+%".contains(&c));
    Some(if words.iter().all(plain) { RunCommand::Exec(words) } else { RunCommand::Shell(last) })
}

/// A simple command; variables in front of it are set by `env`, whether the
/// shell or cross-env was meant to set them.
fn with_environment(part: &str) -> Option<String> {
    let mut words = part.split_ascii_whitespace().peekable();
    if words.peek() == Some(&"cross-env") {
        words.next();
    }
    let mut variables = Vec::new();
    while let Some(word) = words.next_if(|word| is_assignment(word)) {
        if word.contains(['\'', '"', '\\']) {
            return None;
        }
        variables.push(word);
    }
    let rest: Vec<&str> = words.collect();
    let program = rest.first().filter(|word| !SHELL_WORDS.contains(word))?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"_./+-@".contains(&c);
    if !program.bytes().all(plain) {
        return None;
    }
    let all = if variables.is_empty() { rest } else { [vec!["env"], variables, rest].concat() };
    Some(all.join(" "))
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map(|(name, _)| name);
    name.is_some_and(|name| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
    })
}

/// The program of a script's last command and its arguments, without what only
/// prepares it: variables, cross-env, npx and the like. Other scripts that it
/// runs are followed.
pub(super) fn program(manifest: &Manifest, line: &str) -> Vec<String> {
    const RUNNERS: [&[&str]; 10] = [
        &["npx"],
        &["bunx"],
        &["pnpm", "exec"],
        &["pnpm", "dlx"],
        &["yarn", "exec"],
        &["npm", "exec"],
        &["npm", "run"],
        &["pnpm", "run"],
        &["yarn", "run"],
        &["bun", "run"],
    ];
    let mut line = line.to_owned();
    for _ in 0..4 {
        let last = line.rsplit("&&").next().unwrap_or_default().trim();
        let mut words: Vec<&str> = last.split_ascii_whitespace().collect();
        let skipped = |word: &&&str| is_assignment(word) || **word == "cross-env";
        words.drain(..words.iter().take_while(skipped).count());
        let runner = RUNNERS.iter().find(|runner| words.starts_with(runner));
        let behind = &words[runner.map_or(0, |runner| runner.len())..];
        let behind = match behind {
            ["pnpm" | "yarn" | "bun", rest @ ..] if runner.is_none() && !rest.is_empty() => rest,
            other => other,
        };
        match behind.first().and_then(|name| manifest.script(name)) {
            Some(next) if behind.len() < words.len() => line = next.to_owned(),
            _ => return behind.iter().map(|&word| word.to_owned()).collect(),
        }
    }
    Vec::new()
}

/// A line and every script that it runs, as words.
pub(super) fn words_of(manifest: &Manifest, line: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut lines = vec![line.to_owned()];
    let mut followed = BTreeSet::new();
    while let Some(line) = lines.pop() {
        let split = line.split(|c: char| c.is_whitespace() || "=&|;()\"'`".contains(c));
        let words: Vec<String> = split.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let runs = words.iter().any(|word| ["npm", "pnpm", "yarn", "bun"].contains(&word.as_str()));
        for word in words.iter().filter(|_| runs) {
            if let Some(script) = manifest.script(word)
                && followed.insert(word.clone())
            {
                lines.push(script.to_owned());
            }
        }
        found.extend(words);
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn simple_lines_are_started_without_a_shell() {
        for (line, expected) in [
            ("node  server.js --x=1", "node server.js --x=1"),
            ("NODE_ENV=production node a.js", "env NODE_ENV=production node a.js"),
            ("cross-env A=1 B=2 node a.js", "env A=1 B=2 node a.js"),
        ] {
            let RunCommand::Exec(words) = direct(line).unwrap() else { panic!("{line}") };
            assert_eq!(words.join(" "), expected);
        }
    }

    #[test]
    fn the_last_of_several_takes_the_shells_place() {
        for (line, expected) in [
            ("next start -p $PORT", "next start -p $PORT"),
            ("A=1 next start -p ${PORT:-1}", "env A=1 next start -p ${PORT:-1}"),
            ("cd dist && node main.js", "cd dist && exec node main.js"),
            ("a b && A=1 node c", "a b && exec env A=1 node c"),
            ("node -e 'x y'", "node -e 'x y'"),
        ] {
            assert_eq!(direct(line), Some(RunCommand::Shell(expected.to_owned())), "{line}");
        }
    }

    #[test]
    fn whatever_is_more_than_that_is_the_managers() {
        for line in [
            "a & b",
            "a; b",
            "a | b",
            "a > b",
            "cd x",
            "$CMD",
            "",
            "a &&",
            "A='x y' b",
            "echo $npm_x",
            "a 'x && y'",
            "a\nb",
        ] {
            assert_eq!(direct(line), None, "{line:?}");
        }
    }
}
