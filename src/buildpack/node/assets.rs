//! Assets of an app in another language: what the `build` of its package.json
//! makes, with the manager and the Node that it asks for.

use minijinja::context;

use super::install::{self, Purpose};
use super::manager;
use super::manifest::{self, Manifest};
use super::start::Start;
use super::{build, lock, release, token};
use crate::buildpack::assets::Assets;
use crate::buildpack::base;
use crate::buildpack::draft::Draft;
use crate::buildpack::error::DetectError;
use crate::buildpack::paas_toml::PaasToml;
use crate::buildpack::pack;
use crate::buildpack::render::render;
use crate::buildpack::version;

/// The script that builds style sheets alone.
const STYLES: &str = "build:css";

/// The stage that builds them; `None` if there is nothing to build.
pub(in crate::buildpack) fn assets(of: &mut Draft<'_>) -> Result<Option<Assets>, DetectError> {
    if !of.pack.assets || !of.files.has(manifest::FILE) {
        return Ok(None);
    }
    let manifest = Manifest::load(of.files)?;
    let mut scripts: Vec<&str> = build::own_script(&manifest).into_iter().collect();
    // Rails has its style sheets built by themselves: cssbundling-rails.
    let styles = Some(STYLES).filter(|name| of.pack.key == "ruby" && manifest.script(name).is_some());
    scripts.extend(styles);
    if scripts.is_empty() {
        return Ok(None);
    }
    token::take(of);
    let settings = PaasToml::default();
    let mut draft = Draft::new(of.files, of.catalog, pack::get("node")?, &settings, None);
    let node = match release::choose(&mut draft, &manifest) {
        Err(DetectError::NoSuchVersion { place, text, .. }) => {
            let asked = version::shorten(&text);
            draft.warn(format!("{place} asks for Node {asked}, which cannot be had here"));
            release::newest(&draft)?
        }
        other => other?,
    };
    let manager = manager::choose(&mut draft, &manifest, &node)?;
    super::check_yarn_path(&draft, &manager)?;
    lock::check(draft.files, &manifest, &manager)?;
    let install = install::plan(&draft, &manifest, &manager, |_| Purpose::Everything);
    let run = |script: &&str| vec![manager.tool.program().to_owned(), "run".to_owned(), (*script).to_owned()];
    let mut commands: Vec<Vec<String>> = scripts.iter().map(run).collect();
    let whole: Vec<String> = commands.iter().map(|command| command.join(" ")).collect();
    let command = commands.remove(0);
    let other_npm = manager::other_npm(&manager, &node)?;
    let mut said =
        vec![format!("Node {} for {}, from {}", node.offer.version, whole.join(" and "), manifest::FILE)];
    said.extend(manager.lock.map(|lock| format!("{}, from {lock}", install::verb(&manager))));
    let base = base::pair(draft.pack, &node.offer, draft.catalog)?.build;
    let values =
        super::values(&draft, &manifest, &manager, Some(&install), &command, &Start::default(), false);
    let values = context! {
        build_base => base.reference.as_str(), build_prologue => of.prologue(),
        steps => of.steps.secrets_only().values(), scope => of.catalog.cache_scope.as_str(),
        more_builds => commands, assets => true, apart => false, other_npm => other_npm.as_ref().map(super::refetch), ..values
    };
    let text = render("node", "Dockerfile.j2", values)?;
    Ok(Some(Assets { text, base, said, notices: draft.notices }))
}
