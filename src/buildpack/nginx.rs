//! Values of an app as words of an nginx configuration.

use std::fmt::Write as _;

/// A word in quotes, none of whose characters means anything to the parser.
/// Variables are still filled in where nginx does so: see [`value`].
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A word in quotes that stands for itself where variables are filled in, too.
/// There is no escape for a dollar but a variable that holds one.
pub(super) fn value(text: &str) -> String {
    quoted(text).replace('$', "${dollar}")
}

/// A regular expression that matches a path as it is written, but for `*`.
pub(super) fn pattern(path: &str, star: &str) -> String {
    let mut out = String::new();
    for c in path.chars() {
        match c {
            '*' => out.push_str(star),
            c if c.is_ascii_punctuation() => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// A path as browsers send it: whatever is no part of a URL, escaped.
pub(super) fn escaped_path(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// What nginx reads of a quoted word (`ngx_conf_read_token`).
    fn read(word: &str) -> Option<(String, &str)> {
        let mut out = String::new();
        let mut rest = word.strip_prefix('"')?.char_indices();
        while let Some((at, c)) = rest.next() {
            match c {
                '"' => return Some((out, &word[at + 2..])),
                '\\' => match rest.next()?.1 {
                    c @ ('"' | '\\' | '\'') => out.push(c),
                    c => out.extend(['\\', c]),
                },
                c => out.push(c),
            }
        }
        None
    }

    proptest! {
        #[test]
        fn a_quoted_word_is_one_word_and_reads_back(text: String) {
            let word = quoted(&text);
            prop_assert_eq!(read(&word), Some((text.clone(), "")));
            let word = value(&text);
            prop_assert_eq!(word.matches('$').count(), text.matches('$').count());
            prop_assert_eq!(read(&word).unwrap().0.replace("${dollar}", "$"), text);
        }

        #[test]
        fn a_pattern_means_no_more_than_it_says(text in "[^a-zA-Z0-9*]{0,20}") {
            let mut literal = String::new();
            let pattern = pattern(&text, "");
            let mut rest = pattern.chars();
            while let Some(c) = rest.next() {
                prop_assert!(c == '\\' || !c.is_ascii_punctuation());
                literal.push(if c == '\\' { rest.next().unwrap() } else { c });
            }
            prop_assert_eq!(literal, text);
        }
    }
}
