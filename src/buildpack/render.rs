//! Templates to Dockerfiles; the one place where values become program text.
//!
//! Values come from our own data, from validated versions, or go through one of
//! two filters: `json` (a JSON array, as in COPY and CMD) and `argv` (words of a
//! shell line, each quoted).

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::error::DetectError;
use super::pack;

/// The filled-in template `name` of a buildpack.
pub(super) fn render(pack: &str, name: &str, values: Value) -> Result<String, DetectError> {
    let broken =
        |error: Error| DetectError::Broken { pack: pack.to_owned(), reason: format!("{name}: {error:#}") };
    let text = pack::file(pack, name)?;
    environment().and_then(|environment| environment.render_str(text, values)).map_err(broken)
}

fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = environment.syntax().to_builder();
    let syntax = syntax.clone().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    environment.set_syntax(syntax?);
    environment.add_filter("json", |words: Vec<String>| json(&words));
    environment.add_filter("argv", argv);
    Ok(environment)
}

/// Whether a template can be read; where it cannot, the line and the reason.
pub(super) fn check(text: &str) -> Result<(), (usize, String)> {
    let told = |error: Error| {
        (
            error.line().unwrap_or_default(),
            error.kind().to_string() + ": " + error.detail().unwrap_or_default(),
        )
    };
    environment().and_then(|environment| environment.template_from_str(text).map(|_| ())).map_err(told)
}

/// `["a","b"]`, in ASCII, so that no character of a user's can end the line.
pub(super) fn json(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| json_string(word)).collect();
    format!("[{}]", quoted.join(","))
}

fn json_string(word: &str) -> String {
    let mut quoted = String::from("\"");
    for unit in word.encode_utf16() {
        match u8::try_from(unit) {
            Ok(c) if (c.is_ascii_graphic() || c == b' ') && !b"\"\\$<>&".contains(&c) => {
                quoted.push(char::from(c));
            }
            _ => quoted.extend(["\\u", &format!("{unit:04x}")]),
        }
    }
    quoted.push('"');
    quoted
}

/// Words of a shell line. Only plain characters are let through: whatever else
/// arrives here is a fault of ours, not something to be escaped.
#[allow(clippy::needless_pass_by_value, reason = "the template engine's filters take their values")]
fn argv(words: Vec<String>) -> Result<String, Error> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-/=+:,@".contains(&c);
    match words.iter().find(|word| word.is_empty() || !word.bytes().all(plain)) {
        Some(word) => Err(Error::new(ErrorKind::InvalidOperation, format!("{word:?} is no plain word"))),
        None => Ok(words.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_is_one_line_of_plain_ascii_and_reads_back(words: Vec<String>) {
            let text = json(&words);
            prop_assert!(text.bytes().all(|c| c.is_ascii_graphic() || c == b' '));
            prop_assert!(!text.contains('$'));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), words);
        }

        #[test]
        fn argv_lets_no_shell_character_through(words: Vec<String>) {
            if let Ok(line) = argv(words.clone()) {
                prop_assert_eq!(shell_words::split(&line).unwrap(), words);
                prop_assert!(!line.contains(['$', '`', ';', '&', '|', '<', '>', '\n', '*', '?', '(', '#', '~']));
            }
        }
    }
}
