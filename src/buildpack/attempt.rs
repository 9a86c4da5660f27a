//! The plan of the language that a repository is in, of those that match.

use super::catalog::Catalog;
use super::draft::{Draft, SITE_SERVER, exec, folded};
use super::error::DetectError;
use super::paas_toml::{self, PaasToml};
use super::pack::{self, Pack};
use super::procfile::Procfile;
use super::source::Files;
use super::{generic, go, node, python, ruby, static_files};
use crate::model::{BuildPlan, Problem, ProcessType};

/// Languages whose scripts are enough, where nothing says more.
pub(super) const SUFFIXES: [(&str, &str); 3] = [("python", ".py"), ("ruby", ".rb"), ("go", ".go")];

/// Signs of a language that hosts of other kinds of app read, too: which Python
/// a build is to have.
const WEAK: [&str; 2] = ["runtime.txt", ".python-version"];

/// What there is to choose from.
pub(super) struct Attempt<'a> {
    pub files: Files<'a>,
    pub catalog: &'a Catalog,
    pub settings: &'a PaasToml,
    pub procfile: Option<Procfile>,
    /// Buildpacks that match, in order, each with the file that says so.
    pub matches: Vec<(&'static Pack, &'static str)>,
    /// A Dockerfile that the server does not allow.
    pub passed_over: Option<String>,
}

impl Attempt<'_> {
    /// The plan of the language that is named, or of the first that matches. One
    /// that says nothing of what to start may only seem to match: then the next
    /// that does is taken. `None`: nothing matches.
    pub fn plan(&self) -> Result<Option<BuildPlan>, DetectError> {
        if let Some(builder) = &self.settings.build.builder {
            return self.by(pack::get(&builder.value)?).map(Some);
        }
        if let Some((pack, program)) = self.declared() {
            let mut plan = self.by(pack)?;
            plan.decisions
                .splice(0..0, folded(&format!("{} is chosen: the Procfile runs {program}", pack.name)));
            return Ok(Some(plan));
        }
        let Some(((first, sign), others)) = self.matches.split_first() else { return Ok(None) };
        let error = match self.by(first) {
            Err(error) if !others.is_empty() && self.only_seems(&error) => error,
            decided => return decided.map(Some),
        };
        for (other, _) in others {
            let Ok(mut plan) = self.by(other) else { continue };
            // The pages of an app whose program is not found are not the app.
            if runs_program(&plan) || WEAK.contains(sign) {
                let because = Problem::from(&error).title;
                let notice = format!("{}, because of {}, is passed over: {because}", first.name, told(sign));
                plan.notices.splice(0..0, folded(&notice));
                return Ok(Some(plan));
            }
        }
        let others = others.iter().map(|(pack, file)| other(pack, file)).collect();
        Err(DetectError::Among { error: Box::new(error), others })
    }

    /// The language whose program web begins with, if it matches and is not the
    /// first that does: what starts the app says what it is written in.
    fn declared(&self) -> Option<(&'static Pack, &str)> {
        let program = self.procfile.as_ref()?.program(&ProcessType::web())?;
        let speaks = |pack: &&'static Pack| pack.programs.iter().any(|known| known == program);
        let packs: Vec<&'static Pack> = self.matches.iter().map(|(pack, _)| *pack).collect();
        let found = packs.iter().copied().find(speaks)?;
        (found.key != packs.first()?.key).then_some((found, program))
    }

    fn by(&self, pack: &'static Pack) -> Result<BuildPlan, DetectError> {
        let mut draft = Draft::new(self.files, self.catalog, pack, self.settings, self.procfile.clone());
        if let Some(file) = &self.passed_over {
            draft.warn(format!("{file} is passed over: not allowed on this server"));
        }
        note_choice(&mut draft, &self.matches, self.settings);
        note_procfile(&mut draft);
        draft.read_steps()?;
        draft.assets = node::assets(&mut draft)?;
        by_language(draft)
    }

    /// Whether the language may be there for tools alone.
    fn only_seems(&self, error: &DetectError) -> bool {
        match error {
            DetectError::NoProcess { .. } | DetectError::NoMain => true,
            DetectError::MissingLock { .. } => !ruby::has_entry(self.files) && !self.runs_ruby(),
            _ => false,
        }
    }

    fn runs_ruby(&self) -> bool {
        let mut lines = self.procfile.iter().flat_map(|procfile| procfile.commands.values());
        lines.any(|line| {
            line.split_whitespace().any(|word| ["bundle", "ruby", "rackup", "puma"].contains(&word))
        })
    }
}

fn runs_program(plan: &BuildPlan) -> bool {
    plan.processes.get(&ProcessType::web()).is_some_and(|command| *command != exec(&[SITE_SERVER]))
}

fn by_language(draft: Draft<'_>) -> Result<BuildPlan, DetectError> {
    match draft.pack.key.as_str() {
        "go" => go::plan(draft),
        "ruby" => ruby::plan(draft),
        "python" => python::plan(draft),
        "node" => node::plan(draft),
        "static" => static_files::plan(draft),
        _ => generic::plan(draft),
    }
}

fn note_choice(draft: &mut Draft<'_>, matches: &[(&'static Pack, &'static str)], settings: &PaasToml) {
    let key = draft.pack.key.as_str();
    if let Some(builder) = &settings.build.builder {
        draft.decide(format!("{}, from {} line {}", draft.pack.name, paas_toml::FILE, builder.line));
        return;
    }
    if let Some((pack, file)) = matches.iter().find(|(pack, _)| pack.key == key) {
        draft.decide(format!("{}, because of {}", pack.name, told(file)));
    }
    for (other, file) in matches.iter().filter(|(pack, _)| pack.key != key) {
        draft.decide(format!("also {}", self::other(other, file)));
    }
}

/// Another language that matches, and what would choose it.
fn other(pack: &Pack, file: &str) -> String {
    let chooses = format!("builder = \"{}\" under [build] in {}", pack.key, paas_toml::FILE);
    format!("{}, because of {}; {chooses} chooses it", pack.name, told(file))
}

/// A file, or all that end so.
fn told(file: &str) -> String {
    if SUFFIXES.iter().any(|(_, suffix)| *suffix == file) { format!("*{file}") } else { file.to_owned() }
}

fn note_procfile(draft: &mut Draft<'_>) {
    let Some(Procfile { commands }) = &draft.procfile else { return };
    let types: Vec<String> = commands.keys().map(ToString::to_string).collect();
    let line = format!("Procfile declares types -> {}", types.join(", "));
    draft.decide(line);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::buildpack::sketch::{planned, said};
    use crate::model::Problem;

    const EXPRESS: (&str, &str) =
        ("package.json", r#"{"scripts": {"start": "node server.js"}, "dependencies": {"express": "5"}}"#);

    fn language(files: &[(&str, &str)]) -> String {
        planned(files).unwrap().language
    }

    #[test]
    fn a_language_that_is_there_for_tools_hides_no_other() {
        let danger = ("Gemfile", "source 'https://rubygems.org'\ngem 'danger'\n");
        let text = said(&[EXPRESS, danger, ("server.js", "")]);
        assert!(text.contains("Ruby, because of Gemfile, is passed over: Gemfile.lock is missing"), "{text}");
        assert_eq!(language(&[EXPRESS, danger, ("Gemfile.lock", "")]), "node");
        assert_eq!(language(&[EXPRESS, (".python-version", "3.13\n")]), "node");
        assert_eq!(language(&[EXPRESS, ("requirements.txt", "mkdocs\n")]), "node");
        assert_eq!(language(&[EXPRESS, ("go.mod", "module x\n")]), "node");
        assert_eq!(language(&[("index.html", ""), ("runtime.txt", "python-3.13\n")]), "static");
    }

    #[test]
    fn an_app_whose_start_is_not_found_is_not_another() {
        let refused = |files: &[(&str, &str)]| Problem::from(planned(files).unwrap_err()).to_string();
        let rack = refused(&[EXPRESS, ("Gemfile", ""), ("config.ru", "")]);
        assert!(rack.starts_with("Gemfile.lock is missing"), "{rack}");
        let declared = refused(&[EXPRESS, ("Gemfile", ""), ("Procfile", "web: bundle exec thin start\n")]);
        assert!(declared.starts_with("Gemfile.lock is missing"), "{declared}");
        let vite =
            ("package.json", r#"{"scripts": {"build": "vite build"}, "devDependencies": {"vite": "7"}}"#);
        let pages = refused(&[("requirements.txt", "aiohttp\n"), vite, ("index.html", "")]);
        assert!(pages.starts_with("nothing says what to start\nPython: looked for"), "{pages}");
        assert!(pages.contains("This is also Node, because of package.json; builder = \"node\""), "{pages}");
        let named = ("paas.toml", "[build]\nbuilder = \"python\"\n");
        assert!(!refused(&[EXPRESS, ("requirements.txt", ""), named]).contains("also"));
    }

    #[test]
    fn a_procfile_that_runs_another_languages_program_chooses_it() {
        let both = |web: &str| {
            let procfile = format!("web: {web}\n");
            planned(&[EXPRESS, ("requirements.txt", "flask\n"), ("Procfile", &procfile)]).unwrap()
        };
        for web in ["node server.js", "cd api && PORT=1 exec npm start", "env A=1 node server.js"] {
            assert_eq!(both(web).language, "node", "{web}");
        }
        assert_eq!(both("node server.js").decisions[0], "Node is chosen: the Procfile runs node");
        for web in ["gunicorn app:app", "./start.sh", "bin/web"] {
            assert_eq!(both(web).language, "python", "{web}");
        }
        assert!(!both("gunicorn app:app").decisions[0].contains("Procfile"));
    }
}
