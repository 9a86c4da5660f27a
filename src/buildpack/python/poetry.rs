//! Poetry's own way of writing versions, in the words of PEP 440 and 508.

use toml::{Table, Value};

use super::super::version;
use super::dependencies::name;

/// `^1.2`, `~1.2`, `1.2`, `1.*` and ranges as PEP 440 has them; `None` for
/// alternatives (`||`) and what is no version.
pub(super) fn range(text: &str) -> Option<String> {
    let parts: Option<Vec<String>> = text.split(',').map(|part| clause(part.trim())).collect();
    parts.map(|parts| parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(","))
}

fn clause(text: &str) -> Option<String> {
    if text == "*" {
        return Some(String::new());
    }
    if let Some(base) = text.strip_prefix('^') {
        let numbers = version::numbers(base.trim())?;
        // The first number that is not zero may not change.
        let fixed = numbers.iter().position(|number| *number != 0).unwrap_or(numbers.len() - 1);
        return Some(format!(">={},<{}", base.trim(), next(&numbers[..=fixed])));
    }
    if let Some(base) = text.strip_prefix('~').filter(|rest| !rest.starts_with('=')) {
        let numbers = version::numbers(base.trim())?;
        return Some(format!(">={},<{}", base.trim(), next(&numbers[..numbers.len().min(2)])));
    }
    if text.starts_with(['<', '>', '=', '!', '~']) {
        let safe = |c: char| c.is_ascii_alphanumeric() || "<>=!~.*+- ".contains(c);
        return text.chars().all(safe).then(|| text.to_owned());
    }
    let bare = |c: char| c.is_ascii_alphanumeric() || ".*+-".contains(c);
    (text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(bare)).then(|| format!("=={text}"))
}

/// The lowest version above all that begin so.
fn next(numbers: &[u64]) -> String {
    let (last, head) = numbers.split_last().unwrap_or((&0, &[]));
    let head = head.iter().map(ToString::to_string);
    head.chain([last.saturating_add(1).to_string()]).collect::<Vec<_>>().join(".")
}

/// `[tool.poetry.dependencies]` as lines of a requirements file; `None` if it
/// holds what only Poetry can resolve.
pub(super) fn requirements(table: &Table) -> Option<String> {
    let others = table.iter().filter(|(package, _)| *package != "python");
    let lines: Option<Vec<String>> = others.map(|(package, value)| requirement(package, value)).collect();
    lines.map(|lines| lines.concat())
}

fn requirement(package: &str, value: &Value) -> Option<String> {
    name(package).filter(|_| !package.contains(['[', ';', ' ', '\n']))?;
    let Some(table) = value.as_table() else {
        return Some(format!("{package}{}\n", range(value.as_str()?)?));
    };
    if table.get("optional").and_then(Value::as_bool) == Some(true) {
        return Some(String::new());
    }
    if table.keys().any(|key| !["version", "extras", "optional"].contains(&key.as_str())) {
        return None;
    }
    let extras: Option<Vec<&str>> =
        table.get("extras").and_then(Value::as_array).into_iter().flatten().map(Value::as_str).collect();
    let extras = extras?;
    if extras.iter().any(|extra| name(extra).is_none() || extra.contains([']', '\n', ' '])) {
        return None;
    }
    let extras = if extras.is_empty() { String::new() } else { format!("[{}]", extras.join(",")) };
    Some(format!("{package}{extras}{}\n", range(table.get("version")?.as_str()?)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_become_those_of_pep_440() {
        let pairs = [
            ("^3.11", ">=3.11,<4"),
            ("^0.2.3", ">=0.2.3,<0.3"),
            ("^0.0", ">=0.0,<0.1"),
            ("~1.2.3", ">=1.2.3,<1.3"),
            ("~3", ">=3,<4"),
            ("1.2", "==1.2"),
            ("3.*", "==3.*"),
            (">=3.9, <3.13", ">=3.9,<3.13"),
            ("~=2.1", "~=2.1"),
            ("*", ""),
        ];
        for (poetry, standard) in pairs {
            assert_eq!(range(poetry).as_deref(), Some(standard), "{poetry}");
        }
        for bad in ["^3 || ^4", "latest", "", "^x", "1\n2"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }

    #[test]
    fn dependencies_become_requirements() {
        let read = |text: &str| requirements(&text.parse::<Table>().unwrap());
        let plain = "python = '^3.11'\nflask = '^3.0'\nuvicorn = {version = '*', extras = ['standard']}\nx = {version = '1', optional = true}\n";
        assert_eq!(read(plain).as_deref(), Some("flask>=3.0,<4\nuvicorn[standard]\n"));
        assert_eq!(read("a = {git = 'https://x/y'}"), None);
        assert_eq!(read("a = '1\\n-e .'"), None);
    }
}
