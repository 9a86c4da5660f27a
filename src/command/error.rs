//! What a command can be refused for, and what the user is told.

use super::grammar::Grammar;
use super::of_app::NoApp;
use crate::deploy::DeployError;
use crate::model::dotenv::DotenvError;
use crate::model::{
    AppName, CommitId, Domain, DomainFault, EventKind, KeyFault, MountFault, NameError, NotACheck, NotAPage,
    NotASleep, NotAUser, NotHttps, Problem,
};
use crate::sbom::SbomError;
use crate::store::StoreError;
use clap::CommandFactory;

/// Why a command was not carried out. The display text is for the log and repeats
/// nothing that was typed: a word in the wrong place may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No command at all.
    #[error("no command")]
    Empty,
    /// No command of ours.
    #[error("unknown command")]
    Unknown {
        /// What was typed, shortened.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// Words that do not fit the command.
    #[error("wrong use of {command}")]
    Usage {
        /// The command.
        command: String,
        /// What does not fit.
        reason: String,
    },
    /// The caller may not.
    #[error("forbidden")]
    Forbidden,
    /// There is no such app.
    #[error("no such app")]
    NoSuchApp(AppName),
    /// A name that is none.
    #[error("no name")]
    Name(#[from] NameError),
    /// No app could be made out.
    #[error("no app was named")]
    App(#[from] NoApp),
    /// A destructive command without its confirmation.
    #[error("not confirmed")]
    NotConfirmed(AppName),
    /// Not `KEY=VALUE`: which of them, from 1.
    #[error("not KEY=VALUE")]
    NotAnAssignment(usize),
    /// A dotenv file that does not read.
    #[error("dotenv: {0}")]
    Dotenv(#[from] DotenvError),
    /// JSON that is no object of strings.
    #[error("not an object of strings in line {line}")]
    Json {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// A change for all apps that these did not come up with.
    #[error("not taken by {}", .0.join(", "))]
    NotByAll(Vec<String>),
    /// Apps whose base images could not be made or pulled; why was said.
    #[error("not updated: {} apps", .0.len())]
    NotUpdated(Vec<AppName>),
    /// A config value that no environment can hold.
    #[error("a value was refused")]
    Value(String, &'static str),
    /// A config var that is the platform's.
    #[error("a reserved name")]
    Reserved(String),
    /// A config var that is not set.
    #[error("not set")]
    NotSet(String),
    /// Not `TYPE=COUNT`.
    #[error("not TYPE=COUNT")]
    NotACount(String),
    /// No event that webhooks are told of.
    #[error("not an event")]
    NotAnEvent(String),
    /// Standard input is no secret.
    #[error("not a secret")]
    NotASecret,
    /// No webhook of this app.
    #[error("no such webhook")]
    NoSuchWebhook(AppName),
    /// Neither `TYPE` nor `TYPE.NUMBER`.
    #[error("not a process")]
    NotAProcess(String),
    /// An option's value that is no size; what would be one.
    #[error("not a size")]
    NotASize(&'static str, String, &'static str),
    /// No time after which an app may fall asleep.
    #[error("not a time to fall asleep after")]
    NotASleep(NotASleep),
    /// A word that is no setting of a check.
    #[error("not a check")]
    NotACheck(NotACheck),
    /// A word that is no setting of HTTPS.
    #[error("not a setting of HTTPS")]
    NotHttps(NotHttps),
    /// No user's name, or no password.
    #[error("no user")]
    NotAUser(#[from] NotAUser),
    /// Standard input is no page.
    #[error("no page")]
    NotAPage(#[from] NotAPage),
    /// A name that the app can't have.
    #[error("a name was refused")]
    Domain(#[from] DomainFault),
    /// A path under a name that the app can't have.
    #[error("a path was refused")]
    Mount(#[from] MountFault),
    /// A redirect to what is no single name.
    #[error("not one name")]
    NotOneName(Domain),
    /// No status of a redirect.
    #[error("not a status of a redirect")]
    NotARedirect(u16),
    /// No such certificate.
    #[error("no such certificate")]
    NoSuchCertificate(String),
    /// Not `vN`.
    #[error("not a release")]
    NotARelease(String),
    /// No public key in OpenSSH's form.
    #[error("no public key: {0}")]
    NotAKey(KeyFault),
    /// There is no such key.
    #[error("no such key")]
    NoSuchKey(String),
    /// The deploy branch cannot be changed to this one.
    #[error("the branch names something else")]
    BranchElsewhere(String, AppName),
    /// A branch name that is none.
    #[error("no branch name")]
    NotABranch(String),
    /// No process of that name has ever printed anything.
    #[error("no such process")]
    NoProcess(String, Vec<String>),
    /// No such log source.
    #[error("no such log source")]
    NoSource(String),
    /// No such language.
    #[error("no such language")]
    NoLanguage(String, Vec<String>),
    /// Standard input is longer than the command takes, bytes.
    #[error("input longer than {0}")]
    InputTooLong(u64),
    /// Standard input is not UTF-8.
    #[error("input is not UTF-8")]
    InputNotText,
    /// A release whose commit the repository has no more.
    #[error("the commit of v{0} is gone")]
    CommitGone(u32, CommitId),
    /// No bill of materials can be made.
    #[error("no bill of materials: {0}")]
    Sbom(#[from] SbomError),
    /// The pipeline.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// The user went away.
    #[error("the user went away")]
    Gone,
    /// A fault of ours.
    #[error("internal: {0}")]
    Internal(String),
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::Deploy(DeployError::Store(error))
    }
}

impl CommandError {
    pub(super) fn unknown(name: &str) -> Self {
        let grammar = Grammar::command();
        let nearest = grammar
            .get_subcommands()
            .map(|command| (strsim::damerau_levenshtein(name, command.get_name()), command.get_name()))
            .filter(|(distance, known)| name.len() < 60 && *distance <= known.len().div_ceil(3))
            .min()
            .map(|(_, known)| known.to_owned());
        Self::Unknown { name: name.chars().take(40).collect(), nearest }
    }

    pub(super) fn usage(command: &str, error: &clap::Error) -> Self {
        let text = error.to_string();
        let first = text.split("\n\n").next().unwrap_or_default();
        let reason: Vec<&str> = first.trim_start_matches("error: ").lines().map(str::trim).collect();
        Self::Usage { command: command.to_owned(), reason: reason.join(" ").chars().take(300).collect() }
    }

    /// The words for what `ps:…` does not take.
    fn of_a_formation(&self) -> Problem {
        let plain = |title: String, next: &str| Problem::new(title, "", next);
        match self {
            Self::NotASize(option, text, expected) => plain(
                format!("{option} {text:?} is not {expected}."),
                "Back to what paas.toml and the server say: default",
            ),
            Self::NotASleep(NotASleep(word)) => plain(
                format!("{word:?} is no time from 10s to 30d, such as 90s, 15m or 2h."),
                "An app that is never to sleep: ssh paas ps:sleep APP --off",
            ),
            Self::NotACount(word) if word.contains(':') => plain(
                format!("{word:?} is not TYPE=COUNT, such as web=2."),
                "Sizes are set by another command: ssh paas ps:resize APP web --memory 1G --cpu 2",
            ),
            Self::NotACount(word) => plain(
                format!("{word:?} is not TYPE=COUNT with a count from 0 to 100, such as web=2 or web+1."),
                "",
            ),
            Self::NotAProcess(word) => plain(
                format!("{word:?} is neither a process type nor a process, such as worker or web.2."),
                "Without any, it is all of them.",
            ),
            Self::NotACheck(NotACheck { word, expected }) => {
                plain(format!("{word:?} is no setting of a check: {expected}."), "Nothing was changed.")
            }
            other => plain(other.to_string(), ""),
        }
    }

    /// The words for what `webhooks…` does not take.
    fn of_a_webhook(&self) -> Problem {
        let plain = |title: String, next: &str| Problem::new(title, "", next);
        match self {
            Self::NotAnEvent(word) => {
                let all = EventKind::ALL.map(EventKind::as_str).join(", ");
                plain(
                    format!("{word:?} is no event that can be told."),
                    &format!("Give some of these, with commas: {all}"),
                )
            }
            Self::NotASecret => plain(
                "With --secret, standard input is the secret, in one line.".to_owned(),
                "For example: openssl rand -hex 32 | tee secret | ssh paas webhooks:add APP URL --secret",
            ),
            Self::NoSuchWebhook(app) => plain(
                "There is no such webhook.".to_owned(),
                &format!("Their numbers: ssh paas webhooks {app}"),
            ),
            other => plain(other.to_string(), ""),
        }
    }

    /// The words for what `domains:…`, `https:set` and `certs:…` do not take.
    fn of_a_name(&self) -> Problem {
        let unchanged = |title: String| Problem::new(title, "", "Nothing was changed.");
        match self {
            Self::NotHttps(NotHttps { word, expected }) => {
                unchanged(format!("{word:?} is no setting of HTTPS: {expected}."))
            }
            Self::Domain(fault) => unchanged(format!("{fault}.")),
            Self::Mount(fault) => unchanged(format!("{fault}.")),
            Self::NoSuchCertificate(id) => {
                Problem::new(format!("There is no certificate {id:?}."), "", "List them: ssh paas certs APP")
            }
            Self::Deploy(DeployError::Store(StoreError::NoUser(name))) => {
                unchanged(format!("there is no user {name}."))
            }
            Self::Deploy(DeployError::Store(error)) => unchanged(format!("{error}.")),
            other => unchanged(other.to_string()),
        }
    }

    /// The words for what `auth:…`, `maintenance:…` and `domains:redirect` do not take.
    fn of_a_rule(&self) -> Problem {
        let unchanged = |title: String| Problem::new(title, "", "Nothing was changed.");
        let such_as = |title: String, next: &str| Problem::new(title, "", next);
        match self {
            Self::NotAUser(why) => {
                such_as(format!("{why}."), "For example: pass show shop | ssh paas auth:set APP USER")
            }
            Self::NotAPage(why) => {
                such_as(format!("{why}."), "For example: ssh paas maintenance:page APP < page.html")
            }
            Self::NotOneName(domain) => {
                unchanged(format!("{domain} is many names: requests are sent on to one."))
            }
            Self::NotARedirect(code) => {
                unchanged(format!("{code} is no status of a redirect: 301, 302, 307 or 308."))
            }
            other => unchanged(other.to_string()),
        }
    }

    /// The words for what `keys:…` do not take.
    fn of_a_key(&self) -> Problem {
        match self {
            Self::NotAKey(why) => Problem::new(
                format!("This is no public SSH key: {why}."),
                "",
                "Give the content of a .pub file: paas keys:add NAME < ~/.ssh/id_ed25519.pub",
            ),
            Self::NoSuchKey(name) => {
                Problem::new(format!("There is no key named {name}."), "", "List them: ssh paas keys")
            }
            other => Problem::new(other.to_string(), "", ""),
        }
    }

    /// Title, cause and next step.
    pub fn problem(&self) -> Problem {
        let plain = |title: String, next: &str| Problem::new(title, "", next);
        match self {
            Self::Empty => plain("No command was given.".into(), "List them: ssh paas help"),
            Self::Unknown { name, nearest: Some(nearest) } => {
                plain(format!("{name:?} is no command. Did you mean {nearest}?"), "")
            }
            Self::Unknown { name, nearest: None } => {
                plain(format!("{name:?} is no command."), "List them: ssh paas help")
            }
            Self::Usage { command, reason } => {
                plain(format!("{command}: {reason}."), &format!("How it goes: ssh paas help {command}"))
            }
            Self::Forbidden => plain("Your key does not allow this.".into(), ""),
            Self::NoSuchApp(app) => plain(format!("There is no app {app}."), "List them: ssh paas apps"),
            Self::Name(error) => plain(error.to_string(), ""),
            Self::App(error) => plain(error.to_string(), ""),
            Self::NotConfirmed(app) => not_confirmed(app),
            Self::NotAnAssignment(number) => Problem::new(
                format!("What stands in place {number} is not KEY=VALUE."),
                "",
                "Over SSH, quote twice: ssh paas \"config:set APP KEY='a value'\"",
            ),
            Self::Dotenv(error) => {
                plain(format!("Standard input, {error}."), "Nothing was set. The form: docs/commands.md")
            }
            Self::Json { line, column } => plain(
                format!(
                    "Standard input, line {line}, column {column}: this is not an object of strings under names of config vars."
                ),
                "Nothing was set.",
            ),
            Self::NotByAll(apps) => Problem::new(
                format!("The change is stored, and these apps did not come up with it: {}.", apps.join(", ")),
                "They run what they ran.",
                "Why: ssh paas logs APP. Their next release will have it, unless it is taken back.",
            ),
            Self::NotUpdated(apps) => not_updated(apps),
            Self::Value(key, why) => plain(format!("The value of {key} cannot be kept: {why}."), ""),
            Self::Reserved(key) => {
                plain(format!("{key} is set by the server for every process; choose another name."), "")
            }
            Self::NotSet(key) => plain(format!("{key} is not set."), ""),
            Self::NotAnEvent(_) | Self::NotASecret | Self::NoSuchWebhook(_) => self.of_a_webhook(),
            Self::NotASize(..)
            | Self::NotACount(_)
            | Self::NotAProcess(_)
            | Self::NotASleep(_)
            | Self::NotACheck(_) => self.of_a_formation(),
            Self::NotAUser(_) | Self::NotAPage(_) | Self::NotOneName(_) | Self::NotARedirect(_) => {
                self.of_a_rule()
            }
            Self::NotHttps(_) | Self::Domain(_) | Self::Mount(_) | Self::NoSuchCertificate(_) => {
                self.of_a_name()
            }
            Self::NotARelease(word) => {
                plain(format!("{word:?} is no release, such as v3."), "List them: ssh paas releases APP")
            }
            Self::NotAKey(_) | Self::NoSuchKey(_) => self.of_a_key(),
            Self::BranchElsewhere(branch, app) => Problem::new(
                format!("{branch} names another commit than the one that runs."),
                "The deploy branch must name what runs.",
                format!("Remove it first: git push paas :{branch} (then apps:branch {app} {branch})"),
            ),
            Self::NotABranch(name) => plain(format!("{name:?} is not a branch name."), ""),
            Self::NoProcess(name, known) if known.is_empty() => {
                plain(format!("There is no process {name:?}: the app has no release yet."), "")
            }
            Self::NoProcess(name, known) => {
                plain(format!("There is no process {name:?}."), &format!("There are: {}", known.join(", ")))
            }
            Self::NoSource(name) => {
                plain(format!("{name:?} is no log source: use app, build, router or platform."), "")
            }
            Self::NoLanguage(name, known) => {
                plain(format!("{name:?} is no language here."), &format!("There are: {}", known.join(", ")))
            }
            Self::CommitGone(number, commit) => commit_gone(*number, commit),
            Self::Sbom(error) => error.problem(),
            Self::InputTooLong(limit) => plain(format!("Standard input is longer than {limit} bytes."), ""),
            Self::InputNotText => plain("Standard input is not UTF-8 text.".into(), ""),
            Self::Deploy(DeployError::Store(StoreError::NameTaken(name))) => {
                plain(format!("There is an app {name} already."), "")
            }
            Self::Deploy(DeployError::Store(error)) if is_refusal(error) => self.of_a_name(),
            Self::Deploy(DeployError::Store(StoreError::KeyTaken(why))) => {
                plain(format!("Not added: {why}."), "")
            }
            Self::Deploy(DeployError::Store(error @ (StoreError::NoPort | StoreError::NoSubnet))) => plain(
                format!("Not created: {error}."),
                "Ask the administrator for a larger range (server.toml).",
            ),
            Self::Deploy(DeployError::Store(StoreError::KeyIsCredential)) => Problem::new(
                "The key is a systemd credential, which only systemd can change.",
                "",
                "Put a new one on its first line, the old one below it, and restart; see docs/settings.md.",
            ),
            Self::Deploy(error) => error.problem().of_a_command(),
            Self::Gone => plain("Cancelled.".into(), ""),
            Self::Internal(_) => plain("A fault of the server; its log has the details.".into(), ""),
        }
    }
}

/// What the store refuses, in words that are the user's.
fn is_refusal(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::DomainTaken(_)
            | StoreError::NoDomain(_)
            | StoreError::RedirectLoop { .. }
            | StoreError::MountOnNobody(_)
            | StoreError::NoMoreMounts
            | StoreError::MountedByOthers { .. }
            | StoreError::NoRoomForPages
            | StoreError::NoMoreUsers
            | StoreError::NoUser(_)
    )
}

fn not_confirmed(app: &AppName) -> Problem {
    let title = format!("This removes {app}, its processes, config, log and repository.");
    Problem::new(title, "", format!("To do it: ssh paas apps:destroy {app} --confirm {app}"))
}

fn commit_gone(number: u32, commit: &CommitId) -> Problem {
    Problem::new(
        format!("What v{number} was built from is not kept any more."),
        format!("The repository has no commit {}.", commit.short()),
        "List the others: ssh paas releases APP",
    )
}

fn not_updated(apps: &[AppName]) -> Problem {
    let names: Vec<&str> = apps.iter().map(AppName::as_str).collect();
    Problem::new(
        format!("These apps keep the base images that they have: {}.", names.join(", ")),
        "What went wrong is said above; the others have newer ones.",
        "Try one again: paas images:update APP",
    )
}
