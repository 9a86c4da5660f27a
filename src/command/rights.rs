//! Who may do what: one table, one function.
//!
//! Today a key that may come in may do everything; people and their rights come
//! later, and then only this file learns of them.

use crate::model::{Caller, Origin};

/// What a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Nothing but a key.
    Public,
    /// To see or change an app.
    App,
    /// To change the server.
    Server,
}

/// The row of a command; `None` for what is no command of ours.
pub fn right_of(command: &str) -> Option<Right> {
    match command {
        "help" | "version" => Some(Right::Public),
        "apps" | "apps:create" | "apps:info" | "apps:branch" | "apps:destroy" | "audit" | "auth"
        | "auth:set" | "auth:remove" | "builds" | "builds:cancel" | "certs" | "certs:add"
        | "certs:remove" | "checks" | "checks:set" | "checks:unset" | "config" | "config:set"
        | "config:get" | "config:export" | "config:unset" | "domains" | "domains:add" | "domains:remove"
        | "domains:redirect" | "https" | "https:set" | "images:update" | "logs" | "maintenance"
        | "maintenance:on" | "maintenance:off" | "maintenance:page" | "metrics" | "ps" | "ps:scale"
        | "ps:resize" | "ps:restart" | "ps:stop" | "ps:sleep" | "ps:start" | "ps:wake" | "releases"
        | "releases:prune" | "rollback" | "sbom" | "status" | "webhooks" | "webhooks:add"
        | "webhooks:remove" | "git-receive-pack" | "git-upload-pack" => Some(Right::App),
        "images" | "keys" | "keys:add" | "keys:remove" | "secrets:rotate" => Some(Right::Server),
        _ => None,
    }
}

/// Whether a caller has a right.
pub fn authorise(caller: &Caller, right: Right) -> bool {
    match (caller.origin, right) {
        // The socket lets only the data directory's owner and root through.
        (Origin::Local(_), _) => true,
        (Origin::Ssh(_), Right::Public | Right::App | Right::Server) => caller.key.is_some(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nobody_comes_over_ssh_without_a_key() {
        let origin = Origin::Ssh("192.0.2.1:1".parse().unwrap());
        assert!(!authorise(&Caller { key: None, origin }, Right::Public));
    }
}
