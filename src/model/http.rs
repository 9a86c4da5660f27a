//! `[http]` of paas.toml: how an app's requests are bounded and shared out.

use super::process_type::thousandths;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Requests that wait for a process where an app does not say how many may.
pub const USUAL_QUEUE: u16 = 100;

/// The settings, kept with a release. Whatever is left out is as the proxy does it by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpSettings {
    /// Seconds from the end of a request to the head of its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<u16>,
    /// The longest body of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<ByteSize>,
    /// Requests that a process has at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u16>,
    /// Requests that wait while every process has so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<u16>,
    /// Whether a browser's requests go to the same process again.
    pub sticky: bool,
}

impl HttpSettings {
    /// How long an answer's head is waited for, if the app says so.
    pub fn first_byte(&self) -> Option<Duration> {
        self.first_byte.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// How many requests a process has at a time, and how many wait then.
    pub fn concurrency(&self) -> Option<(u16, u16)> {
        self.max_concurrency.map(|most| (most, self.queue.unwrap_or(USUAL_QUEUE)))
    }
}

/// In few words; nothing if all is as usual.
impl fmt::Display for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first_byte = self.first_byte.map(|seconds| format!("answers begin within {seconds} s"));
        let body = self.body_limit.map(|limit| format!("bodies of at most {limit}"));
        let concurrency = self
            .concurrency()
            .map(|(most, queue)| format!("{most} requests at a time for each process, {queue} wait"));
        let sticky = self.sticky.then(|| "sticky".to_owned());
        let parts: Vec<String> = [first_byte, body, concurrency, sticky].into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

/// A number of bytes, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ByteSize(pub u64);

/// Units from the largest, with the power of two of each.
const UNITS: [(char, u32); 3] = [('G', 30), ('M', 20), ('K', 10)];

impl ByteSize {
    /// What is said of a text that is none.
    pub const EXPECTED: &str = "a size such as 64K, 10M or 1.5G";

    /// Reads `64K`, `10M`, `1.5G`, `10MiB`; units are powers of 1024.
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
        let mut units = UNITS.into_iter();
        let (number, power) = units.find_map(|(unit, power)| Some((bare.strip_suffix(unit)?, power)))?;
        let bytes = (u128::from(thousandths(number)?) << power) / 1000;
        let bytes = u64::try_from(bytes).ok()?;
        (1 << 10..=1 << 40).contains(&bytes).then_some(Self(bytes))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, power): &(char, u32)| self.0.is_multiple_of(1 << power);
        let text = match UNITS.into_iter().find(whole) {
            Some((unit, power)) => format!("{}{unit}", self.0 >> power),
            None => format!("{} bytes", self.0),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_have_a_unit_and_are_told_as_they_were_said() {
        for (text, bytes, told) in [
            ("1K", 1 << 10, "1K"),
            ("10M", 10 << 20, "10M"),
            ("10mib", 10 << 20, "10M"),
            ("1.5G", 3 << 29, "1536M"),
            ("1024G", 1 << 40, "1024G"),
            ("1.001K", 1025, "1025 bytes"),
        ] {
            let size = ByteSize::parse(text).unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, told), "{text}");
        }
        for bad in ["", "10", "0.5K", "0M", "1025G", "-1M", "1,5G", "M", "1T", "99999999999999G"] {
            assert_eq!(ByteSize::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_not_said_is_not_written_down() {
        let text = serde_json::to_string(&HttpSettings::default()).unwrap();
        assert_eq!(text, r#"{"sticky":false}"#);
        let newer = r#"{"first_byte":90,"body_limit":1024,"colour":"teal"}"#;
        let read: HttpSettings = serde_json::from_str(newer).unwrap();
        assert_eq!((read.first_byte, read.body_limit), (Some(90), Some(ByteSize(1024))));
        assert_eq!(read.to_string(), "answers begin within 90 s, bodies of at most 1K");
    }
}
