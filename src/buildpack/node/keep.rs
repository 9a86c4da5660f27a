//! What the image keeps of what was needed for the build.

use std::collections::BTreeSet;

use super::line;
use super::manifest::Manifest;
use super::member::{self, Member};
use super::start::Start;
use crate::buildpack::draft::Draft;
use crate::buildpack::source::Files;
use crate::buildpack::version::numbers;

/// What the processes run, as far as their commands say it.
pub(super) struct Run<'a> {
    files: Files<'a>,
    root: &'a Manifest,
    /// Packages of the workspace that a command names.
    members: Vec<Member>,
    /// Every word of the commands and of the scripts that they run.
    words: Vec<String>,
}

impl<'a> Run<'a> {
    /// Follows the commands of a draft.
    pub fn of(draft: &Draft<'a>, root: &'a Manifest) -> Self {
        let commands = draft.processes.values().chain(draft.release.as_ref());
        let mut words: Vec<String> =
            commands.flat_map(|command| line::words_of(root, &command.to_string())).collect();
        let members = named(draft.files, root, &words);
        let scripts = members.iter().flat_map(|member| {
            let run = member.manifest.scripts().into_iter().filter(|name| words.contains(name));
            run.filter_map(move |name| Some((member, member.manifest.script(&name)?.to_owned())))
        });
        let more: Vec<String> =
            scripts.flat_map(|(member, line)| line::words_of(&member.manifest, &line)).collect();
        words.extend(more);
        Self { files: draft.files, root, members, words }
    }

    fn manifests(&self) -> impl Iterator<Item = (&str, &Manifest)> {
        let members = self.members.iter().map(|member| (member.folder.as_str(), &member.manifest));
        [("", self.root)].into_iter().chain(members)
    }

    fn develops_with(&self, package: &str) -> bool {
        let mut found = self.manifests();
        found.any(|(_, manifest)| manifest.develops_with(package))
            && self
                .manifests()
                .all(|(_, manifest)| manifest.develops_with(package) || !manifest.depends(package))
    }

    /// What is needed of the dependencies for development, if anything: then
    /// those stay in the image. `tsx runs in production`.
    pub fn development(&self, start: &Start) -> Option<String> {
        let runs = || self.words.iter().find_map(|word| self.package_of(word));
        let runs = runs().map(|package| format!("{package} runs in production"));
        runs.or_else(|| self.typed_configuration(start))
    }

    /// The dependency for development that a word runs.
    fn package_of(&self, word: &str) -> Option<String> {
        const PROGRAMS: [(&str, &str); 8] = [
            ("tsc", "typescript"),
            ("ng", "@angular/cli"),
            ("nest", "@nestjs/cli"),
            ("babel-node", "@babel/node"),
            ("vue-cli-service", "@vue/cli-service"),
            ("dotenv", "dotenv-cli"),
            ("remix", "@remix-run/dev"),
            ("esr", "esbuild-runner"),
        ];
        let named =
            PROGRAMS.iter().find(|(program, _)| *program == word).map_or(word, |(_, package)| package);
        let mut parts = named.split('/');
        let first = parts.next().unwrap_or_default();
        let package = match parts.next() {
            Some(second) if first.starts_with('@') => format!("{first}/{second}"),
            _ => first.to_owned(),
        };
        self.develops_with(&package).then_some(package)
    }

    /// Next before 16.2 reads its configuration by TypeScript's compiler, at each
    /// start; a server that it traced has it in itself.
    fn typed_configuration(&self, start: &Start) -> Option<String> {
        const FIRST_WITHOUT: [u64; 2] = [16, 2];
        const FILES: [&str; 2] = ["next.config.ts", "next.config.mts"];
        let traced = start.program.as_ref().is_some_and(|program| !program.output.is_empty());
        if traced || start.site.is_some() || !self.develops_with("typescript") {
            return None;
        }
        let reads = |(folder, manifest): (&str, &Manifest)| {
            let spec = manifest.spec("next")?.trim_start_matches(['^', '~', '=', 'v']);
            let without = numbers(spec).is_some_and(|parts| *parts >= FIRST_WITHOUT[..]);
            let slash = if folder.is_empty() { "" } else { "/" };
            FILES
                .map(|file| format!("{folder}{slash}{file}"))
                .into_iter()
                .find(|path| !without && self.files.has(path))
        };
        let file = self.manifests().find_map(reads)?;
        Some(format!("typescript reads {file} at each start"))
    }

    /// Whether the processes run a manager that the base image lacks.
    pub fn needs_manager(&self) -> bool {
        self.words.iter().any(|word| ["pnpm", "pnpx", "yarn", "bun", "bunx"].contains(&word.as_str()))
    }
}

/// Packages that the words of a command are of: by folder, by name, or all where
/// something runs a script in each.
fn named(files: Files<'_>, root: &Manifest, words: &[String]) -> Vec<Member> {
    const EACH: [&str; 7] = ["turbo", "lerna", "nx", "--workspaces", "-r", "--recursive", "foreach"];
    let words: BTreeSet<&str> =
        words.iter().map(|word| word.trim_start_matches("./").trim_end_matches('/')).collect();
    let each = EACH.iter().any(|word| words.contains(word));
    let is_named = |member: &Member| {
        let name = member.manifest.text(&["name"]);
        each || words.contains(member.folder.as_str()) || name.is_some_and(|name| words.contains(name))
    };
    member::all(files, root).into_iter().filter(is_named).collect()
}
