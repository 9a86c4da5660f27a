//! One request and its status.

use super::signature::sign;
use super::{Place, Undelivered};
use crate::https;
use crate::model::Delivery;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

/// From the first byte of the connection to the status.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends messages.
pub struct Courier {
    allowed: Vec<IpNet>,
    ca_bundle: Option<Vec<u8>>,
    tls: OnceLock<Option<TlsConnector>>,
}

impl Courier {
    /// One that goes to public addresses and to those that are allowed, and trusts
    /// the certificates of this bundle.
    pub fn new(allowed: &[IpNet], ca_bundle: Option<&[u8]>) -> Self {
        let ca_bundle = ca_bundle.map(<[u8]>::to_vec);
        Self { allowed: allowed.to_vec(), ca_bundle, tls: OnceLock::new() }
    }

    /// How TLS is spoken; made when it is needed first.
    fn tls(&self) -> Option<TlsConnector> {
        let make = || {
            let mut roots = RootCertStore::empty();
            let bundle = self.ca_bundle.as_deref().map(CertificateDer::pem_slice_iter);
            roots.add_parsable_certificates(bundle.into_iter().flatten().filter_map(Result::ok));
            https::connector(roots).ok()
        };
        self.tls.get_or_init(make).clone()
    }

    /// Whether messages may go there, by the name's addresses of now.
    pub async fn check(&self, url: &str) -> Result<(), Undelivered> {
        let place = Place::parse(url).map_err(Undelivered::NotAnAddress)?;
        place.resolve(&self.allowed).await.map(|_| ())
    }

    /// Sends a message once; the status of its answer, if that is a success.
    pub async fn deliver(&self, delivery: &Delivery) -> Result<u16, Undelivered> {
        let place = Place::parse(&delivery.endpoint.url).map_err(Undelivered::NotAnAddress)?;
        let addresses = place.resolve(&self.allowed).await?;
        let status = tokio::time::timeout(PATIENCE, self.send(&place, &addresses, delivery)).await;
        match status.map_err(|_| Undelivered::Late(PATIENCE.as_secs()))?? {
            status @ 200..=299 => Ok(status),
            status @ 300..=399 => Err(Undelivered::Redirect(status)),
            status => Err(Undelivered::Status(status)),
        }
    }

    async fn send(
        &self,
        place: &Place,
        addresses: &[SocketAddr],
        delivery: &Delivery,
    ) -> Result<u16, Undelivered> {
        let request = request(place, delivery)?;
        let tcp = connect(addresses).await?;
        if !place.tls {
            return exchange(tcp, request).await;
        }
        let tls = self.tls().ok_or_else(|| Undelivered::Tls("it cannot be set up".into()))?;
        let broken = |error: &dyn std::fmt::Display| Undelivered::Tls(error.to_string());
        let name = ServerName::try_from(place.host.clone()).map_err(|error| broken(&error))?;
        let stream = tls.connect(name, tcp).await.map_err(|error| broken(&error))?;
        exchange(stream, request).await
    }
}

/// The first of these that accepts.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Undelivered> {
    for address in addresses {
        let connecting = tokio::time::timeout(PATIENCE / 3, TcpStream::connect(address)).await;
        if let Ok(Ok(stream)) = connecting {
            return Ok(stream);
        }
    }
    Err(Undelivered::NoConnection)
}

fn request(place: &Place, delivery: &Delivery) -> Result<Request<Full<Bytes>>, Undelivered> {
    let mut request = Request::post(place.target.as_str())
        .header(HOST, place.authority.as_str())
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("paas/", env!("CARGO_PKG_VERSION")))
        .header("Paas-Event", delivery.kind.as_str())
        .header("Paas-Delivery", delivery.name.as_str());
    let secret = delivery.endpoint.secret.as_deref();
    if let Some(signature) = secret.and_then(|secret| sign(secret, &delivery.body)) {
        request = request.header("Paas-Signature-256", signature);
    }
    let body = Full::new(Bytes::from(delivery.body.clone()));
    request.body(body).map_err(|_| Undelivered::NotAnAddress("it is no address"))
}

/// The status of the answer; the rest of it is not read.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<u16, Undelivered>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new().max_buf_size(64 << 10).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|_| Undelivered::NoAnswer)?;
    // Ended with this, whatever ends this. Whether the connection ends first or the
    // answer comes is not to decide what came of it.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let answer = sender.send_request(request).await.map_err(|_| Undelivered::NoAnswer)?;
    Ok(answer.status().as_u16())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{AppId, Endpoint, EventKind};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A receiver that answers once; what it has read.
    async fn receiver(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://127.0.0.1:{}/hook?a=b", listener.local_addr().unwrap().port());
        let reading = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"}") {
                let mut part = [0; 4096];
                let count = stream.read(&mut part).await.unwrap();
                read.extend(&part[..count]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(read).unwrap()
        });
        (url, reading)
    }

    fn delivery(url: String) -> Delivery {
        Delivery {
            id: 1,
            app: AppId(1),
            webhook: 1,
            endpoint: Endpoint { url, secret: Some("Jefe".into()) },
            name: "d1".into(),
            kind: EventKind::Crash,
            body: r#"{"id":"d1"}"#.into(),
            tries: 0,
        }
    }

    fn courier() -> Courier {
        Courier::new(&["127.0.0.0/8".parse().unwrap()], None)
    }

    #[tokio::test]
    async fn a_message_is_signed_and_named() {
        let (url, reading) = receiver("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(courier().deliver(&delivery(url)).await, Ok(204));
        let port = |line: &str| line.split(':').nth(2).is_some();
        let read = reading.await.unwrap();
        let lines: Vec<&str> =
            read.lines().filter(|line| !(line.starts_with("host:") && port(line))).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[tokio::test]
    async fn what_is_no_success_is_a_failure_and_redirects_are_not_followed() {
        let location = "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://169.254.169.254/\r\n\r\n";
        for (answer, expected) in [
            (location, Undelivered::Redirect(307)),
            ("HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\nsecret", Undelivered::Status(500)),
            ("nonsense\r\n\r\n", Undelivered::NoAnswer),
            ("", Undelivered::NoAnswer),
        ] {
            let (url, reading) = receiver(answer).await;
            assert_eq!(courier().deliver(&delivery(url)).await, Err(expected), "{answer}");
            reading.await.unwrap();
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_in_a_private_network() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let refused = Courier::new(&[], None).deliver(&delivery(url)).await;
        assert!(matches!(refused, Err(Undelivered::Private(_))), "{refused:?}");
        let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(nobody.is_err(), "it connected");
    }
}
