//! Some of an app's processes: `worker`, `web.2`.

use super::name::{NameError, ProcessType};
use super::workload::ProcessName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// All processes of a type, or one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Selection {
    /// `worker`
    Type(ProcessType),
    /// `worker.2`
    One(ProcessName),
}

impl Selection {
    /// Reads `worker` and `worker.2`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match ProcessName::parse(text).filter(|name| name.index > 0) {
            Some(name) => Ok(Self::One(name)),
            None => ProcessType::parse(text).map(Self::Type),
        }
    }

    /// The type that it is about.
    pub fn kind(&self) -> &ProcessType {
        match self {
            Self::Type(kind) => kind,
            Self::One(name) => &name.kind,
        }
    }

    /// Whether this process is one of them.
    pub fn covers(&self, process: &ProcessName) -> bool {
        match self {
            Self::Type(kind) => process.kind == *kind,
            Self::One(name) => name == process,
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(kind) => write!(f, "{kind}"),
            Self::One(name) => write!(f, "{name}"),
        }
    }
}

impl TryFrom<String> for Selection {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Selection> for String {
    fn from(selection: Selection) -> String {
        selection.to_string()
    }
}

/// Processes of a release that shall not run, though the formation has them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stopped(BTreeSet<Selection>);

impl Stopped {
    /// Whether this process is one of them.
    pub fn has(&self, process: &ProcessName) -> bool {
        self.0.iter().any(|selection| selection.covers(process))
    }

    /// With these too. Of a type that is stopped those are, too, that are added later.
    #[must_use]
    pub fn with(&self, more: &[Selection]) -> Self {
        Self(self.0.iter().chain(more).cloned().collect())
    }

    /// Without these; `all` are the processes that the formation has.
    #[must_use]
    pub fn without(&self, fewer: &[Selection], all: &[ProcessName]) -> Self {
        let among = |name: &ProcessName| fewer.iter().any(|selection| selection.covers(name));
        // A type of which one is to run becomes its others.
        let stays = |selection: &Selection| match selection {
            Selection::Type(_) if fewer.contains(selection) => Vec::new(),
            Selection::Type(_) if all.iter().any(|name| selection.covers(name) && among(name)) => {
                let others = all.iter().filter(|name| selection.covers(name) && !among(name));
                others.cloned().map(Selection::One).collect()
            }
            Selection::One(name) if among(name) => Vec::new(),
            _ => vec![selection.clone()],
        };
        Self(self.0.iter().flat_map(stays).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(words: &str) -> Vec<Selection> {
        words.split_whitespace().map(|word| Selection::parse(word).unwrap()).collect()
    }

    fn names(words: &str) -> Vec<ProcessName> {
        words.split_whitespace().map(|word| ProcessName::parse(word).unwrap()).collect()
    }

    #[test]
    fn types_and_single_ones_are_stopped_and_started() {
        let all = names("web.1 web.2 worker.1 worker.2 worker.3");
        let stops = |stopped: &Stopped| {
            let there = all.iter().filter(|name| stopped.has(name));
            there.map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let stopped = Stopped::default().with(&of("worker web.2"));
        assert_eq!(stops(&stopped), "web.2 worker.1 worker.2 worker.3");
        assert!(stopped.has(&names("worker.9")[0]), "one that is added later");
        let some = stopped.without(&of("worker.2"), &all);
        assert_eq!(stops(&some), "web.2 worker.1 worker.3");
        assert_eq!(stops(&some.without(&of("worker"), &all)), "web.2");
        assert_eq!(stops(&stopped.without(&of("worker web"), &all)), "");
        assert_eq!(stops(&stopped.without(&of("web.1"), &all)), stops(&stopped), "it ran");
        let text = serde_json::to_string(&some).unwrap();
        assert_eq!(text, r#"["web.2","worker.1","worker.3"]"#);
        assert_eq!(serde_json::from_str::<Stopped>(&text).unwrap(), some);
    }

    #[test]
    fn what_is_neither_a_type_nor_a_process_is_refused() {
        for bad in ["", "web.0", "web.x", "web.1.2", "a b"] {
            assert!(Selection::parse(bad).is_err(), "{bad}");
        }
    }
}
