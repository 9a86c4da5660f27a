//! Folders that look like Node and are pages with a script.

use super::framework;
use super::manifest::Manifest;
use super::start;
use crate::buildpack::source::Files;

/// Pages that stand for a static site.
const PAGES: [&str; 2] = ["index.html", "public/index.html"];

/// Whether nothing here starts anything, but a page is there: a package.json
/// for tools alone, or an `app.js` that the page itself loads.
pub(in crate::buildpack) fn is_page(files: Files<'_>) -> bool {
    if files.has("Procfile") || files.has("paas.toml") {
        return false;
    }
    let Some(page) = PAGES.into_iter().find_map(|page| files.hint(page)) else { return false };
    let Ok(manifest) = Manifest::load(files) else { return false };
    let scripts = ["start", "start:prod", "build", "heroku-postbuild"];
    if scripts.iter().any(|name| manifest.script(name).is_some()) || start::has_server(files, &manifest) {
        return false;
    }
    let entry = start::guessed(files, &manifest);
    framework::find(files, &manifest).is_none() && entry.is_none_or(|entry| loads(&page, &entry))
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
    use super::*;

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
