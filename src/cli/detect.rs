//! `paas detect`: the plan of a folder, without building anything.

use super::{fail, fail_with};
use crate::buildpack::{self, CacheScope, Catalog, Choice, Folder};
use crate::model::{ImageSource, Problem};
use crate::settings::DEFAULT_BUILDPACKS;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(folder: &Path, source: &str) -> ExitCode {
    let source = match source {
        "registry" | "auto" => ImageSource::Registry,
        "debian" => ImageSource::Debian,
        other => return fail_with(format!("--image-source {other:?} is neither registry nor debian")),
    };
    let tree = match Folder::open(folder) {
        Ok(tree) => tree,
        Err(error) => return fail_with(format!("cannot read {}: {error}", folder.display())),
    };
    let Some(cache_scope) = CacheScope::parse("detect") else { return ExitCode::FAILURE };
    if let Err(broken) = buildpack::extend(Path::new(DEFAULT_BUILDPACKS)) {
        return fail_with(broken);
    }
    let choice = Choice::default();
    match buildpack::plan(&tree, &Catalog { source, ca_bundle: None, cache_scope, allow: None, choice }) {
        Ok(plan) => {
            print!("{}", buildpack::describe(&plan));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let problem = Problem::from(&error);
            if problem.lines().count() < 2 {
                return fail(&problem);
            }
            for line in crate::output::problem(&problem) {
                eprintln!("{line}");
            }
            ExitCode::FAILURE
        }
    }
}
