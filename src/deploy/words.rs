//! What the user is told when a deploy does not happen.

use super::DeployError;
use super::process_words::{no_process, unhealthy};
use super::room::Cramped;
use super::sleep::Wakeful;
use crate::model::{AppName, Evidence, MOST_DOMAINS, MOST_WEBHOOKS, Oversize, Problem, TakenBack};
use crate::store::apps::ADDRESSES;
use crate::store::{Obstacle, StoreError};
use crate::webhook::Undelivered;
use std::time::Duration;

impl DeployError {
    /// Title, cause and next step.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Detect(error) => error.into(),
            Self::Git(error) => error.problem(),
            Self::Engine(error) => error.into(),
            Self::Store(error) => of_the_store(error),
            Self::Internal(_) => fault(),
            Self::TooMany(web, others) => too_many(*web, *others),
            Self::Cancelled => Problem::new(
                "Push rejected: it was cancelled.",
                "",
                "Nothing has changed. Push again when you like.",
            ),
            Self::CancelledBy(who) => Problem::new(
                format!("Push rejected: it was cancelled by {who}."),
                "",
                "Nothing has changed. Push again when you like.",
            ),
            Self::NothingToCancel => Problem::new(
                "There is nothing to cancel.",
                "No deploy is being prepared; what is live already stays so.",
                "See what is being done: paas status",
            ),
            Self::NoSecret(name) => Problem::new(
                format!("Push rejected: the build wants {name}, which is not set."),
                "[build] secrets in paas.toml names config vars of the app.",
                format!("Set it and push again: paas config:set APP {name}=…"),
            ),
            Self::DiskFull(cramped) => disk_full(cramped),
            Self::NoConfig(app, names) => no_config(app, names),
            Self::NoProxy => Problem::new(
                "Push rejected: no proxy is running.",
                "Nothing could reach the app.",
                "Start it on the server:\n  systemctl start paas-proxy\n\
                 or, without systemd, with the settings of paas serve:\n  paas proxy --config FILE",
            ),
            Self::ReleaseCommand { code } => Problem::new(
                "Push rejected: the release command failed.",
                format!("It exited with status {code}; its output is above."),
                "Nothing has changed. Fix it, commit and push again.",
            ),
            Self::TooMuch { wanted, most } => Problem::new(
                format!("Push rejected: {wanted} for a process is too much."),
                format!("This server gives one at most {most} ([limits] in server.toml)."),
                "Ask for less.",
            ),
            Self::NotPassed(process, why) => Problem::new(
                format!("{process} does not pass this check: {why}."),
                "Nothing has changed; with it no request would reach the process.",
                "To set it all the same, for the next release: --force",
            ),
            Self::DetectionTime(limit) => detection_time(*limit),
            Self::ReleaseTime(limit) => Problem::new(
                format!("Push rejected: the release command took longer than {}.", spelt(*limit)),
                "It was ended with everything that it had started.",
                "Nothing has changed. Make it faster, or give it more time in paas.toml:\n  [deploy]\n  release_timeout = \"30m\"",
            ),
            Self::Worse { evidence, beside } => worse(evidence, *beside),
            Self::Oversize(app, why) => oversize(app, why),
            Self::Unhealthy { process, port, why, tail, advice } => {
                unhealthy(&process.to_string(), *port, why, tail, advice.as_deref())
            }
            Self::Certificate(fault) => {
                Problem::new(format!("The certificate was not taken: {fault}."), "", "Nothing was changed.")
            }
            Self::Https(error) => Problem::new(format!("{error}."), "", "Nothing was changed."),
            Self::NoApp => Problem::new("There is no such app.", "", "List them: paas apps"),
            Self::BeingRemoved(app) => being_removed(app),
            Self::HalfRemoved(app) => half_removed(app),
            Self::OtherBranch(branch) => other_branch(branch),
            Self::NoRelease => Problem::new(
                "The app has no release yet.",
                "Nothing was deployed to it so far.",
                "Deploy it: git push paas main",
            ),
            Self::NoSuchRelease(number, known) => {
                Problem::new(format!("There is no release v{number}."), "", back_to(known))
            }
            Self::NeverServed(number, known) => Problem::new(
                format!("v{number} never served: it failed before it went live."),
                "",
                back_to(known),
            ),
            Self::ServesAlready(number) => Problem::new(
                format!("v{number} is what serves now."),
                "",
                "Start it anew: paas ps:restart APP",
            ),
            Self::NothingBefore => Problem::new(
                "There is nothing to roll back to.",
                "No other release has served yet.",
                "See them: paas releases APP",
            ),
            Self::ImageGone(number, commit) => image_gone(*number, commit),
            Self::NoImage(image) => no_image(image),
            Self::NoProcessType(..) | Self::NoProcess(..) | Self::AllStopped => self.of_processes(),
            Self::Stands(_) | Self::StaysAwake(_) => self.of_wishes(),
            Self::CutOff => cut_off(),
            Self::NoWebhook(_) | Self::TooManyWebhooks => self.of_webhooks(),
            Self::TooManyNames => too_many_names(),
        }
    }

    /// The words for webhooks that cannot be added.
    fn of_webhooks(&self) -> Problem {
        match self {
            Self::NoWebhook(Undelivered::Private(ip)) => Problem::new(
                format!("That is an address in a private network ({ip})."),
                "Webhooks go to public addresses: the server's own network is not theirs.",
                "The server's administrator can allow a network: webhooks.allow in server.toml",
            ),
            Self::NoWebhook(why) => Problem::new(
                format!("That is no address for a webhook: {why}."),
                "",
                "Give one such as https://example.com/hook",
            ),
            _ => Problem::new(
                format!("An app has at most {MOST_WEBHOOKS} webhooks."),
                "",
                "Remove one: paas webhooks:remove APP ID",
            ),
        }
    }

    /// The words for wishes that stand, or that wait for something.
    fn of_wishes(&self) -> Problem {
        match self {
            Self::Stands(why) => stands(why),
            Self::StaysAwake(why) => stays_awake(*why),
            other => Problem::new(other.to_string(), "", ""),
        }
    }

    /// The words for processes that are not there.
    fn of_processes(&self) -> Problem {
        match self {
            Self::NoProcessType(name, known) => Problem::new(
                format!("There is no process type {name}."),
                format!("The app has: {}.", known.join(", ")),
                "Another one is added in the Procfile, and pushed.",
            ),
            Self::NoProcess(selection, known) => no_process(selection, known),
            Self::AllStopped => Problem::new(
                "The whole app is stopped.",
                "",
                "Start all of it: paas ps:start APP. To have fewer processes: paas ps:scale APP",
            ),
            other => Problem::new(other.to_string(), "", ""),
        }
    }
}

fn stays_awake(why: Wakeful) -> Problem {
    let (cause, next) = match why {
        Wakeful::NoWeb => {
            ("It has no web process that a request could wake.", "Stop it instead: paas ps:stop APP")
        }
        Wakeful::Unwell => ("Not all of its web processes are well.", "See them: paas ps APP"),
        Wakeful::Watched => {
            ("Its release is still watched, and the one before stands by.", "See for how long: paas ps APP")
        }
        Wakeful::InUse => ("Requests or streams are under way.", "It falls asleep when they have ended."),
        Wakeful::NoProxy => (
            "Not every proxy that runs would hold its requests.",
            "Upgrade the proxy on the server: paas proxy --upgrade",
        ),
    };
    Problem::new("The app stays awake.", cause, next)
}

fn of_the_store(error: &StoreError) -> Problem {
    match error {
        _ if error.obstacle().is_some() => kept_from_writing(error),
        StoreError::NameTaken(app) => Problem::new(
            format!("Push rejected: there is an app {app} already."),
            "Somebody has made it a moment ago.",
            "Push again, or take another name.",
        ),
        StoreError::NoAddress => Problem::new(
            "Push rejected: the app's network has no address left.",
            format!("It has {ADDRESSES}; a deploy needs one more for each web process."),
            "Run fewer of them: paas ps:scale APP web=1",
        ),
        StoreError::NoPort | StoreError::NoSubnet => Problem::new(
            format!("Push rejected: {error}."),
            "Every app has a port and a network of its own.",
            "Destroy an app, or ask the administrator for a larger range (server.toml).",
        ),
        _ => fault(),
    }
}

fn fault() -> Problem {
    Problem::new(
        "Push rejected: the server could not keep its state.",
        "This is a fault of the server; its log has the details.",
        "Push again; if it stays, tell the server's administrator.",
    )
}

fn too_many(web: u32, others: u32) -> Problem {
    Problem::new(
        format!("{web} web processes and {others} others are too many for one app."),
        format!(
            "Its network has {ADDRESSES} addresses, and a deploy starts each web process anew\nbeside the old one."
        ),
        "Nothing was changed. Have fewer, or larger ones: paas ps:resize APP web --memory 1G",
    )
}

fn too_many_names() -> Problem {
    Problem::new(
        format!("An app has at most {MOST_DOMAINS} names of its own."),
        "",
        "Remove one: paas domains:remove APP NAME. Or add a wildcard: '*.example.com'",
    )
}

fn oversize(app: &AppName, why: &Oversize) -> Problem {
    Problem::new(
        format!("Push rejected: too much config: {app} would have {why}."),
        "",
        "Nothing was changed. Keep large values in a file or a database.",
    )
}

fn being_removed(app: &AppName) -> Problem {
    Problem::new(
        format!("{app} is being removed."),
        "Somebody has destroyed it; what is left of it goes within a minute.",
        "Take another name, or wait until it is gone: paas apps",
    )
}

fn half_removed(app: &AppName) -> Problem {
    Problem::new(
        format!("{app} is not wholly removed yet: the engine did not do its part."),
        "It takes no requests and no pushes any more.",
        "The rest is removed within a minute, or when that is possible again.",
    )
}

fn other_branch(branch: &str) -> Problem {
    Problem::new(
        format!("Push rejected: {branch} has become the branch that deploys."),
        "That was changed while the push waited.",
        format!("Nothing has changed. Push to {branch}, or push again to keep it as a branch."),
    )
}

fn kept_from_writing(error: &StoreError) -> Problem {
    match error.obstacle() {
        Some(Obstacle::Held) => Problem::new(
            "Push rejected: another program holds the server's database.",
            "It has kept paas.db locked for more than 5 s: a backup, or an open sqlite3.",
            "Nothing has changed. End it on the server, then do this again.",
        ),
        _ => Problem::new(
            "Push rejected: the server's disk is full.",
            "Its state could not be written down.",
            "Nothing has changed. Make room on the server, then do this again.",
        ),
    }
}

fn disk_full(cramped: &Cramped) -> Problem {
    let mib = |bytes: u64| bytes >> 20;
    let Cramped { what, path, free, floor } = cramped;
    Problem::new(
        "Push rejected: the server's disk is nearly full.",
        format!(
            "{} MiB are left where {what} are ({});\na build is begun with {} or more.",
            mib(*free),
            path.display(),
            mib(*floor)
        ),
        "Nothing was begun. Make room on the server:\n  paas releases:prune APP\n\
         lower releases.keep, build.cache_mib or logs.max_mib in server.toml,\nor give it a larger disk.",
    )
}

/// `10 min`, `90 s`.
fn spelt(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 60 && seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

fn no_image(image: &str) -> Problem {
    Problem::new(
        format!("The image {image} is gone."),
        "Somebody has removed it from the engine. What runs goes on until it ends.",
        "Build it again:\n  git commit --allow-empty -m Rebuild && git push paas BRANCH",
    )
}

fn image_gone(number: u32, commit: &crate::model::CommitId) -> Problem {
    Problem::new(
        format!("The image of v{number} is not kept any more."),
        "releases.keep and releases.keep_time in server.toml say for how long.",
        format!("Build it again: git push --force paas {}:BRANCH", commit.short()),
    )
}

fn worse(evidence: &Evidence, beside: u32) -> Problem {
    Problem::new(
        format!("Push rejected: the canary did worse than v{beside}."),
        format!("{evidence}."),
        format!("All requests go to v{beside} again; nothing has changed. Its log: paas logs APP"),
    )
}

/// That a release was taken back, for `ps` and for the next push.
pub fn taken_back(taken_back: &TakenBack) -> String {
    let TakenBack { release, evidence, by, source } = taken_back;
    let source = source.map_or_else(String::new, |source| format!(" with what v{source} ran"));
    format!(
        "v{release} was rolled back automatically: {evidence}.\nv{by} took its place{source}; the branch was put back to that."
    )
}

fn back_to(known: &[u32]) -> String {
    if known.is_empty() {
        return "No other release has served yet.".to_owned();
    }
    let names: Vec<String> = known.iter().map(|number| format!("v{number}")).collect();
    format!("These have served: {}", names.join(", "))
}

fn stands(why: &DeployError) -> Problem {
    Problem::new(
        why.problem().of_a_command().title,
        "What you asked for is written down all the same: that could not be taken back.",
        "It is tried again within a minute. Look what came of it: paas ps APP",
    )
}

fn cut_off() -> Problem {
    let title = "Push rejected: the server ended meanwhile.";
    Problem::new(title, "", "Nothing has changed. Push again.")
}

fn no_config(app: &AppName, names: &[String]) -> Problem {
    let pairs: Vec<String> = names.iter().map(|name| format!("{name}=…")).collect();
    Problem::new(
        format!(
            "Push rejected: {} not set.",
            if names.len() == 1 { "a config var is" } else { "config vars are" }
        ),
        format!("app.json requires {}.", names.join(", ")),
        format!("Set what it needs and push again:\n  paas config:set {app} {}", pairs.join(" ")),
    )
}

fn detection_time(limit: Duration) -> Problem {
    Problem::new(
        format!("Push rejected: reading the app's files took longer than {}.", spelt(limit)),
        "The server's disk is slow, or it has too much to do.",
        "Nothing has changed. Push again; if it stays so, tell the administrator.",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::deploy::error::Unhealthy;
    use crate::model::{Evidence, ProcessName, Selection};

    fn selection(word: &str) -> Selection {
        Selection::parse(word).unwrap()
    }

    fn process(word: &str) -> ProcessName {
        ProcessName::parse(word).unwrap()
    }

    #[test]
    fn every_other_refusal() {
        let errors = [
            DeployError::Cancelled,
            DeployError::CancelledBy("ada".into()),
            DeployError::NothingToCancel,
            DeployError::NoConfig(AppName::parse("shop").unwrap(), vec!["API_KEY".into(), "DSN".into()]),
            DeployError::NoProxy,
            DeployError::DiskFull(Cramped {
                what: "its images",
                path: "/var/lib/docker".into(),
                free: 400 << 20,
                floor: 1 << 30,
            }),
            DeployError::NoSecret("NPM_TOKEN".into()),
            DeployError::ReleaseCommand { code: 2 },
            DeployError::ReleaseTime(Duration::from_secs(600)),
            DeployError::NotPassed(
                ProcessName::parse("web.1").unwrap(),
                Unhealthy::CheckStatus("/up".into(), 404),
            ),
            DeployError::TooMuch { wanted: "64G of memory".into(), most: "16G".into() },
            DeployError::ReleaseTime(Duration::from_secs(90)),
            DeployError::DetectionTime(Duration::from_secs(60)),
            DeployError::Worse {
                evidence: Evidence::Errors { answers: 80, errors: 12, former_answers: 720, former_errors: 1 },
                beside: 7,
            },
            DeployError::Oversize(AppName::parse("shop").unwrap(), Oversize::Count(1001)),
            DeployError::Certificate(crate::x509::CertificateFault::OtherKey),
            DeployError::NoApp,
            DeployError::NoRelease,
            DeployError::NoSuchRelease(9, vec![4, 2]),
            DeployError::NeverServed(3, vec![]),
            DeployError::ServesAlready(5),
            DeployError::NothingBefore,
            DeployError::ImageGone(2, crate::model::CommitId::parse(&"a1".repeat(20)).unwrap()),
            DeployError::NoImage("paas/shop:v2".into()),
            DeployError::NoProcessType("clock".into(), vec!["web".into()]),
            DeployError::NoProcess(selection("worker.3"), vec![process("worker.1"), process("worker.2")]),
            DeployError::NoProcess(selection("worker"), vec![]),
            DeployError::AllStopped,
            DeployError::Stands(Box::new(DeployError::Store(StoreError::NoAddress))),
            DeployError::StaysAwake(Wakeful::NoWeb),
            DeployError::StaysAwake(Wakeful::Unwell),
            DeployError::StaysAwake(Wakeful::Watched),
            DeployError::StaysAwake(Wakeful::InUse),
            DeployError::StaysAwake(Wakeful::NoProxy),
            DeployError::CutOff,
            DeployError::TooManyWebhooks,
            DeployError::NoWebhook(Undelivered::NoAddress),
            DeployError::NoWebhook(Undelivered::Own),
            DeployError::TooManyNames,
            DeployError::NoWebhook(Undelivered::Private([169, 254, 169, 254].into())),
            DeployError::BeingRemoved(AppName::parse("shop").unwrap()),
            DeployError::HalfRemoved(AppName::parse("shop").unwrap()),
            DeployError::OtherBranch("live".into()),
            DeployError::TooMany(40, 2),
            DeployError::Store(StoreError::NameTaken("shop".into())),
            DeployError::Store(StoreError::NoAddress),
            DeployError::Store(StoreError::NoPort),
            DeployError::Internal("x".into()),
        ];
        let text: Vec<String> = errors.iter().map(|error| error.problem().to_string()).collect();
        insta::assert_snapshot!(text.join("\n\n"));
    }

    #[test]
    fn a_release_that_was_taken_back() {
        let evidence = Evidence::Errors { answers: 80, errors: 12, former_answers: 70, former_errors: 0 };
        let told = TakenBack { release: 7, evidence, by: 8, source: Some(6) };
        insta::assert_snapshot!(taken_back(&told));
    }
}
