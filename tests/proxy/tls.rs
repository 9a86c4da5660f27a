//! HTTPS: which certificate is shown to whom, and what is answered on it.

use crate::world::{App, Control, Proxy, options, raw, route};
use paas::frame;
use paas::model::{
    CertificateTable, Challenges, Domain, FromProxy, HostName, HttpChallenge, HttpsPolicy, PrivateKeyPem,
    ServedCertificate, TlsChallenge, ToProxy,
};
use paas::proxy::{self, Bound, ProxyLimits};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A certificate that vouches for itself.
fn certificate(names: &[&str]) -> ServedCertificate {
    let made =
        rcgen::generate_simple_self_signed(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
            .unwrap();
    ServedCertificate {
        names: names.iter().map(|name| Domain::parse(name).unwrap()).collect(),
        chain: made.cert.pem(),
        key: PrivateKeyPem::new(made.signing_key.serialize_pem()),
        fallback: false,
        trusted: true,
    }
}

async fn show(control: &mut Control, version: u64, certificates: &[&ServedCertificate]) {
    let certificates = certificates.iter().map(|&one| one.clone()).collect();
    let message = ToProxy::Certificates(CertificateTable { version, certificates });
    frame::write(&mut control.stream, &message).await.unwrap();
    assert_eq!(control.next().await, FromProxy::Certified { version });
}

async fn answer(control: &mut Control, challenges: Challenges) {
    let version = challenges.version;
    frame::write(&mut control.stream, &ToProxy::Challenges(challenges)).await.unwrap();
    assert_eq!(control.next().await, FromProxy::Challenged { version });
}

/// A client that trusts this certificate alone.
struct Client {
    config: ClientConfig,
    address: SocketAddr,
}

#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

impl Client {
    fn new(address: SocketAddr, trusted: &ServedCertificate) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.chain.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { config, address }
    }

    fn offering(mut self, protocol: &str) -> Self {
        self.config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        self
    }

    /// As an authority, which only reads what it is shown.
    fn trusting_anything(mut self) -> Self {
        self.config.dangerous().set_certificate_verifier(Arc::new(Anything));
        self
    }

    async fn connect(&self, name: &str) -> std::io::Result<Stream> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(self.config.clone())).connect(name, stream).await
    }

    /// The answer to a GET of `path` from `host`, over a handshake for `name`.
    async fn get(&self, name: &str, host: &str, path: &str) -> String {
        let mut stream = self.connect(name).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}

#[tokio::test]
async fn an_app_is_served_over_tls_and_told_so() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("shop", &[&app])]).await;
    let shop = certificate(&["shop.localhost"]);
    show(&mut control, 1, &[&shop]).await;
    let text = Client::new(proxy.https, &shop).get("shop.localhost", "shop.localhost", "/a?b").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let port = proxy.https.port();
    for line in ["v1 GET /a?b", "x-forwarded-proto: https", &format!("x-forwarded-port: {port}")] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let plain = proxy.get("shop.localhost").await;
    assert!(plain.contains("x-forwarded-proto: http\n"), "{plain}");
}

#[tokio::test]
async fn http2_is_chosen_in_the_handshake() {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("shop", &[&app])]).await;
    let shop = certificate(&["shop.localhost"]);
    show(&mut control, 1, &[&shop]).await;
    let stream = Client::new(proxy.https, &shop).offering("h2").connect("shop.localhost").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let uri = format!("https://shop.localhost:{}/a", proxy.https.port());
    let request = hyper::Request::builder().uri(uri).body(Empty::<bytes::Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("v1 GET /a") && text.contains("x-forwarded-proto: https"), "{text}");
    let elsewhere = hyper::Request::builder().uri("https://other.localhost/").body(Empty::new()).unwrap();
    assert_eq!(sender.send_request(elsewhere).await.unwrap().status(), 421);
}

#[tokio::test]
async fn a_stranger_is_shown_nothing_or_the_default_certificate() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("shop", &[&app])]).await;
    let (shop, mut other) = (certificate(&["shop.localhost"]), certificate(&["other.example"]));
    show(&mut control, 1, &[&shop, &other]).await;
    let client = Client::new(proxy.https, &other);
    for stranger in ["unknown.example", "shop.localhost.example", "xshop.localhost", "127.0.0.1"] {
        assert!(client.connect(stranger).await.is_err(), "{stranger}");
    }
    other.fallback = true;
    show(&mut control, 2, &[&shop, &other]).await;
    // The client sees a certificate of another name.
    let error = client.connect("unknown.example").await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    assert!(client.connect("other.example").await.is_ok());
}

#[tokio::test]
async fn another_certificate_takes_effect_at_once_and_breaks_nothing() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("shop", &[&app])]).await;
    let (old, new) = (certificate(&["shop.localhost"]), certificate(&["*.localhost", "shop.localhost"]));
    show(&mut control, 1, &[&old]).await;
    let mut kept = Client::new(proxy.https, &old).connect("shop.localhost").await.unwrap();
    show(&mut control, 2, &[&new]).await;
    assert!(Client::new(proxy.https, &old).connect("shop.localhost").await.is_err());
    assert!(Client::new(proxy.https, &new).connect("shop.localhost").await.is_ok());
    kept.write_all(b"GET / HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    kept.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn certificates_outlive_the_proxy_in_a_file_of_its_own() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("shop", &[&app])]).await;
    let shop = certificate(&["shop.localhost"]);
    show(&mut control, 1, &[&shop]).await;
    drop(control);
    let directory = proxy.stop().await;
    let file = directory.path().join("certificates.snapshot");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // No control plane: the next one has what the last one had.
    let proxy = Proxy::start_in(directory, ProxyLimits::default()).await;
    let text = Client::new(proxy.https, &shop).get("shop.localhost", "shop.localhost", "/").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let directory = proxy.stop().await;
    std::fs::write(&file, "{\"version\": 1, \"certifi").unwrap();
    let proxy = Proxy::start_in(directory, ProxyLimits::default()).await;
    assert!(Client::new(proxy.https, &shop).connect("shop.localhost").await.is_err());
    assert!(proxy.get("shop.localhost").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_new_proxy_takes_the_https_socket_over_and_shows_the_same() {
    let app = App::start(1).await;
    let limits = ProxyLimits { linger: Duration::from_millis(100), ..ProxyLimits::default() };
    let first = Proxy::start_in(tempfile::tempdir().unwrap(), limits.clone()).await;
    let mut control = first.control().await;
    control.publish(1, vec![route("shop", &[&app])]).await;
    let shop = certificate(&["shop.localhost"]);
    show(&mut control, 1, &[&shop]).await;
    let (next, mut linked) = Proxy::upgrade(first.directory.path(), limits, &control).await;
    linked.publish(2, vec![route("shop", &[&app])]).await;
    assert_eq!(next.bound.await.unwrap().https, Some(first.https));
    first.running.await.unwrap().unwrap();
    let text = Client::new(first.https, &shop).get("shop.localhost", "shop.localhost", "/").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    next.stop.cancel();
    next.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_none_leaves_the_others_alone() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("shop", &[&app])]).await;
    let shop = certificate(&["shop.localhost"]);
    let (mut garbled, mut foreign) = (certificate(&["a.example"]), certificate(&["b.example"]));
    garbled.chain = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    foreign.key = shop.key.clone();
    show(&mut control, 1, &[&garbled, &foreign, &shop]).await;
    let text = Client::new(proxy.https, &shop).get("shop.localhost", "shop.localhost", "/").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn a_host_is_served_on_connections_made_for_its_certificate() {
    let (one, two) = (App::start(1).await, App::start(2).await);
    let (proxy, mut control) = Proxy::with(vec![route("one", &[&one]), route("two", &[&two])]).await;
    let both = certificate(&["one.localhost", "two.localhost"]);
    show(&mut control, 1, &[&both]).await;
    let text = Client::new(proxy.https, &both).get("one.localhost", "two.localhost", "/").await;
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("v2 GET"), "{text}");
    let (first, second) = (certificate(&["one.localhost"]), certificate(&["two.localhost"]));
    show(&mut control, 2, &[&first, &second]).await;
    let text = Client::new(proxy.https, &first).get("one.localhost", "two.localhost", "/").await;
    assert!(text.starts_with("HTTP/1.1 421"), "{text}");
    // Nor is anything read after a request to change the protocol, whoever answers it.
    let mut stream = Client::new(proxy.https, &first).connect("one.localhost").await.unwrap();
    let upgrade = "GET / HTTP/1.1\r\nHost: two.localhost\r\nUpgrade: x\r\n\r\n";
    stream.write_all(format!("{upgrade}GET / HTTP/1.1\nHost: one.localhost\n\n").as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("HTTP/1.1 421") && text.contains("connection: close"), "{text}");
    assert_eq!((text.matches("HTTP/1.1").count(), one.requests(), two.requests()), (1, 0, 1));
    let text = Client::new(proxy.https, &first).get("one.localhost", "ONE.localhost.:8443", "/").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn plain_requests_are_sent_on_only_where_a_certificate_is_trusted() {
    let app = App::start(1).await;
    let mut shop = route("shop", &[&app]);
    shop.hosts.extend(["www.shop.example", "shop.example"].map(|name| Domain::parse(name).unwrap()));
    shop.https = HttpsPolicy { redirect: true, hsts: 3600 };
    let (proxy, mut control) = Proxy::with(vec![shop]).await;
    let mut own = certificate(&["shop.example", "shop.localhost"]);
    own.trusted = false;
    show(&mut control, 1, &[&own]).await;
    assert!(proxy.get("shop.example").await.starts_with("HTTP/1.1 200"));
    own.trusted = true;
    show(&mut control, 2, &[&own]).await;
    let port = proxy.https.port();
    let plain = proxy.address.port();
    let ask = |method: &str| {
        format!("{method} /a?b=/c HTTP/1.1\r\nHost: shop.example:{plain}\r\nConnection: close\r\n\r\n")
    };
    let text = proxy.raw(ask("GET")).await;
    assert!(text.starts_with("HTTP/1.1 301"), "{text}");
    assert!(text.contains(&format!("location: https://shop.example:{port}/a?b=/c\r\n")), "{text}");
    assert!(proxy.raw(ask("DELETE")).await.starts_with("HTTP/1.1 308"));
    // Who has come by another port knows nothing of ours.
    assert!(proxy.get("shop.example").await.contains("location: https://shop.example/\r\n"));
    // There is no certificate for this one, and this machine's own names never are.
    for host in ["www.shop.example", "shop.localhost"] {
        assert!(proxy.get(host).await.starts_with("HTTP/1.1 200"), "{host}");
    }
    let client = Client::new(proxy.https, &own);
    let text = client.get("shop.example", "shop.example", "/").await;
    assert!(text.contains("strict-transport-security: max-age=3600\r\n"), "{text}");
    let text = client.get("shop.localhost", "shop.localhost", "/").await;
    assert!(text.starts_with("HTTP/1.1 200") && !text.contains("strict-transport"), "{text}");
}

#[tokio::test]
async fn a_wildcard_gets_what_no_exact_name_has() {
    let (one, two) = (App::start(1).await, App::start(2).await);
    let (mut wide, mut exact) = (route("wide", &[&one]), route("exact", &[&two]));
    wide.hosts.push(Domain::parse("*.shop.example").unwrap());
    exact.hosts.push(Domain::parse("www.shop.example").unwrap());
    let (proxy, _control) = Proxy::with(vec![exact, wide]).await;
    for (host, start) in [("www.shop.example", "v2"), ("any.shop.example", "v1"), ("ANY.shop.example.", "v1")]
    {
        assert!(proxy.get(host).await.contains(&format!("\r\n\r\n{start} GET")), "{host}");
    }
    for host in ["shop.example", "a.b.shop.example", "*.shop.example"] {
        let text = proxy.get(host).await;
        assert!(text.starts_with("HTTP/1.1 404") || text.starts_with("HTTP/1.1 400"), "{host}: {text}");
    }
}

#[tokio::test]
async fn challenges_are_answered_in_place_of_the_app_and_only_while_they_are_due() {
    let app = App::start(1).await;
    let (proxy, mut control) = Proxy::with(vec![route("shop", &[&app])]).await;
    let host = HostName::parse("shop.localhost").unwrap();
    let http = vec![HttpChallenge { host, token: "tok".into(), answer: "tok.thumb".into() }];
    answer(&mut control, Challenges { version: 1, http, tls: vec![] }).await;
    let ask =
        |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let text = proxy.raw(ask("shop.localhost", "/.well-known/acme-challenge/tok")).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\ntok.thumb"), "{text}");
    // Every other path is the app's, and every other name has no such challenge.
    for path in ["tok/", "tokx", "../acme-challenge/tok", "%74ok", "", "..%2f..%2fetc/passwd"] {
        let text = proxy.raw(ask("shop.localhost", &format!("/.well-known/acme-challenge/{path}"))).await;
        assert!(text.contains("v1 GET /.well-known"), "{path}: {text}");
    }
    let text = proxy.raw(ask("other.localhost", "/.well-known/acme-challenge/tok")).await;
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
    answer(&mut control, Challenges { version: 2, ..Challenges::default() }).await;
    let text = proxy.raw(ask("shop.localhost", "/.well-known/acme-challenge/tok")).await;
    assert!(text.contains("v1 GET /.well-known/acme-challenge/tok"), "{text}");
}

/// As authorities want it: with an extension that is critical.
fn challenge_certificate(name: &str) -> ServedCertificate {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(&[7; 32])];
    let key = rcgen::KeyPair::generate().unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    ServedCertificate { chain, key: PrivateKeyPem::new(key.serialize_pem()), ..certificate(&[name]) }
}

#[tokio::test]
async fn a_challenge_by_tls_is_shown_to_those_who_ask_for_it_alone() {
    let (proxy, mut control) = Proxy::with(vec![]).await;
    let usual = certificate(&["shop.localhost"]);
    let special = challenge_certificate("shop.localhost");
    show(&mut control, 1, &[&usual]).await;
    let host = HostName::parse("shop.localhost").unwrap();
    let tls = vec![TlsChallenge { host, chain: special.chain.clone(), key: special.key.clone() }];
    answer(&mut control, Challenges { version: 1, http: vec![], tls }).await;
    let authority = Client::new(proxy.https, &special).offering("acme-tls/1").trusting_anything();
    let mut stream = authority.connect("shop.localhost").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown, CertificateDer::from_pem_slice(special.chain.as_bytes()).unwrap());
    // Nothing is served on it.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "{rest:?}");
    assert!(authority.connect("other.localhost").await.is_err());
    let browser = Client::new(proxy.https, &usual).offering("http/1.1");
    assert!(browser.connect("shop.localhost").await.is_ok());
    answer(&mut control, Challenges { version: 2, ..Challenges::default() }).await;
    assert!(authority.connect("shop.localhost").await.is_err());
}

#[tokio::test]
async fn those_who_speak_no_tls_are_told_and_the_slow_are_dropped() {
    let limits = ProxyLimits { header: Duration::from_millis(300), ..ProxyLimits::default() };
    let proxy = Proxy::start_in(tempfile::tempdir().unwrap(), limits).await;
    let text = raw(proxy.https, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("https://"), "{text}");
    let length = text.split_once("\r\n\r\n").unwrap().1.len();
    assert!(text.contains(&format!("content-length: {length}\r\n")), "{text}");
    for garbage in
        [&b"\x16\x03\x01\xff\xff\x01"[..], &vec![0x16; 70_000], b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff"]
    {
        raw(proxy.https, garbage).await;
    }
    // Half a hello, and none at all.
    for begun in [&b"\x16\x03\x01"[..], b""] {
        let mut stream = TcpStream::connect(proxy.https).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{begun:?}");
    }
}

#[tokio::test]
async fn without_tls_there_is_none_and_no_certificate_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (ready, bound) = tokio::sync::oneshot::channel();
    let stop = tokio_util::sync::CancellationToken::new();
    let mut options = options(directory.path(), ProxyLimits::default(), Some(ready));
    options.https_listen = None;
    let running = tokio::spawn(proxy::run(options, stop.clone()));
    let Bound { https, .. } = bound.await.unwrap();
    assert_eq!(https, None);
    let listener = tokio::net::UnixListener::bind(directory.path().join("proxy.sock")).unwrap();
    let mut control = Control::accept(Arc::new(listener)).await;
    assert!(matches!(control.hello, FromProxy::Hello { tls: false, .. }));
    show(&mut control, 1, &[&certificate(&["shop.localhost"])]).await;
    assert!(!directory.path().join("certificates.snapshot").exists());
    stop.cancel();
    running.await.unwrap().unwrap();
}
