//! A plan as text: what `paas detect` prints.

use crate::model::{BuildPlan, Dockerfile};
use crate::output;

/// Decisions, notices, processes, port, bases, and the Dockerfile.
pub fn describe(plan: &BuildPlan) -> String {
    let mut lines = vec![output::step(&format!("{} app detected", plan.runtime))];
    lines.extend(plan.decisions.iter().map(|line| output::detail(line)));
    lines.extend(plan.notices.iter().map(|line| output::warning(line)));
    lines.push(output::step("Processes"));
    lines.extend(plan.processes.iter().map(|(kind, command)| output::detail(&format!("{kind}: {command}"))));
    if let Some(command) = &plan.release {
        lines.push(output::detail(&format!("release: {command}")));
    }
    let port = plan.port.map_or_else(|| "the image's EXPOSE, else 5000".to_owned(), |port| port.to_string());
    lines.push(output::detail(&format!("PORT={port}")));
    lines.extend(plan.env.iter().map(|(key, value)| output::detail(&format!("{key}={value}"))));
    if !plan.bases.is_empty() {
        lines.push(output::step("Base images"));
    }
    lines.extend(plan.bases.iter().map(|base| output::detail(&base.reference)));
    match &plan.dockerfile {
        Dockerfile::Own(path) => {
            lines.push(output::step(&format!("Dockerfile: the repository's own, {path}")));
        }
        Dockerfile::Generated(text) | Dockerfile::Rewritten { text, .. } => {
            lines.push(output::step("Dockerfile"));
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines.iter().map(|line| output::tame(line) + "\n").collect()
}
