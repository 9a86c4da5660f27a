//! Ruby: Bundler, and what it starts.

use minijinja::context;

use super::draft::{Draft, exec};
use super::error::{DetectError, Place};
use super::gem_version::{Requirement, requirements};
use super::loopback;
use super::pack::Offer;
use super::source::Files;
use super::version::{self, Wanted, numbers};
use crate::model::{BuildPlan, EnvKey, RunCommand, WantedVar};

/// Plain scripts that are started by `ruby FILE`.
const SCRIPTS: [&str; 4] = ["app.rb", "server.rb", "main.rb", "web.rb"];

/// Whether there is something that would be started.
pub(super) fn has_entry(files: Files<'_>) -> bool {
    ["config.ru", "bin/rails"].iter().chain(&SCRIPTS).any(|file| files.has(file))
}

/// Makes the plan of a Ruby app.
pub(super) fn plan(mut draft: Draft<'_>) -> Result<BuildPlan, DetectError> {
    let files = draft.files;
    let has_gemfile = files.has("Gemfile");
    let lock = files.text("Gemfile.lock")?;
    if has_gemfile && lock.is_none() {
        return Err(DetectError::MissingLock {
            manifest: "Gemfile".to_owned(),
            lock: "Gemfile.lock".to_owned(),
            command: "bundle lock".to_owned(),
        });
    }
    let offer = choose(&mut draft)?;
    let gems = gems(lock.as_deref().unwrap_or_default());
    let manifests =
        if has_gemfile { manifests(&mut draft, lock.as_deref().unwrap_or_default()) } else { Vec::new() };
    note_bundler(&mut draft, lock.as_deref().unwrap_or_default(), &offer);
    if gems.contains(&"execjs")
        && !["mini_racer", "therubyracer", "duktape"].iter().any(|gem| gems.contains(gem))
    {
        draft.decide("Debian's Node, for execjs");
        draft.steps.add_package("nodejs");
    }
    let precompile = has_assets(files, &gems) && draft.settings.build.build.is_none();
    if precompile {
        draft.decide("rake assets:precompile, for Rails");
    }
    if ["rails", "railties"].iter().any(|gem| gems.contains(gem)) {
        draft.decide("SECRET_KEY_BASE is made up and kept, unless the config has it");
        draft.config.extend(EnvKey::parse("SECRET_KEY_BASE").map(|key| (key, WantedVar::Secret)));
    }
    start(&mut draft, &gems)?;
    draft.loopback = loopback::advice(draft.files, &[".rb", ".ru"], false);
    let (database, prebuilt) = (database(&gems), draft.assets.is_some());
    draft.finish(&offer, context! { manifests, install => has_gemfile, precompile, database, prebuilt })
}

fn manifests(draft: &mut Draft<'_>, lock: &str) -> Vec<Vec<String>> {
    let line =
        |from: &[&str], to: &str| from.iter().chain(&[to]).map(|&word| word.to_owned()).collect::<Vec<_>>();
    draft.decide("bundle install, from Gemfile.lock");
    let gemspecs = lock.lines().any(|line| line == "PATH");
    if gemspecs {
        return vec![line(&["app/"], "./")];
    }
    let mut copies = vec![line(&["app/Gemfile", "app/Gemfile.lock"], "./")];
    if draft.files.has(".ruby-version") {
        copies.push(line(&["app/.ruby-version"], "./"));
    }
    if draft.files.has_folder("vendor/cache") {
        draft.decide("vendored gems, from vendor/cache");
        copies.push(line(&["app/vendor/cache/"], "./vendor/cache/"));
    }
    copies
}

/// Says so if the lock is of another Bundler than Debian's: that one is taken
/// where gems can be fetched, else Debian's.
fn note_bundler(draft: &mut Draft<'_>, lock: &str, offer: &Offer) {
    let Some(ours) = offer.more.get("bundler") else { return };
    if let Some(asked) = bundled_with(lock).filter(|asked| asked != ours) {
        let asked = version::shorten(asked);
        draft.warn(format!(
            "Gemfile.lock is of Bundler {asked}: without rubygems.org, Debian's {ours} reads it"
        ));
    }
}

/// The Bundler that wrote a lock.
fn bundled_with(lock: &str) -> Option<&str> {
    let after = lock.lines().skip_while(|line| *line != "BUNDLED WITH").nth(1).map(str::trim)?;
    let plain = |part: &str| part.bytes().all(|c| c.is_ascii_alphanumeric());
    after.split('.').all(plain).then_some(after)
}

/// The offer that most of these gems are of the time of, else the first; and a gem
/// that says so.
fn of_their_time<'o>(
    offers: impl Iterator<Item = &'o Offer>,
    lock: &str,
) -> Option<(&'o Offer, Option<&'o str>)> {
    let mut resolved: Vec<(&str, &str)> = specs(lock).collect();
    resolved.extend(bundled_with(lock).map(|version| ("bundler", version)));
    let is_of = |gem: &&str| {
        let line = gem.split_once(' ').and_then(|(name, version)| Some((name, numbers(version)?)));
        line.is_some_and(|(name, line)| {
            let same = |theirs: &str| {
                theirs
                    .split('.')
                    .map_while(|part| part.parse::<u64>().ok())
                    .take(line.len())
                    .eq(line.iter().copied())
            };
            resolved.iter().any(|(resolved, version)| *resolved == name && same(version))
        })
    };
    let found = |offer: &'o Offer| {
        let gems = offer.more.get("gems").map_or("", String::as_str);
        (offer, gems.split(", ").filter(is_of).collect::<Vec<_>>())
    };
    let best = offers.map(found).reduce(|best, next| if next.1.len() > best.1.len() { next } else { best });
    best.map(|(offer, gems)| (offer, gems.first().copied()))
}

/// Names of all gems that the lock resolves to.
fn gems(lock: &str) -> Vec<&str> {
    specs(lock).map(|(name, _)| name).collect()
}

/// All gems that the lock resolves to, and their versions.
fn specs<'l>(lock: &'l str) -> impl Iterator<Item = (&'l str, &'l str)> {
    let spec = |line: &'_ &str| line.starts_with("    ") && !line.starts_with("     ");
    let words = |line: &'l str| {
        let (name, version) = line.trim().split_once(' ')?;
        Some((name, version.trim_matches(['(', ')'])))
    };
    lock.lines().filter(spec).filter_map(words)
}

/// The version under `RUBY VERSION` of the lock: `ruby 3.1.2p20`.
fn locked(files: Files<'_>) -> Result<Option<Wanted>, DetectError> {
    const FILE: &str = "Gemfile.lock";
    let Some(text) = files.text(FILE)? else { return Ok(None) };
    let Some(heading) = text.lines().position(|line| line == "RUBY VERSION") else { return Ok(None) };
    let line = text.lines().nth(heading + 1).and_then(|line| line.trim().strip_prefix("ruby "));
    let number = |line: &str| line.split(['p', ' ']).next().unwrap_or(line).to_owned();
    Ok(line.map(|line| Wanted { text: number(line), place: Place::line(FILE, heading + 2) }))
}

/// Whether Rails has style sheets and scripts to be put together.
fn has_assets(files: Files<'_>, gems: &[&str]) -> bool {
    let pipeline = ["sprockets-rails", "sprockets", "propshaft"];
    gems.contains(&"rails") && files.has("bin/rails") && pipeline.iter().any(|gem| gems.contains(gem))
}

/// A database that nobody asks while assets are put together; its name chooses
/// the adapter, which must be among the gems.
fn database(gems: &[&str]) -> Option<&'static str> {
    const ADAPTERS: [(&str, &str); 4] = [
        ("pg", "postgresql://nobody@127.0.0.1/none"),
        ("mysql2", "mysql2://nobody@127.0.0.1/none"),
        ("trilogy", "trilogy://nobody@127.0.0.1/none"),
        ("sqlite3", "sqlite3:/tmp/build.sqlite3"),
    ];
    ADAPTERS.into_iter().find(|(gem, _)| gems.contains(gem)).map(|(_, url)| url)
}

/// Which Ruby.
fn choose(draft: &mut Draft<'_>) -> Result<Offer, DetectError> {
    let offers = draft.offers();
    let lock = draft.files.text("Gemfile.lock")?.unwrap_or_default();
    let given = draft.version().map(|wanted| (wanted, true));
    let Some((wanted, strict)) = given.map_or_else(|| wanted(draft.files), |given| Ok(Some(given)))? else {
        let broken =
            || DetectError::Broken { pack: draft.pack.key.clone(), reason: "offers nothing".to_owned() };
        let (offer, gem) = of_their_time(offers.iter(), &lock).ok_or_else(broken)?;
        let because = gem
            .map_or_else(|| "the default".to_owned(), |gem| format!("of the time of {gem} in Gemfile.lock"));
        draft.decide(format!("Ruby {}, {because} (no .ruby-version)", offer.version));
        return Ok(offer.clone());
    };
    let requirements = requirements(&wanted.text).ok_or_else(|| wanted.malformed(draft.pack))?;
    let fits = |offer: &&Offer| {
        numbers(&offer.release).is_some_and(|release| requirements.iter().all(|one| one.allows(&release)))
    };
    if let Some(offer) = beside_gemfile(draft, &wanted, &requirements)? {
        return Ok(offer);
    }
    if let Some((offer, _)) = of_their_time(offers.iter().filter(fits), &lock) {
        draft.decide(format!("Ruby {}, from {}", offer.version, wanted.place.file));
        return Ok(offer.clone());
    }
    let exact = requirements.first().filter(|one| one.operator == "=").map(|one| one.version.as_slice());
    let near = exact.and_then(|parts| Some((version::same_line(offers, parts)?, parts)));
    if let Some(offer) = near.and_then(|(line, parts)| older(line, parts)) {
        draft.decide(format!("Ruby {}, from {}", offer.version, wanted.place.file));
        return Ok(offer);
    }
    let Some((offer, _)) = near.filter(|_| !strict) else {
        return Err(wanted.missing(draft.pack, draft.catalog.source));
    };
    let asked = version::shorten(&wanted.text);
    draft.decide(format!("Ruby {}, from {}", offer.version, wanted.place.file));
    draft.warn(format!("{} asks for {asked}; {} is used", wanted.place.file, offer.release));
    Ok(offer.clone())
}

/// The line that `.ruby-version` names, where the Gemfile allows it too.
fn beside_gemfile(
    draft: &mut Draft<'_>,
    gemfile: &Wanted,
    requirements: &[Requirement],
) -> Result<Option<Offer>, DetectError> {
    const FILE: &str = ".ruby-version";
    let Some(named) = version::first_line(draft.files, FILE)?.filter(|_| gemfile.place.file == "Gemfile")
    else {
        return Ok(None);
    };
    let text = named.text.strip_prefix("ruby-").unwrap_or(&named.text);
    let line = numbers(text).and_then(|parts| Some((version::same_line(draft.offers(), &parts)?, parts)));
    let Some((line, parts)) = line else { return Ok(None) };
    let offer = older(line, &parts).unwrap_or_else(|| line.clone());
    let release = numbers(&offer.release).unwrap_or_default();
    if !requirements.iter().all(|one| one.allows(&release)) {
        return Ok(None);
    }
    draft.decide(format!("Ruby {}, from {FILE}", offer.version));
    if !release.starts_with(&parts) {
        draft.warn(format!("{FILE} asks for {}; {} is used", version::shorten(text), offer.release));
    }
    Ok(Some(offer))
}

/// A release of the line that is older than the one listed, where images of it are
/// kept.
fn older(line: &Offer, wanted: &[u64]) -> Option<Offer> {
    let from = numbers(line.more.get("exact_from")?)?;
    let kept = wanted.len() == 3 && wanted >= from.as_slice() && *wanted < *numbers(&line.release)?;
    let release = kept.then(|| wanted.iter().map(u64::to_string).collect::<Vec<_>>().join("."))?;
    Some(Offer { version: release.clone(), release, ..line.clone() })
}

/// The version asked for; and whether Bundler itself insists on it.
fn wanted(files: Files<'_>) -> Result<Option<(Wanted, bool)>, DetectError> {
    let gemfile = gemfile(files)?;
    let read = |file: &str| gemfile == Some(Asked::InFile(file.to_owned()));
    if let Some(Asked::Here(found)) = gemfile {
        return Ok(Some((found, true)));
    }
    if let Some(found) = version::first_line(files, ".ruby-version")? {
        return Ok(Some((found, read(".ruby-version"))));
    }
    if let Some(found) = locked(files)? {
        return Ok(Some((found, false)));
    }
    Ok(version::tool_versions(files, &["ruby"])?.map(|found| (found, read(".tool-versions"))))
}

/// What the Gemfile asks for.
#[derive(PartialEq)]
enum Asked {
    Here(Wanted),
    /// `ruby file: ".ruby-version"`
    InFile(String),
}

/// `ruby "~> 3.1"` in the Gemfile.
fn gemfile(files: Files<'_>) -> Result<Option<Asked>, DetectError> {
    let Some(text) = files.text("Gemfile")? else { return Ok(None) };
    for (index, line) in text.lines().enumerate() {
        let call = line.trim_start().strip_prefix("ruby").filter(|rest| rest.starts_with([' ', '(']));
        let Some(rest) = call.map(|rest| rest.split('#').next().unwrap_or(rest)) else { continue };
        let quoted: Vec<&str> =
            rest.split(['"', '\'']).skip(1).step_by(2).take_while(|word| !word.is_empty()).collect();
        if rest.contains("file:") || rest.contains(":file") {
            return Ok(quoted.last().map(|&file| Asked::InFile(file.to_owned())));
        }
        // `ruby File.read(".ruby-version").strip`
        if rest.contains("File.") {
            return Ok(quoted.last().map(|&file| Asked::InFile(file.to_owned())));
        }
        if quoted.is_empty() || rest.contains("ENV") {
            return Ok(None);
        }
        let place = Place::line("Gemfile", index + 1);
        return Ok(Some(Asked::Here(Wanted { text: quoted.join(", "), place })));
    }
    Ok(None)
}

/// Decides the start command unless the Procfile does.
fn start(draft: &mut Draft<'_>, gems: &[&str]) -> Result<(), DetectError> {
    if draft.declared() {
        return Ok(());
    }
    let files = draft.files;
    let has = |name: &str| gems.contains(&name);
    let bundled = files.has("Gemfile");
    if has("rails") && files.has("bin/rails") {
        let (line, because) = if has("puma") && files.has("config/puma.rb") {
            ("bundle exec puma -C config/puma.rb", "config/puma.rb")
        } else {
            ("bin/rails server -b 0.0.0.0 -p $PORT", "for Rails")
        };
        draft.web(RunCommand::Shell(line.to_owned()), because);
        return Ok(());
    }
    if files.has("config.ru") {
        let (line, because) = match (bundled, has("puma"), has("rack") || has("rackup")) {
            (true, true, _) => ("bundle exec puma -b tcp://0.0.0.0:$PORT", "puma, for config.ru"),
            (true, false, true) => ("bundle exec rackup -o 0.0.0.0 -p $PORT", "for config.ru"),
            _ => ("puma -b tcp://0.0.0.0:$PORT", "puma, for config.ru"),
        };
        draft.web(RunCommand::Shell(line.to_owned()), because);
        return Ok(());
    }
    if let Some(script) = files.first_of(&SCRIPTS) {
        let words: &[&str] = if bundled { &["bundle", "exec", "ruby", script] } else { &["ruby", script] };
        draft.web(exec(words), script);
        return Ok(());
    }
    Err(DetectError::NoProcess {
        language: "Ruby".to_owned(),
        looked_for: ["Procfile", "config.ru", "bin/rails"]
            .into_iter()
            .chain(SCRIPTS)
            .map(str::to_owned)
            .collect(),
        suggestion: "web: bundle exec ruby myapp.rb -o 0.0.0.0 -p $PORT".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::ImageSource;

    #[test]
    fn the_lock_names_a_version_too() {
        assert_eq!(numbers("3.1.2"), Some(vec![3, 1, 2]));
        let lock = "GEM\n\nRUBY VERSION\n   ruby 3.1.2p20\n\nBUNDLED WITH\n   2.3.7\n";
        let plan =
            crate::buildpack::sketch::said(&[("Gemfile", ""), ("Gemfile.lock", lock), ("config.ru", "")]);
        assert!(plan.contains("Ruby 3.1, from Gemfile.lock"), "{plan}");
    }

    #[test]
    fn a_file_beside_the_gemfile_says_which_line() {
        let of = |gemfile: &str, version: &str| {
            crate::buildpack::sketch::said(&[
                ("Gemfile", gemfile),
                ("Gemfile.lock", ""),
                ("config.ru", ""),
                (".ruby-version", version),
            ])
        };
        let older = of("ruby '>= 3.0'\n", "ruby-3.1.6\n");
        assert!(older.contains("Ruby 3.1, from .ruby-version"), "{older}");
        assert!(older.contains(".ruby-version asks for 3.1.6; 3.1.2 is used"), "{older}");
        assert!(of("ruby '>= 3.0'\n", "3.3\n").contains("Ruby 3.3, from .ruby-version"));
        assert!(of("ruby '~> 3.1.0'\n", "3.3.1\n").contains("Ruby 3.1, from Gemfile"));
        assert!(of("ruby File.read('.ruby-version').strip\n", "3.1.2\n").contains("from .ruby-version"));
    }

    #[test]
    fn a_version_that_bundler_insists_on_is_not_replaced() {
        let app = |gemfile: &'static str, file: (&'static str, &'static str)| {
            [("Gemfile", gemfile), ("Gemfile.lock", ""), ("config.ru", ""), file]
        };
        let (version, tools) = ((".ruby-version", "3.1.6\n"), (".tool-versions", "ruby 3.1.6\n"));
        let near = crate::buildpack::sketch::said(&app("gem 'rack'\n", version));
        assert!(near.contains(".ruby-version asks for 3.1.6; 3.1.2 is used"), "{near}");
        for files in [
            app("ruby file: \".ruby-version\"\n", version),
            app("ruby file: '.tool-versions'\n", tools),
            app("ruby '3.1.6'\n", ("x", "")),
        ] {
            let error = crate::buildpack::sketch::planned(&files).unwrap_err();
            assert!(matches!(error, DetectError::NoSuchVersion { .. }), "{error}");
        }
    }

    #[test]
    fn gems_say_of_which_time_a_ruby_should_be() {
        let specs = "GEM\n  specs:\n    puma (5.6.9)\n      nio4r (~> 2.0)\n    rack (2.2.22)\n\nBUNDLED WITH\n   2.6.7\n";
        let told = |lock: &'static str| {
            let files = [("Gemfile", ""), ("Gemfile.lock", lock), ("config.ru", "")];
            crate::buildpack::sketch::said(&files)
        };
        assert!(told("").contains("Ruby 3.3, the default (no .ruby-version)"), "{}", told(""));
        assert!(told(specs).contains("Ruby 3.1, of the time of rack 2.2 in Gemfile.lock"), "{}", told(specs));
        let asked = [("Gemfile", "ruby '>= 3.0'\n"), ("Gemfile.lock", specs), ("config.ru", "")];
        assert!(crate::buildpack::sketch::said(&asked).contains("Ruby 3.1, from Gemfile"));
        let new = "GEM\n  specs:\n    rails (8.0.1)\n\nBUNDLED WITH\n   2.6.2\n";
        assert!(told(new).contains("Ruby 3.3, of the time of bundler 2.6 in Gemfile.lock"), "{}", told(new));
    }

    #[test]
    fn images_of_older_releases_are_pulled() {
        let offers = crate::buildpack::pack::get("ruby").unwrap().offers(ImageSource::Registry);
        let of = |text: &str| {
            let wanted = numbers(text).unwrap();
            older(version::same_line(offers, &wanted)?, &wanted).map(|offer| offer.version)
        };
        assert_eq!(of("3.2.2").as_deref(), Some("3.2.2"));
        assert_eq!(of("3.2.1"), None);
        assert_eq!(of("3.2.99"), None);
        assert_eq!(of("3.2"), None);
    }

    #[test]
    fn rails_has_its_assets_put_together_in_the_build() {
        let lock = "GEM\n  specs:\n    puma (6.4.0)\n    rails (7.1.3)\n    sprockets-rails (3.4.2)\n";
        let files = [
            ("Gemfile", "gem 'rails'\n"),
            ("Gemfile.lock", lock),
            ("bin/rails", ""),
            ("config.ru", ""),
            ("config/puma.rb", ""),
        ];
        let text = crate::buildpack::sketch::detected(&files);
        assert!(text.contains("rake assets:precompile, for Rails"), "{text}");
        assert!(text.contains("bundle exec rake assets:precompile\n"), "{text}");
        assert!(!text.contains("DATABASE_URL") && !text.contains("SKIP_"), "{text}");
        assert!(text.contains("COPY --chown=1000:1000 --from=build /app ./"), "{text}");
        assert!(text.contains("web: bundle exec puma -C config/puma.rb"), "{text}");
    }

    #[test]
    fn the_build_of_rails_knows_the_adapter_and_what_node_has_built() {
        let of = |gems: &str, scripts: &str| {
            let lock = format!("GEM\n  specs:\n    rails (7.1.3)\n    sprockets-rails (3.4.2)\n{gems}");
            let manifest = format!("{{\"scripts\": {{{scripts}}}}}");
            crate::buildpack::sketch::detected(&[
                ("Gemfile", "gem 'rails'\n"),
                ("Gemfile.lock", &lock),
                ("bin/rails", ""),
                ("config.ru", ""),
                ("package.json", &manifest),
                ("yarn.lock", "# yarn lockfile v1\n"),
            ])
        };
        let both = of("    mysql2 (0.5.6)\n", r#""build": "esbuild", "build:css": "sass""#);
        assert!(both.contains("DATABASE_URL=mysql2://nobody@127.0.0.1/none SKIP_JS_BUILD=1"), "{both}");
        assert!(both.contains("yarn run build and yarn run build:css"), "{both}");
        assert!(both.contains("NODE_ENV=production yarn run build:css"), "{both}");
        let styles = of("    sqlite3 (1.7.3)\n", r#""build:css": "sass""#);
        assert!(styles.contains("DATABASE_URL=sqlite3:/tmp/build.sqlite3 SKIP_JS_BUILD=1"), "{styles}");
        assert!(styles.contains("NODE_ENV=production yarn run build:css"), "{styles}");
        let neither = of("    pg (1.5.6)\n", "");
        assert!(neither.contains("postgresql://") && !neither.contains("SKIP_"), "{neither}");
    }

    #[test]
    fn other_bundlers_and_javascript_are_told() {
        let lock = "GEM\n  specs:\n    execjs (2.8.1)\n    rack (2.2.22)\n\nBUNDLED WITH\n   2.5.3\n";
        let files = |lock| [("Gemfile", ""), ("Gemfile.lock", lock), ("config.ru", "")];
        let text = crate::buildpack::sketch::detected(&files(lock));
        assert!(text.contains("Gemfile.lock is of Bundler 2.5.3"), "{text}");
        assert_eq!(text.matches("--no-install-recommends nodejs &&").count(), 2, "{text}");
        let text = crate::buildpack::sketch::detected(&files("BUNDLED WITH\n   2.3.15\n"));
        assert!(!text.contains("Bundler") && !text.contains("nodejs"), "{text}");
    }

    #[test]
    fn gems_of_a_lock_are_its_resolved_specs() {
        let lock = "GEM\n  remote: https://rubygems.org/\n  specs:\n    puma (5.6.5)\n      nio4r (~> 2.0)\n    rack (2.2.6)\n\nDEPENDENCIES\n  puma\n";
        assert_eq!(gems(lock), ["puma", "rack"]);
    }
}
