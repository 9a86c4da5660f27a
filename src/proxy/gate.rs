//! What is answered in place of an app, whether it has processes or not: by its own rules.

use super::client::Client;
use super::headers;
use super::pages::Page;
use super::routing::{Backend, Entry};
use crate::model::Redirect;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use std::sync::Arc;

/// What was taken out of the path.
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The page that ends a request before any process is asked; none if it may go on.
pub(super) fn stop(
    client: &Client,
    backend: &Backend,
    host: &str,
    (method, uri): (&Method, &Uri),
    headers: &HeaderMap,
) -> Option<Page> {
    if let Some(redirect) = elsewhere(client, backend, host) {
        return Some(client.to_another(redirect, uri, headers));
    }
    if client.is_sent_on(backend, host) && !headers::is_secure(headers) {
        return Some(client.by_https(host, (method, uri), headers));
    }
    backend.maintenance.as_ref().map(|page| Page::Maintenance(page.clone()))
}

/// Where requests of this name go, if not to the app.
fn elsewhere<'a>(client: &Client, backend: &'a Backend, host: &str) -> Option<&'a Redirect> {
    let names = backend.redirects.as_ref().filter(|_| !matches!(client.entry, Entry::Port(_)))?;
    // A wildcard may have the name that it is sent on to.
    names.get(host)?.as_ref().filter(|redirect| redirect.to.as_str() != host)
}

/// Asks whoever comes for a name and a password, if the app does. Never for what is
/// [answered anyway](stop).
pub(super) async fn admit(client: &Client, backend: &Backend, headers: &mut HeaderMap) -> Result<(), Page> {
    match &backend.guard {
        None => Ok(()),
        Some(guard) => Box::pin(guard.admit(&client.shared.passwords, headers)).await,
    }
}

/// A request that has waited goes on by the terms on which it was let in: where those are
/// others now, whoever sent it is to send it again.
pub(super) fn expect_same(before: &Arc<Backend>, now: &Arc<Backend>) -> Result<(), Page> {
    let same = Arc::ptr_eq(before, now)
        || before.app == now.app && before.guard == now.guard && before.mounts == now.mounts;
    match &now.guard {
        _ if same => Ok(()),
        Some(_) => Err(Page::SignIn(now.app.clone())),
        None => Err(Page::NotAwake),
    }
}

/// Takes the path under which the app answers out of a request, if the app is not to see
/// it, and tells it so.
pub(super) fn strip<B>(client: &Client, backend: &Backend, host: &str, request: &mut Request<B>) {
    if backend.mounts.is_empty() || matches!(client.entry, Entry::Port(_)) {
        return;
    }
    let path = request.uri().path();
    let its = backend.mounts.iter().filter(|mount| mount.host.host().as_str() == host);
    let its = its.filter_map(|mount| Some((mount, mount.path.rest(path)?)));
    let Some((mount, rest)) = its.max_by_key(|(mount, _)| mount.path.as_str().len()) else { return };
    if !mount.strip {
        return;
    }
    let rest = if rest.is_empty() { "/" } else { rest };
    let rest = match request.uri().query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let prefix = HeaderValue::from_str(mount.path.as_str());
    if let (Ok(uri), Ok(prefix)) = (Uri::builder().path_and_query(rest).build(), prefix) {
        *request.uri_mut() = uri;
        request.headers_mut().insert(FORWARDED_PREFIX, prefix);
    }
}
