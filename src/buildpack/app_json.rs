//! `app.json`, as Heroku and Dokku know it: config vars, counts and checks.
//!
//! What is not known here is passed over without a word, since the file is also
//! read by other programs; what is known and not done here is said.

use serde_json::{Map, Value};

use super::error::{DetectError, Place};
use super::source::json;
use crate::model::{CheckKind, CheckSource, EnvKey, HealthCheck, MOST_PROCESSES, ProcessType, WantedVar};
use std::collections::BTreeMap;

/// Its name in the root of an app.
pub(super) const FILE: &str = "app.json";

/// Most variables.
const MOST: usize = 200;

/// Longest value, path and command.
const LONGEST: usize = 16 << 10;

/// Keys that mean something elsewhere and nothing here, and what to do instead.
const UNUSED: [(&str, &str); 5] = [
    ("addons", "no add-on is made"),
    ("buildpacks", "the language is found, or named in paas.toml"),
    ("cron", "nothing is run by the clock yet"),
    ("image", "base images are the language's"),
    ("stack", "base images are the language's"),
];

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct AppJson {
    /// Config vars that it wants.
    pub env: BTreeMap<EnvKey, WantedVar>,
    /// How many processes there are after the first deploy.
    pub formation: BTreeMap<ProcessType, u32>,
    /// How web is asked whether it is well.
    pub checks: Option<HealthCheck>,
    /// What is run before each release serves: `scripts.dokku.predeploy`.
    pub predeploy: Option<String>,
    /// What is run once, before the first release serves: `scripts.postdeploy`.
    pub postdeploy: Option<String>,
    /// What is passed over.
    pub notices: Vec<String>,
}

/// Reads the file, or finds its first fault.
pub(super) fn parse(text: &str) -> Result<AppJson, DetectError> {
    let Value::Object(root) = json(FILE, text)? else {
        let reason = "it must be an object, { … }".to_owned();
        return Err(DetectError::Malformed { place: Place::line(FILE, 1), format: "JSON", reason });
    };
    let mut read = Reader { text, found: AppJson::default() };
    read.env(&root)?;
    read.formation(&root)?;
    read.checks(&root)?;
    read.scripts(&root)?;
    for (key, instead) in UNUSED.into_iter().filter(|(key, _)| root.contains_key(*key)) {
        read.found.notices.push(format!("{key} in {FILE} is passed over: {instead}"));
    }
    Ok(read.found)
}

struct Reader<'t> {
    text: &'t str,
    found: AppJson,
}

impl Reader<'_> {
    /// The line of the last of these keys, each looked for behind the one before.
    fn place(&self, path: &[&str]) -> Place {
        let mut at = 0;
        for key in path {
            let quoted = serde_json::to_string(key).unwrap_or_default();
            let rest = self.text.get(at..).unwrap_or_default();
            let found = rest
                .match_indices(&quoted)
                .find(|(index, _)| rest[index + quoted.len()..].trim_start().starts_with(':'));
            let Some((index, _)) = found else { return Place::file(FILE) };
            at += index + quoted.len();
        }
        Place::line(FILE, self.text[..at].matches('\n').count() + 1)
    }

    fn bad(&self, path: &[&str], value: &Value, possible: &str) -> DetectError {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        DetectError::BadValue {
            place: self.place(path),
            key: path.last().copied().unwrap_or_default().to_owned(),
            value,
            possible: vec![possible.to_owned()],
        }
    }

    /// An object under a key of the root.
    fn object<'v>(
        &self,
        root: &'v Map<String, Value>,
        key: &str,
    ) -> Result<Option<&'v Map<String, Value>>, DetectError> {
        match root.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(other) => Err(self.bad(&[key], other, "an object, { … }")),
        }
    }

    fn env(&mut self, root: &Map<String, Value>) -> Result<(), DetectError> {
        let Some(env) = self.object(root, "env")? else { return Ok(()) };
        for (name, wanted) in env.iter().take(MOST) {
            let path = ["env", name.as_str()];
            let key = EnvKey::parse(name).ok().filter(|key| !key.is_platforms());
            let named = Value::String(name.clone());
            let key = key.ok_or_else(|| self.bad(&path, &named, "a free name such as API_KEY"))?;
            let wanted = match wanted {
                Value::Object(wanted) => self.variable(name, wanted)?,
                value => WantedVar::Value(self.value(&path, value)?),
            };
            self.found.env.insert(key, wanted);
        }
        Ok(())
    }

    fn variable(&self, name: &str, wanted: &Map<String, Value>) -> Result<WantedVar, DetectError> {
        match (wanted.get("generator"), wanted.get("value")) {
            (Some(Value::String(word)), _) if word == "secret" => return Ok(WantedVar::Secret),
            (Some(other), _) => return Err(self.bad(&["env", name, "generator"], other, "secret")),
            (None, Some(value)) if !value.is_null() => {
                return self.value(&["env", name, "value"], value).map(WantedVar::Value);
            }
            (None, _) => {}
        }
        match wanted.get("required") {
            // Nobody has asked Heroku's and Dokku's pushes for it.
            None => Ok(WantedVar::Asked),
            Some(Value::Bool(true)) => Ok(WantedVar::Required),
            Some(Value::Bool(false)) => Ok(WantedVar::Optional),
            Some(other) => Err(self.bad(&["env", name, "required"], other, "true or false")),
        }
    }

    fn value(&self, path: &[&str], value: &Value) -> Result<String, DetectError> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            other => return Err(self.bad(path, other, "a text")),
        };
        if text.contains('\0') || text.len() > LONGEST {
            return Err(self.bad(path, value, "a text of at most 16 KiB without NUL"));
        }
        Ok(text)
    }

    fn formation(&mut self, root: &Map<String, Value>) -> Result<(), DetectError> {
        let Some(formation) = self.object(root, "formation")? else { return Ok(()) };
        for (name, settings) in formation {
            let path = ["formation", name.as_str()];
            let named = Value::String(name.clone());
            let kind = ProcessType::parse(name).ok().filter(|kind| !kind.is_release());
            let kind = kind.ok_or_else(|| self.bad(&path, &named, "a process type"))?;
            let Value::Object(settings) = settings else {
                return Err(self.bad(&path, settings, "an object such as { \"quantity\": 1 }"));
            };
            if let Some(quantity) = settings.get("quantity") {
                let count = quantity.as_u64().and_then(|count| u32::try_from(count).ok());
                let count = count.filter(|count| *count <= MOST_PROCESSES).ok_or_else(|| {
                    self.bad(&["formation", name, "quantity"], quantity, "a number from 0 to 100")
                })?;
                self.found.formation.insert(kind, count);
            }
            let unused: Vec<&str> =
                settings.keys().map(String::as_str).filter(|key| *key != "quantity").collect();
            if !unused.is_empty() {
                let notice = format!(
                    "{} of {name} in {FILE} is passed over: sizes stand in paas.toml, [processes.{name}]",
                    unused.join(", ")
                );
                self.found.notices.push(notice);
            }
        }
        Ok(())
    }

    /// Dokku's form. One check is asked here, at the start and later: the first of
    /// web's that asks anything.
    fn checks(&mut self, root: &Map<String, Value>) -> Result<(), DetectError> {
        let Some(checks) = self.object(root, "healthchecks")? else { return Ok(()) };
        let others: Vec<&str> = checks.keys().map(String::as_str).filter(|kind| *kind != "web").collect();
        if !others.is_empty() {
            self.found.notices.push(format!(
                "healthchecks of {} in {FILE} are passed over: web is asked",
                others.join(", ")
            ));
        }
        let all = match checks.get("web") {
            None => return Ok(()),
            Some(Value::Array(all)) => all,
            Some(other) => return Err(self.bad(&["healthchecks", "web"], other, "a list of objects")),
        };
        for (index, check) in all.iter().enumerate() {
            let Value::Object(check) = check else {
                return Err(self.bad(&["healthchecks", "web"], check, "a list of objects"));
            };
            let read = self.check(check)?;
            match (read, &self.found.checks) {
                (Some(read), None) => self.found.checks = Some(read),
                (Some(_), Some(_)) => self
                    .found
                    .notices
                    .push(format!("healthcheck {} of web in {FILE} is passed over: one is asked", index + 1)),
                (None, _) => self.found.notices.push(format!(
                    "healthcheck {} of web in {FILE} is passed over: it asks for no path, command or port",
                    index + 1
                )),
            }
        }
        Ok(())
    }

    fn check(&self, check: &Map<String, Value>) -> Result<Option<HealthCheck>, DetectError> {
        let path = |key| ["healthchecks", "web", key];
        let kind = match (check.get("path"), check.get("command"), check.get("listening")) {
            (Some(Value::String(asked)), ..)
                if asked.starts_with('/')
                    && asked.bytes().all(|c| c.is_ascii_graphic())
                    && asked.len() <= 2000 =>
            {
                CheckKind::Path(asked.clone())
            }
            (Some(other), ..) => return Err(self.bad(&path("path"), other, "a path such as /healthz")),
            (None, Some(command), _) => CheckKind::Command(self.command(command)?),
            (None, None, Some(Value::Bool(true))) => CheckKind::Tcp,
            (None, None, _) => return Ok(None),
        };
        let default = HealthCheck::default();
        let number = |key: &'static str, default: u16, least: u64| match check.get(key) {
            None => Ok(default),
            Some(value) => match value.as_u64().and_then(|number| u16::try_from(number).ok()) {
                Some(number) if u64::from(number) >= least && number <= 3600 => Ok(number),
                _ => Err(self.bad(&path(key), value, "a number of at most 3600")),
            },
        };
        let (timeout, attempts) =
            (number("timeout", default.timeout, 1)?, number("attempts", default.attempts, 1)?);
        let (wait, delay) = (number("wait", default.interval, 0)?, number("initialDelay", 0, 0)?);
        // So long may Dokku's questions go on before it gives up.
        let longest = u32::from(delay) + u32::from(attempts) * (u32::from(wait) + u32::from(timeout));
        let start_period = u16::try_from(longest.min(3600)).unwrap_or(3600).max(default.start_period);
        let (source, interval) = (CheckSource::AppJson, wait.max(1));
        Ok(Some(HealthCheck { kind, source, interval, timeout, attempts, start_period, ..default }))
    }

    /// A list of words, or a line.
    fn command(&self, command: &Value) -> Result<String, DetectError> {
        let refused = || self.bad(&["healthchecks", "web", "command"], command, "a list of texts");
        let line = match command {
            Value::String(line) => line.clone(),
            Value::Array(words) => {
                let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
                shell_words::join(words.ok_or_else(refused)?)
            }
            _ => return Err(refused()),
        };
        let fine = !line.trim().is_empty() && !line.contains('\0') && line.len() <= 2000;
        fine.then_some(line).ok_or_else(refused)
    }

    fn scripts(&mut self, root: &Map<String, Value>) -> Result<(), DetectError> {
        let Some(Value::Object(scripts)) = root.get("scripts") else { return Ok(()) };
        self.found.postdeploy = self.script(&["scripts", "postdeploy"], scripts.get("postdeploy"))?;
        let Some(Value::Object(dokku)) = scripts.get("dokku") else { return Ok(()) };
        self.found.predeploy = self.script(&["scripts", "dokku", "predeploy"], dokku.get("predeploy"))?;
        for key in dokku.keys().filter(|key| *key != "predeploy") {
            self.found.notices.push(format!(
                "scripts.dokku.{key} in {FILE} is not run: dokku.predeploy is, and postdeploy once"
            ));
        }
        Ok(())
    }

    /// A line for the shell; an empty one is none.
    fn script(&self, path: &[&str], value: Option<&Value>) -> Result<Option<String>, DetectError> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(line)) if line.trim().is_empty() => Ok(None),
            Some(Value::String(line)) if line.len() <= LONGEST && !line.contains(['\0', '\n', '\r']) => {
                Ok(Some(line.trim().to_owned()))
            }
            Some(other) => Err(self.bad(path, other, "a command in one line")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_herokus_example_says() {
        let text = r#"{"name": "x", "env": {
            "SECRET_KEY": {"description": "signs cookies", "generator": "secret"},
            "LEVEL": {"value": "info"}, "WORKERS": 3, "SIMPLE": "yes",
            "API_KEY": {"description": "ask us"}, "MUST": {"required": true}, "DSN": {"required": false}},
            "formation": {"web": {"quantity": 2, "size": "standard-1x"}, "worker": {"quantity": 1}},
            "addons": ["heroku-postgresql"], "stack": "heroku-22", "scripts": {"postdeploy": "rake seed", "dokku": {"predeploy": "x"}}}"#;
        let read = parse(text).unwrap();
        let env: Vec<String> = read.env.iter().map(|(key, wanted)| format!("{key} {wanted:?}")).collect();
        insta::assert_snapshot!(format!(
            "{}\n{:?}\n{:?} {:?}\n{}",
            env.join("\n"),
            read.formation,
            read.predeploy,
            read.postdeploy,
            read.notices.join("\n")
        ));
    }

    #[test]
    fn the_documented_example_is_read() {
        let page = include_str!("../../docs/app-json.md");
        let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let read = parse(example).unwrap();
        assert_eq!((read.env.len(), read.formation.len(), read.notices.len()), (3, 2, 0));
        assert!(read.checks.is_some());
    }

    #[test]
    fn dokkus_checks() {
        let read = |check: &str| parse(&format!("{{\"healthchecks\": {{\"web\": [{check}]}}}}")).unwrap();
        let path = read(r#"{"type": "startup", "path": "/up", "attempts": 3, "wait": 30, "timeout": 5}"#)
            .checks
            .unwrap();
        assert_eq!(
            (path.kind, path.interval, path.timeout, path.attempts, path.start_period),
            (CheckKind::Path("/up".into()), 30, 5, 3, 105)
        );
        let command = read(r#"{"type": "startup", "command": ["test", "-e", "/tmp/a b"]}"#).checks.unwrap();
        assert_eq!(command.kind, CheckKind::Command("test -e '/tmp/a b'".into()));
        assert_eq!(read(r#"{"listening": true, "port": 5000}"#).checks.unwrap().kind, CheckKind::Tcp);
        let uptime = read(r#"{"type": "startup", "uptime": 10}, {"path": "/"}, {"path": "/b"}"#);
        assert_eq!((uptime.checks.unwrap().kind, uptime.notices.len()), (CheckKind::Path("/".into()), 2));
    }

    #[test]
    fn faults_name_their_line() {
        let fault = |text: &str| match parse(text).unwrap_err() {
            DetectError::BadValue { place, key, .. } => format!("{} {key}", place.line),
            DetectError::Malformed { place, .. } => format!("{} malformed", place.line),
            other => panic!("{other:?}"),
        };
        assert_eq!(fault("[]"), "1 malformed");
        assert_eq!(fault("{\n\"env\": {\n}"), "3 malformed");
        assert_eq!(fault("{\n\"env\": []}"), "2 env");
        assert_eq!(fault("{\"name\": \"env\",\n\"env\": {\n\"A B\": \"x\"}}"), "3 A B");
        assert_eq!(fault("{\"env\": {\n\"PAAS_X\": \"x\"}}"), "2 PAAS_X");
        assert_eq!(
            fault("{\"env\": {\"B\": {\"generator\": \"secret\"},\n\"A\": {\n\"generator\": \"uuid\"}}}"),
            "3 generator"
        );
        assert_eq!(fault("{\"formation\": {\n\"web\": {\"quantity\":\n 101}}}"), "2 quantity");
        assert_eq!(fault("{\"formation\": {\n\"release\": {}}}"), "2 release");
        assert_eq!(fault("{\"healthchecks\": {\"web\": [\n{\"path\": \"up\"}]}}"), "2 path");
    }
}
