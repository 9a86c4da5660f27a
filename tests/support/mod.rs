//! What the end-to-end tests stand on: the real binary, git, ssh and engine.
//!
//! One `paas serve` per test binary, shared by its tests. A small shell, the
//! reaper, waits for the test process to end, however it ends, and then removes
//! the apps, the server and its directory.
#![allow(dead_code, unused_imports)] // each test binary uses its own part of this
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // tests start processes and may panic

mod app;
mod authority;
mod case;
mod engine;
pub mod http;
mod own_engine;
mod registry;
mod repository;
mod run;
mod server;

pub use app::TestApp;
pub use authority::Authority;
pub use case::{Case, Probe, Unrouted, cases};
pub use engine::docker;
pub use http::{Reply, get};
pub use own_engine::OwnEngine;
pub use registry::ImageServer;
pub use repository::Repository;
pub use run::{Finished, Running};
pub use server::{Server, alone, free_port, on_engine, on_small_disk, shared};

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Polls until `condition` holds; panics with `what` after `limit`.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
