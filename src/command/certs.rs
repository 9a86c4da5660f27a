//! `certs…`: certificates of an app, and those of the server for all names.

use super::domains::origin_word;
use super::of_app::OfApp;
use super::table::{table, time};
use super::{CommandError, Right, Session, authorise};
use crate::model::{App, StoredCertificate};
use crate::store;
use serde_json::json;

/// Longest chain with its key on standard input, bytes.
const LONGEST: u64 = 256 << 10;

/// Said of a certificate that browsers will warn of.
const UNKNOWN: &str =
    "No authority that this server knows vouches for it, so plain requests are not sent on to HTTPS.\n";

impl Session<'_> {
    /// The app that a command is about; `None` for the server.
    async fn owner(
        &mut self,
        app: OfApp,
        server: bool,
        command: &'static str,
    ) -> Result<(Option<App>, Vec<String>), CommandError> {
        if server {
            if !authorise(&self.caller, Right::Server) {
                return Err(CommandError::Forbidden);
            }
            return Ok((None, app.none(command)?));
        }
        let (name, words) = app.split(command)?;
        Ok((Some(self.app(&name).await?), words))
    }

    pub(super) async fn certs(&mut self, app: OfApp, as_json: bool) -> Result<(), CommandError> {
        let all = app.is_none();
        if all && !authorise(&self.caller, Right::Server) {
            return Err(CommandError::Forbidden);
        }
        let id = if all { None } else { Some(self.app(&app.only("certs")?).await?.id) };
        let read = self.pipeline.workers.store.read(move |db| {
            let apps = store::apps::list(db)?;
            let mut certificates = store::certificates::list(db)?;
            certificates.retain(|one| id.is_none() || one.app == id);
            Ok((apps, certificates))
        });
        let (apps, certificates) = read.await?;
        let owner = |one: &StoredCertificate| {
            let app = apps.iter().find(|app| Some(app.id) == one.app);
            app.map_or_else(|| "(server)".to_owned(), |app| app.name.to_string())
        };
        if as_json {
            let all = certificates.iter().map(|one| {
                json!({
                    "id": one.id, "app": one.app.map(|_| owner(one)), "names": one.names,
                    "origin": origin_word(one.origin), "issuer": one.issuer,
                    "from": time(one.not_before), "until": time(one.not_after),
                })
            });
            return self.print_json(&all.collect()).await;
        }
        let rows: Vec<Vec<String>> = certificates.iter().map(|one| row(owner(one), one)).collect();
        self.print(&table(&["ID", "APP", "ORIGIN", "UNTIL", "ISSUER", "NAMES"], &rows)).await
    }

    pub(super) async fn certs_add(&mut self, app: OfApp, server: bool) -> Result<(), CommandError> {
        let (app, words) = self.owner(app, server, "certs:add").await?;
        expect_no_words("certs:add", &words)?;
        let text = zeroize::Zeroizing::new(self.read_text(LONGEST).await?);
        let (stored, replaced) = self.pipeline.add_certificate(app.as_ref(), &text).await?;
        let names: Vec<String> = stored.names.iter().map(ToString::to_string).collect();
        let instead = match replaced {
            0 => String::new(),
            1 => " It replaces another.".to_owned(),
            more => format!(" It replaces {more} others."),
        };
        let until = time(stored.not_after);
        let doubt = if stored.trusted { "" } else { UNKNOWN };
        self.print(&format!("Added {} for {}, until {until}.{instead}\n{doubt}", stored.id, names.join(", ")))
            .await
    }

    pub(super) async fn certs_remove(&mut self, app: OfApp, server: bool) -> Result<(), CommandError> {
        let (app, words) = self.owner(app, server, "certs:remove").await?;
        let [id] = &words[..] else {
            let reason = "give one ID, as certs lists it".to_owned();
            return Err(CommandError::Usage { command: "certs:remove".to_owned(), reason });
        };
        if !self.pipeline.remove_certificate(app.map(|app| app.id), id).await? {
            return Err(CommandError::NoSuchCertificate(id.chars().take(40).collect()));
        }
        self.print(&format!("Removed {id}.\n")).await
    }
}

fn expect_no_words(command: &str, words: &[String]) -> Result<(), CommandError> {
    if words.is_empty() {
        return Ok(());
    }
    let reason = "the certificate and its key come on standard input".to_owned();
    Err(CommandError::Usage { command: command.to_owned(), reason })
}

fn row(owner: String, one: &StoredCertificate) -> Vec<String> {
    let names: Vec<String> = one.names.iter().map(ToString::to_string).collect();
    let origin = origin_word(one.origin).to_owned();
    vec![one.id.clone(), owner, origin, time(one.not_after), one.issuer.clone(), names.join(" ")]
}
