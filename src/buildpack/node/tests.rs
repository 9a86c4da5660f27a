//! Decisions for the templates that people start from.
#![allow(clippy::unwrap_used)]

use crate::buildpack::error::DetectError;
use crate::buildpack::sketch::{planned, said};
use crate::model::{BuildPlan, Dockerfile, ProcessType};

fn plan(files: &[(&str, &str)]) -> BuildPlan {
    planned(files).unwrap()
}

fn web(files: &[(&str, &str)]) -> String {
    plan(files).processes[&ProcessType::web()].to_string()
}

fn dockerfile(files: &[(&str, &str)]) -> String {
    let Dockerfile::Generated(text) = plan(files).dockerfile else { panic!("not generated") };
    text
}

fn refused(files: &[(&str, &str)]) -> String {
    planned(files).unwrap_err().to_string()
}

fn package(json: &'static str) -> (&'static str, &'static str) {
    ("package.json", json)
}

const SITE: &str = "/usr/local/bin/serve-site";

#[test]
fn managers_are_told_by_name_then_by_lock() {
    let start = package(r#"{"scripts": {"start": "node a.js"}}"#);
    assert!(
        said(&[start, ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n")])
            .contains("pnpm 10.34.9, from pnpm-lock.yaml")
    );
    assert!(said(&[start, ("yarn.lock", "# yarn lockfile v1\n")]).contains("yarn 1.22.22, from yarn.lock"));
    assert!(
        said(&[start, ("yarn.lock", "__metadata:\n  version: 8\n")]).contains("yarn 4.12.0, from yarn.lock")
    );
    assert!(said(&[start, ("bun.lockb", "")]).contains("bun 1."));
    let named = package(r#"{"packageManager": "pnpm@8.6.0+sha256.00", "scripts": {"start": "node a.js"}}"#);
    let text = said(&[named, ("package-lock.json", "{}")]);
    assert!(text.contains("pnpm 8.6.0, from packageManager in package.json"), "{text}");
    assert!(text.contains("package-lock.json is passed over"), "{text}");
    assert!(text.contains("there is no pnpm-lock.yaml"), "{text}");
    let ranged = package(r#"{"engines": {"pnpm": ">=9 <10"}, "main": "a.js"}"#);
    let files = [ranged, ("a.js", ""), ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n")];
    assert!(said(&files).contains("pnpm 9.15.9, from package.json"));
}

#[test]
fn what_cannot_be_had_or_read_is_refused() {
    let bad = |json| refused(&[package(json), ("index.js", "")]);
    assert_eq!(
        bad(r#"{"packageManager": "cnpm@1.0.0"}"#),
        "Place { file: \"package.json\", line: 0 }: packageManager = \"cnpm\""
    );
    assert!(bad(r#"{"packageManager": "pnpm@; id"}"#).contains("\"; id\" is no version of pnpm"));
    assert!(bad(r#"{"packageManager": "pnpm@^3"}"#).contains("pnpm ^3 cannot be had"));
    assert!(bad(r#"{"engines": {"node": "^9"}}"#).contains("Node ^9 cannot be had"));
    let yarn_path = (".yarnrc.yml", "nodeLinker: pnp\nyarnPath: .yarn/releases/yarn-4.0.0.cjs\n");
    let files = [package("{}"), ("index.js", ""), ("yarn.lock", "__metadata:\n  version: 8\n"), yarn_path];
    assert!(refused(&files).contains("line: 2 } names .yarn/releases/yarn-4.0.0.cjs, which is missing"));
}

#[test]
fn a_lock_that_is_behind_is_told_apart_from_one_that_is_not() {
    let depends = |lock: &'static str, text: &'static str| {
        let manifest = package("{\n\"main\": \"a.js\",\n\"dependencies\": {\"x\": \"^1.2.0\"}}");
        planned(&[manifest, ("a.js", ""), (lock, text)]).map(|_| ()).map_err(|error| error.to_string())
    };
    let behind =
        |text| depends("package-lock.json", text).unwrap_err().ends_with("package-lock.json lacks x ^1.2.0");
    assert!(behind(r#"{"packages": {"": {}}}"#));
    assert!(behind(r#"{"packages": {"node_modules/x": {"version": "1.1.0"}}}"#));
    for text in [
        r#"{"packages": {"node_modules/x": {"version": "1.3.0"}}}"#,
        r#"{"packages": {"node_modules/x": {"link": true}}}"#,
        r#"{"lockfileVersion": 1}"#,
        "no json",
    ] {
        assert_eq!(depends("package-lock.json", text), Ok(()), "{text}");
    }
    assert!(depends("yarn.lock", "# yarn lockfile v1\nx@^1.1.0:\n").is_err());
    assert_eq!(depends("yarn.lock", "# yarn lockfile v1\n\"x@^1.2.0\", x@^1.1.0:\n"), Ok(()));
    assert!(depends("bun.lock", "{\"x\": \"^1.1.0\"}").is_err());
    assert_eq!(depends("bun.lock", "{ \"x\": \"^1.2.0\", }"), Ok(()));
}

#[test]
fn another_npm_is_tried_where_the_first_refuses_the_lock() {
    let tried = |json: &'static str| {
        let text = dockerfile(&[package(json), ("index.js", ""), ("package-lock.json", "{}")]);
        let line = text.lines().find(|line| line.contains("code EUSAGE")).map(str::to_owned);
        (
            line.is_some(),
            text.contains("npm pack --silent npm@11.21.2"),
            text.contains("ln -s /usr/local/bin/npm"),
        )
    };
    assert_eq!(tried("{}"), (true, true, false));
    assert_eq!(tried(r#"{"packageManager": "npm@11.4.2"}"#), (true, false, true));
    assert_eq!(tried(r#"{"engines": {"node": "18"}}"#), (false, false, false));
    assert!(!dockerfile(&[package("{}"), ("index.js", "")]).contains("EUSAGE"));
}

#[test]
fn what_npmrc_reads_is_in_the_build_if_it_is_set() {
    let files = [package(r#"{"main": "a.js"}"#), ("a.js", ""), (".npmrc", "//x/:_authToken=${NPM_TOKEN}\n")];
    assert!(said(&files).contains(".npmrc reads NPM_TOKEN"));
    assert_eq!(plan(&files).secrets_if_set.len(), 1);
    assert!(plan(&files).secrets.is_empty());
    assert!(dockerfile(&files).contains("RUN --mount=type=secret,id=NPM_TOKEN"));
    let named = ("paas.toml", "[build]\nsecrets = ['NPM_TOKEN']\n");
    assert!(plan(&[&files[..], &[named]].concat()).secrets_if_set.is_empty());
    let python = plan(&[&files[1..], &[package(r#"{"scripts": {"build": "x"}}"#), ("main.py", "")]].concat());
    assert_eq!((python.language.as_str(), python.secrets_if_set.len()), ("python", 1));
}

#[test]
fn scripts_that_windows_wrote_are_started() {
    let start = package(r#"{"scripts": {"start": "./bin/www --x"}}"#);
    assert_eq!(web(&[start, ("bin/www", "#!/usr/bin/env node\r\nrun()\r\n")]), "node ./bin/www --x");
    assert_eq!(web(&[start, ("bin/www", "#!/bin/sh\n")]), "./bin/www --x");
}

#[test]
fn a_folder_that_nothing_builds_is_served_too() {
    let npx = package(r#"{"scripts": {"start": "npx serve ."}}"#);
    assert!(dockerfile(&[npx, ("index.html", "")]).contains("COPY app/ ./"));
}

#[test]
fn frameworks_without_a_start_script() {
    let built = |json| web(&[package(json), ("public/x", "")]);
    assert_eq!(
        built(r#"{"scripts": {"build": "next build"}, "dependencies": {"next": "15"}}"#),
        "next start"
    );
    assert_eq!(
        built(r#"{"scripts": {"build": "nuxt build"}, "dependencies": {"nuxt": "4"}}"#),
        "node .output/server/index.mjs"
    );
    assert_eq!(
        built(
            r#"{"scripts": {"build": "react-router build", "start": "react-router dev"}, "dependencies": {"@react-router/serve": "7"}}"#
        ),
        "react-router-serve ./build/server/index.js"
    );
    assert_eq!(
        built(
            r#"{"scripts": {"build": "astro build", "start": "astro dev"}, "dependencies": {"astro": "5", "@astrojs/node": "9"}}"#
        ),
        "node ./dist/server/entry.mjs"
    );
    assert_eq!(
        built(
            r#"{"scripts": {"build": "nest build", "start": "nest start"}, "dependencies": {"@nestjs/core": "11"}}"#
        ),
        "node dist/main"
    );
    assert_eq!(
        plan(&[package(r#"{"scripts": {"build": "nuxt build"}, "dependencies": {"nuxt": "4"}}"#)]).env["HOST"],
        "0.0.0.0"
    );
}

#[test]
fn sites_are_served_from_where_their_tools_write_them() {
    let folder = |json: &'static str, more: &[(&'static str, &'static str)]| {
        let files = [&[package(json)], more].concat();
        assert_eq!(web(&files), SITE, "{json}");
        let text = dockerfile(&files);
        let line = text.lines().find(|line| line.starts_with("COPY --from=build [")).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    assert_eq!(
        folder(
            r#"{"scripts": {"start": "react-scripts start", "build": "react-scripts build"}, "dependencies": {"react-scripts": "5"}}"#,
            &[]
        ),
        "/app/build/"
    );
    assert_eq!(
        folder(
            r#"{"scripts": {"start": "ng serve", "build": "ng build"}, "dependencies": {"@angular/core": "20"}}"#,
            &[(
                "angular.json",
                r#"{"projects": {"shop": {"projectType": "application", "architect": {"build": {"builder": "@angular/build:application"}}}}}"#
            )]
        ),
        "/app/dist/shop/browser/"
    );
    let vite =
        r#"{"scripts": {"start": "vite preview", "build": "vite build"}, "devDependencies": {"vite": "7"}}"#;
    assert_eq!(
        folder(vite, &[("vite.config.ts", "build: { outDir: './public_html' }")]),
        "/app/public_html/"
    );
    assert_eq!(folder(vite, &[("paas.toml", "[static]\nroot = 'www'\n")]), "/app/www/");
    assert_eq!(
        folder(
            r#"{"scripts": {"build": "next build", "start": "next start"}, "dependencies": {"next": "15"}}"#,
            &[("next.config.mjs", "export default { output: 'export' }")]
        ),
        "/app/out/"
    );
    assert_eq!(
        folder(
            r#"{"scripts": {"build": "eleventy", "start": "npx @11ty/eleventy --serve"}, "devDependencies": {"@11ty/eleventy": "3"}}"#,
            &[]
        ),
        "/app/_site/"
    );
}

#[test]
fn frameworks_are_built_without_a_script_for_it() {
    let built = |json: &'static str, line: &str| {
        let text = dockerfile(&[package(json), ("index.html", "")]);
        assert!(text.contains(line), "{line}: {text}");
    };
    built(r#"{"devDependencies": {"@11ty/eleventy": "3"}}"#, "NODE_ENV=production eleventy");
    built(
        r#"{"scripts": {"start": "vite"}, "devDependencies": {"vite": "7"}}"#,
        "NODE_ENV=production vite build",
    );
    built(
        r#"{"scripts": {"start": "next start"}, "dependencies": {"next": "15"}}"#,
        "NODE_ENV=production next build",
    );
    built(
        r#"{"scripts": {"docs:build": "vitepress build docs"}, "devDependencies": {"vitepress": "1"}}"#,
        "npm run docs:build",
    );
    let own = r#"{"scripts": {"start": "node a.js"}, "devDependencies": {"vite": "7"}}"#;
    assert!(!dockerfile(&[package(own), ("index.html", "")]).contains("vite build"));
    let at_start = r#"{"scripts": {"start": "next build && next start"}, "dependencies": {"next": "15"}}"#;
    assert!(!dockerfile(&[package(at_start)]).contains("production next build"));
}

#[test]
fn pages_that_a_build_adds_to_are_served() {
    let folder = |json: &'static str, page: &'static str| {
        let text = dockerfile(&[package(json), (page, "")]);
        let line = text.lines().find(|line| line.starts_with("COPY --from=build [")).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    let styles = r#"{"scripts": {"build": "tailwindcss -i in.css -o dist/out.css"}, "devDependencies": {"tailwindcss": "3"}}"#;
    assert_eq!(folder(styles, "index.html"), "/app/");
    assert!(dockerfile(&[package(styles), ("index.html", "")]).contains("npm prune --omit=dev"));
    assert_eq!(folder(styles, "public/index.html"), "/app/public/");
    let copied =
        r#"{"scripts": {"build": "mkdir -p dist && cp index.html dist/ && esbuild a.js --outdir=dist"}}"#;
    assert_eq!(folder(copied, "index.html"), "/app/dist/");
    let by_npx = r#"{"scripts": {"build": "vite build", "start": "npx serve -s dist"}, "devDependencies": {"vite": "7"}}"#;
    assert_eq!(folder(by_npx, "index.html"), "/app/dist/");
}

#[test]
fn servers_of_vites_plugins_are_started() {
    let json = r#"{"scripts": {"build": "vite build"}, "dependencies": {"@tanstack/react-start": "1", "nitro": "3"}, "devDependencies": {"vite": "8"}}"#;
    assert_eq!(web(&[package(json)]), "node .output/server/index.mjs");
    let json = r#"{"scripts": {"build": "react-router build", "start": "react-router-serve ./build/server/index.js"}, "dependencies": {"@react-router/serve": "7"}, "devDependencies": {"@react-router/dev": "7"}}"#;
    let rendered = ("react-router.config.ts", "export default {\n  ssr: true,\n}");
    assert_eq!(web(&[package(json), rendered]), "react-router-serve ./build/server/index.js");
    let pages = ("react-router.config.ts", "export default {\n  ssr: false,\n}");
    assert_eq!(web(&[package(json), pages]), SITE);
}

#[test]
fn a_server_of_the_apps_own_beats_the_site() {
    let json = r#"{"scripts": {"build": "vite build", "start": "node server.js"}, "dependencies": {"express": "5"}, "devDependencies": {"vite": "7"}}"#;
    assert_eq!(web(&[package(json), ("server.js", "")]), "node server.js");
    let json = r#"{"scripts": {"build": "vite build"}, "dependencies": {"express": "5"}, "devDependencies": {"vite": "7"}}"#;
    assert_eq!(web(&[package(json), ("server.js", "")]), "node server.js");
    assert_eq!(web(&[package(json), ("src/main.js", "")]), SITE);
}

#[test]
fn typescript_is_compiled_or_run_as_it_is() {
    let json = r#"{"main": "dist/index.js", "devDependencies": {"typescript": "5"}}"#;
    let files = [package(json), ("tsconfig.json", "{}"), ("src/index.ts", "")];
    assert_eq!(web(&files), "node dist/index.js");
    assert!(dockerfile(&files).contains(" tsc "));
    let tsx = r#"{"devDependencies": {"tsx": "4"}}"#;
    let text = said(&[package(tsx), ("src/index.ts", "")]);
    assert!(text.contains("web: tsx src/index.ts"), "{text}");
    assert!(text.contains("tsx runs in production but is a development dependency"), "{text}");
    assert_eq!(web(&[package("{}"), ("server.ts", "")]), "node server.ts");
    assert_eq!(web(&[package("{}"), ("bun.lock", "{}"), ("index.ts", "")]), "bun index.ts");
    let hono =
        package(r#"{"scripts": {"dev": "bun run --hot src/index.ts"}, "dependencies": {"hono": "^4"}}"#);
    assert_eq!(web(&[hono, ("src/index.ts", "export default app")]), "bun src/index.ts");
    let both = package(r#"{"scripts": {"dev": "bun --hot a.js", "start": "node a.js"}}"#);
    assert_eq!(web(&[both, ("a.js", "")]), "node a.js");
}

#[test]
fn development_dependencies_that_run_stay() {
    let json = r#"{"scripts": {"build": "tsc", "start": "npm run serve", "serve": "nodemon dist/a.js"}, "devDependencies": {"nodemon": "3", "typescript": "5"}}"#;
    let files = [package(json)];
    assert!(!dockerfile(&files).contains("prune"));
    assert!(said(&files).contains("nodemon runs in production"));
    let json = r#"{"scripts": {"build": "tsc", "start": "node dist/a.js"}, "devDependencies": {"nodemon": "3", "typescript": "5"}}"#;
    assert!(dockerfile(&[package(json)]).contains("npm prune --omit=dev --ignore-scripts"));
}

#[test]
fn the_manager_is_in_the_image_only_if_something_runs_it() {
    let lock = ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n");
    let kept =
        |json: &'static str| dockerfile(&[package(json), lock]).contains("COPY --from=build /opt/manager");
    assert!(!kept(r#"{"scripts": {"start": "node a.js"}}"#));
    assert!(kept(r#"{"scripts": {"start": "pnpm serve", "serve": "node a.js"}}"#));
    assert!(kept(r#"{"scripts": {"start": "npm run serve", "serve": "pnpm x"}}"#));
}

#[test]
fn a_script_that_is_run_must_be_there() {
    let json = package(r#"{"scripts": {"build": "x", "dev": "y"}}"#);
    let error = refused(&[json, ("Procfile", "web: npm run serve\n")]);
    assert_eq!(error, "Place { file: \"Procfile\", line: 0 } runs the script serve, which is missing");
    assert!(refused(&[json, ("Procfile", "web: yarn start\n")]).contains("runs the script start"));
    assert!(planned(&[json, ("Procfile", "web: npm start\n"), ("server.js", "")]).is_ok());
    assert!(
        refused(&[package(r#"{"scripts": {"start": "npm run nothing"}}"#)])
            .contains("runs the script nothing")
    );
}

#[test]
fn one_package_of_a_workspace_that_starts_is_started() {
    let root = package(r#"{"workspaces": ["apps/*"]}"#);
    let api = ("apps/api/package.json", r#"{"scripts": {"start": "node ."}}"#);
    let shared = ("apps/shared/package.json", r#"{"scripts": {"build": "tsc"}}"#);
    assert_eq!(web(&[root, api, shared]), "npm start --workspace=apps/api");
    assert!(dockerfile(&[root, api, shared]).contains("npm run build --workspaces --if-present"));
    let site = ("apps/site/package.json", r#"{"scripts": {"start": "node ."}}"#);
    assert_eq!(web(&[root, api, site]), "npm start --workspace=apps/api");
    assert!(said(&[root, api, site]).contains("2 packages have a start script"));
    let other = ("apps/one/package.json", r#"{"scripts": {"start": "node ."}}"#);
    assert_eq!(refused(&[root, other, site]), "no process");
    let vite = ("apps/web/package.json", r#"{"scripts": {"start": "vite"}}"#);
    assert_eq!(web(&[root, other, vite]), "npm start --workspace=apps/one");
}

#[test]
fn a_page_with_a_script_is_no_server() {
    let page = ("index.html", "<script src=\"app.js\"></script>");
    assert_eq!(plan(&[page, ("app.js", "")]).language, "static");
    assert_eq!(plan(&[page, ("server.js", "")]).language, "node");
    assert_eq!(plan(&[page, package(r#"{"devDependencies": {"prettier": "3"}}"#)]).language, "static");
    assert_eq!(
        plan(&[page, package(r#"{"scripts": {"start": "node app.js"}}"#), ("app.js", "")]).language,
        "node"
    );
}

#[test]
fn nothing_of_the_app_is_text_of_the_dockerfile() {
    let json = package(
        r#"{"name": "`id`", "packageManager": "pnpm@9.15.0+sha512.$(id)", "main": "x;$(id).js", "engines": {"node": "22"}, "scripts": {"postinstall": "$(id)", "build": "`id`", "start": "node '$(id)' `id`"}, "workspaces": ["$(id)"]}"#,
    );
    let text = dockerfile(&[json, ("$(id)/package.json", "{}"), ("x;$(id).js", "")]);
    let (steps, command) = text.split_once("CMD ").unwrap();
    assert!(!steps.contains("(id)") && !steps.contains("`id`"), "{text}");
    assert!(command.lines().count() == 1 && !command.contains('$'), "{text}");
}

#[test]
fn a_page_with_settings_stays_a_page() {
    let page = ("index.html", "<script src=\"app.js\"></script>");
    let headers = "[static.headers.\"/*\"]\nX-Frame-Options = \"DENY\"\n";
    let said = said(&[page, ("app.js", "x"), ("paas.toml", headers)]);
    assert!(said.starts_with("Static site, because of index.html"), "{said}");
    let tools = ("package.json", "{\"devDependencies\": {\"prettier\": \"3\"}}");
    for folder in ["public", "site"] {
        let settings = format!("[static]\nroot = \"{folder}\"\n");
        let page = format!("{folder}/index.html");
        let web = web(&[tools, (page.as_str(), ""), ("paas.toml", settings.as_str())]);
        assert_eq!(web, "/usr/local/bin/serve-site");
    }
    let started = "[build]\nstart = \"node app.js\"\n";
    assert_eq!(web(&[page, ("app.js", "x"), ("paas.toml", started)]), "node app.js");
    let server = ("package.json", "{\"dependencies\": {\"express\": \"4\"}, \"main\": \"app.js\"}");
    assert_eq!(web(&[server, page, ("app.js", "x"), ("paas.toml", headers)]), "node app.js");
}

#[test]
fn locks_of_yarn_are_behind_only_where_they_are() {
    let root =
        package(r#"{"workspaces": ["packages/*"], "dependencies": {"@acme/ui": "*", "ms": "^2.0.0"}}"#);
    let member = ("packages/ui/package.json", r#"{"name": "@acme/ui"}"#);
    let lock = |text| ("yarn.lock", text);
    let fits = "# yarn lockfile v1\n\nms@^2.0.0:\n  version \"2.1.3\"\n";
    planned(&[root, member, lock(fits), ("index.js", "")]).unwrap();
    assert!(refused(&[root, member, lock("# yarn lockfile v1\n"), ("index.js", "")]).contains("ms ^2.0.0"));
    let any = package(r#"{"main": "a.js", "dependencies": {"ms": "*"}}"#);
    let npm = r#"{"packages": {"node_modules/ms": {"version": "3.0.0-beta.2"}}}"#;
    planned(&[any, ("package-lock.json", npm), ("a.js", "")]).unwrap();
}

#[test]
fn a_release_of_yarn_1_is_there_before_it_installs() {
    let settings = "yarn-path \".yarn/releases/yarn-1.22.19.cjs\"\nyarn-offline-mirror \"./npm-cache\"\n";
    let app = [package(r#"{"main": "a.js"}"#), ("a.js", ""), ("yarn.lock", ""), (".yarnrc", settings)];
    let release = (".yarn/releases/yarn-1.22.19.cjs", "");
    let text = dockerfile(&[&app[..], &[release, ("npm-cache/ms-2.1.3.tgz", "")]].concat());
    assert!(
        text.contains("COPY [\"app/.yarn/releases/yarn-1.22.19.cjs\",\"./.yarn/releases/yarn-1.22.19.cjs\"]"),
        "{text}"
    );
    assert!(text.contains("COPY [\"app/npm-cache\",\"./npm-cache\"]"), "{text}");
    assert!(refused(&app).contains(".yarn/releases/yarn-1.22.19.cjs"));
}

#[test]
fn every_step_that_may_ask_the_registry_has_its_token() {
    let token = (".npmrc", "//npm.example.com/:_authToken=${NPM_TOKEN}\n");
    let manifest =
        package(r#"{"scripts": {"build": "x", "start": "node a.js"}, "devDependencies": {"vite": "6"}}"#);
    let build = ("paas.toml", "[build]\nbuild = \"make\"\n");
    for more in [&[][..], &[build]] {
        let app = [
            manifest,
            token,
            ("package-lock.json", "{\"packages\": {\"node_modules/vite\": {}}}"),
            ("a.js", ""),
        ];
        let text = dockerfile(&[&app[..], more].concat());
        let prunes: Vec<&str> = text.split("\nRUN ").filter(|step| step.contains("npm prune")).collect();
        assert!(!prunes.is_empty(), "{text}");
        assert!(
            prunes.iter().all(|step| step.contains("id=NPM_TOKEN") && step.contains("export NPM_TOKEN")),
            "{text}"
        );
    }
}

#[test]
fn the_site_of_a_workspace_is_served() {
    let root = package(r#"{"workspaces": ["apps/*", "packages/*"]}"#);
    let vite = r#"{"scripts": {"dev": "vite", "build": "vite build"}, "devDependencies": {"vite": "6"}}"#;
    let (ui, web_app) = (("packages/ui/package.json", "{}"), ("apps/web/package.json", vite));
    let (site, docs) = (("apps/site/package.json", vite), ("apps/docs/package.json", vite));
    assert_eq!(web(&[root, ui, site]), SITE);
    assert!(dockerfile(&[root, ui, site]).contains("/app/apps/site/dist/"));
    assert!(dockerfile(&[root, ui, site, docs]).contains("/app/apps/site/dist/"), "docs come beside it");
    let two = [root, web_app, ("apps/admin/package.json", vite)];
    assert!(dockerfile(&two).contains("/app/apps/web/dist/"));
    assert!(said(&two).contains("2 packages build a site"));
    let api = ("apps/api/package.json", r#"{"scripts": {"start": "node a.js"}}"#);
    assert_eq!(web(&[root, site, api]), "npm start --workspace=apps/api");
    let yarn = ("yarn.lock", "# yarn lockfile v1\n");
    assert!(dockerfile(&[root, ui, site, yarn]).contains("yarn --cwd apps/site run build"));
    let vitepress = package(
        r#"{"scripts": {"docs:build": "vitepress build guide"}, "devDependencies": {"vitepress": "1"}}"#,
    );
    assert!(dockerfile(&[vitepress, ("guide/index.md", "")]).contains("/app/guide/.vitepress/dist/"));
}

#[test]
fn next_keeps_what_reads_its_configuration() {
    let config = ("next.config.ts", "export default {};\n");
    let app = |next: &str, start: &str| {
        format!(
            r#"{{"scripts": {{"build": "next build", "start": "{start}"}}, "dependencies": {{"next": "{next}"}}, "devDependencies": {{"typescript": "^5"}}}}"#
        )
    };
    let keeps = |manifest: &str, config: (&str, &str)| {
        let files = [("package.json", manifest), config, ("server.js", "")];
        !dockerfile(&files).contains("npm prune")
    };
    assert!(keeps(&app("15.5.4", "next start"), config));
    assert!(keeps(&app("^16.1.0", "node server.js"), config));
    assert!(keeps(&app("latest", "next start"), config));
    assert!(!keeps(&app("16.2.0", "next start"), config));
    assert!(!keeps(&app("15.5.4", "next start"), ("next.config.mjs", "")));
    let text = said(&[("package.json", &app("15.5.4", "next start")), config]);
    assert!(text.contains("typescript reads next.config.ts at each start but is a"), "{text}");
    let traced = ("next.config.ts", "export default {\n  output: 'standalone',\n}");
    assert!(!said(&[("package.json", &app("15.5.4", "next start")), traced]).contains("typescript reads"));
}

#[test]
fn what_a_package_of_a_workspace_starts_stays() {
    let root = package(r#"{"workspaces": ["apps/*"]}"#);
    let api = (
        "apps/api/package.json",
        r#"{"name": "@acme/api", "scripts": {"build": "tsc", "start": "tsx src/index.ts"}, "devDependencies": {"tsx": "4"}}"#,
    );
    assert!(said(&[root, api]).contains("tsx runs in production"));
    assert!(!dockerfile(&[root, api]).contains("npm prune"));
    for start in [
        "npm start --workspace=@acme/api",
        "npm run start -w apps/api",
        "turbo run start",
        "npm start --workspaces",
    ] {
        let root = format!(r#"{{"workspaces": ["apps/*"], "scripts": {{"start": "{start}"}}}}"#);
        let text = said(&[("package.json", &root), api]);
        assert!(text.contains("tsx runs in production"), "{start}: {text}");
    }
    let web = (
        "apps/web/package.json",
        r#"{"name": "web", "scripts": {"build": "next build", "start": "next start"}, "dependencies": {"next": "15.1.0"}, "devDependencies": {"typescript": "5"}}"#,
    );
    let config = ("apps/web/next.config.ts", "");
    let text = said(&[root, web, config]);
    assert!(text.contains("web: npm start --workspace=apps/web"), "{text}");
    assert!(text.contains("typescript reads apps/web/next.config.ts"), "{text}");
    assert!(dockerfile(&[root, web, config]).contains("-next-apps-web,target=/app/apps/web/.next/cache"));
    let other = ("apps/api/package.json", r#"{"scripts": {"build": "tsc", "start": "node a.js"}}"#);
    let root = package(r#"{"workspaces": ["apps/*"], "scripts": {"start": "npm start -w apps/api"}}"#);
    assert!(dockerfile(&[root, web, config, other]).contains("npm prune"), "web does not run");
}

#[test]
fn frameworks_of_a_workspace_are_started() {
    let root = package(r#"{"workspaces": ["apps/*"]}"#);
    let started = |manifest: &'static str| web(&[root, ("apps/one/package.json", manifest)]);
    let path = "cd apps/one && PATH=$PWD/node_modules/.bin:$PATH && exec";
    assert_eq!(
        started(
            r#"{"scripts": {"build": "nest build", "start": "nest start"}, "dependencies": {"@nestjs/core": "11"}}"#
        ),
        format!("{path} node dist/main")
    );
    assert_eq!(
        started(
            r#"{"scripts": {"build": "nest build", "start": "nest start", "start:prod": "node dist/src/main"}, "dependencies": {"@nestjs/core": "11"}}"#
        ),
        format!("{path} node dist/src/main")
    );
    assert_eq!(
        started(r#"{"scripts": {"build": "nuxt build"}, "dependencies": {"nuxt": "4"}}"#),
        format!("{path} node .output/server/index.mjs")
    );
    assert_eq!(
        started(r#"{"scripts": {"build": "vite build"}, "devDependencies": {"@sveltejs/kit": "2"}}"#),
        format!("{path} node build")
    );
    let (nuxt, nest) = (
        r#"{"scripts": {"build": "nuxt build"}, "dependencies": {"nuxt": "4"}}"#,
        r#"{"scripts": {"build": "nest build"}, "dependencies": {"@nestjs/core": "11"}}"#,
    );
    let two = [root, ("apps/one/package.json", nuxt), ("apps/two/package.json", nest)];
    assert_eq!(refused(&two), "no process");
    let named = [root, ("apps/web/package.json", nuxt), ("apps/two/package.json", nest)];
    assert!(web(&named).starts_with("cd apps/web &&"));
    assert!(said(&named).contains("2 packages are made with a framework"));
    let docs = [root, ("apps/docs/package.json", nuxt), ("apps/two/package.json", nest)];
    assert!(web(&docs).starts_with("cd apps/two &&"));
    let adapts = r#"{"scripts": {"build": "vite build"}, "devDependencies": {"@sveltejs/kit": "2", "@sveltejs/adapter-auto": "6"}}"#;
    assert!(dockerfile(&[root, ("apps/one/package.json", adapts)]).contains("GCP_BUILDPACKS=1"));
}

#[test]
fn old_nuxt_and_pages_of_remix_are_known() {
    let nuxt =
        r#"{"scripts": {"build": "nuxt build", "start": "nuxt start"}, "dependencies": {"nuxt": "^2.18.0"}}"#;
    assert_eq!(web(&[package(nuxt)]), "nuxt start");
    let generated = r#"{"scripts": {"build": "nuxt generate", "start": "nuxt dev"}, "dependencies": {"nuxt": "~2.18.0"}}"#;
    assert!(dockerfile(&[package(generated)]).contains("/app/dist/"));
    let remix = r#"{"scripts": {"build": "remix vite:build"}, "devDependencies": {"@remix-run/dev": "2", "vite": "5"}}"#;
    let pages = ("vite.config.ts", "export default defineConfig({ plugins: [remix({ ssr: false })] })");
    assert!(dockerfile(&[package(remix), pages]).contains("/app/build/client/"));
}

#[test]
fn adapters_of_svelte_kit_for_other_hosts_are_refused() {
    let kit = package(
        r#"{"scripts": {"build": "vite build"}, "devDependencies": {"@sveltejs/kit": "2", "@sveltejs/adapter-vercel": "5"}}"#,
    );
    let vercel = ("svelte.config.js", "\nimport adapter from '@sveltejs/adapter-vercel';\n");
    let Err(DetectError::Unsupported { place, what, .. }) = planned(&[kit, vercel]) else {
        panic!("not refused")
    };
    assert_eq!(
        (place.to_string().as_str(), what.as_str()),
        ("svelte.config.js line 2", "@sveltejs/adapter-vercel")
    );
    assert_eq!(web(&[kit, ("svelte.config.js", "adapter: adapter({ out: 'dist' })")]), "node dist");
    assert!(planned(&[kit, vercel, ("Procfile", "web: node x.js\n")]).is_ok());
    let chosen = "import vercel from '@sveltejs/adapter-vercel';\nimport node from \"@sveltejs/adapter-node\";\nexport default { kit: { adapter: process.env.VERCEL ? vercel() : node() } };\n";
    assert_eq!(web(&[kit, ("svelte.config.js", chosen)]), "node build");
}

#[test]
fn nothing_leaves_for_the_background() {
    let start =
        |line: &str| format!(r#"{{"scripts": {{"start": "{line}"}}, "dependencies": {{"pm2": "5"}}}}"#);
    let of = |line: &str| web(&[("package.json", &start(line))]);
    assert_eq!(of("pm2 start server.js -i max"), "pm2-runtime start server.js -i max");
    assert_eq!(of("cd src && pm2 start server.js"), "cd src && exec pm2-runtime start server.js");
    assert_eq!(of("forever start server.js"), "forever server.js");
    assert_eq!(of("pm2 start a.js --no-daemon"), "pm2 start a.js --no-daemon");
    assert!(said(&[("package.json", &start("pm2 start a.js"))]).contains("pm2-runtime start runs"));
}
