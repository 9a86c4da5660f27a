//! Which app a request reaches, by host name and by port.

use crate::world::*;
use paas::model::{Domain, HostName, Mount, Redirect, Route};
use paas::proxy::ProxyLimits;
use paas::settings::Front;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn requests_go_to_the_app_that_their_host_names() {
    let (blog, shop) = (App::start(1).await, App::start(2).await);
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&blog]), route("shop", &[&shop])]).await;
    for host in ["blog.localhost", "BLOG.localhost:8080", "blog.localhost."] {
        assert!(proxy.get(host).await.contains("v1 GET /"), "{host}");
    }
    assert!(proxy.get("shop.localhost").await.contains("v2 GET /"));
    assert_eq!((blog.requests(), shop.requests()), (3, 1));
}

#[tokio::test]
async fn the_app_learns_the_clients_origin_and_no_claims_about_it() {
    let app = App::start(1).await;
    let (proxy, _control) = Proxy::with(vec![route("blog", &[&app])]).await;
    let answer = proxy
        .raw(
            "GET /a%20b?c=d HTTP/1.1\r\nHost: blog.localhost:80\r\nX-Forwarded-For: 6.6.6.6\r\n\
             X-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\r\n\
             X-Request-Id: mine\r\nX-Request-Start: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\n\
             X-Secret: hop\r\nCookie: a=b\r\nConnection: close, X-Secret, cookie\r\n\r\n",
        )
        .await;
    let port = proxy.address.port();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut body: Vec<_> = body.lines().filter(|line| !line.starts_with("x-request-")).collect();
    body[1..].sort_unstable();
    assert_eq!(
        body,
        [
            "v1 GET /a%20b?c=d",
            "cookie: a=b",
            "forwarded: for=127.0.0.1;host=\"blog.localhost:80\";proto=http",
            "host: blog.localhost:80",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: blog.localhost:80",
            &format!("x-forwarded-port: {port}"),
            "x-forwarded-proto: http",
        ]
    );
    assert!(!answer.contains("x-request-id: mine") && !answer.contains("x-request-start: 1\n"));
    assert!(answer.contains("x-request-id: ") && answer.contains("x-request-start: 1"));
}

#[tokio::test]
async fn a_trusted_load_balancer_says_who_its_clients_are() {
    let app = App::start(1).await;
    let front = Front { trusted: vec!["127.0.0.0/8".parse().unwrap()], protocol: true };
    let proxy = Proxy::behind(front).await;
    let mut control = proxy.control().await;
    control.publish(1, vec![route("blog", &[&app])]).await;
    let request =
        "GET / HTTP/1.1\r\nHost: blog.localhost\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n";
    let first = proxy.raw(format!("PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n{request}")).await;
    assert!(first.contains("x-forwarded-for: 192.0.2.7\n"), "{first}");
    assert!(first.contains("x-forwarded-port: 443\n"), "{first}");
    assert!(first.contains("forwarded: for=192.0.2.7;host=blog.localhost;proto=http\n"), "{first}");
    let second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc6\x33\x64\x01\x04\xd2\0\x50";
    let second = proxy.raw([&second[..], request.as_bytes()].concat()).await;
    assert!(second.contains("x-forwarded-for: 192.0.2.8\n"), "{second}");
    // The balancer itself asks whether we are well, or knows no more than we: that is
    // no reason to believe whoever it is.
    let own = proxy.raw(format!("PROXY UNKNOWN\r\n{request}")).await;
    assert!(own.contains("x-forwarded-for: 127.0.0.1\n"), "{own}");
    for none in [request.to_owned(), format!("PROXY TCP4 a b c d\r\n{request}")] {
        assert_eq!(proxy.raw(none).await, "", "nothing but with its preamble");
    }
    assert_eq!(app.requests(), 3);
}

#[tokio::test]
async fn ports_open_and_close_with_the_table() {
    let (blog, shop) = (App::start(1).await, App::start(2).await);
    let (proxy, mut control) = Proxy::with(vec![]).await;
    let (port, other) = (free_port().await, free_port().await);
    let at = |app: &str, target: &App, port| Route { port: Some(port), ..route(app, &[target]) };
    let refused = control.publish(2, vec![at("blog", &blog, port)]).await;
    assert_eq!(refused, BTreeMap::new());
    let any_host = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert!(raw(address, any_host).await.contains("v1 GET /"));

    // A connection that is open stays, whatever happens to the port.
    let mut kept = TcpStream::connect(address).await.unwrap();
    kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(read_head(&mut kept).await.starts_with("HTTP/1.1 200 "));
    let taken = TcpListener::bind(LOOPBACK).await.unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let routes = vec![at("blog", &blog, taken_port), at("shop", &shop, other)];
    let refused = control.publish(3, routes).await;
    assert_eq!(refused, BTreeMap::from([(taken_port, "another program listens there".to_owned())]));
    assert!(TcpStream::connect(address).await.is_err());
    assert!(raw((Ipv4Addr::LOCALHOST, other).into(), any_host).await.contains("v2 GET /"));

    // The port goes to another app, and back at once; and serves from the start.
    control.publish(4, vec![at("shop", &shop, port)]).await;
    assert!(raw(address, any_host).await.contains("v2 GET /"));
    let _ = control.drained().await;
    drop(taken);
    assert_eq!(control.publish(5, vec![at("blog", &blog, port)]).await, BTreeMap::new());
    let directory = proxy.stop().await;
    let _proxy = Proxy::start_in(directory, ProxyLimits::default()).await;
    assert!(raw(address, any_host).await.contains("v1 GET /"));
}

async fn free_port() -> u16 {
    TcpListener::bind(LOOPBACK).await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_name_is_sent_on_to_another_with_path_and_query() {
    let app = App::start(1).await;
    let mut blog = route("blog", &[&app]);
    let names = ["www.blog.example", "*.blog.example", "here.blog.example", "old.example"];
    blog.hosts.extend(names.map(|name| Domain::parse(name).unwrap()));
    let redirect = |from: &str, code| Redirect {
        from: Domain::parse(from).unwrap(),
        to: HostName::parse("blog.example").unwrap(),
        code,
    };
    blog.traffic.redirects = vec![redirect("*.blog.example", 302), redirect("old.example", 308)];
    blog.traffic.redirects.push(Redirect {
        to: HostName::parse("www.blog.example").unwrap(),
        ..redirect("www.blog.example", 301)
    });
    let (proxy, _control) = Proxy::with(vec![blog]).await;
    let port = proxy.address.port();
    let get = |host: String| {
        let request = format!("POST /a%20b?c=d HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let proxy = &proxy;
        async move { settled(&proxy.raw(request).await) }
    };
    insta::assert_snapshot!(get("old.example".to_owned()).await, @r"
    HTTP/1.1 308 Permanent Redirect
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    location: http://blog.example/a%20b?c=d
    connection: close
    content-length: 53

    Moved (308)
    This is at http://blog.example/a%20b?c=d
    ");
    let direct = get(format!("some.blog.example:{port}")).await;
    assert!(direct.starts_with("HTTP/1.1 302 "), "{direct}");
    assert!(direct.contains(&format!("location: http://blog.example:{port}/a%20b?c=d\n")), "{direct}");
    // An exact name is not the wildcard's, and one that is sent on to itself is answered.
    for host in ["here.blog.example", "www.blog.example", "blog.localhost"] {
        assert!(get(host.to_owned()).await.contains("v1 POST /"), "{host}");
    }
}

#[tokio::test]
async fn a_path_under_a_name_may_be_another_apps() {
    let (site, api, second) = (App::start(1).await, App::start(2).await, App::start(3).await);
    let mount = |text: &str, strip| Mount::given(text, strip).unwrap();
    let mut blog = route("blog", &[&site]);
    blog.hosts.push(Domain::parse("blog.example").unwrap());
    let mut first = route("api", &[&api]);
    first.traffic.mounts = vec![mount("blog.example/api", true)];
    let mut other = route("second", &[&second]);
    other.traffic.mounts = vec![mount("blog.example/api/v2", false), mount("nobody.example/x", false)];
    let (proxy, mut control) = Proxy::with(vec![blog, first.clone(), other]).await;
    let ask = async |host: &str, path: &str| {
        let prefix = "X-Forwarded-Prefix: /forged\r\n";
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{prefix}Connection: close\r\n\r\n");
        let answer = proxy.raw(request).await;
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        let prefix = body.lines().find(|line| line.starts_with("x-forwarded-prefix")).unwrap_or("-");
        format!("{} {prefix}", body.lines().next().unwrap())
    };
    for (path, answer) in [
        ("/", "v1 GET / -"),
        ("/apis", "v1 GET /apis -"),
        ("/API", "v1 GET /API -"),
        ("/api", "v2 GET / x-forwarded-prefix: /api"),
        ("/api?a=b", "v2 GET /?a=b x-forwarded-prefix: /api"),
        ("/api/v1/x%20y?a=b", "v2 GET /v1/x%20y?a=b x-forwarded-prefix: /api"),
        ("/api//v1", "v2 GET //v1 x-forwarded-prefix: /api"),
        ("/api/v2", "v3 GET /api/v2 -"),
        ("/api/v2/a/b", "v3 GET /api/v2/a/b -"),
        ("/api/v20", "v2 GET /v20 x-forwarded-prefix: /api"),
    ] {
        assert_eq!(ask("blog.example", path).await, answer, "{path}");
    }
    assert_eq!(ask("blog.localhost", "/api").await, "v1 GET /api -", "of that name alone");
    assert_eq!(ask("nobody.example", "/x/y").await, "v3 GET /x/y -");
    assert!(ask("nobody.example", "/").await.starts_with("No such app"));
    // Changes of one app leave the others' paths.
    first.traffic.mounts = vec![mount("blog.example/other", true)];
    control.change(2, &[("api", Some(first))]).await;
    assert_eq!(ask("blog.example", "/api/x").await, "v1 GET /api/x -");
    assert_eq!(ask("blog.example", "/other/x").await, "v2 GET /x x-forwarded-prefix: /other");
    assert_eq!(ask("blog.example", "/api/v2/x").await, "v3 GET /api/v2/x -");
    control.change(3, &[("api", None), ("second", None)]).await;
    assert_eq!(ask("blog.example", "/other/x").await, "v1 GET /other/x -");
    assert_eq!(ask("blog.example", "/api/v2/x").await, "v1 GET /api/v2/x -");
}
