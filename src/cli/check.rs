//! `paas check`: whether an app's own settings can be read, without a server.

use super::fail_with;
use crate::buildpack::{self, Folder};
use crate::model::Problem;
use crate::settings::DEFAULT_BUILDPACKS;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(folder: &Path) -> ExitCode {
    let tree = match Folder::open(folder) {
        Ok(tree) => tree,
        Err(error) => return fail_with(format!("cannot read {}: {error}", folder.display())),
    };
    if let Err(broken) = buildpack::extend(Path::new(DEFAULT_BUILDPACKS)) {
        return fail_with(broken);
    }
    match buildpack::check(&tree) {
        Err(error) => fail_with(Problem::from(&error)),
        Ok((problems, seen)) => {
            let text = report(&problems.iter().map(Problem::from).collect::<Vec<_>>(), &seen);
            if problems.is_empty() {
                print!("{text}");
                return ExitCode::SUCCESS;
            }
            eprint!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// A line for each problem: where, what, and what would be right.
fn report(problems: &[Problem], seen: &[String]) -> String {
    if problems.is_empty() {
        return match seen {
            [] => "There is no paas.toml, Procfile or app.json, and none is needed.\n".to_owned(),
            seen => format!("Nothing to complain about in {}.\n", seen.join(", ")),
        };
    }
    let line = |problem: &Problem| {
        let words =
            [&problem.cause, &problem.next].map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
        crate::output::tame(words.join(" ").trim()) + "\n"
    };
    problems.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_has_a_line() {
        let problems = [
            Problem::new(
                "paas.toml has an unknown key",
                "paas.toml line 2: there is no bilder.",
                "Did you mean builder?",
            ),
            Problem::new(
                "Procfile cannot be read",
                "Procfile line 1: \"web\" has no colon.",
                "Each line is <type>: <command>, such as\n  web: python app.py",
            ),
        ];
        let seen = ["Procfile".to_owned(), "app.json".to_owned()];
        insta::assert_snapshot!(format!(
            "{}\n{}\n{}",
            report(&problems, &seen),
            report(&[], &seen),
            report(&[], &[])
        ));
    }
}
