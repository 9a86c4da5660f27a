//! The engine's errors in the user's words.

use super::error::{BuildFailure, EngineError, message_of};
use crate::model::Problem;

impl From<&EngineError> for Problem {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::NotFound { .. }
            | EngineError::UnsupportedUrl { .. }
            | EngineError::Denied { .. }
            | EngineError::NoAnswer { .. }
            | EngineError::TooOld { .. }
            | EngineError::NoBuildKit { .. } => connecting(error),
            EngineError::Build(failure) => build(failure),
            EngineError::Pull { .. } | EngineError::NeedsRoot { .. } | EngineError::Debootstrap { .. } => base(error),
            EngineError::TimedOut { what, limit } => Problem::new(
                format!("The {what} took longer than {} and was ended", duration(limit.as_secs())),
                "",
                "Make it faster, or raise the limit in server.toml: [build] timeout.",
            ),
            EngineError::Cancelled => Problem::new("Cancelled", "", ""),
            EngineError::Context { source } => {
                Problem::new("The files of the build could not be read", source.to_string(), "Push again.")
            }
            EngineError::Api { doing, source } => {
                Problem::new(format!("The container engine could not {doing}"), message_of(source), "")
            }
            EngineError::Slow { doing, limit } => Problem::new(
                format!("The container engine did not {doing} within {}", duration(limit.as_secs())),
                "It hangs, or the machine is overloaded.",
                "See `systemctl status docker` on the server.",
            ),
            EngineError::Io { doing, source } => Problem::new(format!("Could not {doing}"), source.to_string(), ""),
            EngineError::Foreign { name } => Problem::new(
                format!("{name} exists in the container engine and is not ours"),
                "",
                format!("Remove or rename it: docker inspect {name}"),
            ),
            EngineError::SubnetTaken { subnet, .. } => Problem::new(
                format!("The network {subnet} is in use by something else"),
                "Another Docker network or a route of the host overlaps it.",
                "Set another range in server.toml: network_range.",
            ),
            EngineError::EventGap => {
                Problem::new("The container engine hung up", "", "See `systemctl status docker` on the server.")
            }
        }
    }
}

/// No engine to work with: one line that says what to do, for `paas serve`.
fn connecting(error: &EngineError) -> Problem {
    let line = match error {
        EngineError::NotFound { tried } => {
            let paths: Vec<String> = tried.iter().map(|path| path.display().to_string()).collect();
            let places = paths.join(" or ");
            format!("No container engine at {places}: install one (apt-get install docker.io) or set --engine URL")
        }
        EngineError::UnsupportedUrl { url } => {
            format!("Engine URL {url:?} is not understood: use unix:///path, tcp://host:port or http://host:port")
        }
        EngineError::Denied { socket } => format!(
            "No permission for the engine's socket {}: add this user to the `docker` group (usermod -aG docker USER) and log in again",
            socket.display()
        ),
        EngineError::NoAnswer { url, .. } => {
            format!("No container engine answers at {url}: start it (systemctl start docker) or set --engine URL")
        }
        EngineError::TooOld { url, found, needed } => format!(
            "The container engine at {url} is too old: it speaks API {found}, needed is {needed} (Docker 20.10 or newer)"
        ),
        EngineError::NoBuildKit { url, name } => {
            format!("{name} at {url} has no BuildKit: use Docker 20.10 or newer")
        }
        other => other.to_string(),
    };
    Problem::new(line, "", "")
}

fn build(failure: &BuildFailure) -> Problem {
    let title = match (&failure.step, failure.exit_code) {
        (Some(step), Some(code)) => format!("The build failed with exit code {code} in: {step}"),
        (Some(step), None) => format!("The build failed in: {step}"),
        (None, _) => "The build failed".to_owned(),
    };
    let cause = match failure.exit_code {
        Some(137) => "137 means that it was killed: perhaps the memory did not suffice.".to_owned(),
        // The code says it all, and the command's own words stand above.
        Some(_) => String::new(),
        None => failure.message.clone(),
    };
    Problem::new(title, cause, "Nothing was changed. Mend it, commit, and push again.")
}

/// A base image could not be made.
fn base(error: &EngineError) -> Problem {
    match error {
        EngineError::Pull { reference, source } => Problem::new(
            format!("The base image {reference} could not be pulled"),
            message_of(source),
            "Without a registry, set image_source = \"debian\" in server.toml.",
        ),
        EngineError::NeedsRoot { suite } => Problem::new(
            format!("The base image of Debian {suite} can only be made by root"),
            "debootstrap needs root, and this server runs as another user.",
            "Run `paas images` once as root, or set image_source = \"registry\".",
        ),
        EngineError::Debootstrap { suite, exit_code, lines } => Problem::new(
            format!("debootstrap of Debian {suite} failed{}", exit_code.map_or_else(String::new, |code| format!(" with exit code {code}"))),
            lines.join("\n"),
            "Check the mirror in server.toml: [build] debian_mirror.",
        ),
        other => Problem::new(other.to_string(), "", ""),
    }
}

/// `90 s`, `15 min`.
fn duration(seconds: u64) -> String {
    if seconds >= 120 && seconds.is_multiple_of(60) { format!("{} min", seconds / 60) } else { format!("{seconds} s") }
}
