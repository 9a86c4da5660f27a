//! Languages of which data says everything: the first install, build and start
//! whose files are there.

use minijinja::{Value, context};

use super::draft::{Draft, exec};
use super::error::{DetectError, Place};
use super::pack::{Offer, Start, Step, VersionSource};
use super::source::{self, Files};
use super::version::{self, Wanted};
use crate::model::{BuildPlan, RunCommand};

/// Makes the plan of an app by its buildpack's data alone.
pub(super) fn plan(mut draft: Draft<'_>) -> Result<BuildPlan, DetectError> {
    let offer = choose(&mut draft)?;
    let install = first(&draft, &draft.pack.install);
    let build = first(&draft, &draft.pack.build);
    for step in [install, build].into_iter().flatten() {
        draft.decide(step.says.as_deref().unwrap_or(&step.run));
        step.warns.iter().for_each(|text| draft.warn(text));
    }
    start(&mut draft)?;
    let values = context! {
        install => install.map(|step| values(&draft, step, 0)),
        build => build.map(|step| values(&draft, step, 1)),
        stop_signal => draft.pack.stop_signal.as_deref().unwrap_or_default(),
    };
    draft.finish(offer, values)
}

fn all_there(files: Files<'_>, when: &[String]) -> bool {
    when.iter().all(|file| files.has(file))
}

fn first(draft: &Draft<'_>, steps: &'static [Step]) -> Option<&'static Step> {
    steps.iter().find(|step| all_there(draft.files, &step.when))
}

/// A step for a template.
fn values(draft: &Draft<'_>, step: &Step, number: usize) -> Value {
    let scope = draft.catalog.cache_scope.as_str();
    let key = &draft.pack.key;
    let mount = |(index, folder): (usize, &String)| {
        format!("--mount=type=cache,id=paas-{scope}-{key}-{number}{index},target={folder} ")
    };
    let mut copy: Vec<String> = step.copy.iter().map(|file| format!("app/{file}")).collect();
    if !copy.is_empty() {
        copy.push("./".to_owned());
    }
    context! { run => step.run.as_str(), copy, caches => step.cache.iter().enumerate().map(mount).collect::<String>() }
}

fn choose(draft: &mut Draft<'_>) -> Result<&'static Offer, DetectError> {
    let named = match draft.version() {
        Some(given) => Some(given),
        None => wanted(draft.files, &draft.pack.versions)?,
    };
    let Some(wanted) = named else {
        let offer = draft.newest()?;
        let by =
            draft.pack.versions.first().map(|source| format!(" (no {})", source.file)).unwrap_or_default();
        draft.decide(format!("{} {}, the default{by}", draft.pack.name, offer.version));
        return Ok(offer);
    };
    let pack = draft.pack;
    for offer in draft.offers() {
        let fits = pack.ranges.contain(wanted.text.trim(), &offer.release);
        if fits.ok_or_else(|| wanted.malformed(pack))? {
            draft.decide(format!("{} {}, from {}", pack.name, offer.version, wanted.place.file));
            return Ok(offer);
        }
    }
    let line =
        version::numbers(wanted.text.trim()).and_then(|parts| version::same_line(draft.offers(), &parts));
    let Some(offer) = line else { return Err(wanted.missing(pack, draft.catalog.source)) };
    let asked = version::shorten(&wanted.text);
    draft.decide(format!("{} {}, from {}", pack.name, offer.version, wanted.place.file));
    draft.warn(format!("{} asks for {asked}; {} is used", wanted.place.file, offer.version));
    Ok(offer)
}

/// The first of these files that names a version.
fn wanted(files: Files<'_>, sources: &[VersionSource]) -> Result<Option<Wanted>, DetectError> {
    for source in sources {
        let found = match (source.file.as_str(), &source.key) {
            (".tool-versions", Some(tool)) => version::tool_versions(files, &[tool])?,
            (file, Some(key)) => keyed(files, file, key)?,
            (file, None) => version::first_line(files, file)?,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The text at a path of keys in a JSON or TOML file.
fn keyed(files: Files<'_>, file: &str, key: &str) -> Result<Option<Wanted>, DetectError> {
    let Some(text) = files.text(file)? else { return Ok(None) };
    let value = if file.ends_with(".toml") {
        serde_json::to_value(source::toml(file, &text)?).unwrap_or_default()
    } else {
        source::json(file, &text)?
    };
    let found =
        key.split('.').try_fold(&value, |value, key| value.get(key)).and_then(serde_json::Value::as_str);
    let last = format!("\"{}\"", key.rsplit('.').next().unwrap_or(key));
    let line =
        found.and_then(|found| text.lines().position(|line| line.contains(&last) && line.contains(found)));
    let place = Place::line(file, line.map_or(0, |line| line + 1));
    Ok(found.map(|found| Wanted { text: found.to_owned(), place }))
}

fn start(draft: &mut Draft<'_>) -> Result<(), DetectError> {
    if draft.declared() {
        return Ok(());
    }
    let pack = draft.pack;
    let files = draft.files;
    let Some(Start { run, when }) = pack.start.iter().find(|start| all_there(files, &start.when)) else {
        let looked_for = pack.start.iter().flat_map(|start| start.when.iter().cloned());
        return Err(DetectError::NoProcess {
            language: pack.name.clone(),
            looked_for: std::iter::once("Procfile".to_owned()).chain(looked_for).collect(),
            suggestion: pack.suggest.start.clone().unwrap_or_else(|| "web: ./start".to_owned()),
        });
    };
    let words: Vec<&str> = run.iter().map(String::as_str).collect();
    let command = match words.as_slice() {
        [line] if line.contains(' ') => RunCommand::Shell((*line).to_owned()),
        words => exec(words),
    };
    draft.web(command, when.first().map_or("by default", String::as_str));
    Ok(())
}
