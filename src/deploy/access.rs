//! What proxies say of requests, on its way to the apps' logs.

use super::Routes;
use crate::logs::{LogEntry, Logs, Source};
use crate::model::{AccessLine, AccessLines};

/// Who says what no process has answered, and how many lines were left out.
const PROXY: &str = "proxy";

/// Writes access lines.
#[derive(Clone)]
pub struct AccessLogs {
    pub(super) routes: Routes,
    pub(super) logs: Logs,
}

impl AccessLogs {
    /// Takes what a proxy has gathered; waits for nothing.
    pub fn write(&self, apps: Vec<AccessLines>) {
        let table = self.routes.table();
        for lines in apps {
            // An app that is gone has no log any more, and another one of its name has its own.
            let log = table.routes.get(&lines.app).and_then(|route| route.traffic.access_log);
            if log.is_some_and(|log| log.app == lines.id) {
                self.append(lines);
            }
        }
    }

    fn append(&self, AccessLines { id, lines, left_out, .. }: AccessLines) {
        for line in lines {
            self.logs.append(id, entry(line));
        }
        if left_out > 0 {
            self.logs.append(id, LogEntry::now(Source::Router, PROXY, 0, passed_over(left_out)));
        }
    }
}

fn entry(line: AccessLine) -> LogEntry {
    let AccessLine { at_nanos, process, release, text } = line;
    let process = process.unwrap_or_else(|| PROXY.to_owned());
    LogEntry { at_nanos, source: Source::Router, process, release, text }
}

/// In place of lines that there are not.
fn passed_over(count: u64) -> String {
    let requests = if count == 1 { "request" } else { "requests" };
    format!("… {count} more {requests} without a line")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_update)]
    use super::*;
    use crate::logs::Filter;
    use crate::model::{AccessLog, AppId, AppName, HttpsPolicy, Route, Traffic};
    use crate::settings::LogSettings;
    use std::time::Duration;

    fn lines(id: i64, text: &str, left_out: u64) -> AccessLines {
        let process = (!text.contains("code=")).then(|| "web.1".to_owned());
        let line = AccessLine { at_nanos: 1_767_323_045_678_901_234, process, release: 3, text: text.into() };
        AccessLines { app: AppName::parse("shop").unwrap(), id: AppId(id), lines: vec![line], left_out }
    }

    #[tokio::test]
    async fn lines_reach_the_log_of_the_app_that_is_there_now() {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            LogSettings { keep: Duration::from_secs(86_400 * 9999), max_bytes: 1 << 20, requests: 50 };
        let logs = Logs::open(dir.path(), settings).unwrap();
        let access = AccessLogs { routes: Routes::new(), logs: logs.clone() };
        access.write(vec![lines(7, "at=info", 0)]);
        let traffic =
            Traffic { access_log: Some(AccessLog { app: AppId(7), per_second: 50 }), ..Traffic::default() };
        let app = AppName::parse("shop").unwrap();
        let route = Route {
            app: app.clone(),
            hosts: vec![],
            https: HttpsPolicy::default(),
            traffic,
            port: None,
            release: 3,
            targets: vec![],
            outage: "H14".into(),
        };
        access.routes.publish(&app, Some(route));
        access.write(vec![lines(7, "at=info", 1), lines(6, "at=info of another", 0)]);
        access.write(vec![lines(7, "at=error code=H14", 1200)]);
        let kept = logs.tail(AppId(7), 9, &Filter::default()).await.unwrap();
        let text: Vec<String> = kept.iter().map(|entry| entry.line().split_off(33)).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        router[web.1]: at=info
        router[proxy]: … 1 more request without a line
        router[proxy]: at=error code=H14
        router[proxy]: … 1200 more requests without a line
        ");
        assert!(logs.tail(AppId(6), 9, &Filter::default()).await.unwrap().is_empty());
    }
}
