//! Files that are served as they are.

use minijinja::context;

use super::draft::{CONTEXT_ROOT, Draft};
use super::error::{DetectError, Place};
use super::paas_toml;
use super::site::{FALLBACK, Site};
use super::version::shorten;
use crate::model::BuildPlan;

const STATICFILE: &str = "Staticfile";

/// Makes the plan of a static site.
pub(super) fn plan(mut draft: Draft<'_>) -> Result<BuildPlan, DetectError> {
    let settings = draft.settings.site.clone().unwrap_or_default();
    let staticfile = Staticfile::load(&mut draft)?;
    let root = root(&mut draft, &staticfile)?;
    let given = settings.fallback.as_ref().map(|given| (given.value.clone(), given.place()));
    let pushed = staticfile.pushstate.then(|| (FALLBACK.to_owned(), Place::file(STATICFILE)));
    let fallback = given.or(pushed);
    let whole_repository = root == ".";
    let built = draft.steps.changes_files();
    if let Some((page, place)) = fallback.as_ref().filter(|_| !built) {
        let file = if whole_repository { page.clone() } else { format!("{root}/{page}") };
        if !draft.files.has(&file) {
            return Err(DetectError::MissingFile { file, named_by: place.clone() });
        }
    }
    let fallback = fallback.map(|(page, _)| page);
    let (stage, top) = if built { (Some("build"), "/app") } else { (None, CONTEXT_ROOT) };
    let folder = if whole_repository { format!("{top}/") } else { format!("{top}/{root}/") };
    draft.serve(Site { stage, folder, whole_repository, fallback, settings });
    let offer = draft.newest()?;
    draft.finish(offer, context! {})
}

/// Cloud Foundry's `Staticfile`: the keys of it that mean something here.
#[derive(Default)]
struct Staticfile {
    root: Option<(String, usize)>,
    pushstate: bool,
}

impl Staticfile {
    fn load(draft: &mut Draft<'_>) -> Result<Self, DetectError> {
        let mut read = Self::default();
        let Some(text) = draft.files.text(STATICFILE)? else { return Ok(read) };
        for (index, line) in text.lines().enumerate() {
            let line = line.split(" #").next().unwrap_or(line).trim();
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim().trim_matches(['"', '\'']);
            match key.trim() {
                "root" => read.root = Some((value.to_owned(), index + 1)),
                "pushstate" => read.pushstate = ["enabled", "true"].contains(&value),
                comment if comment.starts_with('#') => {}
                other => {
                    draft.warn(format!("{STATICFILE} line {}: {} is passed over", index + 1, shorten(other)));
                }
            }
        }
        Ok(read)
    }
}

/// The folder that is served, `.` for all.
fn root(draft: &mut Draft<'_>, staticfile: &Staticfile) -> Result<String, DetectError> {
    let files = draft.files;
    let given = draft.settings.site.as_ref().and_then(|site| site.root.clone());
    let named = match (given, &staticfile.root) {
        (Some(given), _) => Some((given.value.clone(), given.place())),
        (None, Some((root, line))) => {
            let place = Place::line(STATICFILE, *line);
            Some((paas_toml::folder("root", root, &place)?, place))
        }
        (None, None) => None,
    };
    let Some((root, place)) = named else {
        let root = if files.has("index.html") { "." } else { "public" };
        let page = if root == "." { "index.html" } else { "public/index.html" };
        if files.has(page) || draft.steps.changes_files() {
            return Ok(root.to_owned());
        }
        let named_by = Place::file(STATICFILE);
        return Err(DetectError::MissingFile { file: "index.html".to_owned(), named_by });
    };
    if root != "." && !files.has_folder(&root) && !draft.steps.changes_files() {
        return Err(DetectError::MissingFile { file: root, named_by: place });
    }
    draft.decide(format!("the files in {root}, from {}", place.file));
    Ok(root)
}
