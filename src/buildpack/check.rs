//! `paas check`: everything that is wrong with an app's own settings, at once.

use super::error::{DetectError, Place};
use super::source::Files;
use super::{app_json, paas_toml, pack, procfile};
use crate::model::SourceTree;

/// Most problems of a file that are told.
const MOST: usize = 50;

/// All problems of `paas.toml`, and of `Procfile` and `app.json` in the folder that
/// is the app; and which of these files there are.
pub fn check(tree: &dyn SourceTree) -> Result<(Vec<DetectError>, Vec<String>), DetectError> {
    let languages = pack::builders()?;
    let files = Files { tree };
    let mut problems = Vec::new();
    let mut seen = Vec::new();
    let root = match files.text(paas_toml::FILE) {
        Ok(Some(text)) => {
            seen.push(paas_toml::FILE.to_owned());
            problems.extend(faults(&text, |text| paas_toml::parse(text, &languages).map(drop)));
            root(&text)
        }
        Ok(None) => String::new(),
        Err(error) => {
            problems.push(error);
            String::new()
        }
    };
    type Check = fn(&str) -> Result<(), DetectError>;
    let checks: [(&str, Check); 2] = [
        ("Procfile", |text| procfile::parse(text).map(drop)),
        (app_json::FILE, |text| app_json::parse(text).map(drop)),
    ];
    for (name, check) in checks {
        let path = format!("{root}{name}");
        match files.text(&path) {
            Ok(Some(text)) => {
                problems.extend(faults(&text, check));
                seen.push(path);
            }
            Ok(None) => {}
            Err(error) => problems.push(error),
        }
    }
    Ok((problems, seen))
}

/// `[build] root`, with a slash at its end.
fn root(text: &str) -> String {
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let root = table.get("build").and_then(|build| build.get("root")).and_then(toml::Value::as_str);
    let root = root.unwrap_or_default().trim_start_matches("./").trim_end_matches('/');
    if root.is_empty() || root == "." { String::new() } else { format!("{root}/") }
}

/// A reader tells the first problem only: its line is taken out, with the rest of
/// the table if it is a table's head, and the reader asked again.
fn faults(text: &str, check: impl Fn(&str) -> Result<(), DetectError>) -> Vec<DetectError> {
    let mut lines: Vec<&str> = text.lines().collect();
    let mut problems: Vec<DetectError> = Vec::new();
    while problems.len() < MOST {
        let Err(error) = check(&lines.join("\n")) else { break };
        let line = line_of(&error);
        let fresh = line.checked_sub(1).filter(|at| lines.get(*at).is_some_and(|line| !line.is_empty()));
        // Without a line of its own it may only follow from what was taken out.
        if fresh.is_some() || problems.is_empty() {
            problems.push(error);
        }
        let Some(at) = fresh else { break };
        let head = lines[at].trim_start().starts_with('[');
        lines[at] = "";
        for line in lines[at + 1..].iter_mut().take_while(|line| head && !line.trim_start().starts_with('['))
        {
            *line = "";
        }
    }
    problems.sort_by_key(line_of);
    problems
}

fn line_of(error: &DetectError) -> usize {
    match error {
        DetectError::Procfile { line, .. }
        | DetectError::Malformed { place: Place { line, .. }, .. }
        | DetectError::UnknownKey { place: Place { line, .. }, .. }
        | DetectError::BadValue { place: Place { line, .. }, .. } => *line,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, check: impl Fn(&str) -> Result<(), DetectError>) -> Vec<usize> {
        faults(text, check).iter().map(line_of).collect()
    }

    #[test]
    fn all_faults_are_told_in_order() {
        let toml = |text: &str| paas_toml::parse(text, &["go"]).map(drop);
        let text = "[biuld]\nx = 1\n\n[build]\nbilder = 'go'\nstart = ' '\n\n[checks]\npath = 'up'\ninterval = 0\n\n[processes.web]\ncount = 101\n";
        assert_eq!(told(text, toml), [1, 5, 6, 9, 10, 13]);
        assert_eq!(told("[build\nstart = 'x'\n", toml), [1]);
        assert_eq!(told("[build]\nstart = 'x'\n", toml), [0; 0]);
        let procfile = |text: &str| procfile::parse(text).map(drop);
        assert_eq!(told("web\nwor ker: x\nweb: a\nweb: b\nx:\n", procfile), [1, 2, 4, 5]);
        assert_eq!(told("# nothing\n", procfile), [0]);
        assert_eq!(told("web\n", procfile), [1]);
        let json = |text: &str| app_json::parse(text).map(drop);
        assert_eq!(
            told("{\"env\": {\n\"A B\": \"x\",\n\"C\": {\"generator\": 1},\n\"D\": \"\"}}", json),
            [2, 3]
        );
    }
}
