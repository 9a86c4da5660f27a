//! Apps that ask for a name and a password.

use crate::world::*;
use paas::model::{Maintenance, User};
use paas::password::PasswordHash;

/// `alice:open sesame`
const ALICE: &str = "Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU=\r\n";

fn user(name: &str, password: &str) -> User {
    User { name: name.to_owned(), hash: PasswordHash::of(password).unwrap().to_string() }
}

async fn get(proxy: &Proxy, header: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: blog.localhost\r\n{header}Connection: close\r\n\r\n");
    proxy.raw(request).await
}

#[tokio::test]
async fn who_brings_no_password_does_not_reach_the_app() {
    let app = App::start(1).await;
    let mut blog = logged("blog", &[&app]);
    blog.traffic.users = vec![user("bob", "another one"), user("alice", "open sesame")];
    let (proxy, mut control) = Proxy::with(vec![blog.clone()]).await;
    insta::assert_snapshot!(settled(&get(&proxy, "").await), @r#"
    HTTP/1.1 401 Unauthorized
    content-type: text/plain; charset=utf-8
    cache-control: no-store
    x-paas-error: unauthorized
    www-authenticate: Basic realm="blog", charset="UTF-8"
    connection: close
    content-length: 57

    Unauthorized (401)
    This app wants a name and a password.
    "#);
    for wrong in [
        "Authorization: Basic YWxpY2U6b3BlbiBzZXNhbWY=\r\n",
        "Authorization: Basic Y2Fyb2w6b3BlbiBzZXNhbWU=\r\n",
        "Authorization: Bearer YWxpY2U6b3BlbiBzZXNhbWU=\r\n",
        "Authorization: Basic\r\n",
        "X-Forwarded-User: alice\r\n",
    ] {
        assert!(get(&proxy, wrong).await.starts_with("HTTP/1.1 401 "), "{wrong}");
    }
    assert_eq!(app.requests(), 0);
    let answer = get(&proxy, &format!("{ALICE}X-Forwarded-User: root\r\n")).await;
    assert!(answer.contains("v1 GET /") && answer.contains("x-forwarded-user: alice"), "{answer}");
    assert!(!answer.contains("authorization: ") && !answer.contains("root"), "{answer}");
    let (lines, _) = control.told(7).await;
    assert!(lines[0].text.starts_with("at=info method=GET") && lines[0].text.contains(" status=401 "));
    assert!(!lines.iter().any(|line| line.text.contains("YWxp") || line.text.contains("sesame")));
    // Nobody is asked while there is nothing to see, nor when nobody has to be.
    let mut closed = blog.clone();
    closed.traffic.maintenance = Some(Maintenance::default());
    control.change(2, &[("blog", Some(closed))]).await;
    assert!(get(&proxy, "").await.contains("x-paas-error: H80"));
    control.change(3, &[("blog", Some(route("blog", &[&app])))]).await;
    let answer = get(&proxy, ALICE).await;
    assert!(answer.contains("authorization: Basic YWxpY2U6b3BlbiBzZXNhbWU="), "it is the app's: {answer}");
}

#[tokio::test]
async fn an_app_without_a_process_asks_as_well() {
    let mut blog = route("blog", &[]);
    blog.traffic.users = vec![user("alice", "open sesame")];
    let (proxy, _control) = Proxy::with(vec![blog]).await;
    assert!(get(&proxy, "").await.starts_with("HTTP/1.1 401 "));
    assert!(get(&proxy, ALICE).await.contains("x-paas-error: H10"));
}
