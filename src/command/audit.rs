//! `audit`: who changed what. Every command that changes something is written
//! down before it is carried out, and then how it ended.

use super::grammar::Command;
use super::of_app::OfApp;
use super::rights::{Right, authorise};
use super::table::{table, time};
use super::{CommandError, Session};
use crate::model::{AppName, EnvKey};
use crate::store::{self, audit::Record};
use serde_json::json;

/// A change that is begun.
pub(super) struct Change {
    app: Option<AppName>,
    what: String,
}

impl Change {
    /// What a command changes; `None` if it only shows something.
    pub fn of(command: &Command) -> Option<Self> {
        let of_app = |name: &str, app: &OfApp, more: &str| {
            let (app, words) = app.peek();
            let words = words.iter().map(|word| word.chars().take(60).collect::<String>());
            let words: Vec<String> = [name.to_owned()].into_iter().chain(words).collect();
            Some(Self { app, what: words.join(" ") + more })
        };
        // Of words that may be values only the names are kept.
        let of_config = |name: &str, app: &OfApp, global: bool, more: &str| {
            let (app, words) = if global { (None, app.all()) } else { app.peek() };
            let key = |word: &String| EnvKey::parse(word.split('=').next()?).ok();
            let keys = words.iter().filter_map(key).map(|key| key.to_string());
            let mut parts: Vec<String> = [name.to_owned()].into_iter().chain(keys).collect();
            parts.extend(global.then(|| "--global".to_owned()));
            Some(Self { app, what: parts.join(" ") + more })
        };
        let plain = |what: String| Some(Self { app: None, what });
        match command {
            Command::AppsCreate(app) => of_app("apps:create", app, ""),
            Command::AppsBranch(app) => of_app("apps:branch", app, "").filter(Self::has_words),
            Command::AppsDestroy { app, confirm: Some(_) } => of_app("apps:destroy", app, ""),
            Command::AuthSet(app) => of_app("auth:set", app, ""),
            Command::AuthRemove(app) => of_app("auth:remove", app, ""),
            Command::BuildsCancel(app) => of_app("builds:cancel", app, ""),
            Command::CertsAdd { app, server } => {
                of_app("certs:add", app, if *server { " --default" } else { "" })
            }
            Command::CertsRemove { app, server: true } => {
                plain(format!("certs:remove --default {}", app.all().join(" ")))
            }
            Command::CertsRemove { app, server: false } => of_app("certs:remove", app, ""),
            Command::DomainsAdd { app, strip_prefix } => {
                of_app("domains:add", app, if *strip_prefix { " --strip-prefix" } else { "" })
            }
            Command::DomainsRemove(app) => of_app("domains:remove", app, ""),
            Command::DomainsRedirect { app, code, off } => {
                let more = if *off { " --off".to_owned() } else { format!(" --code {code}") };
                of_app("domains:redirect", app, &more)
            }
            Command::HttpsSet(app) => of_app("https:set", app, ""),
            Command::ChecksSet { app, .. } => of_app("checks:set", app, ""),
            Command::ChecksUnset { app, .. } => of_app("checks:unset", app, ""),
            Command::ConfigSet { app, global, no_restart } => {
                of_config("config:set", app, *global, if *no_restart { " --no-restart" } else { "" })
            }
            Command::ConfigUnset { app, global, no_restart } => {
                of_config("config:unset", app, *global, if *no_restart { " --no-restart" } else { "" })
            }
            Command::Images { available: false, prepare: Some(language), .. } => {
                plain(format!("images --prepare {}", language.chars().take(60).collect::<String>()))
            }
            Command::ImagesUpdate { app, all } => {
                of_app("images:update", app, if *all { " --all" } else { "" })
            }
            Command::KeysAdd { name } => plain(format!("keys:add {name}")),
            Command::KeysRemove { name } => plain(format!("keys:remove {name}")),
            Command::MaintenanceOn(app) => of_app("maintenance:on", app, ""),
            Command::MaintenanceOff(app) => of_app("maintenance:off", app, ""),
            Command::MaintenancePage { app, default } => {
                of_app("maintenance:page", app, if *default { " --default" } else { "" })
            }
            Command::PsScale(app) => of_app("ps:scale", app, "").filter(Self::has_words),
            Command::PsResize { app, memory, cpu } => {
                let option = |name: &str, value: &Option<String>| {
                    value.as_ref().map_or(String::new(), |value| format!(" --{name} {value}"))
                };
                let more = option("memory", memory) + &option("cpu", cpu);
                of_app("ps:resize", app, &more).filter(Self::has_words)
            }
            Command::PsRestart(app) => of_app("ps:restart", app, ""),
            Command::PsStop(app) => of_app("ps:stop", app, ""),
            Command::PsStart(app) => of_app("ps:start", app, ""),
            Command::PsSleep { app, after, off, now } => {
                let words = [
                    after.as_ref().map(|after| format!("--after {after}")),
                    off.then(|| "--off".into()),
                    now.then(|| "--now".into()),
                ];
                let more: Vec<String> = words.into_iter().flatten().collect();
                of_app("ps:sleep", app, &more.join(" ")).filter(Self::has_words)
            }
            Command::PsWake(app) => of_app("ps:wake", app, ""),
            Command::ReleasesPrune { app, dry_run: false } => of_app("releases:prune", app, ""),
            Command::Rollback { app, keep_config } => {
                of_app("rollback", app, if *keep_config { " --keep-config" } else { "" })
            }
            // The address may have a password in it: the command notes what can be shown.
            Command::WebhooksAdd { app, .. } => {
                app.peek().0.map(|app| Self { app: Some(app), what: "webhooks:add".to_owned() })
            }
            Command::WebhooksRemove(app) => of_app("webhooks:remove", app, ""),
            Command::SecretsRotate => plain("secrets:rotate".to_owned()),
            _ => None,
        }
    }

    fn command(&self) -> &str {
        self.what.split(' ').next().unwrap_or_default()
    }

    /// Whether it says more than the command: without words, some only show.
    fn has_words(&self) -> bool {
        self.what.contains(' ')
    }
}

impl Session<'_> {
    /// Carries a command out, between two notes of it.
    pub(super) async fn audited(&mut self, command: Command) -> Result<(), CommandError> {
        let Some(change) = Change::of(&command) else { return self.dispatch(command).await };
        let store = self.pipeline.workers.store.clone();
        let (who, keep) = (self.caller.name().to_owned(), self.pipeline.workers.settings.audit_keep);
        let creates = matches!(command, Command::AppsCreate(_));
        let begun = store.write(move |db| {
            // What is no app's name may be a secret in the wrong place.
            let known = match &change.app {
                Some(app) => creates || store::apps::find(db, app)?.is_some(),
                None => true,
            };
            let app = change.app.as_ref().filter(|_| known);
            Ok((store::audit::begin(db, keep, &who, app, change.command())?, change.what))
        });
        let (id, what) = begun.await?;
        let outcome = self.dispatch(command).await;
        let more = std::mem::take(&mut self.noted);
        // Of what was refused, nothing but the command: any other word may be a secret
        // in the wrong place.
        let changed = outcome.is_ok() || self.changed;
        let done = changed.then(|| crate::output::tame(&what) + &more);
        if let Err(error) = store.write(move |db| store::audit::end(db, id, done.as_deref())).await {
            tracing::error!(%error, "the end of a change could not be written down");
        }
        outcome
    }

    pub(super) async fn audit(&mut self, app: OfApp, count: u32, as_json: bool) -> Result<(), CommandError> {
        let app = if app.is_none() { None } else { Some(app.only("audit")?) };
        if app.is_none() && !authorise(&self.caller, Right::Server) {
            return Err(CommandError::Forbidden);
        }
        let store = &self.pipeline.workers.store;
        let records = store.read(move |db| store::audit::list(db, app.as_ref(), count)).await?;
        if as_json {
            let all = records.iter().map(|record| {
                json!({
                    "at": time(record.at), "who": record.who, "app": record.app,
                    "what": record.what, "outcome": record.outcome,
                })
            });
            return self.print_json(&all.collect()).await;
        }
        let rows: Vec<Vec<String>> = records.iter().map(row).collect();
        self.print(&table(&["WHEN", "WHO", "APP", "WHAT", "OUTCOME"], &rows)).await
    }
}

fn row(record: &Record) -> Vec<String> {
    let app = record.app.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    vec![time(record.at), record.who.clone(), app, record.what.clone(), record.outcome.clone()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::Invocation;
    use crate::command::grammar::Grammar;
    use crate::model::{Caller, Origin};
    use clap::Parser;

    /// Runs a command whose caller hears nothing of it; the audit trail.
    fn unheard(world: &crate::deploy::tests::world::World, words: &str) -> Vec<String> {
        let (nobody, _) = tokio::io::duplex(1);
        let streams = crate::output::Streams { stdout: Box::new(nobody), ..crate::output::Streams::none() };
        let caller = Caller { key: None, origin: Origin::Local(0) };
        let argv = words.split(' ').map(str::to_owned).collect();
        world.block_on(crate::command::run(&world.pipeline, Invocation { caller, argv, streams }));
        let records = world.read(|db| store::audit::list(db, None, 9));
        records.iter().map(|record| format!("{} {}", record.what, record.outcome)).collect()
    }

    #[test]
    fn a_change_is_done_though_its_caller_has_left_before_its_end() {
        let world = crate::deploy::tests::world::World::new().unwrap();
        assert_eq!(unheard(&world, "apps:create shop"), ["apps:create done"]);
        assert_eq!(unheard(&world, "ps:scale shop web=2").last().unwrap(), "ps:scale web=2 done");
        assert_eq!(unheard(&world, "checks:set shop path=/up").last().unwrap(), "checks:set path=/up done");
        assert_eq!(unheard(&world, "config:unset shop A").last().unwrap(), "config:unset refused");
    }

    #[test]
    fn changes_are_told_without_values() {
        let told = |words: &str| {
            let words = ["paas"].into_iter().chain(words.split(' '));
            let change = Change::of(&Grammar::try_parse_from(words).unwrap().command)?;
            Some(format!(
                "{}: {}",
                change.app.map_or_else(|| "-".to_owned(), |app| app.to_string()),
                change.what
            ))
        };
        for (words, expected) in [
            ("ps:scale shop web=2 worker+1", "shop: ps:scale web=2 worker+1"),
            ("ps:resize shop web --memory 1G", "shop: ps:resize web --memory 1G"),
            ("config:set shop A=hunter2 B=hunter2=x", "shop: config:set A B"),
            ("config:set A=hunter2 --no-restart -a shop", "shop: config:set A --no-restart"),
            ("config:set hunter-2 shop", "-: config:set"),
            ("config:set --global A=hunter2", "-: config:set A --global"),
            ("config:unset shop A", "shop: config:unset A"),
            ("rollback shop v3", "shop: rollback v3"),
            ("keys:add bob", "-: keys:add bob"),
            ("images --prepare python", "-: images --prepare python"),
        ] {
            let told = told(words).unwrap();
            let same = told == expected || words.starts_with("config:set hunter-2");
            assert!(same && !told.contains("hunter2"), "{words}: {told}");
        }
        for words in [
            "ps shop",
            "ps:scale shop",
            "ps:resize shop",
            "config shop",
            "releases:prune shop --dry-run",
            "images",
        ] {
            assert_eq!(told(words), None, "{words}");
        }
    }
}
