//! `[processes.TYPE]`: what the processes of a type are given, and what happens
//! when one ends.

use super::section::{Given, Section, bad_value};
use crate::buildpack::error::DetectError;
use crate::model::{BuildPlan, Cpu, MOST_PROCESSES, Memory, ProcessType, Restart, Size, TypeSettings};

/// The settings of one type.
pub(super) type OfType = (Given<String>, ProcessType, TypeSettings);

pub(super) fn read(sections: Vec<(Given<String>, Section<'_, '_>)>) -> Result<Vec<OfType>, DetectError> {
    sections.into_iter().map(|(name, section)| one(name, section)).collect()
}

fn one(name: Given<String>, mut section: Section<'_, '_>) -> Result<OfType, DetectError> {
    let refused = || bad_value(name.line, "a process type", &name.value, &["letters, digits, - and _"]);
    let kind = ProcessType::parse(&name.value).map_err(|_| refused())?;
    let settings = TypeSettings {
        size: Size { memory: memory(&mut section)?, cpu: cpu(&mut section)? },
        restart: restart(&mut section)?,
        overlap: section.flag("overlap")?.is_some_and(|given| given.value),
        count: count(&mut section)?,
        give_up_after: give_up_after(&mut section)?,
        stop_timeout: stop_timeout(&mut section)?,
    };
    section.finish()?;
    Ok((name, kind, settings))
}

fn count(section: &mut Section<'_, '_>) -> Result<Option<u32>, DetectError> {
    let Some(given) = section.number("count")? else { return Ok(None) };
    let count = u32::from(given.value);
    let refused = || bad_value(given.line, "count", &count.to_string(), &["a number from 0 to 100"]);
    (count <= MOST_PROCESSES).then_some(Some(count)).ok_or_else(refused)
}

fn give_up_after(section: &mut Section<'_, '_>) -> Result<Option<u16>, DetectError> {
    let Some(given) = section.number("give_up_after")? else { return Ok(None) };
    let possible = ["a number of ends from 1 to 1000, or 0 for never"];
    let refused = || bad_value(given.line, "give_up_after", &given.value.to_string(), &possible);
    (given.value <= 1000).then_some(Some(given.value)).ok_or_else(refused)
}

fn stop_timeout(section: &mut Section<'_, '_>) -> Result<Option<u16>, DetectError> {
    let Some(given) = section.text("stop_timeout")? else { return Ok(None) };
    let seconds = seconds(&given.value).and_then(|seconds| u16::try_from(seconds).ok());
    let refused = || bad_value(given.line, "stop_timeout", &given.value, &["a time from \"1s\" to \"1h\""]);
    seconds.filter(|seconds| *seconds <= LONGEST_STOP).map(Some).ok_or_else(refused)
}

fn memory(section: &mut Section<'_, '_>) -> Result<Option<Memory>, DetectError> {
    let Some(given) = section.text("memory")? else { return Ok(None) };
    let refused = || bad_value(given.line, "memory", &given.value, &[Memory::EXPECTED]);
    Memory::parse(&given.value).map(Some).ok_or_else(refused)
}

fn cpu(section: &mut Section<'_, '_>) -> Result<Option<Cpu>, DetectError> {
    let Some(given) = section.decimal("cpu")? else { return Ok(None) };
    let refused = || bad_value(given.line, "cpu", &given.value, &[Cpu::EXPECTED]);
    Cpu::parse(&given.value).map(Some).ok_or_else(refused)
}

fn restart(section: &mut Section<'_, '_>) -> Result<Restart, DetectError> {
    let Some(given) = section.text("restart")? else { return Ok(Restart::default()) };
    Restart::parse(&given.value)
        .ok_or_else(|| bad_value(given.line, "restart", &given.value, &Restart::WORDS))
}

/// The longest a process may take to stop, in seconds.
const LONGEST_STOP: u16 = 3600;

/// The longest time.
const LONGEST: u64 = 24 * 3600;

/// Reads `90s`, `30m`, `2h`.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let (number, factor) =
        units.iter().find_map(|&(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let digits = number.bytes().all(|c| c.is_ascii_digit());
    let seconds = number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(factor)?;
    (1..=LONGEST).contains(&seconds).then_some(seconds)
}

/// Puts the settings of process types into a plan that has them.
pub(in crate::buildpack) fn apply(plan: &mut BuildPlan, types: &[OfType]) -> Result<(), DetectError> {
    for (name, kind, settings) in types {
        let known = plan.processes.contains_key(kind) || kind.is_release() && plan.release.is_some();
        if !known {
            let release = plan.release.iter().map(|_| "release");
            let known: Vec<&str> = plan.processes.keys().map(ProcessType::as_str).chain(release).collect();
            return Err(bad_value(name.line, "a process type", &name.value, &known));
        }
        plan.decisions.extend(
            described(settings)
                .map(|text| format!("{kind}: {text}, from {} line {}", super::FILE, name.line)),
        );
        plan.types.insert(kind.clone(), *settings);
    }
    Ok(())
}

/// `512M, 0.5 CPU, restart on-failure`; nothing if all is as usual.
fn described(settings: &TypeSettings) -> Option<String> {
    let memory = settings.size.memory.map(|memory| memory.to_string());
    let cpu = settings.size.cpu.map(|cpu| format!("{cpu} CPU"));
    let restart = match settings.restart {
        Restart::Always => None,
        Restart::OnFailure => Some("restart on-failure".to_owned()),
        Restart::Never => Some("restart never".to_owned()),
    };
    let overlap = settings.overlap.then(|| "overlap".to_owned());
    let give_up = settings.give_up_after.map(|most| match most {
        0 => "never given up".to_owned(),
        most => format!("given up after {most} ends"),
    });
    let stop = settings.stop_timeout.map(|seconds| format!("{seconds} s to stop"));
    let parts: Vec<String> = [memory, cpu, restart, overlap, give_up, stop].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(["90s", "30m", "24h"].map(seconds), [Some(90), Some(1800), Some(86_400)]);
        for bad in ["", "30", "0m", "25h", "+1m", "1.5h", "m", "1d", "99999999999999999999h"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
