//! The words that a person at the other end, or the administrator, reads.

use super::SshError;
use crate::model::Problem;

/// Why a request for a command is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Empty, or a request for a shell.
    #[error("Give a command: ssh paas help")]
    NoCommand,
    /// Bytes that are no text.
    #[error("The command is not UTF-8 text: write it in UTF-8")]
    NotUtf8,
    /// A NUL byte in it.
    #[error("The command contains a NUL byte: remove it")]
    Nul,
    /// More than [`super::command_line::LONGEST`] bytes.
    #[error("The command has {0} bytes, 65536 is the limit: use stdin")]
    TooLong(usize),
    /// An odd number of quotes.
    #[error("The command has a quote that is never closed: check its ' and \"")]
    OpenQuote,
    /// `sftp` and the like.
    #[error("There is no {0:?} here: use git push, or ssh paas help")]
    Subsystem(String),
    /// The key was removed while its connection was open.
    #[error("This key is not accepted any more: ask an administrator to add it")]
    KeyRemoved,
    /// We are on the way down.
    #[error("The server is stopping: try again in a moment")]
    Stopping,
    /// The command panicked.
    #[error("The server failed over this command: its log says more")]
    Broken,
}

impl SshError {
    /// For the administrator.
    pub fn problem(&self) -> Problem {
        match self {
            Self::HostKeyUnreadable { path, cause } => Problem::new(
                format!("Cannot read the SSH host key {}: {cause}", path.display()),
                "",
                "Make it readable for the user that runs paas serve.",
            ),
            Self::HostKeyUnwritable { path, cause } => Problem::new(
                format!("Cannot make the SSH host key {}: {cause}", path.display()),
                "",
                "Make its directory writable for the user that runs paas serve.",
            ),
            Self::HostKeyDamaged { path } => Problem::new(
                format!("The SSH host key {} is damaged.", path.display()),
                "",
                "Restore it from a backup, or remove it: a new one is made, and every\nclient must forget the old one (ssh-keygen -R).",
            ),
            Self::HostKeyExposed { path, mode } => Problem::new(
                format!("The SSH host key {} is open to others (mode {mode:04o}).", path.display()),
                "",
                format!("Close it: chmod 600 {}", path.display()),
            ),
            Self::Listener(cause) => Problem::new(
                format!("The SSH socket is unusable: {cause}"),
                "",
                "Set --ssh-listen to a free address and port.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};
    use std::path::PathBuf;

    fn told(error: &SshError) -> String {
        error.problem().to_string()
    }

    #[test]
    fn refusals_are_one_line_of_at_most_72_columns() {
        let all = [
            Refusal::NoCommand,
            Refusal::NotUtf8,
            Refusal::Nul,
            Refusal::TooLong(104_857),
            Refusal::OpenQuote,
            Refusal::Subsystem("sftp".into()),
            Refusal::KeyRemoved,
            Refusal::Stopping,
            Refusal::Broken,
        ];
        let lines: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert!(lines.iter().all(|line| line.len() <= 72 && !line.contains('\n')), "{lines:#?}");
        insta::assert_snapshot!(lines.join("\n"), @r#"
        Give a command: ssh paas help
        The command is not UTF-8 text: write it in UTF-8
        The command contains a NUL byte: remove it
        The command has 104857 bytes, 65536 is the limit: use stdin
        The command has a quote that is never closed: check its ' and "
        There is no "sftp" here: use git push, or ssh paas help
        This key is not accepted any more: ask an administrator to add it
        The server is stopping: try again in a moment
        The server failed over this command: its log says more
        "#);
    }

    #[test]
    fn each_error_says_what_to_do() {
        let path = PathBuf::from("/var/lib/paas/host_key");
        let denied = || Error::from(ErrorKind::PermissionDenied);
        let all = [
            SshError::HostKeyUnreadable { path: path.clone(), cause: denied() },
            SshError::HostKeyUnwritable { path: path.clone(), cause: denied() },
            SshError::HostKeyDamaged { path: path.clone() },
            SshError::HostKeyExposed { path, mode: 0o644 },
            SshError::Listener(denied()),
        ];
        insta::assert_snapshot!(all.iter().map(told).collect::<Vec<_>>().join("\n--\n"), @r"
        Cannot read the SSH host key /var/lib/paas/host_key: permission denied
        Make it readable for the user that runs paas serve.
        --
        Cannot make the SSH host key /var/lib/paas/host_key: permission denied
        Make its directory writable for the user that runs paas serve.
        --
        The SSH host key /var/lib/paas/host_key is damaged.
        Restore it from a backup, or remove it: a new one is made, and every
        client must forget the old one (ssh-keygen -R).
        --
        The SSH host key /var/lib/paas/host_key is open to others (mode 0644).
        Close it: chmod 600 /var/lib/paas/host_key
        --
        The SSH socket is unusable: permission denied
        Set --ssh-listen to a free address and port.
        ");
    }
}
