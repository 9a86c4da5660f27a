//! `domains…` and `https…`: the names of an app, and how it is reached by them.

use super::of_app::OfApp;
use super::table::{facts, table, time};
use super::{CommandError, Session};
use crate::deploy::NameState;
use crate::model::{App, AppName, CertificateOrigin, Domain, Mount, Redirect};
use serde_json::json;

impl Session<'_> {
    pub(super) async fn domains(&mut self, name: AppName, as_json: bool) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let states = self.pipeline.name_states(&app).await?;
        let others = self.pipeline.mounts_of_others(&app).await?;
        let redirect = |name: &Domain| app.redirects.iter().find(|one| one.from == *name);
        if as_json {
            let all = states.iter().map(|(name, state)| {
                let (until, problem) = match state {
                    NameState::Covered { until, .. } => (Some(time(*until)), None),
                    NameState::Failed { problem, .. } => (None, Some(problem.clone())),
                    NameState::None(why) => (None, Some((*why).to_owned())),
                    NameState::Due => (None, None),
                };
                json!({
                    "name": name, "certificate": kind(state), "until": until, "problem": problem,
                    "redirect": redirect(name).map(|to| json!({"to": to.to, "code": to.code})),
                })
            });
            let own = app.mounts.iter().map(|mount| {
                json!({"name": mount.to_string(), "certificate": "name", "strip_prefix": mount.strip})
            });
            return self.print_json(&all.chain(own).collect()).await;
        }
        let own = app.mounts.iter().map(|mount| (mount.to_string(), own_path(mount)));
        let others = others.into_iter().map(|(part, owner)| (part, format!("answered by {owner}")));
        let paths: Vec<(String, String)> = own.chain(others).collect();
        if app.redirects.is_empty() {
            let names = states.iter().map(|(name, state)| vec![name.to_string(), told(state)]);
            let paths = paths.into_iter().map(|(path, told)| vec![path, told]);
            let rows: Vec<Vec<String>> = names.chain(paths).collect();
            return self.print(&table(&["NAME", "CERTIFICATE"], &rows)).await;
        }
        let row = |(name, state): &(Domain, NameState)| {
            let to = redirect(name).map_or_else(|| "-".to_owned(), |to| format!("{} ({})", to.to, to.code));
            vec![name.to_string(), to, told(state)]
        };
        let paths = paths.into_iter().map(|(path, told)| vec![path, "-".to_owned(), told]);
        let rows: Vec<Vec<String>> = states.iter().map(row).chain(paths).collect();
        self.print(&table(&["NAME", "SENT ON TO", "CERTIFICATE"], &rows)).await
    }

    pub(super) async fn domains_add(&mut self, app: OfApp, strip: bool) -> Result<(), CommandError> {
        if app.peek().1.iter().any(|word| is_path(word)) {
            let (app, mounts) = self.mounts(app, "domains:add", strip).await?;
            let text: String =
                mounts.iter().map(|mount| format!("{} answers to {mount}.\n", app.name)).collect();
            self.pipeline.add_mounts(&app, mounts).await?;
            return self.print(&text).await;
        }
        if strip {
            let reason = "--strip-prefix is about a path under a name, such as example.com/api".to_owned();
            return Err(CommandError::Usage { command: "domains:add".to_owned(), reason });
        }
        let (app, names) = self.named(app, "domains:add").await?;
        let base = &self.pipeline.workers.settings.domain;
        names.iter().try_for_each(|name| name.expect_free(&app.name, base))?;
        let added = self.pipeline.add_domains(&app, names).await?;
        let text = match &added[..] {
            [] => format!("{} has these names already.\n", app.name),
            added => added.iter().map(|name| format!("{} answers to {name}.\n", app.name)).collect(),
        };
        self.print(&text).await
    }

    pub(super) async fn domains_remove(&mut self, app: OfApp) -> Result<(), CommandError> {
        if app.peek().1.iter().any(|word| is_path(word)) {
            let (app, mounts) = self.mounts(app, "domains:remove", false).await?;
            let text: String =
                mounts.iter().map(|mount| format!("{} answers to {mount} no more.\n", app.name)).collect();
            self.pipeline.remove_mounts(&app, mounts).await?;
            return self.print(&text).await;
        }
        let (app, names) = self.named(app, "domains:remove").await?;
        let text: String =
            names.iter().map(|name| format!("{} answers to {name} no more.\n", app.name)).collect();
        self.pipeline.remove_domains(&app, names).await?;
        self.print(&text).await
    }

    pub(super) async fn domains_redirect(
        &mut self,
        app: OfApp,
        code: u16,
        off: bool,
    ) -> Result<(), CommandError> {
        let (name, words) = app.split("domains:redirect")?;
        let app = self.app(&name).await?;
        match &words[..] {
            [from] if off => {
                let from = self.own_name(&app, from)?;
                let ended = self.pipeline.end_redirect(&app, from.clone()).await?;
                let how = if ended { "answers to" } else { "answers already to" };
                self.print(&format!("{name} {how} {from} itself.\n")).await
            }
            [from, to] if !off => {
                let (from, to) = (self.own_name(&app, from)?, Domain::given(to)?);
                let Domain::Exact(to) = to else { return Err(CommandError::NotOneName(to)) };
                if !Redirect::CODES.contains(&code) {
                    return Err(CommandError::NotARedirect(code));
                }
                let said = format!("Requests of {from} are sent on to {to} ({code}).\n");
                self.pipeline.redirect(&app, Redirect { from, to, code }).await?;
                self.print(&said).await
            }
            _ => {
                let reason =
                    "give a name of the app's and where it is sent on to, or the name and --off".to_owned();
                Err(CommandError::Usage { command: "domains:redirect".to_owned(), reason })
            }
        }
    }

    /// A name that the app may have been given, or that it has of the server.
    fn own_name(&self, app: &App, word: &str) -> Result<Domain, CommandError> {
        let given = word.trim_end_matches('.').to_ascii_lowercase();
        let own = self.pipeline.names(app).into_iter().find(|name| name.to_string() == given);
        own.map_or_else(|| Ok(Domain::given(word)?), Ok)
    }

    /// Paths under names, and no names.
    async fn mounts(
        &mut self,
        app: OfApp,
        command: &'static str,
        strip: bool,
    ) -> Result<(App, Vec<Mount>), CommandError> {
        let (name, words) = app.split(command)?;
        let app = self.app(&name).await?;
        if !words.iter().all(|word| is_path(word)) {
            let reason = "give names, or paths under names, and not both at once".to_owned();
            return Err(CommandError::Usage { command: command.to_owned(), reason });
        }
        let mounts = words.iter().map(|word| Mount::given(word, strip)).collect::<Result<_, _>>()?;
        Ok((app, mounts))
    }

    async fn named(&mut self, app: OfApp, command: &'static str) -> Result<(App, Vec<Domain>), CommandError> {
        let (name, words) = app.split(command)?;
        let app = self.app(&name).await?;
        if words.is_empty() {
            let reason = "give a name, such as www.example.com or *.example.com".to_owned();
            return Err(CommandError::Usage { command: command.to_owned(), reason });
        }
        let names = words.iter().map(|word| Domain::given(word)).collect::<Result<Vec<_>, _>>()?;
        Ok((app, names))
    }

    pub(super) async fn https(&mut self, name: AppName) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let policy = app.https.policy();
        let said = |given: bool| if given { "https:set" } else { "default" };
        let hsts = if policy.hsts == 0 { "off".to_owned() } else { format!("{} s", policy.hsts) };
        let redirect = if policy.redirect { "on" } else { "off" };
        let lines = [
            ("redirect", format!("{redirect} ({})", said(app.https.redirect.is_some()))),
            ("hsts", format!("{hsts} ({})", said(app.https.hsts.is_some()))),
        ];
        self.print(&facts(&lines)).await
    }

    pub(super) async fn https_set(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (name, words) = app.split("https:set")?;
        let app = self.app(&name).await?;
        if words.is_empty() {
            let reason = "give KEY=VALUE, such as redirect=off hsts=180d".to_owned();
            return Err(CommandError::Usage { command: "https:set".to_owned(), reason });
        }
        let mut choice = app.https;
        words.iter().try_for_each(|word| choice.set(word)).map_err(CommandError::NotHttps)?;
        self.pipeline.set_https(&app, choice).await?;
        self.https(name).await
    }
}

/// Whether a word is a name with a path; of a URL it is said that it is more than a name.
fn is_path(word: &str) -> bool {
    word.contains('/') && !word.contains("://")
}

fn own_path(mount: &Mount) -> String {
    let how = if mount.strip { "; the app sees what follows" } else { "" };
    format!("that of {}{how}", mount.host)
}

fn kind(state: &NameState) -> &'static str {
    match state {
        NameState::Covered { origin, .. } => origin_word(*origin),
        NameState::Failed { .. } => "failed",
        NameState::Due => "ordered",
        NameState::None(_) => "none",
    }
}

/// Where a certificate is from, in a word.
pub(super) fn origin_word(origin: CertificateOrigin) -> &'static str {
    match origin {
        CertificateOrigin::Own => "own",
        CertificateOrigin::Acme => "acme",
        CertificateOrigin::Selfmade => "self-signed",
    }
}

fn told(state: &NameState) -> String {
    match state {
        NameState::Covered { origin, until } => format!("{}, until {}", origin_word(*origin), time(*until)),
        NameState::Failed { problem, next_at } => {
            format!("none: {problem}; tried again at {}", time(*next_at))
        }
        NameState::Due => "being ordered".to_owned(),
        NameState::None(why) => format!("none: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_told() {
        let (until, next_at) = (1_800_000_000, 1_800_000_060);
        let states = [
            NameState::Covered { origin: CertificateOrigin::Own, until },
            NameState::Covered { origin: CertificateOrigin::Acme, until },
            NameState::Covered { origin: CertificateOrigin::Selfmade, until },
            NameState::Failed { problem: "the certificate authority says: no".to_owned(), next_at },
            NameState::Due,
            NameState::None("HTTPS is off (tls, https_listen)"),
        ];
        let lines = states.map(|state| format!("{}: {}", kind(&state), told(&state)));
        insta::assert_snapshot!(lines.join("\n"), @r"
        own: own, until 2027-01-15T08:00:00Z
        acme: acme, until 2027-01-15T08:00:00Z
        self-signed: self-signed, until 2027-01-15T08:00:00Z
        failed: none: the certificate authority says: no; tried again at 2027-01-15T08:01:00Z
        ordered: being ordered
        none: none: HTTPS is off (tls, https_listen)
        ");
    }
}
