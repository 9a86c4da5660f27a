//! Folders of files, served by our static server.
//!
//! Any buildpack whose build ends in such a folder can have it served: it calls
//! [`Draft::serve`](super::draft::Draft::serve) with a [`Site`], and its
//! template gives way to the stages that are made of it:
//!
//! ```jinja
//! {% if site %}
//! {{ site }}
//! {% else %}
//! FROM {{ run_base }}
//! …
//! {% endif %}
//! ```
//!
//! What the app says under `[static]` in paas.toml is taken into account there.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::nginx;
use super::paas_toml::{Redirect, Static};

/// A page that stands for every path without a file.
pub(super) const FALLBACK: &str = "index.html";

/// A folder that is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    /// The stage of the Dockerfile that holds it; `None`: the build context.
    pub stage: Option<&'static str>,
    /// Where it is there: `/app/dist`, `app/public`.
    pub folder: String,
    /// Whether it is the root of the repository, where files lie that are no
    /// one's business.
    pub whole_repository: bool,
    /// The page that answers, with status 200, where no file does.
    pub fallback: Option<String>,
    /// What the app says about headers and redirects.
    pub settings: Static,
}

/// Files of a repository's root that are not part of the site.
const HIDDEN: [&str; 9] = [
    "paas.toml",
    "Procfile",
    "Staticfile",
    "app.json",
    "Dockerfile",
    "package.json",
    "package-lock.json",
    "Makefile",
    "Aptfile",
];

impl Site {
    /// The site's own part of the server's configuration.
    pub fn configuration(&self) -> String {
        let mut text = String::from("# Generated: what this site's settings ask for.\n");
        text.push_str("geo $dollar {\n    default \"$\";\n}\n");
        let headers = self.headers();
        for (index, (_, rules)) in headers.iter().enumerate() {
            header_map(&mut text, index, rules);
        }
        for (index, redirect) in self.settings.redirects.iter().enumerate() {
            redirect_map(&mut text, index, redirect);
        }
        text.push_str(
            "server {\n    include /tmp/nginx/listen.conf;\n    root /site;\n    index index.html;\n",
        );
        text.push_str("    add_header Last-Modified \"\" always;\n");
        for (index, (name, _)) in headers.iter().enumerate() {
            let _ = writeln!(text, "    add_header {name} $header_{index} always;");
        }
        for (index, redirect) in self.settings.redirects.iter().enumerate() {
            let query = if redirect.to.contains('?') { "" } else { "$is_args$args" };
            let _ = writeln!(
                text,
                "    if ($redirect_{index}) {{\n        return {} $redirect_{index}{query};\n    }}",
                redirect.status
            );
        }
        self.locations(&mut text);
        text.push_str("}\n");
        text
    }

    fn locations(&self, text: &mut String) {
        let otherwise = match &self.fallback {
            Some(page) => nginx::quoted(&format!("/{page}")),
            None => "=404".to_owned(),
        };
        let _ = writeln!(text, "    error_page 403 =404 /404.html;\n    error_page 404 /404.html;");
        text.push_str("    location ~ \"/\\.(?!well-known(/|$))\" {\n        return 404;\n    }\n");
        text.push_str("    location = /.well-known/apple-app-site-association {\n        default_type application/json;\n    }\n");
        if self.whole_repository {
            for name in HIDDEN {
                let _ = writeln!(text, "    location = /{name} {{\n        return 404;\n    }}");
            }
        }
        let _ =
            writeln!(text, "    location / {{\n        try_files $uri $uri/ $uri.html {otherwise};\n    }}");
    }

    /// Rules per header, the nearest to a path first; and what caches are told
    /// where the app says nothing: to ask whether a page is still the same.
    fn headers(&self) -> Vec<(String, Vec<(String, String)>)> {
        let mut names: BTreeMap<String, (String, Vec<(String, String)>)> = BTreeMap::new();
        for (path, headers) in &self.settings.headers {
            for (name, value) in headers {
                let entry =
                    names.entry(name.to_ascii_lowercase()).or_insert_with(|| (name.clone(), Vec::new()));
                entry.1.push((path.clone(), value.clone()));
            }
        }
        let cache = names.entry("cache-control".to_owned());
        let cache = cache.or_insert_with(|| ("Cache-Control".to_owned(), Vec::new()));
        cache.1.push(("*".to_owned(), "public, max-age=0, must-revalidate".to_owned()));
        let nearest = |(path, _): &(String, String)| (path.contains('*'), std::cmp::Reverse(path.len()));
        names
            .into_values()
            .map(|(name, mut rules)| {
                rules.sort_by_key(nearest);
                (name, rules)
            })
            .collect()
    }
}

/// Paths are matched as they were sent, still escaped: the server looks for
/// other files on its way to an answer, and what is taken over into the target
/// of a redirect can hold no line end.
fn asked(path: &str, star: &str) -> String {
    nginx::quoted(&format!("~^{}(?:\\?|\\z)", nginx::pattern(&nginx::escaped_path(path), star)))
}

fn header_map(text: &mut String, index: usize, rules: &[(String, String)]) {
    let _ = writeln!(text, "map $request_uri $header_{index} {{\n    default \"\";");
    for (path, value) in rules {
        let _ = writeln!(text, "    {} {};", asked(path, "[^?]*"), nginx::value(value));
    }
    text.push_str("}\n");
}

fn redirect_map(text: &mut String, index: usize, redirect: &Redirect) {
    let from = asked(&redirect.from, &format!("(?<splat_{index}>[^?]*)"));
    let mut to = nginx::value(&redirect.to);
    if redirect.from.contains('*') {
        to = to.replace(":splat", &format!("${{splat_{index}}}"));
    }
    let _ = writeln!(text, "map $request_uri $redirect_{index} {{\n    default \"\";\n    {from} {to};\n}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_with_everything() {
        let rule = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let site = Site {
            stage: None,
            folder: "app/public".to_owned(),
            whole_repository: true,
            fallback: Some("index.html".to_owned()),
            settings: Static {
                headers: BTreeMap::from([
                    ("/*".to_owned(), rule("X-Frame-Options", "DENY")),
                    ("/assets/*".to_owned(), rule("cache-control", "public, max-age=31536000, immutable")),
                    ("/it's \"here\"; } return 200".to_owned(), rule("X-Odd", "a \"b\" \\ $uri ; } {")),
                ]),
                redirects: vec![
                    Redirect {
                        from: "/blog/*".to_owned(),
                        to: "https://blog.example.com/:splat".to_owned(),
                        status: 301,
                    },
                    Redirect { from: "/ö d".to_owned(), to: "/x?$request_uri".to_owned(), status: 302 },
                ],
                ..Static::default()
            },
        };
        insta::assert_snapshot!(site.configuration());
    }
}
