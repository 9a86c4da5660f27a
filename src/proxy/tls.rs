//! TLS: which certificate is shown, and the handshakes.

use super::names::ByName;
use crate::model::{CertificateTable, Challenges, ServedCertificate, TlsChallenge};
use crate::x509;
use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, crypto};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

/// HTTP/2, by its name in handshakes.
pub(super) const HTTP2: &[u8] = b"h2";
/// What is offered to clients, best first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
/// The protocol of TLS-ALPN-01, in which nothing is said after the handshake.
const CHALLENGE: &[u8] = b"acme-tls/1";
/// With what every client that speaks TLS begins.
const HANDSHAKE: u8 = 0x16;
/// The answer to those who do not.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 49\r\n\r\nThis port speaks HTTPS; write https:// in front.\n";

/// Certificates in force and challenges to be answered.
pub(super) struct Tls {
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
    challenges: ArcSwap<Answers>,
}

/// Picks the certificate of a handshake.
#[derive(Default)]
struct Shown(ArcSwap<Certificates>);

/// A certificate that is in force.
struct Shining {
    key: Arc<CertifiedKey>,
    trusted: bool,
    /// Seconds since the epoch.
    until: i64,
}

#[derive(Default)]
struct Certificates {
    names: ByName<Arc<Shining>>,
    fallback: Option<Arc<Shining>>,
}

/// What certificate authorities are told.
#[derive(Default)]
struct Answers {
    http: HashMap<(String, String), String>,
    tls: HashMap<String, Arc<ServerConfig>>,
}

impl Tls {
    /// With these certificates in force.
    pub(super) fn new(table: &CertificateTable) -> Result<Self, rustls::Error> {
        let shown = Arc::new(Shown::default());
        let mut config = builder()?.with_cert_resolver(shown.clone());
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        config.ticketer = crypto::ring::Ticketer::new()?;
        let tls = Self { shown, config: Arc::new(config), challenges: ArcSwap::default() };
        tls.show(table);
        Ok(tls)
    }

    /// Shows these from now on. One that can't be used is left out, with a line in the log.
    pub(super) fn show(&self, table: &CertificateTable) {
        let mut certificates = Certificates::default();
        for served in &table.certificates {
            match read(served) {
                Ok(shining) => certificates.add(served, Arc::new(shining)),
                Err(error) => warn!(names = ?served.names, %error, "a certificate can't be used"),
            }
        }
        self.shown.0.store(Arc::new(certificates));
    }

    /// Answers these challenges from now on.
    pub(super) fn answer(&self, challenges: &Challenges) {
        self.challenges.store(Arc::new(Answers::new(challenges)));
    }

    /// The answer to an HTTP-01 challenge, while there is one of that name.
    pub(super) fn http_answer(&self, host: &str, path: &str) -> Option<String> {
        let answers = self.challenges.load();
        if answers.http.is_empty() {
            return None;
        }
        let token = path.strip_prefix("/.well-known/acme-challenge/")?;
        answers.http.get(&(host.to_owned(), token.to_owned())).cloned()
    }

    /// Whether clients will trust what is shown to them for this name.
    pub(super) fn is_trusted(&self, host: &str) -> bool {
        self.shown.0.load().names.get(host).is_some_and(|shining| shining.trusted)
    }

    /// Until when each name's certificate counts, by name.
    pub(super) fn expiries(&self) -> Vec<(String, i64)> {
        let certificates = self.shown.0.load();
        let mut all: Vec<_> = certificates.names.all().map(|(name, shining)| (name, shining.until)).collect();
        all.sort_unstable();
        all
    }

    /// Whether the same certificate is shown for both names.
    pub(super) fn is_same(&self, one: &str, other: &str) -> bool {
        let certificates = self.shown.0.load();
        match (certificates.of(Some(one)), certificates.of(Some(other))) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Shakes hands; `None` if that is all there was to do.
    pub(super) async fn shake_hands(
        &self,
        stream: TcpStream,
        limit: Duration,
    ) -> io::Result<Option<TlsStream<TcpStream>>> {
        tokio::time::timeout(limit, self.greet(stream)).await?
    }

    async fn greet(&self, mut stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
            // Closing on unread bytes would reset the connection, answer and all.
            let _ = stream.read(&mut [0; 4096]).await?;
            stream.write_all(PLAIN).await?;
            return Ok(None);
        }
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let hello = start.client_hello();
        if !hello.alpn().is_some_and(|mut names| names.any(|name| name == CHALLENGE)) {
            return start.into_stream(Arc::clone(&self.config)).await.map(Some);
        }
        let name = hello.server_name().map(str::to_ascii_lowercase).unwrap_or_default();
        let Some(config) = self.challenges.load().tls.get(&name).cloned() else {
            return Err(io::Error::other("no challenge is answered for this name"));
        };
        debug!(name, "a challenge was answered by TLS");
        start.into_stream(config).await?.shutdown().await?;
        Ok(None)
    }
}

impl Certificates {
    fn add(&mut self, served: &ServedCertificate, shining: Arc<Shining>) {
        for name in &served.names {
            self.names.add(name, Arc::clone(&shining));
        }
        if served.fallback {
            self.fallback.get_or_insert(shining);
        }
    }

    fn of(&self, name: Option<&str>) -> Option<&Arc<Shining>> {
        let lower = name.map(str::to_ascii_lowercase);
        let named = lower.and_then(|name| self.names.get(&name));
        named.or(self.fallback.as_ref())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().of(hello.server_name()).map(|shining| Arc::clone(&shining.key))
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown")
    }
}

impl Answers {
    fn new(challenges: &Challenges) -> Self {
        let http = challenges.http.iter().map(|challenge| {
            let place = (challenge.host.as_str().to_owned(), challenge.token.clone());
            (place, challenge.answer.clone())
        });
        let tls = challenges.tls.iter().filter_map(|challenge| {
            let config = challenge_config(challenge)
                .inspect_err(|error| warn!(name = %challenge.host, %error, "a challenge can't be answered"));
            Some((challenge.host.as_str().to_owned(), Arc::new(config.ok()?)))
        });
        Self { http: http.collect(), tls: tls.collect() }
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>, rustls::Error> {
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(config.with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(crypto::ring::default_provider()))
}

fn challenge_config(challenge: &TlsChallenge) -> io::Result<ServerConfig> {
    let (chain, key) = pem(&challenge.chain, challenge.key.as_str())?;
    let key = provider().key_provider.load_private_key(key).map_err(io::Error::other)?;
    // Its answer stands in a critical extension, which no ordinary check lets pass.
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let builder = builder().map_err(io::Error::other)?;
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![CHALLENGE.to_vec()];
    Ok(config)
}

fn read(served: &ServedCertificate) -> io::Result<Shining> {
    let (chain, key) = pem(&served.chain, served.key.as_str())?;
    let until = chain.first().and_then(|leaf| x509::until(leaf)).unwrap_or_default();
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(io::Error::other)?;
    Ok(Shining { key: Arc::new(key), trusted: served.trusted, until })
}

fn pem(chain: &str, key: &str) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    Ok((chain.map_err(io::Error::other)?, key.map_err(io::Error::other)?))
}
