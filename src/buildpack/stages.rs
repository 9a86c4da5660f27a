//! Which stages of a Dockerfile stand on which.

use std::collections::BTreeMap;

use super::instructions::Instruction;

/// A stage, as its FROM says.
pub(super) struct Stage {
    /// `AS build`
    pub name: Option<String>,
    /// What it stands on: an image, or a stage before it.
    pub from: String,
    /// Which stage that is.
    pub parent: Option<usize>,
    /// Whether there is an image below, in the end.
    pub based: bool,
    /// Whether something is run in it.
    pub runs: bool,
    /// Whether something is run in it, or in one that stands on it.
    pub needed: bool,
}

/// The stages in order.
#[derive(Default)]
pub(super) struct Stages {
    /// All of them.
    pub all: Vec<Stage>,
    /// The first of each name, in lower case.
    first: BTreeMap<String, usize>,
}

impl Stages {
    /// Those of a Dockerfile; `expand` fills in what a FROM line names.
    pub fn of(instructions: &[Instruction<'_>], lines: &[String], expand: impl Fn(&str) -> String) -> Self {
        let mut found = Self::default();
        let mut last = BTreeMap::new();
        for instruction in instructions {
            match (instruction.keyword.as_str(), found.all.last_mut()) {
                ("FROM", _) => {
                    let words = instruction.words(lines).map(|(_, words)| words).unwrap_or_default();
                    found.begin(&words, &expand, &mut last);
                }
                ("RUN", Some(stage)) => stage.runs = true,
                _ => {}
            }
        }
        for at in (0..found.all.len()).rev() {
            found.all[at].needed |= found.all[at].runs;
            if let Some(parent) = found.all[at].parent.filter(|_| found.all[at].needed) {
                found.all[parent].needed = true;
            }
        }
        found
    }

    /// Whether one of this name is among the first `begun`.
    pub fn has(&self, name: &str, begun: usize) -> bool {
        self.first.get(&name.to_ascii_lowercase()).is_some_and(|at| *at < begun)
    }

    /// The image that the first stage of this name stands on in the end, if nothing
    /// is run on the way.
    pub fn image_of(&self, name: &str) -> Option<&str> {
        let at = *self.first.get(&name.to_ascii_lowercase())?;
        self.image(at).filter(|_| !self.all[at].runs)
    }

    /// The image that a stage stands on in the end.
    pub fn image(&self, at: usize) -> Option<&str> {
        let mut stage = self.all.get(at)?;
        while let Some(parent) = stage.parent {
            stage = &self.all[parent];
        }
        Some(&stage.from)
    }

    fn begin(&mut self, rest: &str, expand: impl Fn(&str) -> String, last: &mut BTreeMap<String, usize>) {
        let words: Vec<&str> = rest.split_whitespace().filter(|word| !word.starts_with("--")).collect();
        let name = words.get(2).filter(|_| words.get(1).is_some_and(|word| word.eq_ignore_ascii_case("as")));
        let from = expand(words.first().copied().unwrap_or_default());
        let parent = last.get(&from.to_ascii_lowercase()).copied();
        let based = parent.map_or(from != "scratch", |parent| self.all[parent].based);
        if let Some(name) = name.map(|name| name.to_ascii_lowercase()) {
            self.first.entry(name.clone()).or_insert(self.all.len());
            last.insert(name, self.all.len());
        }
        let name = name.map(|&name| name.to_owned());
        self.all.push(Stage { name, from, parent, based, runs: false, needed: false });
    }
}

#[cfg(test)]
mod tests {
    use super::super::instructions::instructions;
    use super::*;

    #[test]
    fn a_stage_is_needed_by_those_that_stand_on_it() {
        let text = "FROM --platform=x \\\n node \\\n AS base\nWORKDIR /app\nFROM base AS Deps\nFROM deps\nRUN npm ci\n\
            FROM python\nCOPY --from=deps /x /x\nFROM base AS base\nCMD x\n";
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let found = Stages::of(&instructions(text), &lines, str::to_owned);
        let told: Vec<(&str, Option<usize>, bool, bool)> = found
            .all
            .iter()
            .map(|stage| (stage.from.as_str(), stage.parent, stage.runs, stage.needed))
            .collect();
        assert_eq!(
            told,
            [
                ("node", None, false, true),
                ("base", Some(0), false, true),
                ("deps", Some(1), true, true),
                ("python", None, false, false),
                ("base", Some(0), false, false)
            ]
        );
        assert_eq!((found.image(2), found.image(3), found.image(9)), (Some("node"), Some("python"), None));
        assert!(found.has("DEPS", 2) && !found.has("deps", 1) && !found.has("node", 5));
    }
}
