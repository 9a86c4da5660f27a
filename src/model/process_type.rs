//! What the processes of a type are given, and what happens when one ends.

use super::workload::Limits;
use serde::{Deserialize, Serialize};
use std::fmt;

/// MiB of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Memory(pub u32);

/// Thousandths of a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cpu(pub u32);

impl Memory {
    /// What is said of a text that is none.
    pub const EXPECTED: &str = "a size such as 512M or 1.5G";

    /// Reads `512M`, `1.5G`, `512MiB`; units are powers of 1024, as they are for
    /// the engine and for Heroku.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let bare = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
        let (number, factor) = match bare.strip_suffix('m') {
            Some(number) => (number, 1),
            None => (bare.strip_suffix('g')?, 1024),
        };
        let mib = u32::try_from(thousandths(number)? * factor / 1000).ok()?;
        (16..=4096 << 10).contains(&mib).then_some(Self(mib))
    }

    /// The engine's way.
    pub fn bytes(self) -> i64 {
        i64::from(self.0) << 20
    }
}

impl Cpu {
    /// What is said of a text that is none.
    pub const EXPECTED: &str = "a number of CPUs such as 0.5 or 2";

    /// Reads `0.5`, `2`.
    pub fn parse(text: &str) -> Option<Self> {
        let number = u32::try_from(thousandths(text)?).ok()?;
        (50..=1_024_000).contains(&number).then_some(Self(number))
    }

    /// The engine's way.
    pub fn nano(self) -> i64 {
        i64::from(self.0) * 1_000_000
    }
}

/// A decimal number times 1000; further digits must be zeros.
pub(super) fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let part = part.trim_end_matches('0');
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || part.len() > 3 || !digits(whole) || !digits(part) {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 1000 + part)
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            if self.0.is_multiple_of(1024) { format!("{}G", self.0 / 1024) } else { format!("{}M", self.0) };
        f.pad(&text)
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Memory and CPU of each process of a type, as far as somebody said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Size {
    /// Beyond it the kernel ends the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Beyond it the process is slowed down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
}

impl Size {
    /// This, and where it is silent, the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { memory: self.memory.or(other.memory), cpu: self.cpu.or(other.cpu) }
    }

    /// Whether it says nothing.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What of this is more than the other allows, and how much that is.
    pub fn beyond(self, most: Self) -> Option<(String, String)> {
        let memory = self.memory.zip(most.memory).filter(|(wanted, most)| wanted > most);
        let cpu = self.cpu.zip(most.cpu).filter(|(wanted, most)| wanted > most);
        let memory = memory.map(|(wanted, most)| (format!("{wanted} of memory"), most.to_string()));
        memory.or_else(|| cpu.map(|(wanted, most)| (format!("{wanted} CPUs"), most.to_string())))
    }

    /// Limits of a container; those of the server where nobody said anything.
    pub fn limits(self, server: Limits) -> Limits {
        Limits {
            memory: self.memory.map_or(server.memory, Memory::bytes),
            nano_cpus: self.cpu.map_or(server.nano_cpus, Cpu::nano),
            ..server
        }
    }
}

/// A change of a size: what is not named stays, `Some(None)` leaves it to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SizeChange {
    /// Memory.
    pub memory: Option<Option<Memory>>,
    /// CPUs.
    pub cpu: Option<Option<Cpu>>,
}

impl SizeChange {
    /// Changes a size.
    pub fn apply(self, size: &mut Size) {
        size.memory = self.memory.unwrap_or(size.memory);
        size.cpu = self.cpu.unwrap_or(size.cpu);
    }

    /// What it asks for.
    pub fn wanted(self) -> Size {
        Size { memory: self.memory.flatten(), cpu: self.cpu.flatten() }
    }
}

/// When a process that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Whatever its exit code.
    #[default]
    Always,
    /// Unless it ended with 0.
    OnFailure,
    /// Not at all.
    Never,
}

impl Restart {
    /// All, as they are written.
    pub const WORDS: [&str; 3] = ["always", "on-failure", "never"];

    /// Reads one of [`Self::WORDS`].
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "always" => Some(Self::Always),
            "on-failure" => Some(Self::OnFailure),
            "never" => Some(Self::Never),
            _ => None,
        }
    }
}

/// `[processes.TYPE]` in paas.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TypeSettings {
    /// How much each process gets.
    #[serde(flatten)]
    pub size: Size,
    /// What happens when one ends.
    pub restart: Restart,
    /// Whether new ones start before those of the former release end.
    pub overlap: bool,
    /// How many there are after the app's first deploy; later that is the app's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// After so many ends within ten minutes one is given up; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub give_up_after: Option<u16>,
    /// Seconds between SIGTERM and SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<u16>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_has_a_unit() {
        let read = |text| Memory::parse(text).map(|memory| memory.to_string());
        for (text, expected) in
            [("512M", "512M"), ("512mb", "512M"), ("1024MiB", "1G"), ("1.5G", "1536M"), ("16m", "16M")]
        {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for bad in ["512", "15M", "4097G", "1.G5", "-1G", "G", "1e3M", "1 G", "0.0001G", "99999999999G", "1K"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn cpu_is_a_decimal_number() {
        let read = |text| Cpu::parse(text).map(|cpu| cpu.to_string());
        for (text, expected) in [("0.5", "0.5"), ("2", "2"), ("1.250", "1.25"), ("0.05", "0.05")] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for bad in ["0", "0.04", "1025", ".5", "0,5", "", "1.2345", "-1", "nan", "2x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(Cpu::parse("0.5").unwrap().nano(), 500_000_000);
    }

    #[test]
    fn a_size_leaves_to_others_what_it_does_not_say() {
        let file = Size { memory: Some(Memory(256)), cpu: Some(Cpu(500)) };
        let command = Size { memory: Some(Memory(1024)), cpu: None };
        let limits = command.or(file).limits(Limits::default());
        assert_eq!((limits.memory, limits.nano_cpus), (1 << 30, 500_000_000));
        assert_eq!(Size::default().limits(Limits::default()), Limits::default());
    }

    #[test]
    fn settings_are_kept_as_json() {
        let settings = TypeSettings {
            size: Size { memory: Some(Memory(256)), cpu: None },
            restart: Restart::OnFailure,
            overlap: true,
            count: None,
            give_up_after: None,
            stop_timeout: Some(90),
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(text, r#"{"memory":256,"restart":"on-failure","overlap":true,"stop_timeout":90}"#);
        assert_eq!(serde_json::from_str::<TypeSettings>(&text).unwrap(), settings);
        assert_eq!(serde_json::from_str::<TypeSettings>("{}").unwrap(), TypeSettings::default());
    }
}
