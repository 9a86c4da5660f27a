//! One order: prove that a name is ours, and get its certificate.

use super::error::told;
use super::http::{asking, explain};
use super::{AcmeError, Authority};
use crate::model::{Domain, HttpChallenge, PrivateKeyPem, TlsChallenge};
use crate::settings::ChallengeKind;
use crate::x509::{self, Certificate};
use futures_util::future::BoxFuture;
use instant_acme::{
    AuthorizationStatus, ChallengeHandle, ChallengeType, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use std::time::Duration;

/// How long an authority may take to look for our answer, and to issue.
const PATIENCE: Duration = Duration::from_secs(90);

/// What proves that a name is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// By a path.
    Http(HttpChallenge),
    /// By a handshake.
    Tls(TlsChallenge),
    /// By a TXT record.
    Dns {
        /// `_acme-challenge.example.com`
        name: String,
        /// Its text.
        value: String,
    },
}

/// Whoever puts a proof where the authority looks for it.
pub trait Answerer: Send + Sync {
    /// Returns once it is there, or with the reason in one line.
    fn present<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, Result<(), String>>;
    /// Takes it away again.
    fn withdraw<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, ()>;
}

impl Authority {
    /// Orders a certificate for one name.
    pub async fn order(
        &self,
        name: &Domain,
        kind: ChallengeKind,
        answerer: &dyn Answerer,
    ) -> Result<Certificate, AcmeError> {
        let mut presented = Vec::new();
        let ordered = asking(self.prove_and_fetch(name, kind, answerer, &mut presented)).await;
        for proof in &presented {
            answerer.withdraw(proof).await;
        }
        ordered
    }

    async fn prove_and_fetch(
        &self,
        name: &Domain,
        kind: ChallengeKind,
        answerer: &dyn Answerer,
        presented: &mut Vec<Proof>,
    ) -> Result<Certificate, AcmeError> {
        let identifiers = [Identifier::Dns(name.to_string())];
        let mut order = self.account.new_order(&NewOrder::new(&identifiers)).await.map_err(explain)?;
        self.prove(&mut order, name, kind, answerer, presented).await?;
        let policy = RetryPolicy::new().timeout(PATIENCE);
        match order.poll_ready(&policy).await.map_err(explain)? {
            OrderStatus::Ready | OrderStatus::Valid => {}
            OrderStatus::Invalid => return Err(self.reason(&mut order).await),
            OrderStatus::Pending | OrderStatus::Processing => return Err(AcmeError::Undecided),
        }
        let key = KeyPair::generate()?;
        let request = CertificateParams::new(vec![name.to_string()])?.serialize_request(&key)?;
        order.finalize_csr(request.der()).await.map_err(explain)?;
        let chain = order.poll_certificate(&policy).await.map_err(explain)?;
        Ok(x509::issued(chain, PrivateKeyPem::new(key.serialize_pem()))?)
    }

    async fn prove(
        &self,
        order: &mut Order,
        name: &Domain,
        kind: ChallengeKind,
        answerer: &dyn Answerer,
        presented: &mut Vec<Proof>,
    ) -> Result<(), AcmeError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(explain)?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let (wanted, called) = match kind {
                ChallengeKind::Http01 => (ChallengeType::Http01, "http-01"),
                ChallengeKind::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
                ChallengeKind::Dns01 => (ChallengeType::Dns01, "dns-01"),
            };
            let Some(mut challenge) = authorization.challenge(wanted) else {
                return Err(AcmeError::NotOffered(called));
            };
            let proof = proof(&challenge, name, kind)?;
            presented.push(proof.clone());
            answerer.present(&proof).await.map_err(AcmeError::Answer)?;
            challenge.set_ready().await.map_err(explain)?;
        }
        Ok(())
    }

    /// Why an order was refused: the words are with the challenges.
    async fn reason(&self, order: &mut Order) -> AcmeError {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else { break };
            if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
                return AcmeError::Unproven(told(problem));
            }
        }
        AcmeError::Unproven("the certificate authority gives no reason".to_owned())
    }
}

fn proof(challenge: &ChallengeHandle<'_>, name: &Domain, kind: ChallengeKind) -> Result<Proof, AcmeError> {
    let authorization = challenge.key_authorization();
    let (Domain::Exact(host) | Domain::Below(host)) = name;
    Ok(match kind {
        ChallengeKind::Http01 => Proof::Http(HttpChallenge {
            host: host.clone(),
            token: challenge.token.clone(),
            answer: authorization.as_str().to_owned(),
        }),
        ChallengeKind::TlsAlpn01 => {
            let mut params = CertificateParams::new(vec![host.to_string()])?;
            let digest = authorization.digest();
            params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
            let key = KeyPair::generate()?;
            let chain = params.self_signed(&key)?.pem();
            let key = PrivateKeyPem::new(key.serialize_pem());
            Proof::Tls(TlsChallenge { host: host.clone(), chain, key })
        }
        ChallengeKind::Dns01 => {
            Proof::Dns { name: format!("_acme-challenge.{host}"), value: authorization.dns_value() }
        }
    })
}
