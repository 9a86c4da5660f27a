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

    /// An ARG line: `NAME`, `NAME=value NAME="value"`.
    pub fn argument(&mut self, rest: &str, in_stage: bool) {
        for word in shell_words::split(rest).unwrap_or_default() {
            let (name, default) = word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
            let told = |value: &str| if in_stage { self.expand(value) } else { Some(self.in_from(value)) };
            let default = default.and_then(told);
            let inherited = || self.of_all.get(name).filter(|_| in_stage).cloned();
            let value = self.given.get(name).cloned().or(default).or_else(inherited);
            let into = if in_stage { &mut self.of_stage } else { &mut self.of_all };
            match value {
                Some(value) => into.insert(name.to_owned(), value),
                None => into.remove(name),
            };
        }
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
        let value = |name: &str| self.of_all.get(name).map(String::as_str).or_else(|| platform(name));
        fill(text, &|name| Told::of(value(name)), DEPTH).unwrap_or_default()
    }

    /// The same within a stage; `None` if anything in it cannot be told.
    pub fn expand(&self, text: &str) -> Option<String> {
        let value = |name: &str| self.of_stage.get(name).cloned().map_or(Told::Unknown, Told::Is);
        fill(text, &value, DEPTH)
    }
}

/// Deepest default within a default, and longest text in braces.
const DEPTH: usize = 8;
const LONGEST: usize = 1000;

/// What there is to know of a variable.
enum Told {
    Is(String),
    /// It has no value.
    Unset,
    /// It may have one.
    Unknown,
}

impl Told {
    fn of(value: Option<&str>) -> Self {
        value.map_or(Self::Unset, |value| Self::Is(value.to_owned()))
    }
}

/// What builders say of the machine that an image is for.
fn platform(name: &str) -> Option<&'static str> {
    match name {
        "TARGETPLATFORM" | "BUILDPLATFORM" => Some("linux/amd64"),
        "TARGETOS" | "BUILDOS" => Some("linux"),
        "TARGETARCH" | "BUILDARCH" => Some("amd64"),
        _ => None,
    }
}

fn fill(text: &str, value: &impl Fn(&str) -> Told, depth: usize) -> Option<String> {
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
        let (inner, after) = braced(rest).unwrap_or_else(|| rest.split_at(length_of_name(rest)));
        rest = after;
        if inner.is_empty() {
            out.push('$');
            continue;
        }
        out.push_str(&filled(inner, value, depth)?);
    }
    Some(out + rest)
}

fn length_of_name(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// What stands in the braces, others within them included, and what follows.
fn braced(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('{')?;
    let mut open = 1_usize;
    let end = inner.char_indices().take(LONGEST).find(|&(_, c)| {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        open == 0
    });
    end.map(|(end, _)| (&inner[..end], &inner[end + 1..]))
}

/// `NAME`, `NAME:-default`, `NAME-default`, `NAME:+other`, `NAME+other`.
fn filled(inner: &str, value: &impl Fn(&str) -> Told, depth: usize) -> Option<String> {
    let (name, operation) = inner.split_at(length_of_name(inner));
    let empty_counts = !operation.starts_with(':');
    let operation = operation.strip_prefix(':').unwrap_or(operation);
    let found = match value(name) {
        Told::Is(text) => Some(text).filter(|text| empty_counts || !text.is_empty()),
        Told::Unset => None,
        // A default stands for what may be set in the base; the rest cannot be told.
        Told::Unknown if operation.starts_with('-') => None,
        Told::Unknown => return None,
    };
    let word = |sign| operation.strip_prefix(sign).filter(|_| depth > 0);
    if let Some(default) = word('-') {
        return found.or_else(|| fill(default, value, depth - 1));
    }
    if let Some(other) = word('+') {
        return if found.is_some() { fill(other, value, depth - 1) } else { Some(String::new()) };
    }
    operation.is_empty().then(|| found.unwrap_or_default())
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
        known.argument("IMAGE=python:${TAG}-slim OTHER='a b'", false);
        known.argument("EMPTY=", false);
        assert_eq!(known.in_from("$IMAGE $OTHER"), "python:3.11-slim a b");
        assert_eq!(known.in_from("${NO-x}${EMPTY-y}${EMPTY:-z}${TAG:+t}${NO:+n}${EMPTY+e}"), "xzte");
        assert_eq!(known.in_from("${NO:-${NEITHER:-debian:${TAG}}}-$TARGETARCH"), "debian:3.11-amd64");
        assert_eq!(known.in_from("${TAG%.*}"), "", "not known to builders of that age");
        known.in_from(&"${A:-".repeat(2000));
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
