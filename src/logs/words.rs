//! The words that a person reads when logs can't be kept or read.

use super::LogError;
use crate::model::Problem;

impl LogError {
    /// For the user.
    pub fn problem(&self) -> Problem {
        match self {
            Self::File { path, cause } => Problem::new(
                format!("The log {} is out of reach: {cause}", path.display()),
                "",
                "See that the disk has room and the server may write there.",
            ),
            Self::Start(cause) => Problem::new(
                format!("Logs can't be kept: {cause}"),
                "",
                "See that the server may start threads, then start it again.",
            ),
            Self::Stopped => {
                Problem::new("Logs can't be read: their writer has stopped.", "", "Restart the server.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    #[test]
    fn each_error_says_what_to_do() {
        let all = [
            LogError::File { path: "/var/lib/paas/logs/7".into(), cause: ErrorKind::StorageFull.into() },
            LogError::Start(Error::from(ErrorKind::WouldBlock)),
            LogError::Stopped,
        ];
        let text: Vec<String> = all.iter().map(|error| error.problem().to_string()).collect();
        insta::assert_snapshot!(text.join("\n--\n"), @r"
        The log /var/lib/paas/logs/7 is out of reach: no storage space
        See that the disk has room and the server may write there.
        --
        Logs can't be kept: operation would block
        See that the server may start threads, then start it again.
        --
        Logs can't be read: their writer has stopped.
        Restart the server.
        ");
    }
}
