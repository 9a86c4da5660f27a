//! The numbers as Prometheus reads them: text format 0.0.4.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use super::Shared;
use super::census::{Census, ENDS, ENTRIES, KINDS};
use super::meter::{CODES, Totals};
use super::tls::Tls;
use crate::model::{Answers, AppName, BOUNDS};
use std::fmt::{Display, Write};

/// What the document is, for its readers.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets in microseconds; each is one of [`BOUNDS`].
const BUCKETS: [u32; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 25_000_000,
];

const REQUESTS: &str = "paas_app_requests_total";
const DURATION: &str = "paas_app_request_duration_seconds";

/// Everything as it is now.
pub(super) fn document(shared: &Shared) -> String {
    let mut text = Text::default();
    let table = shared.board.table();
    text.family("paas_proxy_build_info", "gauge", "The version that runs.");
    text.line("paas_proxy_build_info", &[("version", &env!("CARGO_PKG_VERSION"))], 1);
    text.one("paas_proxy_start_time_seconds", "gauge", "When the proxy began.", shared.census.begun);
    let help = "Version of the route table in force.";
    text.one("paas_proxy_route_table_version", "gauge", help, table.version);
    text.one("paas_proxy_routes", "gauge", "Apps in the route table.", table.routes.len());
    traffic(&mut text, &shared.census);
    let help = "Until when the certificate counts that is shown for a name.";
    text.family("paas_certificate_expiry_timestamp_seconds", "gauge", help);
    for (name, until) in shared.tls.iter().flat_map(Tls::expiries) {
        text.line("paas_certificate_expiry_timestamp_seconds", &[("name", &name)], until);
    }
    apps(&mut text, &shared.board.meters.all());
    text.0
}

fn traffic(text: &mut Text, census: &Census) {
    text.each(
        "paas_proxy_connections",
        "gauge",
        "Open connections of clients.",
        "entry",
        ENTRIES,
        census.open(),
    );
    let help = "Connections that were accepted.";
    text.each("paas_proxy_connections_total", "counter", help, "entry", ENTRIES, census.accepted());
    let help = "Connections that were closed at once: their address had its fill.";
    text.one("paas_proxy_connections_refused_total", "counter", help, census.turned_away());
    let help = "TLS handshakes.";
    text.each("paas_proxy_tls_handshakes_total", "counter", help, "result", ENDS, census.handshakes());
    let help = "Requests that are for no app.";
    text.each("paas_proxy_stray_requests_total", "counter", help, "code", KINDS, census.strays());
}

type App = (AppName, Totals);

fn apps(text: &mut Text, apps: &[App]) {
    let help = "Requests by the status of their answer; gone: the client left before there was one.";
    text.by_app(REQUESTS, "counter", help, apps, "code", &Answers::NAMES, |app| &app.answers);
    text.family(DURATION, "histogram", "From a request's head to that of its answer.");
    for (app, totals) in apps {
        histogram(text, app, totals);
    }
    let help = "Requests under way.";
    text.app_by_app("paas_app_requests_in_flight", "gauge", help, apps, |app| app.in_flight);
    let help = "Bytes of bodies from clients.";
    text.app_by_app("paas_app_received_bytes_total", "counter", help, apps, |app| app.received);
    let help = "Bytes of bodies to clients.";
    text.app_by_app("paas_app_sent_bytes_total", "counter", help, apps, |app| app.sent);
    let help = "Requests that had to wait before a process could be asked.";
    text.app_by_app("paas_app_requests_held_total", "counter", help, apps, |app| app.held);
    let help = "How often a process got no requests for a moment because it took no connection.";
    text.app_by_app("paas_app_ejections_total", "counter", help, apps, |app| app.ejected);
    let help = "Requests that were answered by a page in the app's place.";
    text.by_app("paas_app_error_pages_total", "counter", help, apps, "error", &CODES, |app| &app.pages);
}

fn histogram(text: &mut Text, app: &AppName, totals: &Totals) {
    let bucket = format!("{DURATION}_bucket");
    for bound in BUCKETS {
        let below = BOUNDS.partition_point(|&one| one <= bound);
        let count: u64 = totals.cells[..below].iter().sum();
        text.line(&bucket, &[("app", app), ("le", &seconds(bound.into()))], count);
    }
    let count: u64 = totals.cells.iter().sum();
    text.line(&bucket, &[("app", app), ("le", &"+Inf")], count);
    text.line(&format!("{DURATION}_sum"), &[("app", app)], seconds(totals.micros));
    text.line(&format!("{DURATION}_count"), &[("app", app)], count);
}

/// `0.0025` of 2,500 microseconds.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A document in the making.
#[derive(Default)]
struct Text(String);

impl Text {
    /// The lines from here on are of this metric.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One line. No label's value has a quote, a backslash or a line's end in it.
    fn line(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.0.push_str(name);
        for (place, (label, value)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{value}\"");
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(name, &[], value);
    }

    fn each<const N: usize>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        of: [&str; N],
        values: [u64; N],
    ) {
        self.family(name, kind, help);
        for (one, value) in of.iter().zip(values) {
            self.line(name, &[(label, one)], value);
        }
    }

    fn app_by_app(&mut self, name: &str, kind: &str, help: &str, apps: &[App], of: fn(&Totals) -> u64) {
        self.family(name, kind, help);
        for (app, totals) in apps {
            self.line(name, &[("app", app)], of(totals));
        }
    }

    /// Those that are not 0: there may be many apps.
    #[allow(clippy::too_many_arguments)] // each is one word of the line
    fn by_app(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        apps: &[App],
        label: &str,
        of: &[&str],
        values: fn(&Totals) -> &[u64],
    ) {
        self.family(name, kind, help);
        for (app, totals) in apps {
            for (one, value) in of.iter().zip(values(totals)).filter(|(_, value)| **value > 0) {
                self.line(name, &[("app", app), (label, one)], value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::proxy::meter::Meters;
    use crate::proxy::routing::Entry;
    use hyper::StatusCode;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn the_numbers_of_apps_and_of_the_proxy() {
        let (meters, census) = (Meters::default(), Arc::new(Census::default()));
        let meter = meters.of(&AppName::parse("shop").unwrap());
        for micros in [90, 999, 1000, 1001, 30_000, 1_999_999] {
            let mut one = meter.begin();
            one.answered(StatusCode::OK, Duration::from_micros(micros));
            one.sent(100);
        }
        meter.begin().answered_by_page(StatusCode::SERVICE_UNAVAILABLE, Some("H12"), Duration::from_secs(30));
        meter.received(7);
        meter.ejected();
        let mut waiting = meter.begin();
        waiting.held();
        meters.of(&AppName::parse("quiet").unwrap());
        let open = census.connected(Entry::Https);
        drop(census.connected(Entry::Port(5000)));
        census.refused();
        census.shaken(true);
        census.shaken(false);
        census.stray(StatusCode::NOT_FOUND);
        let mut text = Text::default();
        traffic(&mut text, &census);
        apps(&mut text, &meters.all());
        insta::assert_snapshot!(text.0);
        drop((open, waiting));
    }

    #[test]
    fn every_bucket_ends_where_a_cell_does() {
        assert!(BUCKETS.iter().all(|bucket| BOUNDS.contains(bucket)));
        assert_eq!([0, 2_500, 1_000_000, 25_000_000].map(seconds), ["0", "0.0025", "1", "25"]);
    }
}
