//! `[checks]`: how web is asked whether it is well.

use super::section::{Given, Section, bad_value};
use crate::buildpack::error::DetectError;
use crate::model::checks::{self, AskedPort, CheckKind, CheckSource, HealthCheck};

pub(super) fn read(mut section: Section<'_, '_>) -> Result<HealthCheck, DetectError> {
    let default = HealthCheck::default();
    let kind = kind(&mut section)?;
    let asked = port(&mut section)?;
    let source = if kind == CheckKind::Start { CheckSource::Default } else { CheckSource::File };
    let check = HealthCheck {
        kind,
        source,
        strict_port: asked == Some(AskedPort::Strict),
        port: match asked {
            Some(AskedPort::Number(port)) => Some(port),
            _ => None,
        },
        interval: seconds(&mut section, "interval", default.interval)?,
        timeout: seconds(&mut section, "timeout", default.timeout)?,
        attempts: seconds(&mut section, "attempts", default.attempts)?,
        start_period: seconds(&mut section, "start_period", default.start_period)?,
    };
    section.finish()?;
    Ok(check)
}

/// At most one of `path`, `command` and `tcp`.
fn kind(section: &mut Section<'_, '_>) -> Result<CheckKind, DetectError> {
    let (path, command) = (section.text("path")?, section.text("command")?);
    let tcp = section.flag("tcp")?.filter(|given| given.value);
    match (path, command, tcp) {
        (None, None, None) => Ok(CheckKind::Start),
        (Some(path), None, None) => is_path(path),
        (None, Some(command), None) => is_command(command),
        (None, None, Some(_)) => Ok(CheckKind::Tcp),
        (_, Some(Given { line, .. }), _) | (_, _, Some(Given { line, .. })) => {
            Err(bad_value(line, "checks", "several kinds", &["one of path, command and tcp"]))
        }
    }
}

fn is_path(given: Given<String>) -> Result<CheckKind, DetectError> {
    if checks::is_path(&given.value) {
        return Ok(CheckKind::Path(given.value));
    }
    Err(bad_value(given.line, "path", &given.value, &["a path such as /healthz"]))
}

fn is_command(given: Given<String>) -> Result<CheckKind, DetectError> {
    if !checks::is_command(&given.value) {
        return Err(bad_value(given.line, "command", &given.value, &["a command"]));
    }
    Ok(CheckKind::Command(given.value))
}

fn port(section: &mut Section<'_, '_>) -> Result<Option<AskedPort>, DetectError> {
    let Some(given) = section.decimal("port")? else { return Ok(None) };
    let refused = || bad_value(given.line, "port", &given.value, &["strict", "any", "a number such as 9000"]);
    AskedPort::parse(&given.value).map(Some).ok_or_else(refused)
}

/// A number of seconds, or of attempts, from 1 to 3600.
fn seconds(section: &mut Section<'_, '_>, key: &'static str, default: u16) -> Result<u16, DetectError> {
    match section.number(key)? {
        None => Ok(default),
        Some(given) if (1..=3600).contains(&given.value) => Ok(given.value),
        Some(given) => {
            Err(bad_value(given.line, key, &given.value.to_string(), &["a number from 1 to 3600"]))
        }
    }
}
