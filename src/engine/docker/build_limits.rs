//! Bounds on what all builds together may take of the host.
//!
//! The engine's BuildKit ignores limits given with a build, but runs every step
//! under one parent group of its own. Limits are set there, before each build:
//! the group may be another server's too, or gone after a restart of the engine.
//! <https://docs.kernel.org/admin-guide/cgroup-v2.html>,
//! <https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>

use crate::model::BuildLimits;
use std::io;
use std::path::{Path, PathBuf};

/// Where groups are.
const ROOT: &str = "/sys/fs/cgroup";

/// BuildKit's parent group in the engine, under each hierarchy.
const PARENT: &str = "docker/buildkit";

/// The share of CPU time of builds, where an app's container has 1,024 (version
/// 1) or 100 (version 2): apps come first.
const SHARES: (u32, u32) = (256, 25);

/// Sets the limits; why not, if that fails.
pub fn limit_builds(limits: BuildLimits) -> Result<(), String> {
    let root = Path::new(ROOT);
    let unified = root.join("cgroup.controllers").exists();
    let result = if unified { unified_limits(root, limits) } else { split_limits(root, limits) };
    result.map_err(|(path, error)| format!("{}: {error}", path.display()))
}

type Fault = (PathBuf, io::Error);

fn unified_limits(root: &Path, limits: BuildLimits) -> Result<(), Fault> {
    let group = make(&root.join(PARENT))?;
    for parent in group.ancestors().skip(1).take_while(|path| path.starts_with(root)) {
        // Refused where it is on already by other means.
        let _ = write(&parent.join("cgroup.subtree_control"), "+memory +pids +cpu");
    }
    write(&group.join("memory.max"), &limits.memory.to_string())?;
    // Without swap accounting there is no such file, and nothing to limit.
    let _ = write(&group.join("memory.swap.max"), "0");
    write(&group.join("pids.max"), &limits.pids.to_string())?;
    write(&group.join("cpu.weight"), &SHARES.1.to_string())
}

fn split_limits(root: &Path, limits: BuildLimits) -> Result<(), Fault> {
    let memory = make(&root.join("memory").join(PARENT))?;
    let bytes = limits.memory.to_string();
    // Memory with swap may not be less than memory: which of the two can be
    // written first depends on what was there before.
    let swap = memory.join("memory.memsw.limit_in_bytes");
    let _ = write(&swap, &bytes);
    write(&memory.join("memory.limit_in_bytes"), &bytes)?;
    let _ = write(&swap, &bytes);
    let pids = make(&root.join("pids").join(PARENT))?;
    write(&pids.join("pids.max"), &limits.pids.to_string())?;
    let cpu = make(&root.join("cpu").join(PARENT))?;
    write(&cpu.join("cpu.shares"), &SHARES.0.to_string())
}

fn make(group: &Path) -> Result<PathBuf, Fault> {
    std::fs::create_dir_all(group).map_err(|error| (group.to_owned(), error))?;
    Ok(group.to_owned())
}

fn write(file: &Path, text: &str) -> Result<(), Fault> {
    std::fs::write(file, text).map_err(|error| (file.to_owned(), error))
}
