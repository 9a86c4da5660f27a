//! A repository's own Dockerfile, and what becomes of its bases where no
//! registry can be reached.

use std::collections::{BTreeMap, BTreeSet};

use super::base::{self, CA_NAME, CA_TARGET};
use super::catalog::Catalog;
use super::draft::{CA_VARIABLES, folded};
use super::error::{DetectError, Place};
use super::instructions::{Instruction, instructions, opened, without_documents};
use super::official::{self, Official};
use super::paas_toml::{self, Build, PaasToml};
use super::pack::Pack;
use super::procfile::Procfile;
use super::source::Files;
use super::stages::Stages;
use super::variables::Variables;
use super::version;
use crate::model::{BaseImage, BuildPlan, Dockerfile, ProcessType, RunCommand};

/// The same for tools with names of their own. Corepack takes yarn from the same registry
/// as the rest, and asks it for no signatures: mirrors leave them out, and npm itself
/// asks for none.
const FURTHER: [&str; 3] = [
    "UV_INDEX_URL=$PIP_INDEX_URL",
    "COREPACK_NPM_REGISTRY=${npm_config_registry:-https://registry.npmjs.org}",
    "COREPACK_INTEGRITY_KEYS=0",
];

/// Makes the plan of an app that brings its Dockerfile.
pub(super) fn plan(
    files: Files<'_>,
    catalog: &Catalog,
    path: &str,
    settings: &PaasToml,
    procfile: Option<Procfile>,
) -> Result<BuildPlan, DetectError> {
    let text = files.text(path)?.unwrap_or_default();
    let mut plan = empty(path);
    plan.decisions.push(format!("Dockerfile, because of {path}"));
    let lines = instructions(&text);
    if !lines.iter().any(|line| line.keyword == "FROM") {
        return Err(DetectError::NoFrom(path.to_owned()));
    }
    let checks =
        |line: &&Instruction<'_>| line.keyword == "HEALTHCHECK" && !line.rest.eq_ignore_ascii_case("none");
    if let Some(line) = lines.iter().rfind(checks) {
        plan.decisions.push(format!("HEALTHCHECK, from {path} line {}", line.first + 1));
    }
    if base::self_made(catalog) {
        let given = settings.build.args.iter().map(|(name, value)| (name.to_string(), value.clone()));
        let variables = Variables::of(given.collect());
        let mut rewrite =
            Rewrite { catalog, path, variables, stages: Stages::default(), begun: 0, plan: &mut plan };
        let rewritten = rewrite.text(&text, &lines)?;
        plan.dockerfile = Dockerfile::Rewritten { path: path.to_owned(), text: rewritten };
        plan.bases.extend(base::certificates(catalog));
    }
    for (kind, line) in procfile.unwrap_or_default().commands {
        if kind.is_release() {
            plan.release = Some(RunCommand::Shell(line));
        } else {
            plan.decisions.extend(folded(&format!("{kind}: {line}, from Procfile")));
            plan.processes.insert(kind, RunCommand::Shell(line));
        }
    }
    from_settings(&mut plan, &settings.build);
    if !plan.processes.contains_key(&ProcessType::web()) && !has_command(&lines) {
        plan.no_command = Some(format!(
            "{path} has no CMD or ENTRYPOINT: what its base image runs has ended.\nAdd one, or a web line to Procfile."
        ));
    }
    plan.processes.entry(ProcessType::web()).or_insert(RunCommand::Image);
    Ok(plan)
}

/// Whether a Dockerfile says anywhere what its image runs. Its base may say so, too:
/// this is for the case that nothing runs.
fn has_command(lines: &[Instruction<'_>]) -> bool {
    lines.iter().any(|line| matches!(line.keyword.as_str(), "CMD" | "ENTRYPOINT"))
}

/// What paas.toml says of a build that is the Dockerfile's own business.
fn from_settings(plan: &mut BuildPlan, build: &Build) {
    let mut say = |text: String| plan.decisions.extend(folded(&text));
    if let Some(start) = &build.start {
        say(format!("web: {}, from {} line {}", start.value, paas_toml::FILE, start.line));
        plan.processes.insert(ProcessType::web(), RunCommand::Shell(start.value.clone()));
    }
    for name in build.args.keys() {
        say(format!("build argument {name}, from {}", paas_toml::FILE));
    }
    for name in &build.secrets {
        say(format!("secret {name} for RUN --mount=type=secret,id={name}, from {}", paas_toml::FILE));
    }
    plan.build_args = build.args.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    plan.secrets = build.secrets.clone();
    let unused = [
        ("version", build.version.as_ref().map(|given| given.line)),
        ("install", build.install.as_ref().map(|given| given.line)),
        ("build", build.build.as_ref().map(|given| given.line)),
        ("packages", build.packages.as_ref().map(|given| given.line)),
        ("apt", build.apt.as_ref().map(|given| given.line)),
        ("env", (!build.env.is_empty()).then_some(0)),
    ];
    for (key, _) in unused.into_iter().filter(|(_, line)| line.is_some()) {
        plan.notices
            .extend(folded(&format!("{key} in {} is passed over: the Dockerfile says it", paas_toml::FILE)));
    }
}

fn empty(path: &str) -> BuildPlan {
    BuildPlan {
        language: "dockerfile".to_owned(),
        runtime: "Dockerfile".to_owned(),
        decisions: Vec::new(),
        notices: Vec::new(),
        dockerfile: Dockerfile::Own(path.to_owned()),
        context_root: String::new(),
        root: String::new(),
        secrets: Vec::new(),
        secrets_if_set: Vec::new(),
        build_args: BTreeMap::new(),
        files: BTreeMap::new(),
        unix_lines: BTreeSet::new(),
        bases: Vec::new(),
        processes: BTreeMap::new(),
        release: None,
        first: None,
        port: None,
        env: BTreeMap::new(),
        worker_mib: None,
        checks: crate::model::HealthCheck::default(),
        http: crate::model::HttpSettings::default(),
        types: BTreeMap::new(),
        release_time: crate::model::RELEASE_TIME,
        watch: None,
        canary: None,
        procfile: false,
        config: BTreeMap::new(),
        loopback: None,
        no_command: None,
    }
}

/// A COPY line and the files that it names.
type Copied = (String, BTreeMap<String, Vec<u8>>);

/// The copy of a Dockerfile in which our bases stand for official images.
struct Rewrite<'a> {
    catalog: &'a Catalog,
    path: &'a str,
    variables: Variables,
    /// All stages.
    stages: Stages,
    /// How many of them have begun.
    begun: usize,
    plan: &'a mut BuildPlan,
}

impl Rewrite<'_> {
    fn text(&mut self, text: &str, instructions: &[Instruction<'_>]) -> Result<String, DetectError> {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        self.blank_syntax(&mut lines);
        let before = instructions.iter().take_while(|line| line.keyword != "FROM");
        for argument in before.filter(|line| line.keyword == "ARG") {
            self.variables.argument(&words(argument, &lines), false);
        }
        self.stages = Stages::of(instructions, &lines, |text| self.variables.in_from(text));
        let mut shell = usual_shell();
        for (index, instruction) in instructions.iter().enumerate() {
            match instruction.keyword.as_str() {
                "FROM" => {
                    self.variables.begin_stage();
                    shell = usual_shell();
                    lines[instruction.head.clone()].fill("#".to_owned());
                    lines[instruction.first] = self.from(instruction.first + 1)?;
                }
                "ARG" if self.begun > 0 => self.variables.argument(&words(instruction, &lines), true),
                "ENV" => self.variables.environment(&words(instruction, &lines)),
                "SHELL" => shell = serde_json::from_str(instruction.rest).unwrap_or(shell),
                "RUN" => {
                    let end = instructions.get(index + 1).map_or(lines.len(), |next| next.first);
                    self.note_apk(&lines[instruction.first..end], instruction.first);
                    if !instruction.documents.is_empty() {
                        spell_out(instruction, &mut lines, &shell);
                    }
                }
                "COPY" | "ADD" => {
                    if !instruction.documents.is_empty() {
                        self.files_of(instruction, &mut lines);
                    }
                    // Only a way of caching, which old engines do not know.
                    for line in &mut lines[instruction.head.clone()] {
                        *line = line.replacen(" --link ", " ", 1);
                    }
                    self.copy(instruction, &mut lines)?;
                }
                _ => {}
            }
        }
        Ok(lines.join("\n") + "\n")
    }

    /// Puts what the here-documents of a COPY say into files beside the tree.
    fn files_of(&mut self, copy: &Instruction<'_>, lines: &mut [String]) {
        let line = copy.first + 1;
        let Some((text, files)) = self.copy_of_files(copy, lines) else {
            self.plan.notices.extend(folded(&format!(
                "{} line {line}: what is written in it names variables of its base, and needs Docker 23 or later",
                self.path
            )));
            return;
        };
        if let Some(last) = copy.documents.last() {
            lines[copy.head.start..=last.lines.end].fill("#".to_owned());
        }
        lines[copy.first] = text;
        self.plan.files.extend(files);
    }

    fn copy_of_files(&self, copy: &Instruction<'_>, lines: &[String]) -> Option<Copied> {
        let (options, words) = copy.words(lines)?;
        let mut files = BTreeMap::new();
        let mut documents = copy.documents.iter();
        let mut sources = Vec::new();
        for word in words.split_whitespace() {
            if opened(word).is_none() {
                sources.push(word.to_owned());
                continue;
            }
            let document = documents.next()?;
            let text = document.text(lines);
            let text = if document.literal { text } else { self.variables.expand(&text)? };
            let path = format!(".paas/documents/{}/{}", copy.first + 1, document.name);
            sources.push(path.clone());
            files.insert(path, text.into_bytes());
        }
        Some((format!("{} {options}{}", copy.keyword, sources.join(" ")), files))
    }

    /// The line that would have a frontend pulled from a registry.
    fn blank_syntax(&mut self, lines: &mut [String]) {
        let directive = |line: &&mut String| {
            let body = line.trim().strip_prefix('#').map(str::trim_start);
            body.is_some_and(|body| body.to_ascii_lowercase().starts_with("syntax") && body.contains('='))
        };
        if let Some(line) = lines.iter_mut().take_while(|line| line.trim().starts_with('#')).find(directive) {
            "#".clone_into(line);
            self.plan
                .notices
                .push("# syntax= is passed over: there is no registry to get it from".to_owned());
        }
    }

    /// The FROM of the next stage, and what follows it.
    fn from(&mut self, line: usize) -> Result<String, DetectError> {
        let at = self.begun;
        self.begun += 1;
        let stage = &self.stages.all[at];
        let suffix = stage.name.as_ref().map(|name| format!(" AS {name}")).unwrap_or_default();
        if stage.from == "scratch" || stage.parent.is_some() {
            let runs = stage.runs && stage.based;
            let arguments = if runs { self.arguments_of_builds() } else { String::new() };
            return Ok(format!("FROM {}{suffix}{arguments}", stage.from));
        }
        let (from, needed) = (stage.from.clone(), stage.needed);
        let (reference, pack) = self.stand_in(&from, line)?;
        let prologue = if needed { self.certificates() + &self.arguments_of_builds() } else { String::new() };
        let official = Official::of(&from);
        let (likeness, user) = (official.likeness(pack)?, official.user(pack));
        if official.is_alpine() {
            self.need(base::alpine()?);
        }
        Ok(format!("FROM {reference}{suffix}{likeness}{prologue}{user}"))
    }

    /// What stages that run something, and those that stand on them, trust.
    fn certificates(&self) -> String {
        let image = base::certificates(self.catalog).map(|image| image.reference);
        image.map(|reference| format!("\nCOPY --from={reference} /{CA_NAME} {CA_TARGET}")).unwrap_or_default()
    }

    /// What a stage that runs something is told: by arguments, since those do not
    /// stay in the image's environment.
    fn arguments_of_builds(&self) -> String {
        let names = ["PIP_INDEX_URL", "npm_config_registry", "GOPROXY", "GOSUMDB", "BUNDLE_MIRROR__ALL"];
        let mut lines: Vec<String> = names.iter().map(|name| format!("\nARG {name}")).collect();
        lines.extend(FURTHER.iter().map(|line| format!("\nARG {line}")));
        if self.catalog.ca_bundle.is_some() {
            lines.extend(CA_VARIABLES.iter().map(|name| format!("\nARG {name}={CA_TARGET}")));
        }
        lines.concat()
    }

    /// Alpine's package manager is ours where we stand in for Alpine.
    fn note_apk(&mut self, lines: &[String], first: usize) {
        let image = self.begun.checked_sub(1).and_then(|at| self.stages.image(at));
        if !image.is_some_and(|image| Official::of(image).is_alpine()) {
            return;
        }
        let calls = |line: &String| line.split([' ', '\t', ';', '&']).any(|word| word == "apk");
        if let Some(at) = lines.iter().position(calls) {
            let text = format!("{} line {}: apk installs Debian's packages", self.path, first + at + 1);
            self.plan.notices.extend(folded(&text));
        }
    }

    /// `COPY --from=IMAGE …` with our base instead.
    fn copy(&mut self, copy: &Instruction<'_>, lines: &mut [String]) -> Result<(), DetectError> {
        let options = copy.words(lines).map(|(options, _)| options).unwrap_or_default();
        let Some(from) = options.split_whitespace().find_map(|word| word.strip_prefix("--from=")) else {
            return Ok(());
        };
        if self.stages.has(from, self.begun) || from.bytes().all(|c| c.is_ascii_digit()) {
            // FROM an image AS a stage, to copy from it.
            if let Some(image) = self.stages.image_of(from) {
                let official = Official::of(image);
                for line in &mut lines[copy.head.clone()] {
                    if let Some(moved) = official.moved(line) {
                        *line = moved;
                    }
                }
            }
            return Ok(());
        }
        let official = Official::of(from);
        if !from.contains(['/', ':', '.', '@']) && official.pack()?.is_none() {
            let above = self.stages.all.iter().take(self.begun.saturating_sub(1));
            return Err(DetectError::NoSuchStage {
                place: Place::line(self.path, copy.first + 1),
                name: version::shorten(from),
                stages: above.filter_map(|stage| stage.name.clone()).collect(),
            });
        }
        let (reference, _) = self.stand_in(from, copy.first + 1)?;
        let option = format!("--from={from}");
        for line in &mut lines[copy.head.clone()] {
            *line = line.replacen(&option, &format!("--from={reference}"), 1);
            if let Some(moved) = official.moved(line) {
                *line = moved;
            }
        }
        Ok(())
    }

    /// Our base for an official image.
    fn stand_in(&mut self, image: &str, line: usize) -> Result<(String, &'static Pack), DetectError> {
        let official = Official::of(image);
        let pack = official.pack()?;
        let chosen = pack.map(|pack| official.choose(pack, self.catalog)).transpose()?.flatten();
        let (Some(pack), Some((base, version))) = (pack, chosen) else {
            return Err(DetectError::NoSuchImage {
                place: Place::line(self.path, line),
                image: version::shorten(image),
                have: official::offered(self.catalog, pack)?,
            });
        };
        self.plan.notices.extend(folded(&format!(
            "{}: {} {version} stands in",
            version::shorten(image),
            pack.name,
        )));
        let reference = base.reference.clone();
        self.need(base);
        Ok((reference, pack))
    }

    fn need(&mut self, base: BaseImage) {
        if !self.plan.bases.contains(&base) {
            self.plan.bases.push(base);
        }
    }
}

/// What follows the keyword and the options of an instruction.
fn words(instruction: &Instruction<'_>, lines: &[String]) -> String {
    instruction.words(lines).map(|(_, words)| words).unwrap_or_default()
}

fn usual_shell() -> Vec<String> {
    ["/bin/sh", "-c"].map(str::to_owned).into()
}

/// Puts what here-documents say into their RUN; lines keep their numbers.
fn spell_out(run: &Instruction<'_>, lines: &mut [String], shell: &[String]) {
    let (Some(last), Some(text)) = (run.documents.last(), without_documents(run, lines, shell)) else {
        return;
    };
    lines[run.head.start..=last.lines.end].fill("#".to_owned());
    lines[run.first] = text;
}
