//! What the user is told where no bill of materials could be made.

use super::SbomError;
use crate::model::Problem;

impl SbomError {
    /// Title, cause and next step.
    pub fn problem(&self) -> Problem {
        let cannot = |file: &str| format!("{file} cannot be read.");
        match self {
            Self::TooLarge { file, limit } => {
                Problem::new(cannot(file), format!("It is larger than {} MiB.", limit >> 20), "")
            }
            Self::Malformed { file, line: 0, format, reason } => {
                Problem::new(cannot(file), format!("It was read as {format}: {reason}."), "")
            }
            Self::Malformed { file, line, format, reason } => {
                Problem::new(cannot(file), format!("Line {line}, read as {format}: {reason}."), "")
            }
            Self::TooMany { file, limit } => {
                Problem::new(cannot(file), format!("With it there are more than {limit} packages."), "")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal() {
        let file = "uv.lock".to_owned();
        let malformed = |line| SbomError::Malformed {
            file: file.clone(),
            line,
            format: "TOML",
            reason: "key with no value".to_owned(),
        };
        let errors = [
            SbomError::TooLarge { file: file.clone(), limit: 8 << 20 },
            malformed(0),
            malformed(7),
            SbomError::TooMany { file: file.clone(), limit: 50_000 },
        ];
        insta::assert_snapshot!(errors.map(|error| error.problem().to_string()).join("\n\n"));
    }
}
