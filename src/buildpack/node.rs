//! Node: npm, and what it starts.

use minijinja::context;
use nodejs_semver::{Range, Version};
use serde_json::Value;

use super::draft::{Draft, copy, exec};
use super::error::{DetectError, Place};
use super::pack::Offer;
use super::source::{self, Files};
use super::version::{self, Wanted};
use crate::model::{BuildPlan, RunCommand};

const MANIFEST: &str = "package.json";

/// Entry files without a `start` script, most usual first.
const ENTRIES: [&str; 5] = ["server.js", "index.js", "app.js", "src/index.js", "dist/index.js"];

/// Scripts of an app that belong to its install, in npm's order. They may need
/// the sources, so they run after the dependencies are there and cached.
const LIFECYCLE: [&str; 4] = ["preinstall", "install", "postinstall", "prepare"];

/// `package.json`, or nothing.
struct Package(Value);

impl Package {
    fn load(files: Files<'_>) -> Result<Self, DetectError> {
        let Some(text) = files.text(MANIFEST)? else { return Ok(Self(Value::Null)) };
        let value = source::json(MANIFEST, &text)?;
        if value.is_object() {
            return Ok(Self(value));
        }
        let reason = "it must be an object, { … }".to_owned();
        Err(DetectError::Malformed { place: Place::line(MANIFEST, 1), format: "JSON", reason })
    }

    fn text(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().try_fold(&self.0, |value, key| value.get(key))?.as_str()
    }

    fn script(&self, name: &str) -> Option<&str> {
        self.text(&["scripts", name]).filter(|line| !line.trim().is_empty())
    }

    /// Whether the install needs the whole tree: local packages, workspaces, or
    /// a script that asks to run before it.
    fn needs_tree(&self) -> bool {
        let local =
            |text: &str| ["file:", "link:", "./", "../"].iter().any(|prefix| text.starts_with(prefix));
        let sections = ["dependencies", "devDependencies", "optionalDependencies"];
        let specs = sections
            .iter()
            .filter_map(|section| self.0.get(section)?.as_object())
            .flat_map(|map| map.values());
        self.script("heroku-prebuild").is_some()
            || specs.filter_map(Value::as_str).any(local)
            || self.0.get("workspaces").is_some()
    }

    /// The app's own scripts that belong to an install.
    fn lifecycle(&self) -> Vec<&'static str> {
        LIFECYCLE.into_iter().filter(|name| self.script(name).is_some()).collect()
    }
}

/// Makes the plan of a Node app.
pub(super) fn plan(mut draft: Draft<'_>) -> Result<BuildPlan, DetectError> {
    let package = Package::load(draft.files)?;
    let offer = choose(&mut draft, &package)?;
    refuse_other_managers(draft.files, &package)?;
    let build = ["heroku-postbuild", "build"].into_iter().find(|name| package.script(name).is_some());
    let whole_tree = package.needs_tree();
    let has_manifest = draft.files.has(MANIFEST);
    let lock = draft.files.first_of(&["npm-shrinkwrap.json", "package-lock.json"]);
    let lifecycle = if whole_tree { Vec::new() } else { package.lifecycle() };
    let from_build = has_manifest && (build.is_some() || whole_tree || !lifecycle.is_empty());
    let install = if has_manifest { install(&mut draft, lock, from_build) } else { Vec::new() };
    let mut manifests = vec![MANIFEST];
    manifests.extend(lock);
    manifests.extend(draft.files.first_of(&[".npmrc"]));
    let manifests = match (has_manifest, whole_tree) {
        (false, _) => Vec::new(),
        (true, true) => vec![vec!["app/".to_owned(), "./".to_owned()]],
        (true, false) => vec![copy(&manifests, "./")],
    };
    start(&mut draft, &package)?;
    if let Some(name) = build {
        draft.decide(format!("npm run {name}, from package.json"));
    }
    let values = context! {
        manifests, install, whole_tree, from_build,
        deferred => !lifecycle.is_empty(),
        lifecycle => lifecycle.iter().map(|name| vec!["npm", "run", name]).collect::<Vec<_>>(),
        build => build.map(|name| vec!["npm", "run", name]).unwrap_or_default(),
        prebuild => package.script("heroku-prebuild").is_some(),
    };
    draft.finish(offer, values)
}

fn install(draft: &mut Draft<'_>, lock: Option<&str>, with_dev: bool) -> Vec<String> {
    let verb = if lock.is_some() { "ci" } else { "install" };
    if let Some(lock) = lock {
        draft.decide(format!("npm ci, from {lock}"));
    } else {
        draft.decide("npm install, from package.json");
        draft.warn("there is no package-lock.json: versions may change between builds; commit the one that npm install writes");
    }
    let dev = if with_dev { "--include=dev" } else { "--omit=dev" };
    ["npm", verb, dev].map(str::to_owned).to_vec()
}

/// npm is the one manager of this depth.
fn refuse_other_managers(files: Files<'_>, package: &Package) -> Result<(), DetectError> {
    let locks = ["package-lock.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb"];
    let found: Vec<&str> = locks.into_iter().filter(|lock| files.has(lock)).collect();
    let named = package.text(&["packageManager"]).and_then(|text| text.split('@').next());
    if named == Some("npm") {
        return Ok(());
    }
    if let [first, second, ..] = found.as_slice() {
        return Err(DetectError::TwoLocks((*first).to_owned(), (*second).to_owned()));
    }
    let of_lock = found.first().and_then(|lock| match *lock {
        "pnpm-lock.yaml" => Some("pnpm"),
        "yarn.lock" => Some("yarn"),
        "bun.lock" | "bun.lockb" => Some("bun"),
        _ => None,
    });
    let Some(manager) = named.or(of_lock) else { return Ok(()) };
    Err(DetectError::Unsupported {
        place: Place::file(found.first().copied().unwrap_or(MANIFEST)),
        what: format!("installing with {}", version::shorten(manager)),
        instead:
            "Run npm install, commit package-lock.json and remove the other lock file; or write a Dockerfile."
                .to_owned(),
    })
}

/// Which Node.
fn choose(draft: &mut Draft<'_>, package: &Package) -> Result<&'static Offer, DetectError> {
    let Some(wanted) = wanted(draft.files, package)? else {
        let offer = draft.offers().first().ok_or_else(|| DetectError::Broken {
            pack: draft.pack.key.clone(),
            reason: "offers nothing".to_owned(),
        })?;
        draft.decide(format!("Node {}, the default (no engines.node)", offer.version));
        return Ok(offer);
    };
    let offers = draft.offers();
    let found = resolve(offers, &wanted.text).map_err(|()| wanted.malformed(draft.pack))?;
    if let Some(offer) = found {
        draft.decide(format!("Node {}, from {}", offer.version, wanted.place.file));
        return Ok(offer);
    }
    let exact = version::numbers(wanted.text.trim_start_matches(['v', '=', '^', '~']));
    let Some(offer) = exact.and_then(|parts| version::same_line(offers, &parts)) else {
        return Err(wanted.missing(draft.pack, draft.catalog.source));
    };
    let asked = version::shorten(&wanted.text);
    draft.decide(format!("Node {}, from {}", offer.version, wanted.place.file));
    draft.warn(format!("{} asks for {asked}; {} is used", wanted.place.file, offer.release));
    Ok(offer)
}

fn resolve(offers: &'static [Offer], text: &str) -> Result<Option<&'static Offer>, ()> {
    let text = text.trim();
    match text {
        "node" | "stable" | "latest" | "current" | "lts/*" | "lts" | "lts/-1" => return Ok(offers.first()),
        _ => {}
    }
    if let Some(name) = text.strip_prefix("lts/") {
        return Ok(offers
            .iter()
            .find(|offer| offer.names.iter().any(|known| known.eq_ignore_ascii_case(name))));
    }
    let range = Range::parse(text).map_err(|_| ())?;
    let fits = |offer: &&Offer| Version::parse(&offer.release).is_ok_and(|release| release.satisfies(&range));
    Ok(offers.iter().find(fits))
}

fn wanted(files: Files<'_>, package: &Package) -> Result<Option<Wanted>, DetectError> {
    let in_manifest = |keys: &[&str]| {
        package.text(keys).map(|text| Wanted {
            text: text.to_owned(),
            place: Place::line(MANIFEST, line_of_key(files, "\"node\"")),
        })
    };
    if let Some(found) = in_manifest(&["engines", "node"]) {
        return Ok(Some(found));
    }
    for file in [".nvmrc", ".node-version"] {
        if let Some(found) = version::first_line(files, file)? {
            return Ok(Some(found));
        }
    }
    if let Some(found) = version::tool_versions(files, &["nodejs", "node"])? {
        return Ok(Some(found));
    }
    if let Some(found) = version::mise(files, &["node", "nodejs"])? {
        return Ok(Some(found));
    }
    Ok(in_manifest(&["volta", "node"]))
}

fn line_of_key(files: Files<'_>, key: &str) -> usize {
    let text = files.hint(MANIFEST).unwrap_or_default();
    text.lines().position(|line| line.trim_start().starts_with(key)).map_or(0, |at| at + 1)
}

/// Decides the start command unless the Procfile does.
fn start(draft: &mut Draft<'_>, package: &Package) -> Result<(), DetectError> {
    if draft.declared() {
        return Ok(());
    }
    if let Some(line) = package.script("start") {
        let direct = node_words(line).filter(|_| package.script("prestart").is_none());
        let command = direct.map_or_else(|| exec(&["npm", "start"]), RunCommand::Exec);
        draft.web(command, "from scripts.start");
        return Ok(());
    }
    if let Some(main) = package.text(&["main"]).and_then(|main| entry(draft.files, main)) {
        draft.web(exec(&["node", &main]), "from main in package.json");
        return Ok(());
    }
    match draft.files.first_of(&ENTRIES) {
        Some(file) => {
            draft.web(exec(&["node", file]), file);
            Ok(())
        }
        None => Err(DetectError::NoProcess {
            language: "Node".to_owned(),
            looked_for: ["Procfile", "scripts.start in package.json"]
                .into_iter()
                .chain(ENTRIES)
                .map(str::to_owned)
                .collect(),
            suggestion: "web: node myserver.js".to_owned(),
        }),
    }
}

/// The words of `node file.js --flag`, if a shell would do nothing to them: then
/// node is started itself and gets its signals.
fn node_words(line: &str) -> Option<Vec<String>> {
    let plain = |word: &str| word.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-/=:@,".contains(&c));
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    (words.len() > 1 && words[0] == "node" && words.iter().all(|word| plain(word))).then_some(words)
}

/// The file that `main` means.
fn entry(files: Files<'_>, main: &str) -> Option<String> {
    let main = main.strip_prefix("./").unwrap_or(main).trim_end_matches('/');
    let candidates = [main.to_owned(), format!("{main}.js"), format!("{main}/index.js")];
    candidates.into_iter().find(|path| files.has(path) && !path.starts_with('-'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::buildpack::pack;
    use crate::model::ImageSource;

    #[test]
    fn ranges_are_npms() {
        let offers = pack::get("node").unwrap().offers(ImageSource::Debian);
        let major = |text| resolve(offers, text).map(|found| found.map(|offer| offer.version.as_str()));
        assert_eq!(major(">=18"), Ok(Some("24")));
        assert_eq!(major("^20.1.0 || ^18"), Ok(Some("20")));
        assert_eq!(major("22.x"), Ok(Some("22")));
        assert_eq!(major("lts/jod"), Ok(Some("22")));
        assert_eq!(major("99"), Ok(None));
        assert_eq!(major("18; id"), Err(()));
    }

    #[test]
    fn only_what_a_shell_leaves_alone_is_started_directly() {
        assert_eq!(node_words("node  server.js --x=1").unwrap(), ["node", "server.js", "--x=1"]);
        for line in [
            "node server.js && id",
            "node $X",
            "node 'a b'",
            "nodemon x",
            "node",
            "X=1 node a.js",
            "node *.js",
        ] {
            assert_eq!(node_words(line), None, "{line}");
        }
    }
}
