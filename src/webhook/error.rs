//! Why a message did not arrive. Nothing of an answer is in it but its status: who
//! may add webhooks is not to read what others answer.

use std::net::IpAddr;

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// Not an address.
    #[error("{0}")]
    NotAnAddress(&'static str),
    /// The name has no address.
    #[error("its host has no address")]
    NoAddress,
    /// It is in the server's own network.
    #[error("its host is in a private network ({0})")]
    Private(IpAddr),
    /// It is the server's own address, and no port on which it serves the world.
    #[error("its host is this server, which takes messages on the ports 80 and 443 alone")]
    Own,
    /// Nobody accepts connections there.
    #[error("no connection")]
    NoConnection,
    /// The other side's certificate does not prove who it is.
    #[error("no TLS connection: {0}")]
    Tls(String),
    /// No answer came.
    #[error("no answer")]
    NoAnswer,
    /// It took too long.
    #[error("no answer within {0} s")]
    Late(u64),
    /// It leads elsewhere.
    #[error("it answered {0}, a redirect, which is not followed")]
    Redirect(u16),
    /// Another answer than a success.
    #[error("it answered {0}")]
    Status(u16),
}
