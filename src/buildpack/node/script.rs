//! Scripts that a process runs and package.json lacks.

use super::manifest::Manifest;
use crate::buildpack::draft::Draft;
use crate::buildpack::error::{DetectError, Place};
use crate::model::RunCommand;

/// Options by which a manager looks at another package.json than the root's.
const ELSEWHERE: [&str; 10] =
    ["--prefix", "-C", "--workspace", "-w", "--filter", "-F", "--dir", "--cwd", "-r", "--workspaces"];

/// Refuses a Procfile, or a start script, that runs a script which is not there.
pub(super) fn check(draft: &Draft<'_>, manifest: &Manifest) -> Result<(), DetectError> {
    let declared = draft.procfile.iter().flat_map(|procfile| procfile.commands.values());
    let declared = declared.map(|line| (line.as_str(), Place::file("Procfile")));
    let web = draft.processes.values().filter_map(|command| match command {
        RunCommand::Exec(words) => Some(words.join(" ")),
        _ => None,
    });
    let inferred: Vec<String> = if draft.procfile.is_some() { Vec::new() } else { web.collect() };
    let inferred = inferred.iter().map(|line| (line.as_str(), manifest.place("start")));
    for (line, place) in declared.chain(inferred) {
        let Some(name) = script_of(line) else { continue };
        let implied = name == "start" && draft.files.has("server.js");
        if manifest.script(name).is_none() && !implied {
            let (name, have) = (name.to_owned(), manifest.scripts());
            return Err(DetectError::NoSuchScript { place, name, have });
        }
    }
    Ok(())
}

/// The script of the root that a line runs, if it is plain to see.
fn script_of(line: &str) -> Option<&str> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    if words.iter().any(|word| ELSEWHERE.iter().any(|option| word.split('=').next() == Some(option))) {
        return None;
    }
    let named = match words.as_slice() {
        ["npm", "run" | "run-script", name, ..] | ["pnpm" | "yarn" | "npm", name @ "start", ..] => Some(name),
        _ => None,
    };
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-:".contains(&c);
    named.copied().filter(|name| !name.starts_with('-') && name.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_plain_to_see_is_looked_up() {
        assert_eq!(script_of("npm run serve -- --port 1"), Some("serve"));
        assert_eq!(script_of("yarn start"), Some("start"));
        for line in [
            "npm run",
            "yarn serve",
            "npm start -w api",
            "pnpm --filter api start",
            "npm --prefix x start",
            "npm run $X",
            "node x",
        ] {
            assert_eq!(script_of(line), None, "{line}");
        }
    }
}
