//! Commands: one definition and one implementation for terminal and SSH alike.

mod apps;
mod audit;
mod auth;
mod builds;
mod certs;
mod checks;
mod config;
mod domains;
mod error;
mod grammar;
mod images;
mod keys;
mod logs;
mod maintenance;
mod metrics;
mod of_app;
mod ps;
mod releases;
mod rights;
mod sbom;
mod secrets;
mod sizes;
mod sleep;
mod status;
mod table;
mod webhooks;

pub use error::CommandError;
pub use grammar::{Command, Grammar};
pub use rights::{Right, authorise, right_of};

use crate::deploy::{Asker, Effect, Pipeline, Report};
use crate::model::{App, AppName, Caller, Problem};
use crate::output::Streams;
use clap::{CommandFactory, Parser};
use sleep::Change;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One command of a user's.
pub struct Invocation {
    /// Who asks.
    pub caller: Caller,
    /// Its words.
    pub argv: Vec<String>,
    /// Its streams.
    pub streams: Streams,
}

/// What a command works with.
struct Session<'a> {
    pipeline: &'a Arc<Pipeline>,
    caller: Caller,
    streams: Streams,
    /// What the audit trail is to know beside the command's words.
    noted: String,
    /// Something was changed, however the command ends.
    changed: bool,
}

/// Runs a command to its end; returns the exit status.
pub async fn run(pipeline: &Arc<Pipeline>, invocation: Invocation) -> u32 {
    let Invocation { caller, argv, streams } = invocation;
    let mut session = Session { pipeline, caller, streams, noted: String::new(), changed: false };
    let outcome = match parse(&argv, |right| authorise(&session.caller, right)) {
        Ok(Parsed::Command(command)) => {
            let asker = Asker { gone: session.streams.gone.clone(), report: None };
            asker.asks(session.audited(command)).await
        }
        Ok(Parsed::Text(text)) => session.print(&text).await,
        Err(error) => Err(error),
    };
    let status = match outcome {
        Ok(()) => 0,
        Err(CommandError::Gone) => 130,
        Err(error) => session.refuse(&argv, &error).await,
    };
    let _ = session.streams.stdout.flush().await;
    let _ = session.streams.stdout.shutdown().await;
    let _ = session.streams.stderr.flush().await;
    let _ = session.streams.stderr.shutdown().await;
    status
}

/// What the words of a command are.
enum Parsed {
    Command(Command),
    Text(String),
}

/// Makes out a command, for somebody who has some rights: there is no other way to one.
fn parse(argv: &[String], has: impl Fn(Right) -> bool) -> Result<Parsed, CommandError> {
    let Some(name) = argv.first() else { return Err(CommandError::Empty) };
    let is_help = matches!(name.as_str(), "--help" | "-h");
    let right = if is_help { Some(Right::Public) } else { right_of(name) };
    if !has(right.ok_or_else(|| CommandError::unknown(name))?) {
        return Err(CommandError::Forbidden);
    }
    if is_help {
        return Ok(Parsed::Text(overview()));
    }
    match Grammar::try_parse_from(std::iter::once("paas").chain(argv.iter().map(String::as_str))) {
        Ok(grammar) => Ok(Parsed::Command(grammar.command)),
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => {
            Ok(Parsed::Text(error.to_string()))
        }
        Err(error) => Err(CommandError::usage(name, &error)),
    }
}

/// The list of all commands.
pub fn overview() -> String {
    let grammar = Grammar::command();
    let rows: Vec<Vec<String>> = grammar
        .get_subcommands()
        .map(|command| {
            vec![
                command.get_name().to_owned(),
                command.get_about().map(ToString::to_string).unwrap_or_default(),
            ]
        })
        .collect();
    let table = table::table(&["COMMAND", ""], &rows);
    format!(
        "Deploy:  git push paas main\nCommands, as `ssh paas COMMAND …` or on the server `paas COMMAND …`:\n\n{table}\nMore on one: help COMMAND\n"
    )
}

/// Help on one command.
fn explain(name: &str) -> Result<String, CommandError> {
    let mut grammar = Grammar::command();
    grammar.build();
    match grammar.find_subcommand_mut(name) {
        Some(command) => Ok(command.render_help().to_string()),
        None => Err(CommandError::unknown(name)),
    }
}

fn effect(no_restart: bool) -> Effect {
    if no_restart { Effect::WithNextRelease } else { Effect::AtOnce }
}

/// A refusal: one line, unless one of its parts has several of its own.
fn said(problem: &Problem) -> String {
    let parts = [&problem.title, &problem.cause, &problem.next];
    if parts.iter().any(|part| part.contains('\n')) {
        return crate::output::problem(problem).join("\n");
    }
    let parts: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    crate::output::warning(&parts.join(" "))
}

impl Session<'_> {
    async fn dispatch(&mut self, command: Command) -> Result<(), CommandError> {
        match command {
            Command::Apps(listing) => self.apps(listing.json).await,
            Command::Audit { app, count, listing } => self.audit(app, count, listing.json).await,
            Command::AppsCreate(app) => self.apps_create(app.only("apps:create")?).await,
            Command::AppsInfo { app, listing } => self.apps_info(app.only("apps:info")?, listing.json).await,
            Command::AppsBranch(app) => self.apps_branch(app).await,
            Command::AppsDestroy { app, confirm } => {
                self.apps_destroy(app.only("apps:destroy")?, confirm).await
            }
            Command::Auth { app, listing } => self.auth(app.only("auth")?, listing.json).await,
            Command::AuthSet(app) => self.auth_set(app).await,
            Command::AuthRemove(app) => self.auth_remove(app).await,
            Command::Builds { app, stale, listing } => self.builds(app, stale, listing.json).await,
            Command::BuildsCancel(app) => self.builds_cancel(app.only("builds:cancel")?).await,
            Command::Checks(app) => self.checks(app.only("checks")?).await,
            Command::ChecksSet { app, force } => self.checks_set(app, force).await,
            Command::ChecksUnset { app, force } => self.checks_unset(app, force).await,
            Command::Certs { app, listing } => self.certs(app, listing.json).await,
            Command::CertsAdd { app, server } => self.certs_add(app, server).await,
            Command::CertsRemove { app, server } => self.certs_remove(app, server).await,
            Command::Domains { app, listing } => self.domains(app.only("domains")?, listing.json).await,
            Command::DomainsAdd { app, strip_prefix } => self.domains_add(app, strip_prefix).await,
            Command::DomainsRemove(app) => self.domains_remove(app).await,
            Command::DomainsRedirect { app, code, off } => self.domains_redirect(app, code, off).await,
            Command::Https(app) => self.https(app.only("https")?).await,
            Command::HttpsSet(app) => self.https_set(app).await,
            Command::Config { app, global, listing } => self.config(app, global, listing.json).await,
            Command::ConfigSet { app, global, no_restart } => {
                self.config_set(app, global, effect(no_restart)).await
            }
            Command::ConfigGet { app, global } => self.config_get(app, global).await,
            Command::ConfigExport { app, global, format } => self.config_export(app, global, format).await,
            Command::ConfigUnset { app, global, no_restart } => {
                self.config_unset(app, global, effect(no_restart)).await
            }
            Command::Images { available: true, listing, .. } => self.available(listing.json).await,
            Command::Images { prepare, listing, .. } => self.images(prepare, listing.json).await,
            Command::ImagesUpdate { app, all } => self.images_update(app, all).await,
            Command::Keys(listing) => self.keys(listing.json).await,
            Command::KeysAdd { name } => self.keys_add(&name).await,
            Command::KeysRemove { name } => self.keys_remove(&name).await,
            Command::Logs { app, tail, lines, process, source } => {
                let app = app.only("logs")?;
                self.logs(app, tail, lines, process, source).await
            }
            Command::Metrics { app, listing } => self.metrics(app, listing.json).await,
            Command::Maintenance(app) => self.maintenance(app.only("maintenance")?).await,
            Command::MaintenanceOn(app) => self.set_maintenance(app.only("maintenance:on")?, true).await,
            Command::MaintenanceOff(app) => self.set_maintenance(app.only("maintenance:off")?, false).await,
            Command::MaintenancePage { app, default } => self.maintenance_page(app, default).await,
            Command::Ps { app, listing } => self.ps(app.only("ps")?, listing.json).await,
            Command::PsScale(app) => self.ps_scale(app).await,
            Command::PsResize { app, memory, cpu } => self.ps_resize(app, memory, cpu).await,
            Command::PsRestart(app) => self.ps_restart(app).await,
            Command::PsStop(app) => self.ps_stop(app).await,
            Command::PsStart(app) => self.ps_start(app).await,
            Command::PsSleep { app, after, off, now } => {
                let change = Change::of(after.as_deref(), off, now)?;
                self.ps_sleep(app.only("ps:sleep")?, change).await
            }
            Command::PsWake(app) => self.ps_wake(app.only("ps:wake")?).await,
            Command::Releases { app, listing } => self.releases(app.only("releases")?, listing.json).await,
            Command::ReleasesPrune { app, dry_run } => {
                self.releases_prune(app.only("releases:prune")?, dry_run).await
            }
            Command::Rollback { app, keep_config } => self.rollback(app, keep_config).await,
            Command::Sbom { app, format } => self.sbom(app, format).await,
            Command::SecretsRotate => self.secrets_rotate().await,
            Command::Status { app, listing } => self.status(app, listing.json).await,
            Command::Webhooks { app, listing } => self.webhooks(app.only("webhooks")?, listing.json).await,
            Command::WebhooksAdd { app, events, secret } => self.webhooks_add(app, events, secret).await,
            Command::WebhooksRemove(app) => self.webhooks_remove(app).await,
            Command::Help { command: None } => self.print(&overview()).await,
            Command::Help { command: Some(name) } => {
                let text = explain(&name)?;
                self.print(&text).await
            }
            Command::Version => self.print(concat!("paas ", env!("CARGO_PKG_VERSION"), "\n")).await,
        }
    }

    /// The app of this name, or the refusal.
    async fn app(&mut self, name: &AppName) -> Result<App, CommandError> {
        self.pipeline.find(name).await?.ok_or_else(|| CommandError::NoSuchApp(name.clone()))
    }

    /// Says something on standard output. A command that changes something does so when
    /// that is done: whoever does not hear of it has changed it nevertheless.
    async fn print(&mut self, text: &str) -> Result<(), CommandError> {
        self.changed |= !text.is_empty();
        self.streams.stdout.write_all(text.as_bytes()).await.map_err(|_| CommandError::Gone)?;
        self.streams.stdout.flush().await.map_err(|_| CommandError::Gone)
    }

    async fn print_json(&mut self, value: &serde_json::Value) -> Result<(), CommandError> {
        let text =
            serde_json::to_string_pretty(value).map_err(|error| CommandError::Internal(error.to_string()))?;
        self.print(&format!("{text}\n")).await
    }

    /// All of standard input as text, at most `limit` bytes.
    async fn read_text(&mut self, limit: u64) -> Result<String, CommandError> {
        let mut bytes = Vec::new();
        let mut stdin = (&mut self.streams.stdin).take(limit + 1);
        stdin.read_to_end(&mut bytes).await.map_err(|_| CommandError::Gone)?;
        if bytes.len() as u64 > limit {
            return Err(CommandError::InputTooLong(limit));
        }
        String::from_utf8(bytes).map_err(|_| CommandError::InputNotText)
    }

    /// Runs work whose progress is said line by line on standard error.
    async fn reporting<T, F: Future<Output = Result<T, CommandError>> + Send>(
        &mut self,
        work: impl FnOnce(Report) -> F,
    ) -> Result<T, CommandError> {
        let (report, mut lines) = Report::channel();
        let stderr = &mut self.streams.stderr;
        let show = async {
            while let Some(line) = lines.next().await {
                let _ = stderr.write_all(format!("{line}\n").as_bytes()).await;
                let _ = stderr.flush().await;
            }
        };
        let asker = Asker { gone: self.streams.gone.clone(), report: Some(report.clone()) };
        let (result, ()) = tokio::join!(asker.asks(work(report)), show);
        result
    }

    async fn refuse(&mut self, argv: &[String], error: &CommandError) -> u32 {
        // Of what was typed, nothing else: a word in the wrong place may be a secret.
        let command = argv.first().map(String::as_str).filter(|name| right_of(name).is_some());
        tracing::info!(command, caller = self.caller.name(), %error, "a command was refused");
        let lines = said(&error.problem());
        let _ = self.streams.stderr.write_all(format!("{lines}\n").as_bytes()).await;
        1
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_grammar_is_sound_and_every_command_has_a_right() {
        Grammar::command().debug_assert();
        for command in Grammar::command().get_subcommands() {
            assert!(right_of(command.get_name()).is_some(), "{} has no row in rights.rs", command.get_name());
        }
    }

    #[test]
    fn what_a_caller_has_no_right_to_is_refused_whatever_the_command() {
        for command in Grammar::command().get_subcommands() {
            let name = command.get_name();
            let right = right_of(name).unwrap();
            let words = [name.to_owned(), "shop".to_owned()];
            let refused = parse(&words, |asked| asked != right);
            assert!(matches!(refused, Err(CommandError::Forbidden)), "{name}");
            let allowed = parse(&words, |asked| asked == right);
            assert!(!matches!(allowed, Err(CommandError::Forbidden)), "{name}");
        }
        assert!(parse(&["--help".to_owned()], |_| false).is_err());
    }

    #[test]
    fn the_overview() {
        insta::assert_snapshot!(overview());
    }

    #[test]
    fn bad_words_get_one_clear_message() {
        let cases: [&[&str]; 9] = [
            &["pss"],
            &["rm", "-rf"],
            &["logs", "shop", "-n", "many"],
            &["keys:add"],
            &["apps", "--jsno"],
            &["ps:scale"],
            &["help", "conifg"],
            &["apps:create", "a", "b"],
            &["logs", "../etc"],
        ];
        let say = |argv: &[&str]| {
            let words: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
            let error = match parse(&words, |_| true) {
                Err(error) => error,
                Ok(Parsed::Command(Command::Help { command: Some(name) })) => explain(&name).unwrap_err(),
                Ok(Parsed::Command(Command::PsScale(app))) => app.split("ps:scale").unwrap_err().into(),
                Ok(Parsed::Command(Command::AppsCreate(app))) => app.only("apps:create").unwrap_err().into(),
                Ok(Parsed::Command(Command::Logs { app, .. })) => app.only("logs").unwrap_err().into(),
                Ok(_) => panic!("{argv:?} was accepted"),
            };
            format!("{}\n{}", argv.join(" "), said(&error.problem()))
        };
        insta::assert_snapshot!(cases.map(say).join("\n\n"));
    }
}
