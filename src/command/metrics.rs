//! `metrics`: what apps have to do, and what they take for it.

use super::of_app::OfApp;
use super::ps::{nano, state};
use super::table::table;
use super::{CommandError, Session, sizes};
use crate::deploy::{Measured, ProcessLine};
use crate::engine::Usage;
use crate::model::{AppName, Load};
use serde_json::{Value, json};
use std::time::Duration;

/// The times that are told of, in minutes.
const TIMES: [(u64, &str); 3] = [(1, "1 min"), (5, "5 min"), (60, "1 h")];
/// The one of them that is told of all apps.
const FIVE: u64 = 5;
/// What may be missing of an hour without being said.
const SLACK: Duration = Duration::from_secs(10);

impl Session<'_> {
    pub(super) async fn metrics(&mut self, app: OfApp, as_json: bool) -> Result<(), CommandError> {
        if app.is_none() {
            return self.metrics_of_all(as_json).await;
        }
        self.metrics_of(app.only("metrics")?, as_json).await
    }

    async fn metrics_of_all(&mut self, as_json: bool) -> Result<(), CommandError> {
        let accounts = self.pipeline.accounts().await?;
        let loads = &self.pipeline.routes.loads;
        let apps = accounts.into_iter().map(|account| {
            let name = account.app.name;
            let (measured, in_flight) = (loads.last(&name, FIVE), loads.in_flight(&name));
            (name, measured, in_flight)
        });
        let apps: Vec<(AppName, Measured, u64)> = apps.collect();
        if as_json {
            let value = |(name, measured, in_flight): &(AppName, Measured, u64)| json!({ "app": name, "in_flight": in_flight, "last": [as_value(FIVE, measured)] });
            return self.print_json(&apps.iter().map(value).collect()).await;
        }
        let text = listing(&apps);
        self.print(&text).await
    }

    async fn metrics_of(&mut self, name: AppName, as_json: bool) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let account = self.pipeline.account(&app).await?;
        let usages = self.pipeline.usages(&account.processes).await;
        let loads = &self.pipeline.routes.loads;
        let times = TIMES.map(|(minutes, word)| (minutes, word, loads.last(&name, minutes)));
        let in_flight = loads.in_flight(&name);
        let processes: Vec<(&ProcessLine, Option<Usage>)> = account.processes.iter().zip(usages).collect();
        if as_json {
            let minutes = loads.minutes(&name);
            let value = json!({
                "app": name,
                "in_flight": in_flight,
                "last": times.iter().map(|(minutes, _, measured)| as_value(*minutes, measured)).collect::<Vec<_>>(),
                "minutes": minutes.iter().map(|minute| {
                    let mut value = figures(&minute.measured);
                    value["ago"] = minute.ago.into();
                    value
                }).collect::<Vec<_>>(),
                "processes": processes.iter().map(process_value).collect::<Vec<_>>(),
            });
            return self.print_json(&value).await;
        }
        let text = all_of(&times.map(|(_, word, measured)| (word, measured)), in_flight, &processes);
        self.print(&text).await
    }
}

/// All apps in one table.
fn listing(apps: &[(AppName, Measured, u64)]) -> String {
    let head = ["NAME", "PER SECOND", "5XX", "P50", "P95", "P99", "RECEIVED", "SENT", "UNDER WAY"];
    let rows: Vec<Vec<String>> = apps
        .iter()
        .map(|(name, measured, in_flight)| {
            let load = &measured.load;
            let mut row = vec![name.to_string(), rate(measured), load.answers.failed.to_string()];
            row.extend(times(load));
            row.extend([bytes(load.received), bytes(load.sent), in_flight.to_string()]);
            row
        })
        .collect();
    let known = apps.first().map_or(String::new(), |(_, measured, _)| known(measured, "5 minutes"));
    format!("{}Of the last 5 minutes.{known}\n", table(&head, &rows))
}

/// One app: what it had to do, and its processes.
fn all_of(last: &[(&str, Measured)], in_flight: u64, processes: &[(&ProcessLine, Option<Usage>)]) -> String {
    let head = [
        "LAST",
        "REQUESTS",
        "PER SECOND",
        "2XX",
        "3XX",
        "4XX",
        "5XX",
        "P50",
        "P95",
        "P99",
        "RECEIVED",
        "SENT",
    ];
    let rows: Vec<Vec<String>> = last.iter().map(|(word, measured)| row(word, measured)).collect();
    let mut text = table(&head, &rows);
    text.push_str(&format!("{in_flight} under way now.\n"));
    if let Some((_, hour)) = last.last() {
        text.push_str(&trouble(&hour.load));
        let known = known(hour, "hour");
        text.push_str(known.trim_start());
        text.push_str(if known.is_empty() { "" } else { "\n" });
    }
    let rows: Vec<Vec<String>> = processes.iter().map(|(line, usage)| process_row(line, *usage)).collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(&["PROCESS", "STATUS", "MEMORY", "CPU", "RESTARTS"], &rows));
    }
    text
}

fn row(word: &str, measured: &Measured) -> Vec<String> {
    let load = &measured.load;
    let answers = &load.answers;
    let mut row = vec![word.to_owned(), answers.sum().to_string(), rate(measured)];
    row.extend([answers.fine, answers.elsewhere, answers.refused, answers.failed].map(|n| n.to_string()));
    row.extend(times(load));
    row.extend([bytes(load.received), bytes(load.sent)]);
    row
}

/// What went wrong in the hour, as far as something did.
fn trouble(load: &Load) -> String {
    let parts = [
        (load.held, "had to wait for a process"),
        (load.pages, "were answered by an error page of the platform"),
        (load.answers.gone, "were given up by their client"),
    ];
    let said = parts.iter().filter(|(count, _)| *count > 0);
    let mut text: String = said.map(|(count, what)| format!("In the last hour {count} {what}.\n")).collect();
    if load.ejected > 0 {
        text.push_str(&format!("In the last hour processes took no connection {} times.\n", load.ejected));
    }
    text
}

/// That not all is known, if so.
fn known(measured: &Measured, time: &str) -> String {
    if measured.known + SLACK >= measured.time {
        return String::new();
    }
    let known = measured.known.as_secs();
    let known = if known < 120 { format!("{known} s") } else { format!("{} min", known / 60) };
    format!(" Of the last {time} only {known} are known: before, or in between, nobody counted.")
}

/// Requests a second, of the time that is known.
fn rate(measured: &Measured) -> String {
    per_second(measured).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

#[allow(clippy::cast_precision_loss)] // of a count
fn per_second(measured: &Measured) -> Option<f64> {
    let known = measured.known.as_secs_f64();
    (known > 0.0).then(|| measured.load.answers.sum() as f64 / known)
}

fn times(load: &Load) -> [String; 3] {
    [0.5, 0.95, 0.99].map(|share| load.spread.within(share).map_or_else(|| "-".to_owned(), time))
}

/// `0.8 ms`, `42 ms`, `1.5 s`.
fn time(time: Duration) -> String {
    match time.as_micros() {
        0..10_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        10_000..1_000_000 => format!("{} ms", time.as_millis()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// `812 B`, `1.5 KiB`, `20 GiB`.
#[allow(clippy::cast_precision_loss)] // shown to two digits
fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let place = (0..units.len() - 1).find(|&place| count >> (10 * place) < 1024).unwrap_or(units.len() - 1);
    let amount = count as f64 / (1_u64 << (10 * place)) as f64;
    let digits = usize::from(place > 0 && amount < 10.0);
    format!("{amount:.digits$} {}", units[place])
}

fn process_row(line: &ProcessLine, usage: Option<Usage>) -> Vec<String> {
    let (memory, cpu) = match usage {
        None => ("-".to_owned(), "-".to_owned()),
        Some(usage) => {
            let (most, cpus) = sizes::shown(line.size);
            let used = format!("{:.2}", nano(usage.nano_cpus.cast_signed()));
            (format!("{} of {most}", bytes(usage.memory)), format!("{used} of {cpus}"))
        }
    };
    vec![line.name.to_string(), state(line), memory, cpu, line.restarts.to_string()]
}

fn process_value((line, usage): &(&ProcessLine, Option<Usage>)) -> Value {
    json!({
        "name": line.name.to_string(), "status": state(line), "restarts": line.restarts,
        "memory_bytes": usage.map(|usage| usage.memory), "memory_limit_bytes": line.size.0,
        "cpus": usage.map(|usage| nano(usage.nano_cpus.cast_signed())), "cpu_limit": nano(line.size.1),
    })
}

fn as_value(minutes: u64, measured: &Measured) -> Value {
    let mut value = figures(measured);
    value["minutes"] = minutes.into();
    value
}

fn figures(measured: &Measured) -> Value {
    let load = &measured.load;
    let millis = |share| load.spread.within(share).map(|time| time.as_secs_f64() * 1e3);
    json!({
        "seconds": measured.time.as_secs(), "known_seconds": measured.known.as_secs(),
        "requests": load.answers.sum(), "per_second": per_second(measured), "answers": load.answers,
        "p50_ms": millis(0.5), "p95_ms": millis(0.95), "p99_ms": millis(0.99),
        "received_bytes": load.received, "sent_bytes": load.sent,
        "held": load.held, "error_pages": load.pages, "ejections": load.ejected,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::deploy::Condition;
    use crate::model::{Answers, ProcessName, Spread};

    fn measured(requests: u64, known: u64, time: u64) -> Measured {
        let answers = Answers { fine: requests, failed: requests / 10, ..Answers::default() };
        let cells = (0..40).map(|cell| if cell == 20 { requests } else { requests / 50 });
        let spread = Spread::from_cells(cells);
        let load = Load { answers, spread, received: 800, sent: 123_456_789, ..Load::default() };
        Measured { load, known: Duration::from_secs(known), time: Duration::from_secs(time) }
    }

    fn line(name: &str, condition: Condition) -> ProcessLine {
        ProcessLine {
            name: ProcessName::parse(name).unwrap(),
            release: 3,
            container: String::new(),
            condition,
            exit_code: Some(1),
            out_of_memory: false,
            restarts: 2,
            started_at: 0,
            size: (512 << 20, 1_000_000_000),
        }
    }

    #[test]
    fn an_app() {
        let mut hour = measured(9000, 700, 3630);
        (hour.load.held, hour.load.pages, hour.load.answers.gone, hour.load.ejected) = (4, 3, 2, 1);
        let last = [("1 min", measured(0, 90, 90)), ("5 min", measured(1000, 330, 330)), ("1 h", hour)];
        let (web, worker) = (line("web.1", Condition::Running), line("worker.1", Condition::Crashed));
        let usage = Usage { memory: 50 << 20, nano_cpus: 34_000_000 };
        insta::assert_snapshot!(all_of(&last, 7, &[(&web, Some(usage)), (&worker, None)]));
    }

    #[test]
    fn all_apps() {
        let app = |name| AppName::parse(name).unwrap();
        let apps = [(app("blog"), measured(0, 0, 330), 0), (app("shop"), measured(500, 330, 330), 2)];
        insta::assert_snapshot!(listing(&apps));
        insta::assert_snapshot!(serde_json::to_string_pretty(&as_value(5, &apps[1].1)).unwrap());
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0, 1023, 1024, 10 << 20, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "10 MiB", "16777216 TiB"]
        );
        let of = |micros| time(Duration::from_micros(micros));
        assert_eq!(
            [800, 9_999, 10_000, 999_999, 1_500_000].map(of),
            ["0.8 ms", "10.0 ms", "10 ms", "999 ms", "1.5 s"]
        );
    }
}
