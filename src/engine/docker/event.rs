//! What happens to our containers, as it happens.

use super::DockerEngine;
use crate::engine::{EngineError, Event, EventKind, LABEL_APP, LABEL_PROCESS, LABEL_RELEASE};
use crate::model::{AppId, ProcessName};
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptions, EventsOptionsBuilder};
use futures_util::stream::{self, BoxStream, StreamExt};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that wait for a slow reader; beyond it the engine's stream waits.
const QUEUE: usize = 1024;

/// Pause before the engine is asked again after it hung up.
const RETRY: Duration = Duration::from_millis(250);

/// Events that are remembered to know them again; the engine repeats at most 256.
const REPEATED: usize = 512;

impl DockerEngine {
    /// Events from now on, for ever; ends when the stream is dropped. Asked for at
    /// once, not when first polled. An error item says that the engine hung up, is
    /// back, and events may be missing: look again at everything. What follows it
    /// was asked for anew.
    pub fn events(&self) -> BoxStream<'static, Result<Event, EngineError>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (engine, told) = (self.clone(), Told { last: now(), recent: VecDeque::new() });
        tokio::spawn(async move { engine.watch(told, sender).await });
        stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|item| (item, receiver)))
            .boxed()
    }

    /// Reads events into the channel, again and again, until it is closed.
    async fn watch(self, mut told: Told, sender: mpsc::Sender<Result<Event, EngineError>>) {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = self.read_events(&mut told, &sender) => {}
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

    /// Reads until the engine hangs up.
    async fn read_events(&self, told: &mut Told, sender: &mpsc::Sender<Result<Event, EngineError>>) {
        let mut events = self.docker.events(Some(options(told.last)));
        while let Some(Ok(message)) = events.next().await {
            let Some(event) = event(message).filter(|event| told.is_new(event)) else { continue };
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
        }
    }
}

/// What the engine has told, to know what it repeats when it is asked anew.
///
/// By the events themselves, not by their times: two that happen at once can come
/// with the later one first, as the engine takes the time before it queues up to
/// tell, and a clock that was set back begins anew.
struct Told {
    /// Time of the last one.
    last: i64,
    recent: VecDeque<(i64, String, EventKind)>,
}

impl Told {
    /// Notes an event; `false` if it was told before.
    fn is_new(&mut self, event: &Event) -> bool {
        let key = (event.at, event.container.clone(), event.kind);
        if self.recent.contains(&key) {
            return false;
        }
        self.last = event.at;
        self.recent.push_back(key);
        if self.recent.len() > REPEATED {
            self.recent.pop_front();
        }
        true
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told_at(told: &mut Told, at: i64, container: &str) -> bool {
        let process = ProcessName::parse("web.1").unwrap();
        let container = container.to_owned();
        told.is_new(&Event { at, app: AppId(1), release: 1, process, container, kind: EventKind::Started })
    }

    #[test]
    fn an_event_that_comes_after_a_later_one_is_told() {
        let mut told = Told { last: 0, recent: VecDeque::new() };
        assert!(told_at(&mut told, 2000, "b") && told_at(&mut told, 1999, "a"));
        assert!(told_at(&mut told, 2000, "c"), "at the same instant as another");
        assert!(told_at(&mut told, 1000, "a"), "the clock was set back");
        assert_eq!(told.last, 1000, "from there on the engine is asked again");
        for (at, container) in [(2000, "b"), (1999, "a"), (1000, "a")] {
            assert!(!told_at(&mut told, at, container), "the engine repeats what it told");
        }
    }

    #[test]
    fn only_as_much_is_remembered_as_the_engine_can_repeat() {
        let mut told = Told { last: 0, recent: VecDeque::new() };
        assert!((0..2000).all(|at| told_at(&mut told, at, "a")));
        assert_eq!(told.recent.len(), REPEATED);
        assert!((2000 - 256..2000).all(|at| !told_at(&mut told, at, "a")));
    }
}
