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

impl Problem {
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
