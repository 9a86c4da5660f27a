//! The environment of a process at run time.

use crate::model::{AppName, Limits, ProcessName, Release};
use std::collections::BTreeMap;

/// All variables of one process: the language's, then ours, then those that the
/// user gave all apps, then those of this app, which win.
pub(super) fn of(
    app: &AppName,
    release: &Release,
    process: &ProcessName,
    limits: &Limits,
) -> Vec<(String, String)> {
    let mut env: BTreeMap<String, String> = release.env.clone();
    env.insert("PAAS_APP".to_owned(), app.to_string());
    env.insert("PAAS_RELEASE".to_owned(), format!("v{}", release.label()));
    env.insert("DYNO".to_owned(), process.to_string());
    env.insert("GIT_REV".to_owned(), release.commit.to_string());
    env.insert("SOURCE_VERSION".to_owned(), release.commit.to_string());
    if let Some(mib) = release.worker_mib {
        env.insert("WEB_CONCURRENCY".to_owned(), concurrency(mib, release, limits).to_string());
    }
    for vars in [&release.global, &release.config] {
        env.extend(vars.0.iter().map(|(key, value)| (key.to_string(), value.clone())));
    }
    if process.kind.is_web() {
        env.insert("PORT".to_owned(), release.port.to_string());
    } else {
        // Whatever the user set: it is where web listens.
        env.remove("PORT");
    }
    env.into_iter().collect()
}

/// Workers that fit: by memory, and for Python by CPU too (`2·cpu + 1`).
fn concurrency(worker_mib: u32, release: &Release, limits: &Limits) -> i64 {
    let by_memory = (limits.memory >> 20) / i64::from(worker_mib.max(1));
    let by_cpu = if release.runtime.starts_with("Python") {
        2 * limits.nano_cpus / 1_000_000_000 + 1
    } else {
        by_memory
    };
    by_memory.min(by_cpu).max(1)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{AppId, CommitId, ConfigVars, EnvKey, ReleaseId, ReleaseState, Why};

    pub(crate) fn release(config: &[(&str, &str)]) -> Release {
        let config = config.iter().map(|(key, value)| (EnvKey::parse(key).unwrap(), (*value).to_owned()));
        Release {
            id: ReleaseId(1),
            app: AppId(1),
            number: 3,
            commit: CommitId::parse(&"a".repeat(40)).unwrap(),
            image: String::new(),
            image_id: String::new(),
            config: ConfigVars(config.collect()),
            global: ConfigVars::default(),
            processes: BTreeMap::new(),
            port: 8000,
            env: BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]),
            worker_mib: Some(256),
            checks: crate::model::HealthCheck::default(),
            types: BTreeMap::new(),
            http: crate::model::HttpSettings::default(),
            sizes: BTreeMap::new(),
            runtime: "Python 3.11".to_owned(),
            root: false,
            why: Why::Push,
            who: "ada".to_owned(),
            state: ReleaseState::Preparing,
            created_at: 0,
            source: None,
            watch: None,
            took_over: None,
            stopped: crate::model::Stopped::default(),
            evidence: None,
            retired_at: None,
            bases: Vec::new(),
        }
    }

    fn lines(config: &[(&str, &str)], process: &str) -> Vec<String> {
        let app = AppName::parse("shop").unwrap();
        let process = ProcessName::parse(process).unwrap();
        let env = of(&app, &release(config), &process, &Limits::default());
        env.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn the_users_values_win_and_arrive_byte_for_byte() {
        let web = lines(&[("LANG", "de $HOME \"x\"\n"), ("WEB_CONCURRENCY", "9")], "web.1");
        for expected in
            ["LANG=de $HOME \"x\"\n", "WEB_CONCURRENCY=9", "PORT=8000", "DYNO=web.1", "PAAS_RELEASE=v3"]
        {
            assert!(web.iter().any(|line| line == expected), "{expected} in {web:?}");
        }
    }

    #[test]
    fn those_of_all_apps_are_below_the_apps_own() {
        let key = |name| EnvKey::parse(name).unwrap();
        let mut release = release(&[("A", "hunter2")]);
        release.global =
            ConfigVars([(key("A"), "hunter3".to_owned()), (key("B"), "hunter3".to_owned())].into());
        let (app, web) = (AppName::parse("shop").unwrap(), ProcessName::parse("web.1").unwrap());
        let env = of(&app, &release, &web, &Limits::default());
        let value = |name| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!((value("A"), value("B")), (Some("hunter2"), Some("hunter3")));
        assert_eq!((release.var("A"), release.var("B")), (Some("hunter2"), Some("hunter3")));
        let shown = format!("{release:?}");
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn only_web_has_a_port_and_workers_fit_the_memory() {
        let worker = lines(&[("PORT", "8000")], "worker.1");
        assert!(!worker.iter().any(|line| line.starts_with("PORT=")), "{worker:?}");
        assert!(worker.contains(&"WEB_CONCURRENCY=2".to_owned()));
    }
}
