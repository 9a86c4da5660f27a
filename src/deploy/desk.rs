//! The means to answer an authority's challenges: the proxies, and the administrator's
//! program for DNS records.

use super::Pipeline;
use crate::acme::{Answerer, Proof};
use crate::settings::AcmeSettings;
use crate::spawn;
use futures_util::future::BoxFuture;
use std::time::Duration;

/// How long the proxies may take to answer a challenge.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the hook for DNS records may take.
const HOOK: Duration = Duration::from_secs(300);

/// Puts proofs where the authority looks for them.
pub(super) struct Desk<'a> {
    /// Whose proxies answer.
    pub(super) pipeline: &'a Pipeline,
    /// Whose program answers.
    pub(super) acme: &'a AcmeSettings,
}

impl Desk<'_> {
    async fn put_up(&self, proof: &Proof) -> Result<(), String> {
        let certificates = &self.pipeline.certificates;
        let version = certificates.change_challenges(|challenges| match proof {
            Proof::Http(challenge) => challenges.http.push(challenge.clone()),
            Proof::Tls(challenge) => challenges.tls.push(challenge.clone()),
            Proof::Dns { .. } => {}
        });
        if let Proof::Dns { name, value } = proof {
            return self.hook("present", name, value).await;
        }
        if certificates.answered(version, ANSWER).await {
            return Ok(());
        }
        Err("the proxy does not answer the challenge: it is away, or of an older version".to_owned())
    }

    async fn take_down(&self, proof: &Proof) {
        self.pipeline.certificates.change_challenges(|challenges| match proof {
            Proof::Http(gone) => challenges.http.retain(|challenge| challenge != gone),
            Proof::Tls(gone) => challenges.tls.retain(|challenge| challenge != gone),
            Proof::Dns { .. } => {}
        });
        if let Proof::Dns { name, value } = proof
            && let Err(error) = self.hook("cleanup", name, value).await
        {
            tracing::warn!(name, error, "a DNS record may be left");
        }
    }

    /// Runs the administrator's program: `present NAME VALUE`, `cleanup NAME VALUE`.
    async fn hook(&self, phase: &'static str, name: &str, value: &str) -> Result<(), String> {
        let Some(program) = &self.acme.dns_hook else { return Err("acme.dns_hook is not set".to_owned()) };
        let said = |what: &str| format!("acme.dns_hook ({}): {what}", program.display());
        let running = spawn::dns_hook(program, [phase, name, value]).output();
        let output = tokio::time::timeout(HOOK, running).await.map_err(|_| said("it did not end in time"))?;
        let output = output.map_err(|error| said(&error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed");
        let last: String = crate::output::tame(last).chars().take(200).collect();
        Err(said(&last))
    }
}

impl Answerer for Desk<'_> {
    fn present<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.put_up(proof))
    }

    fn withdraw<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, ()> {
        Box::pin(self.take_down(proof))
    }
}
