//! The one HTTPS client, for whoever must ask somebody outside: certificates checked
//! against the host's own and further ones, everything bounded by size and time.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// For a connection with its handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// For everything.
const WHOLE: Duration = Duration::from_secs(30);
/// The longest answer, in bytes.
const LONGEST: usize = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// A file of certificates that can't be used.
    #[error("{}: {cause}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: io::Error,
    },
    /// Not `https://host…`.
    #[error("{0} is no https address")]
    Address(String),
    /// No connection.
    #[error("{host} can't be reached: {cause}")]
    Connect {
        /// Host and port.
        host: String,
        /// The system's or TLS's words.
        cause: io::Error,
    },
    /// The answer is broken or too long.
    #[error("{host} gives no proper answer: {cause}")]
    Answer {
        /// Host and port.
        host: String,
        /// What is wrong.
        cause: String,
    },
    /// No end in time.
    #[error("{host} does not answer in time")]
    Slow {
        /// Host and port.
        host: String,
    },
}

/// A client; clones share it.
#[derive(Clone)]
pub struct Client {
    connector: TlsConnector,
}

/// The certificates of authorities in a PEM file.
pub fn roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, HttpsError> {
    let failed = |cause| HttpsError::Roots { path: path.to_owned(), cause };
    let text = std::fs::read(path).map_err(failed)?;
    let all = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    all.map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// Speaks TLS with servers that one of these authorities vouches for.
pub fn connector(roots: RootCertStore) -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()).into())
}

impl Client {
    /// Trusts the authorities in `bundle` (if it is there) and those in `further`.
    pub fn new(bundle: &Path, further: Option<&Path>) -> Result<Self, HttpsError> {
        let mut store = RootCertStore::empty();
        if bundle.exists() {
            store.add_parsable_certificates(roots(bundle)?);
        }
        if let Some(path) = further {
            let (added, _) = store.add_parsable_certificates(roots(path)?);
            if added == 0 {
                let cause = io::Error::new(io::ErrorKind::InvalidData, "there is no certificate in it");
                return Err(HttpsError::Roots { path: path.to_owned(), cause });
            }
        }
        let failed = |error| HttpsError::Roots { path: bundle.to_owned(), cause: io::Error::other(error) };
        Ok(Self { connector: connector(store).map_err(failed)? })
    }

    /// Sends a request on a connection of its own; the whole answer.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpsError> {
        let uri = request.uri().clone();
        let host = place(&uri).ok_or_else(|| HttpsError::Address(uri.to_string()))?;
        let sent = tokio::time::timeout(WHOLE, self.exchange(request, &uri, &host));
        sent.await.unwrap_or(Err(HttpsError::Slow { host }))
    }

    async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
        uri: &Uri,
        host: &str,
    ) -> Result<Response<Bytes>, HttpsError> {
        let failed = |cause: String| HttpsError::Answer { host: host.to_owned(), cause };
        let connecting = tokio::time::timeout(CONNECT, self.connect(uri, host));
        let stream = connecting.await.map_err(|_| HttpsError::Slow { host: host.to_owned() })?;
        let stream = stream.map_err(|cause| HttpsError::Connect { host: host.to_owned(), cause })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let authority = uri.authority().map_or(host, |authority| authority.as_str());
        let value = HeaderValue::try_from(authority).map_err(|error| failed(error.to_string()))?;
        request.headers_mut().insert(HOST, value);
        let path = uri.path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LONGEST).collect().await.map_err(|error| {
                let long = error.downcast_ref::<LengthLimitError>().is_some();
                failed(if long { "it is too long".to_owned() } else { error.to_string() })
            })?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => match ended {
                // What it has read is in the answer's hands.
                Ok(()) => answer.await,
                Err(error) => Err(failed(error.to_string())),
            },
        }
    }

    async fn connect(&self, uri: &Uri, host: &str) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        self.connector.connect(name, stream).await
    }
}

/// Host and port of an https address.
fn place(uri: &Uri) -> Option<String> {
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https"))?;
    Some(format!("{host}:{}", uri.port_u16().unwrap_or(443)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_https_addresses_are_asked() {
        let place = |text: &'static str| place(&Uri::from_static(text));
        assert_eq!(place("https://a.example/x").unwrap(), "a.example:443");
        assert_eq!(place("https://[::1]:14000/dir").unwrap(), "[::1]:14000");
        assert_eq!(place("http://a.example/"), None);
        assert_eq!(place("/dir"), None);
    }

    #[tokio::test]
    async fn what_keeps_it_from_an_answer_is_named() {
        let client = Client::new(Path::new("/nonexistent"), None).unwrap();
        let ask = |uri: &str| Request::builder().uri(uri).body(Full::default()).unwrap();
        let error = client.send(ask("ftp://a.example/")).await.unwrap_err().to_string();
        assert_eq!(error, "ftp://a.example/ is no https address");
        let error = client.send(ask("https://127.0.0.1:1/")).await.unwrap_err().to_string();
        assert!(error.starts_with("127.0.0.1:1 can't be reached: "), "{error}");
        let error = Client::new(Path::new("/nonexistent"), Some(Path::new("/dev/null"))).err().unwrap();
        assert_eq!(error.to_string(), "/dev/null: there is no certificate in it");
    }
}
