//! Why a server does not start.

use crate::deploy::DeployError;
use crate::engine::EngineError;
use crate::logs::LogError;
use crate::model::Problem;
use crate::ssh::SshError;
use crate::store::StoreError;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Reasons; each is one line for the administrator, and exit status 1.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address cannot be listened on.
    #[error("listen on {address}: {cause}")]
    Listen {
        /// `SSH`, `HTTP`, `API`.
        what: &'static str,
        /// The setting's flag.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's words.
        cause: std::io::Error,
    },
    /// A file or directory of ours.
    #[error("{what} {}: {cause}", path.display())]
    File {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// Another server has this data directory.
    #[error("another server uses {}", .0.display())]
    Taken(PathBuf),
    /// The path of a socket is longer than the system allows.
    #[error("socket path too long: {}", .0.display())]
    LongPath(PathBuf),
    /// git is missing or too old.
    #[error("git: {0}")]
    Git(String),
    /// The proxy did not come up.
    #[error("proxy: {0}")]
    Proxy(String),
    /// A buildpack of the administrator's.
    #[error(transparent)]
    Buildpack(#[from] crate::buildpack::BrokenPack),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// App logs.
    #[error(transparent)]
    Logs(#[from] LogError),
    /// SSH.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// Recovery.
    #[error(transparent)]
    Deploy(#[from] DeployError),
}

impl ServerError {
    /// Title, cause and next step; shown on one line.
    pub fn problem(&self) -> Problem {
        let one = |title: String, next: &str| Problem::new(title, "", next);
        match self {
            Self::Listen { what, flag, address, cause } if cause.kind() == std::io::ErrorKind::AddrInUse => {
                one(
                    format!("{what} cannot listen on {address}: it is taken."),
                    &format!("Stop what uses it, or give another: {flag}"),
                )
            }
            Self::Listen { what, flag, address, cause } => one(
                format!("{what} cannot listen on {address}: {cause}."),
                &format!("Give another address: {flag}"),
            ),
            Self::File { what, path, cause } => one(
                format!("Cannot {what} {}: {cause}.", path.display()),
                "Check its owner and mode, or give another --data-dir.",
            ),
            Self::Taken(path) => one(
                format!("Another paas serve uses {}.", path.display()),
                "Stop it, or give another --data-dir.",
            ),
            Self::LongPath(path) => one(
                format!("{} is too long for a Unix socket (107 bytes).", path.display()),
                "Give a shorter --data-dir.",
            ),
            Self::Git(why) => one(format!("git cannot be used: {why}."), "Install it: apt-get install git"),
            Self::Proxy(why) => {
                one(why.trim_start_matches("paas: ").to_owned(), "See proxy.log in the data directory.")
            }
            Self::Engine(error) => error.into(),
            Self::Buildpack(broken) => one(
                format!("A buildpack is broken: {broken}."),
                "Mend it, or move its folder out of the way; paas serve --check-config tells whether it is.",
            ),
            Self::Store(error) => store_problem(error),
            Self::Logs(error) => error.problem(),
            Self::Ssh(error) => error.problem(),
            Self::Deploy(error) => error.problem().of_a_command(),
        }
    }
}

fn store_problem(error: &StoreError) -> Problem {
    let next = match error {
        StoreError::Damaged { .. } => "Restore it from a backup, or move it away to begin anew.",
        StoreError::Newer { .. } => "Install that version of paas again, or a newer one.",
        StoreError::KeyMissing { .. } | StoreError::KeyDamaged { .. } => {
            "Put it back from its backup; nothing was changed."
        }
        StoreError::KeyWrong { .. } => {
            "Put the right one back from its backup, or add its line to this one; nothing was changed."
        }
        StoreError::KeyExposed { path, .. } => {
            return Problem::new(
                format!("The state cannot be used: {error}."),
                "",
                format!("Close it: chmod 600 {}; and consider paas secrets:rotate.", path.display()),
            );
        }
        _ => "Check its owner and mode, and that the disk has room.",
    };
    Problem::new(format!("The state cannot be used: {error}."), "", next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::SecretKeyId;

    #[test]
    fn each_reason_names_what_to_do() {
        let address = "127.0.0.1:2222".parse().unwrap();
        let errors = [
            ServerError::Listen {
                what: "SSH",
                flag: "--ssh-listen",
                address,
                cause: std::io::ErrorKind::AddrInUse.into(),
            },
            ServerError::Taken("/var/lib/paas".into()),
            ServerError::LongPath("/a/long/path".into()),
            ServerError::Git("it is not installed".into()),
            ServerError::Store(StoreError::Damaged {
                path: "/x/paas.db".into(),
                reason: "not a database".into(),
            }),
            ServerError::Store(StoreError::Newer { path: "/x/paas.db".into() }),
            ServerError::Store(StoreError::KeyMissing {
                path: "/x/secrets.key".into(),
                database: "/x/paas.db".into(),
                needed: SecretKeyId::sample(),
            }),
            ServerError::Store(StoreError::KeyWrong {
                path: "/x/secrets.key".into(),
                database: "/x/paas.db".into(),
                needed: SecretKeyId::sample(),
            }),
            ServerError::Store(StoreError::KeyDamaged { path: "/x/secrets.key".into(), line: 3 }),
            ServerError::Store(StoreError::KeyExposed { path: "/x/secrets.key".into(), mode: 0o644 }),
            ServerError::Store(StoreError::KeyFile {
                doing: "write",
                path: "/x/secrets.key".into(),
                cause: std::io::ErrorKind::PermissionDenied.into(),
            }),
        ];
        let text: Vec<String> =
            errors.iter().map(|error| error.problem().to_string().replace('\n', " ")).collect();
        insta::assert_snapshot!(text.join("\n"));
    }
}
