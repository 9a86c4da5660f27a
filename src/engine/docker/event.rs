//! What happens to our containers, as it happens.

use super::DockerEngine;
use crate::engine::{EngineError, Event, EventKind, LABEL_APP, LABEL_PROCESS, LABEL_RELEASE};
use crate::model::{AppId, ProcessName};
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptions, EventsOptionsBuilder};
use futures_util::stream::{self, BoxStream, StreamExt};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that wait for a slow reader; beyond it the engine's stream waits.
const QUEUE: usize = 1024;

/// Pause before the engine is asked again after it hung up.
const RETRY: Duration = Duration::from_millis(250);

impl DockerEngine {
    /// Events from `since` (nanoseconds since the epoch) or from now on, for
    /// ever; ends when the stream is dropped. Asked for at once, not when first
    /// polled. An error item says that the engine hung up, is back, and events may
    /// be missing: look again at everything. What follows it was asked for anew.
    pub fn events(&self, since: Option<i64>) -> BoxStream<'static, Result<Event, EngineError>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let engine = self.clone();
        let since = since.unwrap_or_else(now);
        tokio::spawn(async move { engine.watch(since, sender).await });
        stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|item| (item, receiver)))
            .boxed()
    }

    /// Reads events into the channel, again and again, until it is closed.
    async fn watch(self, since: i64, sender: mpsc::Sender<Result<Event, EngineError>>) {
        let mut last = since;
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = self.read_events(&mut last, &sender) => {}
            }
            while self.ping().await.is_err() {
                tokio::select! {
                    () = sender.closed() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
            // Now, when there is something to look at: an engine that was
            // restarted tells again only of the last 256 things that happened.
            if sender.send(Err(EngineError::EventGap)).await.is_err() {
                return;
            }
        }
    }

    /// Reads until the engine hangs up; `last` is the time of the last event.
    async fn read_events(&self, last: &mut i64, sender: &mpsc::Sender<Result<Event, EngineError>>) {
        let mut events = self.docker.events(Some(options(*last)));
        while let Some(Ok(message)) = events.next().await {
            let Some(event) = event(message) else { continue };
            // `since` includes its own instant, and what it replays can overlap.
            if event.at <= *last {
                continue;
            }
            *last = event.at;
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
        }
    }
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn options(since: i64) -> EventsOptions {
    let filters = HashMap::from([
        ("type", vec!["container"]),
        ("label", vec![LABEL_APP]),
        ("event", vec!["start", "die", "oom", "destroy"]),
    ]);
    let since = format!("{}.{:09}", since / 1_000_000_000, since % 1_000_000_000);
    EventsOptionsBuilder::default().since(&since).filters(&filters).build()
}

fn event(message: EventMessage) -> Option<Event> {
    let actor = message.actor?;
    let attributes = actor.attributes?;
    let kind = match message.action?.as_str() {
        "start" => EventKind::Started,
        "die" => EventKind::Died { exit_code: attributes.get("exitCode")?.parse().ok()? },
        "oom" => EventKind::Oom,
        "destroy" => EventKind::Destroyed,
        _ => return None,
    };
    Some(Event {
        at: message.time_nano?,
        app: AppId(attributes.get(LABEL_APP)?.parse().ok()?),
        release: attributes.get(LABEL_RELEASE)?.parse().ok()?,
        process: ProcessName::parse(attributes.get(LABEL_PROCESS)?)?,
        container: actor.id?,
        kind,
    })
}
