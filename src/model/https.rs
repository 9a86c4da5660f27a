//! Whether an app is to be reached by HTTPS alone, as its user wishes it.

use super::route::HttpsPolicy;
use serde::{Deserialize, Serialize};

/// A year, in seconds; the longest that browsers are told.
const YEAR: u32 = 366 * 86_400;

/// What `https:set` has said; the rest is as it is by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpsChoice {
    /// Whether plain requests are sent on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<bool>,
    /// For how many seconds browsers are to use nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<u32>,
}

/// A word that is no setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotHttps {
    /// As it was given, shortened.
    pub word: String,
    /// What would be one.
    pub expected: &'static str,
}

impl HttpsChoice {
    /// With the defaults: requests are sent on, and browsers are not told.
    pub fn policy(&self) -> HttpsPolicy {
        HttpsPolicy { redirect: self.redirect.unwrap_or(true), hsts: self.hsts.unwrap_or(0) }
    }

    /// Takes `redirect=off`, `hsts=180d`, `hsts=default`.
    pub fn set(&mut self, word: &str) -> Result<(), NotHttps> {
        let refuse = |expected| NotHttps { word: word.chars().take(60).collect(), expected };
        match word.split_once('=') {
            Some(("redirect", value)) => {
                self.redirect = match value {
                    "on" => Some(true),
                    "off" => Some(false),
                    "default" => None,
                    _ => return Err(refuse("redirect is on, off or default")),
                }
            }
            Some(("hsts", "off")) => self.hsts = Some(0),
            Some(("hsts", "default")) => self.hsts = None,
            Some(("hsts", value)) => {
                let seconds = seconds(value).filter(|seconds| (1..=2 * YEAR).contains(seconds));
                self.hsts =
                    Some(seconds.ok_or_else(|| refuse("hsts is a time such as 180d, at most 2y; or off"))?);
            }
            _ => return Err(refuse("there are redirect=on|off and hsts=180d|off")),
        }
        Ok(())
    }
}

/// `90s`, `10m`, `12h`, `180d`, `1y`.
fn seconds(text: &str) -> Option<u32> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'y' => YEAR,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    digits.parse::<u32>().ok().filter(|_| !digits.starts_with('+'))?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_are_read_and_others_refused() {
        let mut choice = HttpsChoice::default();
        for word in ["redirect=off", "hsts=180d"] {
            choice.set(word).unwrap();
        }
        assert_eq!(choice.policy(), HttpsPolicy { redirect: false, hsts: 180 * 86_400 });
        for bad in [
            "hsts=",
            "hsts=1",
            "hsts=+1d",
            "hsts=3y",
            "hsts=99999999y",
            "redirect",
            "redirect=1",
            "hsts=é",
            "x=y",
        ] {
            assert!(choice.set(bad).is_err(), "{bad}");
        }
        for word in ["redirect=default", "hsts=default"] {
            choice.set(word).unwrap();
        }
        assert_eq!(choice, HttpsChoice::default());
        assert!(choice.policy().redirect);
    }
}
