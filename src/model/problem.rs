//! What a person is told when something does not work.

use std::fmt;

/// A refusal or failure in the user's words: what failed, why, what to do.
///
/// Nothing internal belongs here; the internal chain goes to the log, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What did not happen, in one line: `Push rejected: no web process`.
    pub title: String,
    /// Why, with file and line where there is one; may have several lines.
    pub cause: String,
    /// What to do next; may have several lines, such as a Procfile to start from.
    pub next: String,
}

impl Problem {
    /// A problem from its three parts; an empty part is left out when shown.
    pub fn new(title: impl Into<String>, cause: impl Into<String>, next: impl Into<String>) -> Self {
        Self { title: title.into(), cause: cause.into(), next: next.into() }
    }

    /// All its lines in order, empty parts left out.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        [&self.title, &self.cause, &self.next].into_iter().flat_map(|part| part.lines())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(line)?;
        }
        Ok(())
    }
}

/// First words of titles that are no names, so that they can stand within a sentence.
const PLAIN_WORDS: [&str; 9] =
    ["A", "An", "Cancelled", "Could", "Nothing", "Only", "Somebody", "The", "This"];

impl Problem {
    /// The same words where a push was refused: they all begin alike.
    #[must_use]
    pub fn of_a_push(mut self) -> Self {
        if !self.title.starts_with("Push rejected") {
            let plain = self.title.split(' ').next().is_some_and(|word| PLAIN_WORDS.contains(&word));
            let length = self.title.chars().next().map_or(0, char::len_utf8);
            let (first, rest) = self.title.split_at(length);
            let first = if plain { first.to_lowercase() } else { first.to_owned() };
            self.title = format!("Push rejected: {first}{rest}");
        }
        if !self.title.ends_with(['.', '?', '!']) {
            self.title.push('.');
        }
        self
    }

    /// The same words where no push was refused but another command was.
    #[must_use]
    pub fn of_a_command(mut self) -> Self {
        if let Some(rest) = self.title.strip_prefix("Push rejected: ") {
            let mut letters = rest.chars();
            self.title =
                letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_pushes_begin_alike_and_other_commands_do_not_speak_of_them() {
        let of_a_push = |title| Problem::new(title, "", "").of_a_push().title;
        assert_eq!(of_a_push("The build failed"), "Push rejected: the build failed.");
        assert_eq!(of_a_push("no language was recognised"), "Push rejected: no language was recognised.");
        assert_eq!(of_a_push("Procfile cannot be read"), "Push rejected: Procfile cannot be read.");
        assert_eq!(of_a_push("ä.py is a symbolic link"), "Push rejected: ä.py is a symbolic link.");
        assert_eq!(of_a_push("Push rejected: it was cancelled."), "Push rejected: it was cancelled.");
        let of_a_command = |title| Problem::new(title, "", "").of_a_command().title;
        assert_eq!(of_a_command("Push rejected: no proxy is running."), "No proxy is running.");
    }
}
