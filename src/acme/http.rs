//! Our HTTPS client in the hands of the ACME client.

use super::AcmeError;
use crate::https::Client;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::RETRY_AFTER as RETRY_AFTER_HEADER;
use hyper::{Request, Response, StatusCode};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::cell::Cell;
use std::pin::Pin;

tokio::task_local! {
    /// For how many seconds the authority wished to be left alone in its last answer:
    /// an error of the ACME client has no room for it, and orders run side by side.
    static RETRY_AFTER: Cell<Option<i64>>;
}

/// Within this, what goes wrong is explained with the time that the authority names.
pub(super) async fn asking<T>(work: impl Future<Output = T>) -> T {
    RETRY_AFTER.scope(Cell::new(None), work).await
}

/// What went wrong, with the time that the authority named.
pub(super) fn explain(error: Error) -> AcmeError {
    AcmeError::new(error, RETRY_AFTER.try_with(Cell::take).ok().flatten())
}

fn note(response: &Response<Bytes>) {
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    let after = response.headers().get(RETRY_AFTER_HEADER).filter(|_| busy.contains(&response.status()));
    let seconds = after.and_then(|value| seconds(value.to_str().ok()?));
    // Nobody asks outside of `asking`.
    let _ = RETRY_AFTER.try_with(|noted| noted.set(seconds));
}

/// The client.
#[derive(Clone)]
pub(super) struct Http {
    client: Client,
}

impl Http {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }
}

/// `120`, or a date.
fn seconds(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Some(seconds.into());
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some((date.timestamp().as_second() - jiff::Timestamp::now().as_second()).max(0))
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let http = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|error| Error::Other(Box::new(error)))?.to_bytes();
            let request = Request::from_parts(parts, Full::new(body));
            let response = http.client.send(request).await.map_err(|error| Error::Other(Box::new(error)))?;
            note(&response);
            let (parts, body) = response.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_come_back_is_seconds_or_a_date() {
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0));
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds("-1"), None);
    }
}
