//! Variables of a Dockerfile, as far as they can be told without building it.

use std::collections::BTreeMap;

/// What ARG and ENV lines have said so far.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// Defaults of ARG lines before the first FROM.
    of_all: BTreeMap<String, String>,
    /// What the stage has said.
    of_stage: BTreeMap<String, String>,
    /// Values that a build is given.
    given: BTreeMap<String, String>,
}

impl Variables {
    /// With the arguments that a build is given.
    pub fn of(given: BTreeMap<String, String>) -> Self {
        Self { given, ..Self::default() }
    }

    /// A stage begins: it knows nothing yet.
    pub fn begin_stage(&mut self) {
        self.of_stage.clear();
    }

    /// An ARG line.
    pub fn argument(&mut self, rest: &str, in_stage: bool) {
        let (name, default) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
        let name = name.trim();
        let default = default.and_then(|value| self.expand(value.trim().trim_matches(['"', '\''])));
        let inherited = || self.of_all.get(name).filter(|_| in_stage).cloned();
        let value = self.given.get(name).cloned().or(default).or_else(inherited);
        let into = if in_stage { &mut self.of_stage } else { &mut self.of_all };
        match value {
            Some(value) => into.insert(name.to_owned(), value),
            None => into.remove(name),
        };
    }

    /// An ENV line: `NAME=value NAME="value"`, or `NAME value`.
    pub fn environment(&mut self, rest: &str) {
        let old = rest.split_once(char::is_whitespace).filter(|(name, _)| !name.contains('='));
        let pairs: Vec<(String, String)> = if let Some((name, value)) = old {
            vec![(name.to_owned(), value.trim().to_owned())]
        } else {
            let words = shell_words::split(rest).unwrap_or_default().into_iter();
            words.filter_map(|word| word.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()))).collect()
        };
        for (name, value) in pairs {
            match self.expand(&value) {
                Some(value) => self.of_stage.insert(name, value),
                None => self.of_stage.remove(&name),
            };
        }
    }

    /// `$NAME`, `${NAME}` and `${NAME:-default}` of a FROM filled in; what is not known
    /// is nothing.
    pub fn in_from(&self, text: &str) -> String {
        fill(text, |name| self.of_all.get(name).cloned().or_else(|| Some(String::new()))).unwrap_or_default()
    }

    /// The same within a stage; `None` if anything in it cannot be told.
    pub fn expand(&self, text: &str) -> Option<String> {
        fill(text, |name| self.of_stage.get(name).cloned())
    }
}

fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '\\']) {
        out.push_str(&rest[..at]);
        let (sign, after) = rest[at..].split_at(1);
        rest = after;
        if sign == "\\" {
            // What is escaped stays as it is written.
            let next = rest.chars().next().map_or(0, char::len_utf8);
            out.push('\\');
            out.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        }
        let braced = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, after) = braced.unwrap_or_else(|| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            rest.split_at(end)
        });
        rest = after;
        let (name, default) = name.split_once(":-").map_or((name, None), |(name, or)| (name, Some(or)));
        if name.is_empty() {
            out.push('$');
            continue;
        }
        let found = value(name).filter(|found| default.is_none() || !found.is_empty());
        out.push_str(&found.or_else(|| default.map(str::to_owned))?);
    }
    Some(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dockerfile_says_is_filled_in() {
        let given = BTreeMap::from([("GIVEN".to_owned(), "by us".to_owned())]);
        let mut known = Variables::of(given);
        known.argument("TAG=3.11", false);
        known.argument("GIVEN=default", false);
        assert_eq!(known.in_from("python:${TAG}-slim$X"), "python:3.11-slim");
        assert_eq!(known.in_from("${BASE:-debian}:${TAG:-1}"), "debian:3.11");
        known.begin_stage();
        assert_eq!(known.expand("$TAG"), None, "an argument of all stages must be named again");
        known.argument("TAG", true);
        known.argument("GIVEN", true);
        known.environment("A=1 B=\"two words\" C=$TAG/x");
        known.environment("OLD a form");
        let text = "$A ${B} $C $GIVEN ${NO:-or} \\$A $ $OLD";
        assert_eq!(known.expand(text).as_deref(), Some("1 two words 3.11/x by us or \\$A $ a form"));
        assert_eq!(known.expand("$HOME"), None);
        known.begin_stage();
        assert_eq!(known.expand("$A"), None);
    }
}
