//! A plan in the making: what the language modules share.

use minijinja::Value;
use std::collections::{BTreeMap, BTreeSet};

use super::assets::{self, Assets};
use super::base::{self, CA_FILE, CA_TARGET};
use super::catalog::Catalog;
use super::error::DetectError;
use super::paas_toml::{self, PaasToml};
use super::pack::{self, Offer, Pack};
use super::procfile::Procfile;
use super::registry;
use super::render::{json, render};
use super::site::Site;
use super::source::Files;
use super::steps::Steps;
use super::version::Wanted;
use crate::model::{BaseImage, BuildPlan, Dockerfile, EnvKey, ProcessType, RunCommand, WantedVar};

/// Folder of the build context that holds the app.
pub(super) const CONTEXT_ROOT: &str = "app";

/// The Dockerfile of an app, of a buildpack or of all that bring none.
const TEMPLATE: &str = "Dockerfile.j2";

/// Our static server, in the base of `buildpacks/static`.
pub(super) const SITE_SERVER: &str = "/usr/local/bin/serve-site";

/// Where its configuration for a site stands in the build context.
const SITE_CONFIGURATION: &str = ".paas/site.conf";

/// Settings that reach build stages as arguments and never an image.
const BUILD_ARGUMENTS: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "PIP_INDEX_URL",
    "npm_config_registry",
    "GOPROXY",
    "GOSUMDB",
    "BUNDLE_MIRROR__ALL",
];

/// Programs' own names for a certificate bundle.
pub(super) const CA_VARIABLES: [&str; 6] = [
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
];

/// What a language module works on.
pub(super) struct Draft<'a> {
    /// The app.
    pub files: Files<'a>,
    /// What can be had.
    pub catalog: &'a Catalog,
    /// The language.
    pub pack: &'static Pack,
    /// What paas.toml says.
    pub settings: &'a PaasToml,
    /// The Procfile, if there is one.
    pub procfile: Option<Procfile>,
    /// As in the plan.
    pub decisions: Vec<String>,
    /// As in the plan.
    pub notices: Vec<String>,
    /// As in the plan.
    pub processes: BTreeMap<ProcessType, RunCommand>,
    /// As in the plan.
    pub release: Option<RunCommand>,
    /// The folder that our static server serves in place of a process.
    site: Option<Site>,
    /// What the app does in its build by itself.
    pub steps: Steps,
    /// Files for the build context; their paths begin with `.paas/`.
    pub context: BTreeMap<String, Vec<u8>>,
    /// As in the plan.
    pub env: BTreeMap<String, String>,
    /// As in the plan.
    pub loopback: Option<String>,
    /// As in the plan.
    pub config: BTreeMap<EnvKey, WantedVar>,
    /// As in the plan.
    secrets_if_set: Vec<EnvKey>,
    /// The stage for assets in another language.
    pub assets: Option<Assets>,
}

impl<'a> Draft<'a> {
    /// An empty plan for a language, with what the Procfile declares.
    pub fn new(
        files: Files<'a>,
        catalog: &'a Catalog,
        pack: &'static Pack,
        settings: &'a PaasToml,
        procfile: Option<Procfile>,
    ) -> Self {
        let mut draft = Self {
            files,
            catalog,
            pack,
            settings,
            procfile,
            decisions: Vec::new(),
            notices: Vec::new(),
            processes: BTreeMap::new(),
            release: None,
            site: None,
            steps: Steps::default(),
            context: BTreeMap::new(),
            env: pack.env.clone(),
            loopback: None,
            config: BTreeMap::new(),
            secrets_if_set: Vec::new(),
            assets: None,
        };
        for (kind, line) in draft.procfile.clone().unwrap_or_default().commands {
            let command = RunCommand::Shell(line);
            if kind.is_release() {
                draft.release = Some(command);
            } else {
                draft.processes.insert(kind, command);
            }
        }
        draft
    }

    /// Reads the app's own part in the build, and the start command of paas.toml.
    pub fn read_steps(&mut self) -> Result<(), DetectError> {
        let (steps, said) = Steps::read(self.files, &self.settings.build)?;
        self.steps = steps;
        said.iter().for_each(|line| self.decide(line));
        if let Some(start) = &self.settings.build.start {
            let command = RunCommand::Shell(start.value.clone());
            self.decide(format!("web: {command}, from {} line {}", paas_toml::FILE, start.line));
            self.processes.insert(ProcessType::web(), command);
        }
        Ok(())
    }

    /// Gives the build a config var as a secret, if it is set; `false`: it has it
    /// already.
    pub fn take_secret(&mut self, name: &EnvKey) -> bool {
        let new = self.steps.add_secret(name);
        if new {
            self.secrets_if_set.push(name.clone());
        }
        new
    }

    /// The version that paas.toml asks for, which beats every other.
    pub fn version(&self) -> Option<Wanted> {
        let given = self.settings.build.version.as_ref()?;
        Some(Wanted { text: given.value.trim().to_owned(), place: given.place() })
    }

    /// Offers of the language in the image source.
    pub fn offers(&self) -> &'static [Offer] {
        self.pack.offers(self.catalog.source)
    }

    /// The first of them.
    pub fn newest(&self) -> Result<&'static Offer, DetectError> {
        let broken =
            || DetectError::Broken { pack: self.pack.key.clone(), reason: "offers nothing".to_owned() };
        self.offers().first().ok_or_else(broken)
    }

    /// Whether the Procfile already says what runs, so that nothing is guessed.
    pub fn declared(&self) -> bool {
        !self.processes.is_empty()
    }

    /// Notes a decision.
    pub fn decide(&mut self, text: impl AsRef<str>) {
        self.decisions.extend(folded(text.as_ref()));
    }

    /// Notes something that the user should know though the build goes on.
    pub fn warn(&mut self, text: impl AsRef<str>) {
        self.notices.extend(folded(text.as_ref()));
    }

    /// Sets the inferred web command.
    pub fn web(&mut self, command: RunCommand, because: &str) {
        self.decide(format!("web: {command}, {because}"));
        self.processes.insert(ProcessType::web(), command);
    }

    /// Has our static server serve a folder, unless the Procfile says what web is.
    /// The template must then end in `{{ site }}`: see [`site`](super::site).
    pub fn serve(&mut self, site: Site) {
        if !self.processes.contains_key(&ProcessType::web()) {
            self.web(exec(&[SITE_SERVER]), "for a folder of files");
        }
        if let Some(page) = &site.fallback {
            self.decide(format!("{page} answers where no file does"));
        }
        for redirect in &site.settings.redirects {
            self.decisions
                .extend(folded(&format!("{} {} -> {}", redirect.status, redirect.from, redirect.to)));
        }
        self.site = Some(site);
    }

    /// The stages that end a Dockerfile whose image serves files, with the base
    /// that they stand on.
    fn site_stages(&self, cmd: &str) -> Result<Option<(String, BaseImage)>, DetectError> {
        let Some(site) = &self.site else { return Ok(None) };
        let pack = pack::get("static")?;
        let base = match pack.offers(self.catalog.source).first() {
            Some(offer) => base::pair(pack, offer, self.catalog)?.run,
            None => {
                return Err(DetectError::Broken {
                    pack: pack.key.clone(),
                    reason: "offers nothing".to_owned(),
                });
            }
        };
        let values = minijinja::context! {
            site_base => base.reference.as_str(), stage => site.stage, folder => site.folder.as_str(),
            required => site.fallback.iter().cloned().collect::<Vec<String>>(), cmd,
            run_prologue => self.steps.packages(),
        };
        Ok(Some((render(&pack.key, "stage.j2", values)?, base)))
    }

    /// The stage for assets, once it is said what it does.
    fn take_assets(&mut self) -> Option<Assets> {
        let found = self.assets.take()?;
        found.said.iter().for_each(|line| self.decide(line));
        self.notices.extend(found.notices.iter().cloned());
        Some(found)
    }

    /// The finished plan: the template filled in with `values` and what every
    /// template gets.
    pub fn finish(mut self, offer: &Offer, values: Value) -> Result<BuildPlan, DetectError> {
        self.note_unrouted();
        let assets = self.take_assets();
        let bases = base::pair(self.pack, offer, self.catalog)?;
        let web = self.processes.get(&ProcessType::web());
        let cmd = web.map(cmd_line).unwrap_or_default();
        let (site, site_base) = self.site_stages(&cmd)?.unzip();
        let common = minijinja::context! {
            build_base => bases.build.reference.as_str(),
            run_base => bases.run.reference.as_str(),
            build_prologue => self.prologue(),
            run_prologue => self.steps.packages(),
            steps => self.steps.values(),
            scope => self.catalog.cache_scope.as_str(), assets => false,
            site => site.unwrap_or_default(), cmd,
        };
        let owner =
            if registry::has(&self.pack.key, TEMPLATE)? { self.pack.key.as_str() } else { pack::COMMON };
        let text = render(owner, TEMPLATE, minijinja::context! { ..common, ..values })?;
        let text = match &assets {
            Some(assets) => {
                let lost = || DetectError::Broken {
                    pack: owner.to_owned(),
                    reason: format!("{TEMPLATE} has no line `COPY app/ ./` that could take in what is built"),
                };
                assets::instead(&text, &assets.text).ok_or_else(lost)?
            }
            None => text,
        };
        let mut files = self.context;
        if let Some(bundle) = &self.catalog.ca_bundle {
            files.insert(CA_FILE.to_owned(), bundle.clone());
        }
        if let Some(site) = &self.site {
            files.insert(SITE_CONFIGURATION.to_owned(), site.configuration().into_bytes());
        }
        let web = web.is_some();
        let versioned = || format!("{} {}", self.pack.name, offer.version);
        let mut needed = vec![bases.run, bases.build];
        needed.extend(site_base);
        needed.extend(assets.map(|assets| assets.base));
        needed.dedup();
        Ok(BuildPlan {
            language: self.pack.key.clone(),
            runtime: self.pack.runtime.clone().unwrap_or_else(versioned),
            decisions: self.decisions,
            notices: self.notices,
            dockerfile: Dockerfile::Generated(squeeze(&text)),
            context_root: CONTEXT_ROOT.to_owned(),
            root: String::new(),
            build_args: self
                .settings
                .build
                .env
                .iter()
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect(),
            secrets: self.settings.build.secrets.clone(),
            secrets_if_set: self.secrets_if_set,
            files,
            unix_lines: BTreeSet::new(),
            bases: needed,
            processes: self.processes,
            release: self.release,
            first: None,
            port: web.then_some(self.pack.port),
            env: self.env,
            worker_mib: self.pack.worker_mib,
            checks: crate::model::HealthCheck::default(),
            http: crate::model::HttpSettings::default(),
            types: BTreeMap::new(),
            release_time: crate::model::RELEASE_TIME,
            watch: None,
            canary: None,
            procfile: false,
            config: self.config,
            loopback: self.loopback,
            no_command: None,
        })
    }

    /// What every build stage begins with: arguments, and certificates as
    /// arguments too, since those do not stay in the image.
    pub fn prologue(&self) -> String {
        let mut lines: Vec<String> = BUILD_ARGUMENTS.iter().map(|name| format!("ARG {name}")).collect();
        lines.push("ARG UV_INDEX_URL=$PIP_INDEX_URL".to_owned());
        if self.catalog.ca_bundle.is_some() {
            lines.push(format!("COPY {CA_FILE} {CA_TARGET}"));
            lines.extend(CA_VARIABLES.iter().map(|name| format!("ARG {name}={CA_TARGET}")));
        }
        lines.push(self.steps.packages());
        lines.push(self.steps.arguments());
        lines.join("\n").trim_end().to_owned()
    }

    fn note_unrouted(&mut self) {
        if !self.processes.contains_key(&ProcessType::web()) {
            self.warn("no web process: the app gets no address");
        }
    }
}

/// CMD in its exec form.
fn cmd_line(command: &RunCommand) -> String {
    match command {
        RunCommand::Exec(words) => format!("CMD {}", json(words)),
        RunCommand::Shell(line) => {
            format!("CMD {}", json(&["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]))
        }
        RunCommand::Image => String::new(),
    }
}

/// Most columns of a line over a push, behind seven of indentation.
const COLUMNS: usize = 65;

/// A word that leaves room for an indentation.
fn cut(word: &str) -> String {
    if word.chars().count() <= COLUMNS - 2 {
        return word.to_owned();
    }
    word.chars().take(COLUMNS - 3).chain(['…']).collect()
}

/// A text in lines that fit over a push; those that follow are indented.
pub(super) fn folded(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let word = cut(word);
        let fits = |line: &String| line.chars().count() + 1 + word.chars().count() <= COLUMNS;
        if lines.is_empty() {
            lines.push(word);
        } else if let Some(line) = lines.last_mut().filter(|line| fits(line)) {
            line.extend([" ", &word]);
        } else {
            lines.push(format!("  {word}"));
        }
    }
    lines
}

/// Without empty lines, but for one between stages.
fn squeeze(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if line.starts_with("FROM ") && !out.is_empty() {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// A command of exact words.
pub(super) fn exec(words: &[&str]) -> RunCommand {
    RunCommand::Exec(words.iter().map(|&word| word.to_owned()).collect())
}

/// A COPY of files of the app (paths from its root) to a folder of the image.
pub(super) fn copy(paths: &[&str], to: &str) -> Vec<String> {
    let from = paths.iter().map(|path| format!("{CONTEXT_ROOT}/{path}"));
    from.chain([to.to_owned()]).collect()
}
