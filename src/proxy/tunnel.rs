//! Connections that have changed their protocol: bytes both ways.

use super::access::Record;
use super::places::Request;
use super::upstream::InFlight;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tracing::debug;

/// Passes bytes both ways until both sides have ended or one has broken.
pub(super) async fn run(
    to_client: OnUpgrade,
    to_app: OnUpgrade,
    held: (InFlight, Request),
    mut record: Record,
) {
    match tokio::try_join!(to_client, to_app) {
        Ok((client, app)) => {
            let (mut client, mut app) = (TokioIo::new(client), TokioIo::new(app));
            match copy_bidirectional(&mut client, &mut app).await {
                Ok((_, down)) => record.bytes = down,
                Err(error) => debug!(%error, "an upgraded connection broke"),
            }
        }
        Err(error) => debug!(%error, "an upgrade did not come about"),
    }
    drop(held);
    record.finish();
}
