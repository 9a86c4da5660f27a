//! Folders that look like Node and are pages with a script, or pages that a
//! build only adds something to.

use super::build;
use super::framework;
use super::line;
use super::manifest::Manifest;
use super::site::{self, Output};
use super::start;
use crate::buildpack::paas_toml::PaasToml;
use crate::buildpack::site::FALLBACK;
use crate::buildpack::source::Files;

/// Pages that stand for a static site.
const PAGES: [&str; 2] = ["index.html", "public/index.html"];

/// Whether nothing here starts anything, but a page is there, or a folder that
/// `[static]` names: a package.json for tools alone, or an `app.js` that the page
/// itself loads.
pub(in crate::buildpack) fn is_page(files: Files<'_>, settings: &PaasToml) -> bool {
    if files.has("Procfile") || settings.build.start.is_some() || settings.build.build.is_some() {
        return false;
    }
    let named = settings.site.as_ref().is_some_and(|site| site.root.is_some());
    let page = PAGES.into_iter().find_map(|page| files.hint(page));
    if page.is_none() && !named {
        return false;
    }
    let Ok(manifest) = Manifest::load(files) else { return false };
    if page.is_some() && is_library(files, &manifest) {
        return true;
    }
    let scripts = ["start", "start:prod", "build", "heroku-postbuild"];
    if scripts.iter().any(|name| manifest.script(name).is_some()) || start::has_server(files, &manifest) {
        return false;
    }
    let entry = start::guessed(files, &manifest);
    let loaded = |entry: String| page.is_some_and(|page| loads(&page, &entry));
    named || (framework::find(files, &manifest).is_none() && entry.is_none_or(loaded))
}

/// Whether a package is for others to load, and its page shows what it does: what
/// `main` names is no program.
fn is_library(files: Files<'_>, manifest: &Manifest) -> bool {
    const PUBLISHED: [&str; 7] =
        ["browser", "unpkg", "jsdelivr", "exports", "files", "types", "peerDependencies"];
    let published = PUBLISHED.iter().any(|key| manifest.has(&[key])) && !manifest.has(&["private"]);
    let started = ["start", "start:prod"].iter().any(|name| manifest.script(name).is_some());
    let serves = start::serves(manifest) || framework::find(files, manifest).is_some();
    let listens = |entry: String| {
        let text = files.hint(&entry).unwrap_or_default();
        ["createServer", ".listen("].iter().any(|word| text.contains(word))
    };
    published && !started && !serves && !start::guessed(files, manifest).is_some_and(listens)
}

/// Programs that serve a folder and nothing else, and the packages they are in.
const SERVERS: [(&str, &str); 7] = [
    ("serve", "serve"),
    ("http-server", "http-server"),
    ("live-server", "live-server"),
    ("lite-server", "lite-server"),
    ("sirv", "sirv-cli"),
    ("browser-sync", "browser-sync"),
    ("servor", "servor"),
];

/// The folder that a start script serves by a program which is no dependency,
/// so that npx would fetch it at each start; we can serve it ourselves.
pub(super) fn served(manifest: &Manifest, program: &[String], built: Option<&Output>) -> Option<Output> {
    let name = program.first()?;
    let (_, package) = SERVERS.into_iter().find(|(server, _)| server == name)?;
    if manifest.depends(package) {
        return None;
    }
    let single = program.iter().any(|word| ["-s", "--single"].contains(&word.as_str()));
    let words = program.iter().skip(1);
    // What follows an option may be its value, unless it is a path of the build.
    let after_option = |index: usize| {
        let before = &program[index];
        before.starts_with('-') && !["-s", "--single", "-C", "--cors"].contains(&before.as_str())
    };
    let folder = words.enumerate().find(|(index, word)| !word.starts_with('-') && !after_option(*index));
    let folder = folder.map_or_else(|| Some(".".to_owned()), |(_, word)| site::inside(word));
    let folder = folder.unwrap_or_else(|| ".".to_owned());
    let fallback =
        (single || built.is_some_and(|built| built.fallback.is_some())).then(|| FALLBACK.to_owned());
    Some(Output { name: "the app", folder, fallback })
}

/// The folder with the page, where a build is all that there is to run: of style
/// sheets, of scripts.
pub(super) fn built(files: Files<'_>, manifest: &Manifest) -> Option<Output> {
    const WRITTEN: [&str; 6] = ["dist", "build", "out", "_site", "www", "public"];
    let script = manifest.script(build::script(files, manifest)?)?;
    let words = line::words_of(manifest, script);
    let trimmed = |word: &String| word.trim_start_matches("./").trim_end_matches('/').to_owned();
    let written = words.iter().map(trimmed).find(|word| WRITTEN.contains(&word.as_str()));
    let copies = words.iter().any(|word| word.ends_with(".html"));
    let folder = match (files.first_of(&[PAGES[0], PAGES[1], "src/index.html"])?, written) {
        ("index.html", Some(written)) if copies => written,
        ("index.html", _) => ".".to_owned(),
        ("src/index.html", written) => written.unwrap_or_else(|| "src".to_owned()),
        _ => "public".to_owned(),
    };
    Some(Output { name: "the build script", folder, fallback: None })
}

/// Whether a page has a script element for a file beside it.
fn loads(page: &str, file: &str) -> bool {
    page.match_indices("src").any(|(at, _)| {
        let value = page[at + 3..].trim_start().strip_prefix('=').unwrap_or_default().trim_start();
        let value = value.trim_start_matches(['"', '\'']);
        let end = value.find(['"', '\'', ' ', '>', '?', '#']).unwrap_or(value.len());
        let source = &value[..end];
        source.strip_prefix("./").or_else(|| source.strip_prefix('/')).unwrap_or(source) == file
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::buildpack::sketch::planned;

    #[test]
    fn what_npx_would_serve_is_a_folder() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let manifest = Manifest::of("{\"dependencies\": {\"http-server\": \"1\"}}").unwrap();
        let folder = |line: &str| served(&manifest, &words(line), None).map(|output| output.folder);
        assert_eq!(folder("serve -s build").unwrap(), "build");
        assert_eq!(folder("serve -l 3000 ./dist/").unwrap(), "dist");
        assert_eq!(folder("serve dist -p $PORT").unwrap(), "dist");
        assert_eq!(folder("live-server --port=8080").unwrap(), ".");
        assert_eq!(folder("serve .").unwrap(), ".");
        assert_eq!(folder("http-server public"), None);
        assert_eq!(folder("node serve"), None);
        let single = |line: &str| served(&manifest, &words(line), None).unwrap().fallback.is_some();
        assert!(single("serve -s build") && !single("serve build"));
    }

    #[test]
    fn a_library_with_a_page_is_its_page() {
        let language = |json: &str, more: (&str, &str)| {
            planned(&[("package.json", json), ("index.html", ""), more]).unwrap().language
        };
        let library =
            r#"{"main": "src/x.js", "browser": "dist/x.js", "scripts": {"build": "node task/build"}}"#;
        assert_eq!(language(library, ("src/x.js", "export default 1")), "static");
        assert_eq!(language(library, ("src/x.js", "http.createServer(f).listen(80)")), "node");
        let app = r#"{"main": "a.js", "files": ["a.js"], "dependencies": {"express": "5"}}"#;
        assert_eq!(language(app, ("a.js", "")), "node");
    }

    #[test]
    fn a_page_names_its_script() {
        for page in [
            "<script src=\"app.js\"></script>",
            "<script defer src = './app.js'>",
            "<script src=/app.js?v=1>",
        ] {
            assert!(loads(page, "app.js"), "{page}");
        }
        for page in ["<script src=\"https://x/app.js\">", "src app.js", "<img src=\"app.png\">", "src", ""] {
            assert!(!loads(page, "app.js"), "{page}");
        }
    }
}
