//! `.dockerignore` with Docker's meaning: patterns of Go's `filepath.Match`
//! with `**`, from the root, the last match wins, `!` brings back.

/// The patterns of a `.dockerignore`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// `!pattern`: what matches is kept.
    keeps: bool,
    /// Parts of the pattern between slashes.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`: any number of folders, none included.
    Folders,
    /// One name.
    Name(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This character.
    Literal(char),
    /// `?`: one character.
    One,
    /// `*`: any characters.
    Any,
    /// `[a-z]`, `[^a-z]`.
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// Longest file that is read; patterns beyond it are passed over.
const TEXT_LIMIT: usize = 1 << 20;
/// Most patterns that are kept.
const RULE_LIMIT: usize = 10_000;

impl Patterns {
    /// Reads the file's text. Lines that Docker would refuse as patterns (an
    /// unclosed `[`, a trailing backslash) match nothing.
    pub fn parse(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = text.get(..TEXT_LIMIT).unwrap_or(text);
        let rules =
            text.lines().filter(|line| !line.starts_with('#')).filter_map(Rule::parse).take(RULE_LIMIT);
        Self { rules: rules.collect() }
    }

    /// Whether a path (`/`-separated, from the root) is kept out of the build:
    /// the last pattern that matches it, or a folder above it, decides.
    /// The Dockerfile itself is for the caller to spare: the builder reads it.
    pub fn excludes(&self, path: &str) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let names: Vec<Vec<char>> = path.split('/').map(|name| name.chars().collect()).collect();
        let last = self.rules.iter().rev().find(|rule| rule.matches(&names));
        last.is_some_and(|rule| !rule.keeps)
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let (keeps, pattern) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
        if pattern.is_empty() {
            return None;
        }
        let mut parts: Vec<Part> = Vec::new();
        for name in pattern.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(parts.pop()),
                "**" if parts.last() == Some(&Part::Folders) => {}
                "**" => parts.push(Part::Folders),
                name => parts.push(Part::Name(tokens(name)?)),
            }
        }
        (!parts.is_empty()).then_some(Self { keeps, parts })
    }

    /// Whether the whole path or a folder above it matches. Each row of the
    /// table says which prefixes of the path the pattern so far can cover, so
    /// that no pattern takes more than its length times the path's.
    fn matches(&self, names: &[Vec<char>]) -> bool {
        let mut reached = vec![false; names.len() + 1];
        reached[0] = true;
        for part in &self.parts {
            let mut next = vec![false; names.len() + 1];
            for at in 0..=names.len() {
                match part {
                    Part::Folders => next[at] = reached[at] || (at > 0 && next[at - 1]),
                    Part::Name(tokens) => {
                        next[at] = at > 0 && reached[at - 1] && name_matches(tokens, &names[at - 1]);
                    }
                }
            }
            reached = next;
        }
        // A trailing ** covers what is inside a folder; `a/**` is not `a`.
        let least = self.parts.iter().filter(|part| matches!(part, Part::Name(_))).count();
        let least = least + usize::from(self.parts.last() == Some(&Part::Folders));
        reached.iter().enumerate().any(|(at, covered)| *covered && at >= least.max(1))
    }
}

fn tokens(name: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = name.chars();
    while let Some(c) = rest.next() {
        found.push(match c {
            '*' if found.last() == Some(&Token::Any) => continue,
            '*' => Token::Any,
            '?' => Token::One,
            '\\' => Token::Literal(rest.next()?),
            '[' => class(&mut rest)?,
            c => Token::Literal(c),
        });
    }
    Some(found)
}

fn class(rest: &mut std::str::Chars<'_>) -> Option<Token> {
    let negated = rest.as_str().starts_with('^');
    if negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        if rest.as_str().starts_with(']') && !ranges.is_empty() {
            rest.next();
            return Some(Token::Class { negated, ranges });
        }
        let low = class_character(rest)?;
        let high = if rest.as_str().starts_with('-') {
            rest.next();
            class_character(rest)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn class_character(rest: &mut std::str::Chars<'_>) -> Option<char> {
    match rest.next()? {
        '\\' => rest.next(),
        '-' | ']' => None,
        c => Some(c),
    }
}

/// Greedy with one point of return: at most the product of both lengths.
fn name_matches(tokens: &[Token], name: &[char]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at < name.len() {
        match tokens.get(token) {
            Some(Token::Any) => {
                retry = Some((token, at));
                token += 1;
                continue;
            }
            Some(one) if one.is(name[at]) => {
                token += 1;
                at += 1;
                continue;
            }
            _ => {}
        }
        let Some((star, from)) = retry else { return false };
        retry = Some((star, from + 1));
        token = star + 1;
        at = from + 1;
    }
    tokens[token..].iter().all(|rest| *rest == Token::Any)
}

impl Token {
    fn is(&self, c: char) -> bool {
        match self {
            Self::Literal(own) => *own == c,
            Self::One => true,
            Self::Any => false,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn excluded(text: &str, path: &str) -> bool {
        Patterns::parse(text).excludes(path)
    }

    #[test]
    fn patterns_are_from_the_root_and_cover_what_is_below() {
        assert!(excluded("node_modules", "node_modules/a/b.js"));
        assert!(!excluded("node_modules", "sub/node_modules/a.js"));
        assert!(excluded("/a/", "a/b"));
        assert!(excluded("*.md", "README.md") && !excluded("*.md", "docs/README.md"));
        assert!(excluded("*/temp*", "a/tempfile") && !excluded("*/temp*", "a/b/temp"));
        assert!(excluded("./x/../a", "a"));
        assert!(excluded("*", "anything/at/all"));
    }

    #[test]
    fn double_stars_cover_any_depth() {
        for path in ["a.log", "x/a.log", "x/y/a.log"] {
            assert!(excluded("**/*.log", path), "{path}");
        }
        assert!(excluded("a/**/b", "a/b") && excluded("a/**/b", "a/x/y/b"));
        assert!(excluded("a/**", "a/b") && !excluded("a/**", "a"));
        assert!(excluded("**", "a/b"));
    }

    #[test]
    fn the_last_match_wins() {
        let text = "*.md\n!README*.md\nREADME-secret.md";
        assert!(excluded(text, "a.md") && !excluded(text, "README.md") && excluded(text, "README-secret.md"));
        assert!(!excluded("build\n!build/keep", "build/keep/x") && excluded("build\n!build/keep", "build/x"));
        assert!(!excluded("*\n!src", "src/a.py"));
    }

    #[test]
    fn comments_bom_and_line_ends_do_not_count() {
        assert!(excluded("\u{feff}a\r\n# b\r\n  c  \r\n", "a"));
        assert!(excluded("a\r\n#b\r\n  c  \r\n", "c"));
        assert!(!excluded("#b", "b") && !excluded("\n\n!\n", "b"));
    }

    #[test]
    fn classes_and_escapes_are_gos() {
        assert!(excluded("[a-c].txt", "b.txt") && !excluded("[^a-c].txt", "b.txt"));
        assert!(excluded("\\*", "*") && !excluded("\\*", "a"));
        assert!(!excluded("[a", "[a") && !excluded("[]", "]"));
    }

    #[test]
    fn the_build_keeps_its_own_files() {
        assert!(excluded("*", "Dockerfile") && excluded("*", ".dockerignore"));
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let patterns = Patterns::parse(&format!("{}x", "**/*a*".repeat(500)));
        assert!(!patterns.excludes(&"a".repeat(4000)));
    }

    proptest! {
        #[test]
        fn nothing_panics(text: String, path: String) {
            let _ = Patterns::parse(&text).excludes(&path);
        }

        #[test]
        fn a_plain_name_excludes_itself_and_what_is_below(name in "[a-z]{1,8}", below in "[a-z/]{1,8}") {
            prop_assume!(name != "Dockerfile");
            let patterns = Patterns::parse(&name);
            prop_assert!(patterns.excludes(&name));
            let inside = format!("{name}/{below}");
            prop_assert!(patterns.excludes(&inside));
            let other = format!("{name}x");
            prop_assert!(!patterns.excludes(&other));
        }
    }
}
