//! The SSH entrance against the real `ssh` client.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_imports,
    clippy::disallowed_methods,
    missing_docs
)]

mod identity;
mod limits;
mod requests;
mod rude;
mod site;
mod streams;
