//! `paas`: a git-push deployment server. ARCHITECTURE.md traces one push.
//!
//! Modules stand in layers and import downward only, never a sibling.

// 1. the terminal
pub mod cli;
// 2. wiring
pub mod server;
// 3. entrances
pub mod control;
pub mod ssh;
// 4. commands and the pipeline
pub mod command;
pub mod deploy;
// 5. workers
pub mod acme;
pub mod buildpack;
pub mod engine;
pub mod git;
pub mod logs;
pub mod proxy;
pub mod sbom;
pub mod store;
pub mod webhook;
// 6. leaves
pub mod clock;
pub mod failpoint;
pub mod frame;
pub mod https;
pub mod model;
pub mod output;
pub mod password;
pub mod settings;
pub mod spawn;
pub mod x509;
