//! The proxy's errors in the words of the person who starts it.

use super::ProxyError;
use crate::model::Problem;
use std::io::ErrorKind;

impl From<&ProxyError> for Problem {
    fn from(error: &ProxyError) -> Self {
        match error {
            ProxyError::Running { path, pid } => Self::new(
                "The proxy did not start: another one is running",
                match pid {
                    Some(pid) => format!("Process {pid} holds {}.", path.display()),
                    None => format!("Another process holds {}.", path.display()),
                },
                "Stop that one first, or give this server a data directory of its own.",
            ),
            ProxyError::Lock { path, source } => Self::new(
                "The proxy did not start: no lock file",
                format!("{}: {source}", path.display()),
                "Create that directory, writable for the user that runs the proxy.",
            ),
            ProxyError::Handover { path, source } => Self::new(
                "The proxy did not take over: the one that runs goes on",
                format!("{}: {source}", path.display()),
                "Try again; or restart it, which ends its connections.",
            ),
            ProxyError::Listen { address, source } => Self::new(
                format!("The proxy did not start: can't listen on {address}"),
                listen_cause(source),
                "Choose another address with --http-listen or --https-listen, or free this one.",
            ),
            ProxyError::Tls(error) => Self::new(
                "The proxy did not start: TLS can't be set up",
                format!("{error}."),
                "To do without: --tls off",
            ),
        }
    }
}

fn listen_cause(source: &std::io::Error) -> String {
    match source.kind() {
        ErrorKind::AddrInUse => "Another program listens there already.".to_owned(),
        ErrorKind::PermissionDenied => "Ports below 1024 need root or CAP_NET_BIND_SERVICE.".to_owned(),
        ErrorKind::AddrNotAvailable => "No interface of this machine has that address.".to_owned(),
        _ => source.to_string(),
    }
}
