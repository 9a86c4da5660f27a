//! What the frameworks start, where the app's own scripts do not say it.

use super::manifest::Manifest;
use super::site::{self, Output, literal};
use crate::buildpack::draft::exec;
use crate::buildpack::error::{DetectError, Place};
use crate::buildpack::source::Files;
use crate::model::RunCommand;

/// What is served in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Served {
    /// A program.
    Program(Program),
    /// The files that the build wrote.
    Site(Output),
}

/// A framework's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// `Next`.
    pub name: &'static str,
    /// What starts it.
    pub command: RunCommand,
    /// Variables that it needs at run time.
    pub env: &'static [(&'static str, &'static str)],
    /// All that it needs in the image, from → to, where the build gathers it.
    pub output: Vec<(&'static str, &'static str)>,
    /// Whether the app's own start script can't do it.
    pub insists: bool,
}

const HOST: &[(&str, &str)] = &[("HOST", "0.0.0.0")];

/// What a framework's build serves. `None`: no framework that is known, or one
/// that leaves it to the app.
pub(super) fn find(files: Files<'_>, manifest: &Manifest) -> Option<Served> {
    if manifest.depends("next") {
        return Some(next(files));
    }
    if manifest.depends("nuxt") {
        return Some(if is_nuxt_2(manifest) { nuxt_2(files, manifest) } else { nuxt(manifest) });
    }
    if manifest.depends("nitropack") || manifest.depends("nitro") {
        return Some(nitro("Nitro"));
    }
    if manifest.depends("@sveltejs/kit") {
        return Some(svelte_kit(files, manifest));
    }
    let program = |name, words: &[&str], env| {
        Some(Served::Program(Program { name, command: exec(words), env, output: Vec::new(), insists: false }))
    };
    if manifest.depends("@react-router/dev") && alone(&config(files, "react-router"), "ssr", "false") {
        return Some(Served::Site(Output::new("React Router", "build/client")));
    }
    if manifest.depends("@react-router/serve") {
        return program("React Router", &["react-router-serve", "./build/server/index.js"], &[]);
    }
    if manifest.depends("@remix-run/dev")
        && !manifest.depends("@remix-run/serve")
        && config(files, "vite").replace(char::is_whitespace, "").contains("ssr:false")
    {
        return Some(Served::Site(Output::new("Remix", "build/client")));
    }
    if manifest.depends("@remix-run/serve") {
        let classic = !manifest.depends("vite");
        let server = if classic { "./build/index.js" } else { "./build/server/index.js" };
        return program("Remix", &["remix-serve", server], &[]);
    }
    if manifest.depends("astro") && manifest.depends("@astrojs/node") {
        return program("Astro", &["node", "./dist/server/entry.mjs"], HOST);
    }
    if manifest.depends("@adonisjs/core") && files.has("bin/server.ts") {
        let command = exec(&["/bin/sh", "-c", "cd build && exec node bin/server.js"]);
        let (name, env, output) = ("AdonisJS", HOST, Vec::new());
        // The starter's own line runs what is not built.
        let insists = manifest.script("start").is_none_or(|line| line.trim() == "node bin/server.js");
        return Some(Served::Program(Program { name, command, env, output, insists }));
    }
    if manifest.depends("@nestjs/core") {
        return program("Nest", &["node", "dist/main"], &[]);
    }
    if manifest.depends("@angular/ssr")
        && let Some(Output { folder, .. }) = site::find(files, manifest)
        && let Some(base) = folder.strip_suffix("/browser")
        && files.has("src/server.ts")
    {
        return program("Angular", &["node", &format!("{base}/server/server.mjs")], &[]);
    }
    site::find(files, manifest).map(Served::Site)
}

/// Whether a line of a configuration file sets a key to a word without quotes.
fn alone(text: &str, key: &str, word: &str) -> bool {
    text.lines().any(|line| {
        let (name, value) = line.split_once(':').unwrap_or_default();
        name.trim() == key && value.trim().trim_end_matches(',') == word
    })
}

/// The text of a configuration file, whatever it ends in.
fn config(files: Files<'_>, stem: &str) -> String {
    let ends = ["js", "mjs", "ts", "cjs", "mts"];
    ends.iter().find_map(|end| files.hint(&format!("{stem}.config.{end}"))).unwrap_or_default()
}

fn next(files: Files<'_>) -> Served {
    const OUTPUT: [(&str, &str); 3] =
        [(".next/standalone", "./"), (".next/static", "./.next/static"), ("public", "./public")];
    let config = config(files, "next");
    match literal(&config, "output").as_deref() {
        Some("export") => {
            let folder = literal(&config, "distDir").and_then(|folder| site::inside(&folder));
            Served::Site(Output::new("Next", folder.unwrap_or_else(|| "out".to_owned())))
        }
        Some("standalone") if literal(&config, "distDir").is_none() => {
            let output =
                OUTPUT.into_iter().filter(|(from, _)| *from != "public" || files.has_folder("public"));
            Served::Program(Program {
                name: "Next",
                command: exec(&["node", "server.js"]),
                env: &[("HOSTNAME", "0.0.0.0")],
                output: output.collect(),
                insists: true,
            })
        }
        _ => Served::Program(Program {
            name: "Next",
            command: exec(&["next", "start"]),
            env: &[],
            output: Vec::new(),
            insists: false,
        }),
    }
}

fn nuxt(manifest: &Manifest) -> Served {
    let scripts = ["heroku-postbuild", "build"];
    let build = scripts.into_iter().find_map(|name| manifest.script(name)).or(manifest.script("generate"));
    if build.is_some_and(|line| line.split_whitespace().any(|word| word == "generate")) {
        let fallback = Some("200.html".to_owned());
        return Served::Site(Output { fallback, ..Output::new("Nuxt", ".output/public") });
    }
    nitro("Nuxt")
}

/// Nuxt before its third version, which has a server of its own.
fn is_nuxt_2(manifest: &Manifest) -> bool {
    let spec = manifest.spec("nuxt").unwrap_or_default().trim_start_matches(['^', '~', '=', 'v']);
    spec.split('.').next() == Some("2")
}

fn nuxt_2(files: Files<'_>, manifest: &Manifest) -> Served {
    let build = manifest.script("build").or(manifest.script("generate")).unwrap_or_default();
    let generates = build.split_whitespace().any(|word| word == "generate");
    if generates || literal(&config(files, "nuxt"), "target").as_deref() == Some("static") {
        let fallback = Some("200.html".to_owned());
        return Served::Site(Output { fallback, ..Output::new("Nuxt", "dist") });
    }
    Served::Program(Program {
        name: "Nuxt",
        command: exec(&["nuxt", "start"]),
        env: HOST,
        output: Vec::new(),
        insists: false,
    })
}

/// The server that Nitro makes: of Nuxt, and of TanStack, Solid and others by a
/// plugin of Vite.
fn nitro(name: &'static str) -> Served {
    Served::Program(Program {
        name,
        command: exec(&["node", ".output/server/index.mjs"]),
        env: HOST,
        output: vec![(".output", "./.output")],
        insists: false,
    })
}

fn svelte_kit(files: Files<'_>, manifest: &Manifest) -> Served {
    if manifest.depends("@sveltejs/adapter-static") {
        let config = config(files, "svelte") + "\n" + &config(files, "vite");
        let folder = literal(&config, "pages").and_then(|folder| site::inside(&folder));
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-/".contains(&c);
        let fallback = literal(&config, "fallback").and_then(|page| site::inside(&page));
        let fallback = fallback.filter(|page| page.bytes().all(plain));
        let folder = folder.unwrap_or_else(|| "build".to_owned());
        return Served::Site(Output { fallback, ..Output::new("SvelteKit", folder) });
    }
    let out = literal(&config(files, "svelte"), "out").and_then(|folder| site::inside(&folder));
    let out = out.filter(|folder| !folder.starts_with('-')).unwrap_or_else(|| "build".to_owned());
    Served::Program(Program {
        name: "SvelteKit",
        command: exec(&["node", &out]),
        env: HOST,
        output: Vec::new(),
        insists: false,
    })
}

/// Refuses what is built for one host alone, and starts nowhere else.
pub(super) fn check(files: Files<'_>, manifest: &Manifest) -> Result<(), DetectError> {
    const ADAPTERS: [&str; 5] = [
        "@sveltejs/adapter-vercel",
        "@sveltejs/adapter-netlify",
        "@sveltejs/adapter-cloudflare",
        "@sveltejs/adapter-cloudflare-workers",
        "svelte-adapter-firebase",
    ];
    const HERE: [&str; 3] = ["@sveltejs/adapter-node", "@sveltejs/adapter-static", "@sveltejs/adapter-auto"];
    if !manifest.depends("@sveltejs/kit") {
        return Ok(());
    }
    for file in ["svelte.config.js", "svelte.config.ts", "svelte.config.mjs"] {
        let text = files.hint(file).unwrap_or_default();
        let imports: Vec<(usize, &str)> =
            text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("import")).collect();
        let names = |line: &str, name: &str| {
            ['"', '\''].iter().any(|quote| line.contains(&format!("{quote}{name}{quote}")))
        };
        // Which of them it is, may be decided in the build.
        if imports.iter().any(|(_, line)| HERE.iter().any(|name| names(line, name))) {
            continue;
        }
        for (index, line) in imports {
            if let Some(adapter) = ADAPTERS.into_iter().find(|name| names(line, name)) {
                return Err(DetectError::Unsupported {
                    place: Place::line(file, index + 1),
                    what: adapter.to_owned(),
                    instead: "It builds for another host. Import @sveltejs/adapter-node there instead, once it is installed:\n  npm install --save-dev @sveltejs/adapter-node".to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// Whether the app's start script only serves while it is being developed.
pub(super) fn develops(manifest: &Manifest, words: &[String]) -> bool {
    let started =
        words.first().is_some_and(|word| word == "nuxt") && words.get(1).is_some_and(|word| word == "start");
    serves_for_development(words) && !(started && is_nuxt_2(manifest))
}

fn serves_for_development(words: &[String]) -> bool {
    let verb = words.get(1).map(String::as_str);
    let only = |verbs: &[&str]| verb.is_none_or(|verb| verbs.contains(&verb));
    match words.first().map(String::as_str).unwrap_or_default() {
        "next" | "remix" | "react-router" => only(&["dev"]),
        "nuxt" | "nuxi" => only(&["dev", "start", "preview"]),
        "remix-serve" | "react-router-serve" => only(&[]),
        "nest" => only(&["start"]),
        "svelte-kit" => only(&["dev", "preview"]),
        _ => site::serves_for_development(words),
    }
}
