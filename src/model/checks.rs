//! How the platform asks a web process whether it is well.

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// `GET /` at the start, where any answer below 500 will do; nothing later.
    #[default]
    Start,
    /// A GET of this path, where the answer must be below 400.
    Path(String),
    /// That it accepts a connection.
    Tcp,
    /// This shell line in its container, where the exit status must be 0.
    Command(String),
    /// The same of these words, without a shell.
    Exec(Vec<String>),
}

/// Who says what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckSource {
    /// Nobody.
    #[default]
    Default,
    /// `HEALTHCHECK` of the image.
    Image,
    /// `healthchecks` in app.json.
    AppJson,
    /// `[checks]` in paas.toml.
    File,
    /// `checks:set`.
    Command,
}

/// One app's check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// Who says so.
    pub source: CheckSource,
    /// Whether web must listen on `PORT`, and no other port is adopted.
    pub strict_port: bool,
    /// The port that is asked, if it is another than the one that gets the traffic.
    pub port: Option<u16>,
    /// Seconds between two questions after the start.
    pub interval: u16,
    /// Seconds for an answer.
    pub timeout: u16,
    /// So many failures in a row after the start take a process out of the routes.
    pub attempts: u16,
    /// Seconds until the first good answer.
    pub start_period: u16,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: CheckKind::Start,
            source: CheckSource::Default,
            strict_port: false,
            port: None,
            interval: 10,
            timeout: 10,
            attempts: 2,
            start_period: 60,
        }
    }
}

impl HealthCheck {
    /// Whether a process is asked after its start, too.
    pub fn goes_on(&self) -> bool {
        self.kind != CheckKind::Start
    }

    /// Whether each question starts a program.
    pub fn is_costly(&self) -> bool {
        matches!(self.kind, CheckKind::Command(_) | CheckKind::Exec(_))
    }

    /// Takes over the image's own check where nobody asks anything else, and its
    /// times where they are as usual.
    pub fn take(&mut self, image: &Self) {
        if self.kind != CheckKind::Start {
            return;
        }
        let usual = Self::default();
        let of = |mine: u16, usual: u16, image: u16| if mine == usual { image } else { mine };
        self.interval = of(self.interval, usual.interval, image.interval);
        self.timeout = of(self.timeout, usual.timeout, image.timeout);
        self.attempts = of(self.attempts, usual.attempts, image.attempts);
        self.start_period = of(self.start_period, usual.start_period, image.start_period);
        self.kind = image.kind.clone();
        self.source = CheckSource::Image;
    }

    /// Whether these words cannot be run in its image, so that the image's check
    /// says nothing: 126 and 127 are what a shell and the engine say then.
    pub fn is_hollow(&self, exit_code: i64) -> bool {
        self.source == CheckSource::Image && matches!(exit_code, 126 | 127)
    }
}

/// What `checks:set` has said; the rest is the release's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckChange {
    /// What is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<CheckKind>,
    /// Whether web must listen on `PORT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_port: Option<bool>,
    /// The port that is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<u16>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u16>,
    /// Failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u16>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<u16>,
}

/// A word of `checks:set` or `checks:unset` that is none; what would be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotACheck {
    /// What was typed, shortened.
    pub word: String,
    /// `a path such as path=/healthz`.
    pub expected: &'static str,
}

impl CheckChange {
    /// The keys that can be set.
    pub const KEYS: &str = "path, tcp, command, type, port, interval, timeout, attempts, start_period";

    /// Over a release's check.
    pub fn over(&self, release: &HealthCheck) -> HealthCheck {
        HealthCheck {
            kind: self.kind.clone().unwrap_or_else(|| release.kind.clone()),
            source: if self.kind.is_some() { CheckSource::Command } else { release.source },
            strict_port: self.strict_port.unwrap_or(release.strict_port),
            port: if self.strict_port.is_some() { self.port } else { self.port.or(release.port) },
            interval: self.interval.unwrap_or(release.interval),
            timeout: self.timeout.unwrap_or(release.timeout),
            attempts: self.attempts.unwrap_or(release.attempts),
            start_period: self.start_period.unwrap_or(release.start_period),
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes `path=/healthz`, `interval=5s`, `type=tcp` and the like.
    pub fn set(&mut self, word: &str) -> Result<(), NotACheck> {
        let refuse = |expected| NotACheck { word: word.chars().take(60).collect(), expected };
        let (key, value) = word.split_once('=').ok_or_else(|| refuse("KEY=VALUE, such as path=/healthz"))?;
        let number = || {
            let digits = value.strip_suffix('s').unwrap_or(value);
            let number = digits.parse::<u16>().ok().filter(|number| (1..=3600).contains(number));
            number.ok_or_else(|| refuse("a number from 1 to 3600, such as interval=5"))
        };
        match key {
            "path" if is_path(value) => self.kind = Some(CheckKind::Path(value.to_owned())),
            "path" => return Err(refuse("a path such as path=/healthz")),
            "command" if is_command(value) => self.kind = Some(CheckKind::Command(value.to_owned())),
            "command" => return Err(refuse("a command such as command='test -e /tmp/ok'")),
            "type" | "tcp" => match (key, value, &self.kind) {
                ("type", "tcp", _) | ("tcp", "true", _) => self.kind = Some(CheckKind::Tcp),
                ("type", "none", _) => self.kind = Some(CheckKind::Start),
                ("type", "http", Some(CheckKind::Path(_)))
                | ("type", "command", Some(CheckKind::Command(_))) => {}
                ("type", "http", _) => self.kind = Some(CheckKind::Path("/".to_owned())),
                _ => return Err(refuse("type=http, type=tcp, type=none or command=LINE")),
            },
            "port" => {
                let port = AskedPort::parse(value);
                let port =
                    port.ok_or_else(|| refuse("port=strict, port=any or a number such as port=9000"))?;
                (self.strict_port, self.port) = match port {
                    AskedPort::Strict => (Some(true), None),
                    AskedPort::Any => (Some(false), None),
                    AskedPort::Number(port) => (None, Some(port)),
                };
            }
            "interval" => self.interval = Some(number()?),
            "timeout" => self.timeout = Some(number()?),
            "attempts" => self.attempts = Some(number()?),
            "start_period" | "start" => self.start_period = Some(number()?),
            _ => return Err(refuse(Self::KEYS)),
        }
        Ok(())
    }

    /// Takes back what `set` has set under this key.
    pub fn unset(&mut self, key: &str) -> Result<(), NotACheck> {
        match key {
            "path" | "tcp" | "command" | "type" => self.kind = None,
            "port" => (self.strict_port, self.port) = (None, None),
            "interval" => self.interval = None,
            "timeout" => self.timeout = None,
            "attempts" => self.attempts = None,
            "start_period" | "start" => self.start_period = None,
            _ => return Err(NotACheck { word: key.chars().take(60).collect(), expected: Self::KEYS }),
        }
        Ok(())
    }
}

/// Which port is asked, as it can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedPort {
    /// `PORT`, where web must listen.
    Strict,
    /// `PORT`, or the only one that is open.
    Any,
    /// This one, beside the one that gets the traffic.
    Number(u16),
}

impl AskedPort {
    /// Reads `strict`, `any`, `9000`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "strict" => Some(Self::Strict),
            "any" => Some(Self::Any),
            number => number.parse().ok().filter(|port| *port > 0).map(Self::Number),
        }
    }
}

/// Longest path, and longest command.
const LONGEST: usize = 2000;

/// Whether a text can be asked for.
pub fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|c| c.is_ascii_graphic()) && text.len() <= LONGEST
}

/// Whether a text can be run.
pub fn is_command(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains('\0') && text.len() <= LONGEST
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(words: &[&str]) -> Result<CheckChange, NotACheck> {
        let mut change = CheckChange::default();
        words.iter().try_for_each(|word| change.set(word)).map(|()| change)
    }

    #[test]
    fn a_command_wins_over_the_file_and_the_file_over_the_image() {
        let exec = CheckKind::Exec(vec!["/probe".into()]);
        let image = HealthCheck { kind: exec.clone(), interval: 30, attempts: 3, ..HealthCheck::default() };
        let mut file = HealthCheck { start_period: 90, ..HealthCheck::default() };
        file.take(&image);
        assert_eq!((file.kind.clone(), file.source), (exec, CheckSource::Image));
        assert_eq!((file.interval, file.attempts, file.start_period), (30, 3, 90));
        let mut file =
            HealthCheck { kind: CheckKind::Tcp, source: CheckSource::File, ..HealthCheck::default() };
        file.take(&image);
        assert_eq!((file.kind.clone(), file.interval), (CheckKind::Tcp, 10));
        let change = set(&["path=/up", "interval=5s"]).unwrap();
        let check = change.over(&file);
        assert_eq!(check.kind, CheckKind::Path("/up".into()));
        assert_eq!((check.source, check.interval, check.attempts), (CheckSource::Command, 5, 2));
        let check = set(&["attempts=1"]).unwrap().over(&file);
        assert_eq!((check.kind, check.source, check.attempts), (CheckKind::Tcp, CheckSource::File, 1));
    }

    #[test]
    fn words_set_and_unset() {
        let mut change = set(&["command=test -e /x", "type=command", "port=strict", "start=30"]).unwrap();
        assert_eq!(change.kind, Some(CheckKind::Command("test -e /x".into())));
        for key in ["command", "port", "start_period"] {
            change.unset(key).unwrap();
        }
        assert!(change.is_empty());
        assert_eq!(set(&["type=http"]).unwrap().kind, Some(CheckKind::Path("/".into())));
        assert_eq!(set(&["type=none"]).unwrap().kind, Some(CheckKind::Start));
        let file = HealthCheck { port: Some(9000), ..HealthCheck::default() };
        let port = |words: &[&str]| set(words).unwrap().over(&file);
        assert_eq!((port(&["port=8081"]).port, port(&["path=/"]).port), (Some(8081), Some(9000)));
        assert_eq!((port(&["port=any"]).port, port(&["port=strict"]).strict_port), (None, true));
        assert_eq!(set(&["port=strict", "port=8081"]).unwrap().strict_port, None);
        for bad in [
            "path",
            "path=x",
            "path=/a b",
            "interval=0",
            "interval=1m",
            "type=command",
            "type=x",
            "port=0",
            "port=65536",
            "port=https",
            "x=1",
        ] {
            assert!(set(&[bad]).is_err(), "{bad}");
        }
        assert!(change.unset("colour").is_err());
    }

    #[test]
    fn what_was_stored_before_is_read() {
        let text = r#"{"kind":{"path":"/healthz"},"strict_port":false,"interval":1,"timeout":10,"attempts":2,"start_period":60}"#;
        let check: HealthCheck = serde_json::from_str(text).unwrap();
        assert_eq!((check.kind, check.interval), (CheckKind::Path("/healthz".into()), 1));
        let empty: CheckChange = serde_json::from_str("{}").unwrap();
        assert!(empty.is_empty());
    }
}
