//! Our HTTPS client in the hands of the ACME client.

use super::AcmeError;
use crate::https::Client;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::RETRY_AFTER;
use hyper::{Request, Response, StatusCode};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

/// The client, and for how long the authority last wished to be left alone.
#[derive(Clone)]
pub(super) struct Http {
    client: Client,
    retry_after: Arc<Mutex<Option<i64>>>,
}

impl Http {
    pub(super) fn new(client: Client) -> Self {
        Self { client, retry_after: Arc::default() }
    }

    /// What went wrong, with the time that the authority named.
    pub(super) fn explain(&self, error: Error) -> AcmeError {
        let retry_after = self.retry_after.lock().unwrap_or_else(PoisonError::into_inner).take();
        AcmeError::new(error, retry_after)
    }

    fn note(&self, response: &Response<Bytes>) {
        let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        let after = response.headers().get(RETRY_AFTER).filter(|_| busy.contains(&response.status()));
        let seconds = after.and_then(|value| seconds(value.to_str().ok()?));
        *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner) = seconds;
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
            http.note(&response);
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
