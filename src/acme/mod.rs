//! Certificates from an authority by ACME (RFC 8555). Asks and answers; what is
//! ordered when, and where it is kept, is for the pipeline to say.

mod error;
mod http;
mod order;

pub use error::AcmeError;
pub use order::{Answerer, Proof};

use crate::https::Client;
use crate::settings::AcmeSettings;
use http::{Http, asking, explain};
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use std::path::Path;

/// An authority and our account there.
pub struct Authority {
    account: Account,
}

impl Authority {
    /// Logs in with the stored account, or makes one; with what is to be stored then.
    pub async fn enter(
        settings: &AcmeSettings,
        bundle: &Path,
        stored: Option<&str>,
    ) -> Result<(Self, Option<String>), AcmeError> {
        let client = Client::new(bundle, settings.ca_file.as_deref())?;
        let http = Http::new(client);
        let known = match stored {
            Some(text) => asking(Self::known(&http, text)).await?,
            None => None,
        };
        if let Some(account) = known {
            return Ok((Self { account }, None));
        }
        let (account, credentials) = asking(Self::create(&http, settings)).await?;
        let text = serde_json::to_string(&credentials).map_err(instant_acme::Error::from);
        let text = text.map_err(explain)?;
        Ok((Self { account }, Some(text)))
    }

    /// The stored account; `None` if it does not read.
    async fn known(http: &Http, text: &str) -> Result<Option<Account>, AcmeError> {
        let Ok(credentials) = serde_json::from_str::<AccountCredentials>(text) else { return Ok(None) };
        let builder = Account::builder_with_http(Box::new(http.clone()));
        builder.from_credentials(credentials).await.map(Some).map_err(explain)
    }

    async fn create(
        http: &Http,
        settings: &AcmeSettings,
    ) -> Result<(Account, AccountCredentials), AcmeError> {
        let contact = settings.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = settings.external.as_ref();
        let key = external.map(|external| ExternalAccountKey::new(external.id.clone(), &external.key));
        let builder = Account::builder_with_http(Box::new(http.clone()));
        let made = builder.create(&new, settings.directory.clone(), key.as_ref()).await;
        made.map_err(explain)
    }
}
