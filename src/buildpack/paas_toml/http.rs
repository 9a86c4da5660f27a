//! `[http]`: how the app's requests are bounded and shared out.

use super::processes::seconds;
use super::section::{Given, Section, bad_value};
use crate::buildpack::error::DetectError;
use crate::model::{BuildPlan, ByteSize, HttpSettings};

/// Longest time for an answer to begin, in seconds.
const LONGEST: u64 = 3600;

/// Most requests at a time of a process, and most that wait.
const MOST: u16 = 10_000;

/// The settings, and where they stand.
pub(in crate::buildpack) type Http = Given<HttpSettings>;

pub(super) fn read(given: Given<Section<'_, '_>>) -> Result<Http, DetectError> {
    let Given { value: mut section, line } = given;
    let max_concurrency = number(&mut section, "max_concurrency", 1)?;
    let queue = number(&mut section, "queue", 0)?;
    if let (None, Some(queue)) = (&max_concurrency, &queue) {
        let value = queue.value.to_string();
        return Err(bad_value(queue.line, "queue", &value, &["nothing without max_concurrency"]));
    }
    let value = HttpSettings {
        first_byte: first_byte(&mut section)?,
        body_limit: body_limit(&mut section)?,
        max_concurrency: max_concurrency.map(|given| given.value),
        queue: queue.map(|given| given.value),
        sticky: section.flag("sticky")?.is_some_and(|given| given.value),
    };
    section.finish()?;
    Ok(Given { value, line })
}

/// Puts the settings into a plan.
pub(in crate::buildpack) fn apply_http(plan: &mut BuildPlan, given: &Http) {
    plan.http = given.value;
    let told = given.value.to_string();
    if !told.is_empty() {
        plan.decisions.push(format!("requests: {told}, from {} line {}", super::FILE, given.line));
    }
}

fn first_byte(section: &mut Section<'_, '_>) -> Result<Option<u16>, DetectError> {
    let Some(given) = section.text("first_byte")? else { return Ok(None) };
    let expected = ["a time of at most 1h, such as 90s or 5m"];
    let refused = || bad_value(given.line, "first_byte", &given.value, &expected);
    let read = seconds(&given.value).filter(|&seconds| seconds <= LONGEST);
    read.and_then(|seconds| seconds.try_into().ok()).map(Some).ok_or_else(refused)
}

fn body_limit(section: &mut Section<'_, '_>) -> Result<Option<ByteSize>, DetectError> {
    let Some(given) = section.text("body_limit")? else { return Ok(None) };
    let refused = || bad_value(given.line, "body_limit", &given.value, &[ByteSize::EXPECTED]);
    ByteSize::parse(&given.value).map(Some).ok_or_else(refused)
}

fn number(
    section: &mut Section<'_, '_>,
    key: &'static str,
    least: u16,
) -> Result<Option<Given<u16>>, DetectError> {
    let Some(given) = section.number(key)? else { return Ok(None) };
    if (least..=MOST).contains(&given.value) {
        return Ok(Some(given));
    }
    let expected = format!("a number from {least} to {MOST}");
    Err(bad_value(given.line, key, &given.value.to_string(), &[&expected]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::buildpack::paas_toml::parse;
    use crate::model::Problem;

    #[test]
    fn limits_are_read() {
        let text = "[http]\nfirst_byte = \"5m\"\nbody_limit = \"64K\"\nmax_concurrency = 8\nqueue = 0\nsticky = true";
        let http = parse(text, &[]).unwrap().http.unwrap();
        assert_eq!(http.line, 1);
        insta::assert_snapshot!(http.value, @"answers begin within 300 s, bodies of at most 64K, 8 requests at a time for each process, 0 wait, sticky");
        assert_eq!(parse("[http]", &[]).unwrap().http.unwrap().value.to_string(), "");
    }

    #[test]
    fn what_is_not_possible_is_refused_in_its_line() {
        let refused = |line: &str| match parse(&format!("[http]\n{line}"), &[]) {
            Err(error) => Problem::from(&error).to_string(),
            Ok(settings) => panic!("{settings:?}"),
        };
        let all = [
            "first_byte = 30",
            "first_byte = \"30\"",
            "first_byte = \"2h\"",
            "body_limit = \"1T\"",
            "body_limit = 1024",
            "max_concurrency = 0",
            "max_concurrency = 70000",
            "max_concurrency = 1\nqueue = 10001",
            "queue = 10",
            "sticky = \"yes\"",
            "body_limt = \"1G\"",
        ];
        insta::assert_snapshot!(all.map(refused).join("\n\n"));
    }
}
