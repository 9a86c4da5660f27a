//! Variables that the settings of package managers read: mostly tokens of
//! private registries.

use crate::buildpack::draft::Draft;
use crate::model::EnvKey;

/// Files that may name them.
const FILES: [&str; 4] = [".npmrc", ".yarnrc.yml", ".yarnrc", "bunfig.toml"];

/// Variables that a build has anyway.
const THERE: [&str; 6] = ["HOME", "PATH", "PWD", "USER", "TMPDIR", "NODE_ENV"];

/// Most of them that are given to a build.
const MOST: usize = 20;

/// Has the build get the config vars of these names, if they are set. Yarn 1
/// ends where one is not.
pub(super) fn take(draft: &mut Draft<'_>) {
    for file in FILES {
        for name in names(&draft.files.hint(file).unwrap_or_default()) {
            if draft.take_secret(&name) {
                draft.decide(format!("{file} reads {name}: in the build as a secret, if set by config:set"));
            }
        }
    }
}

/// Names in `${NAME}`, outside comments. One with a default needs nothing.
fn names(text: &str) -> Vec<EnvKey> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with(['#', ';']));
    let starts = lines.flat_map(|line| line.split("${").skip(1));
    let plain = starts.filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
    let plain = plain.filter(|name| !THERE.contains(name));
    let mut found: Vec<EnvKey> = plain.filter_map(|name| EnvKey::parse(name).ok()).take(MOST).collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_without_a_default_are_found() {
        let found = |text: &str| names(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found("//r/:_authToken=${NPM_TOKEN}\n# ${NO}\n; ${NO}\n"), ["NPM_TOKEN"]);
        assert_eq!(found("a: \"${A}${B-none}${C:-}\"\nb: ${A}"), ["A"]);
        assert_eq!(found("${$(id)} ${x y} ${HOME} ${ ${"), Vec::<String>::new());
    }
}
