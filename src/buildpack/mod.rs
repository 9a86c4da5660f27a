//! Detection: files → BuildPlan. Executes nothing.
//!
//! `buildpacks/<language>/` holds what is data (versions, base images,
//! Dockerfile templates, run-time environment); here is what must be reasoned
//! about: which language, which version, which command.

mod app_json;
mod assets;
mod attempt;
mod base;
mod catalog;
mod check;
mod describe;
mod detect;
mod draft;
mod error;
mod folder;
mod gem_version;
mod generic;
mod go;
mod hint;
#[cfg(test)]
mod hostile;
mod instructions;
mod line_ends;
mod loopback;
mod nginx;
mod node;
mod offered;
mod official;
mod own;
mod paas_toml;
mod pack;
mod procfile;
mod python;
mod range;
mod registry;
mod render;
mod ruby;
mod site;
#[cfg(test)]
mod sketch;
mod source;
mod stages;
#[cfg(test)]
mod stand_ins;
mod static_files;
mod steps;
mod subfolder;
#[cfg(test)]
mod tests;
mod variables;
mod version;
mod words;

pub use base::{available, bases};
pub use catalog::{CacheScope, Catalog, Choice};
pub use check::check;
pub use describe::describe;
pub use detect::{ignore_file, plan};
pub use error::{DetectError, Place, ProcfileFault};
pub use folder::Folder;
pub use offered::{Offered, builder_of};
pub use registry::{BrokenPack, extend, extended};
pub use source::IGNORE_LIMIT;
