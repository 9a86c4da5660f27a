//! Builds that end in files: which folder they end in.

use serde_json::Value;

use super::build;
use super::manifest::Manifest;
use crate::buildpack::site::FALLBACK;
use crate::buildpack::source::{self, Files};

/// Tools whose build is a static site: the dependency, what people call it,
/// and the folder that it writes.
const TOOLS: [(&str, &str, &str); 17] = [
    ("@docusaurus/core", "Docusaurus", "build"),
    ("gatsby", "Gatsby", "public"),
    ("astro", "Astro", "dist"),
    ("react-scripts", "Create React App", "build"),
    ("@vue/cli-service", "Vue CLI", "dist"),
    ("preact-cli", "Preact CLI", "build"),
    ("@11ty/eleventy", "Eleventy", "_site"),
    ("ember-cli", "Ember", "dist"),
    ("@rsbuild/core", "Rsbuild", "dist"),
    ("@farmfe/core", "Farm", "dist"),
    ("hexo", "Hexo", "public"),
    ("vitepress", "VitePress", ".vitepress/dist"),
    ("vuepress", "VuePress", ".vuepress/dist"),
    ("vite", "Vite", "dist"),
    ("parcel", "Parcel", "dist"),
    ("parcel-bundler", "Parcel", "dist"),
    ("webpack-dev-server", "webpack", "dist"),
];

/// Tools whose sites have a page per address, and one for the rest.
const WITH_PAGES: [&str; 6] = ["Docusaurus", "Gatsby", "Eleventy", "Hexo", "VitePress", "VuePress"];

/// A folder of files that a build writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    /// `Vite`.
    pub name: &'static str,
    /// The folder, from the root of the app.
    pub folder: String,
    /// The page that answers where no file does.
    pub fallback: Option<String>,
}

impl Output {
    /// One with the usual fallback.
    pub fn new(name: &'static str, folder: impl Into<String>) -> Self {
        let fallback = (!WITH_PAGES.contains(&name)).then(|| FALLBACK.to_owned());
        Self { name, folder: folder.into(), fallback }
    }
}

/// The site that the build makes, if it makes one.
pub(super) fn find(files: Files<'_>, manifest: &Manifest) -> Option<Output> {
    if manifest.depends("@angular/core") && files.has("angular.json") {
        return angular(files);
    }
    let (_, name, folder) = TOOLS.into_iter().find(|(package, _, _)| manifest.depends(package))?;
    let folder = match name {
        "Vite" | "Astro" => configured(files, name, folder).unwrap_or_else(|| folder.to_owned()),
        "Eleventy" => eleventy(files).unwrap_or_else(|| folder.to_owned()),
        "VitePress" | "VuePress" => {
            let dot = folder.split('/').next().unwrap_or_default();
            let docs = ["docs", "src"].into_iter().find(|docs| files.has_folder(&format!("{docs}/{dot}")));
            let docs = docs.map(str::to_owned).or_else(|| built_folder(files, manifest, name));
            docs.map_or_else(|| folder.to_owned(), |docs| format!("{docs}/{folder}"))
        }
        _ => folder.to_owned(),
    };
    Some(Output::new(name, folder))
}

/// The folder that the build script names: `vitepress build docs`.
fn built_folder(files: Files<'_>, manifest: &Manifest, name: &str) -> Option<String> {
    let line = manifest.script(build::script_of_site(manifest)?)?;
    let mut words = line.split_whitespace().skip_while(|word| !word.eq_ignore_ascii_case(name)).skip(1);
    let folder = inside(words.next().filter(|word| *word == "build").and_then(|_| words.next())?)?;
    files.has_folder(&folder).then_some(folder)
}

/// Whether a command only serves the site while it is being developed.
pub(super) fn serves_for_development(words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let verb = |verbs: &[&str]| words.get(1).is_none_or(|word| word.starts_with('-') || verbs.contains(word));
    match words.first().copied().unwrap_or_default() {
        "vite" | "rsbuild" | "vitepress" | "vuepress" => verb(&["dev", "serve", "preview"]),
        "ng" => verb(&["serve", "s", "dev"]),
        "react-scripts" | "react-app-rewired" | "craco" | "farm" => verb(&["start"]),
        "vue-cli-service" => verb(&["serve"]),
        "astro" => verb(&["dev", "start", "preview"]),
        "gatsby" => verb(&["develop", "start", "serve"]),
        "docusaurus" => verb(&["start", "serve"]),
        "eleventy" | "@11ty/eleventy" | "parcel" | "webpack-dev-server" => words.get(1) != Some(&"build"),
        "webpack" => words.contains(&"serve"),
        "ember" => verb(&["serve", "s", "server"]),
        "hexo" => verb(&["server", "s"]),
        _ => false,
    }
}

/// The output folder that a configuration file names in plain words; `usual`
/// below another root, if it names one of these.
fn configured(files: Files<'_>, name: &str, usual: &str) -> Option<String> {
    let stem = if name == "Vite" { "vite" } else { "astro" };
    let ends = ["js", "ts", "mjs", "mts", "cjs"];
    let text = ends.iter().find_map(|end| files.hint(&format!("{stem}.config.{end}")))?;
    let root = if name == "Vite" { literal(&text, "root") } else { None };
    let folder = literal(&text, "outDir").or_else(|| root.as_ref().map(|_| usual.to_owned()))?;
    inside(&root.map_or_else(|| folder.clone(), |root| format!("{root}/{folder}")))
}

fn eleventy(files: Files<'_>) -> Option<String> {
    let names = [".eleventy.js", "eleventy.config.js", "eleventy.config.mjs", "eleventy.config.cjs"];
    let text = names.iter().find_map(|name| files.hint(name))?;
    inside(&literal(&text, "output")?)
}

/// The text that a key has in a configuration file, outside comments.
pub(super) fn literal(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.split("//").next().unwrap_or_default();
        let (before, rest) = line.split_once(key)?;
        let rest = rest.trim_start_matches(['\'', '"']).trim_start().strip_prefix(':')?.trim_start();
        let quote = rest.chars().next().filter(|c| ['\'', '"', '`'].contains(c))?;
        let value = rest[1..].split(quote).next()?;
        let whole = before.chars().next_back().is_none_or(|c| !c.is_alphanumeric());
        whole.then(|| value.to_owned())
    })
}

/// A path without dots, if it stays in the app.
pub(super) fn inside(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            other => parts.push(other),
        }
    }
    let path = parts.join("/");
    (!path.is_empty() && !path.contains('$')).then_some(path)
}

/// Angular's output: `dist/<project>/browser`, or what angular.json says.
fn angular(files: Files<'_>) -> Option<Output> {
    let value = source::json("angular.json", &files.hint("angular.json")?).ok()?;
    let projects = value.get("projects")?.as_object()?;
    let named = value.get("defaultProject").and_then(Value::as_str);
    let application =
        |project: &&String| projects[*project].get("projectType").and_then(Value::as_str) != Some("library");
    let project = projects
        .keys()
        .find(|key| Some(key.as_str()) == named)
        .or_else(|| projects.keys().find(application))?;
    let of = &projects[project];
    let build = of.get("architect").or_else(|| of.get("targets"))?.get("build")?;
    let options = build.get("options");
    let output = options.and_then(|options| options.get("outputPath"));
    let base = match output {
        Some(Value::String(path)) => path.clone(),
        Some(other) => {
            other.get("base").and_then(Value::as_str).map_or_else(|| format!("dist/{project}"), str::to_owned)
        }
        None => format!("dist/{project}"),
    };
    let browser =
        output.and_then(|output| output.get("browser")).and_then(Value::as_str).unwrap_or("browser");
    let builder = build.get("builder").and_then(Value::as_str).unwrap_or_default();
    let folder = if builder.ends_with(":application") { format!("{base}/{browser}") } else { base };
    Some(Output::new("Angular", inside(&folder)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn development_servers_are_known() {
        let serves = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            serves_for_development(&words)
        };
        for line in [
            "vite",
            "vite --host",
            "vite preview --port 3",
            "ng serve",
            "astro dev",
            "parcel index.html",
            "eleventy --serve",
            "webpack serve",
        ] {
            assert!(serves(line), "{line}");
        }
        for line in
            ["vite build", "node server.js", "ng build", "astro build", "vitest", "webpack", "next start"]
        {
            assert!(!serves(line), "{line}");
        }
    }

    #[test]
    fn a_folder_is_read_where_it_is_written_plainly() {
        let text = "export default {\n  // outDir: 'no',\n  root: 'client',\n  build: { outDir: \"../public\", x }\n}";
        assert_eq!(literal(text, "outDir").unwrap(), "../public");
        assert_eq!(literal("  myoutDir: 'x'", "outDir"), None);
        assert_eq!(literal("outDir: path.resolve('x')", "outDir"), None);
        assert_eq!(inside("client/../public").unwrap(), "public");
        assert_eq!(inside("../x"), None);
        assert_eq!(inside("./"), None);
    }
}
