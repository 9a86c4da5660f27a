//! A software bill of materials: lock files in, a CycloneDX document out. Pure.
//!
//! Every format has a reader of its own; what stands in a file that it does not
//! need is passed over without being kept, and what is kept is bounded.

mod bun;
mod component;
mod composer;
mod document;
mod error;
mod find;
mod gem;
mod go;
mod graph;
mod npm;
mod outline;
mod pnpm;
mod python;
mod requirements;
mod source;
#[cfg(test)]
mod tests;
mod words;
mod yarn;

pub use component::{Component, Ecosystem, Hash};
pub use document::{Base, Subject, document, table};
pub use error::SbomError;
pub use find::{Bill, read};
