//! The engine's errors in the user's words.

use super::error::{BuildFailure, EngineError, Overtime};
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
            EngineError::Pull { .. } | EngineError::NeedsRoot { .. } | EngineError::Debootstrap { .. } => {
                base(error)
            }
            EngineError::Overtime(over) => overtime(over),
            EngineError::TimedOut { what, limit } => Problem::new(
                format!("The {what} took longer than {} and was ended", duration(limit.as_secs())),
                "",
                "Make it faster, or raise its time limit in server.toml.",
            ),
            EngineError::Cancelled => Problem::new("Cancelled", "", ""),
            EngineError::Context { source } => {
                Problem::new("The files of the build could not be read", source.to_string(), "Push again.")
            }
            EngineError::Api { doing, source } => {
                Problem::new(format!("The container engine could not {doing}"), source.to_string(), "")
            }
            EngineError::Slow { doing, limit } => Problem::new(
                format!("The container engine did not {doing} within {}", duration(limit.as_secs())),
                "It hangs, or the machine is overloaded.",
                "See `systemctl status docker` on the server.",
            ),
            EngineError::Io { doing, source } => {
                Problem::new(format!("Could not {doing}"), source.to_string(), "")
            }
            EngineError::Foreign { name } => Problem::new(
                format!("{name} exists in the container engine and is not ours"),
                "",
                format!("Remove or rename it: docker inspect {name}"),
            ),
            EngineError::SubnetTaken { subnet, .. } => Problem::new(
                format!("The network {subnet} is in use by something else"),
                "Another Docker network or a route of the host overlaps it.",
                "Set another network range in server.toml.",
            ),
            EngineError::EventGap => Problem::new(
                "The container engine hung up",
                "",
                "See `systemctl status docker` on the server.",
            ),
        }
    }
}

/// No engine to work with: one line that says what to do, for `paas serve`.
fn connecting(error: &EngineError) -> Problem {
    let line = match error {
        EngineError::NotFound { tried } => {
            let paths: Vec<String> = tried.iter().map(|path| path.display().to_string()).collect();
            let places = paths.join(" or ");
            format!(
                "No container engine at {places}: install one (apt-get install docker.io) or set --engine URL"
            )
        }
        EngineError::UnsupportedUrl { url } => {
            format!(
                "Engine URL {url:?} is not understood: use unix:///path, tcp://host:port or http://host:port"
            )
        }
        EngineError::Denied { socket } => format!(
            "No permission for the engine's socket {}: add this user to the `docker` group (usermod -aG docker USER) and log in again",
            socket.display()
        ),
        EngineError::NoAnswer { url, .. } => {
            format!(
                "No container engine answers at {url}: start it (systemctl start docker) or set --engine URL"
            )
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

/// Longest part of a step's name that is repeated, in characters, so that the
/// line stays within 72 columns behind its mark.
const STEP_LIMIT: usize = 60;

fn build(failure: &BuildFailure) -> Problem {
    let title = match failure.exit_code {
        Some(code) => format!("The build failed with exit code {code}"),
        None => "The build failed".to_owned(),
    };
    let step = failure.step.as_deref().map(clipped);
    let why = match failure.exit_code {
        Some(137) => Some("It was killed, most likely for want of memory:\nbuild.memory_mib in server.toml is what all builds together may\nuse.".to_owned()),
        // The code says it all, and the command's own words stand above.
        Some(_) => None,
        None => Some(failure.message.clone()),
    };
    let cause: Vec<String> = step.into_iter().chain(why).collect();
    Problem::new(title, cause.join("\n"), "Nothing was changed. Mend it, commit, and push again.")
}

fn overtime(over: &Overtime) -> Problem {
    let limit = duration(over.limit.as_secs());
    let step = over.step.as_deref().map(clipped).unwrap_or_default();
    if over.silent {
        return Problem::new(
            format!("The build printed nothing for {limit} and was ended"),
            step,
            "If it waits for a server, push again; if it was at work, raise build.silence in server.toml.",
        );
    }
    Problem::new(
        format!("The build took longer than {limit} and was ended"),
        step,
        "Make it faster, or raise build.timeout in server.toml.",
    )
}

/// A step's name in one line, without the mounts of its RUN.
fn clipped(step: &str) -> String {
    let words: Vec<&str> = step.split(' ').filter(|word| !word.starts_with("--mount=")).collect();
    let step = words.join(" ");
    let mut shown: String = step.chars().take(STEP_LIMIT).collect();
    if step.chars().count() > STEP_LIMIT {
        shown.push('…');
    }
    shown
}

/// A base image could not be made.
fn base(error: &EngineError) -> Problem {
    match error {
        EngineError::Pull { reference, source } => Problem::new(
            format!("The base image {reference} could not be pulled"),
            source.to_string(),
            "Without a registry: image_source = \"debian\" in server.toml.",
        ),
        EngineError::NeedsRoot { suite } => Problem::new(
            format!("Only root can make the base image of Debian {suite}"),
            "debootstrap needs root, and this server runs as another user.",
            "Run the server as root, or set image_source = \"registry\".",
        ),
        EngineError::Debootstrap { suite, exit_code, lines } => Problem::new(
            match exit_code {
                Some(code) => format!("debootstrap of Debian {suite} failed with exit code {code}"),
                None => format!("debootstrap of Debian {suite} was killed"),
            },
            lines.join("\n"),
            "Does the server reach its Debian mirror (see server.toml)?",
        ),
        other => Problem::new(other.to_string(), "", ""),
    }
}

/// `90 s`, `15 min`.
fn duration(seconds: u64) -> String {
    if seconds >= 120 && seconds.is_multiple_of(60) {
        format!("{} min", seconds / 60)
    } else {
        format!("{seconds} s")
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Refusal;
    use super::*;
    use crate::model::AppId;
    use std::fmt::Write;
    use std::io;
    use std::time::Duration;

    fn refused(status: u16, message: &str) -> Refusal {
        Refusal { status: Some(status), message: message.to_owned() }
    }

    fn failure(step: Option<&str>, exit_code: Option<i64>, message: &str) -> EngineError {
        let (step, message) = (step.map(str::to_owned), message.to_owned());
        EngineError::Build(Box::new(BuildFailure { step, exit_code, message, lines: Vec::new() }))
    }

    fn overtime(seconds: u64, silent: bool, step: Option<&str>) -> EngineError {
        let (limit, step) = (Duration::from_secs(seconds), step.map(str::to_owned));
        EngineError::Overtime(Box::new(Overtime { limit, silent, step }))
    }

    fn show(errors: impl IntoIterator<Item = EngineError>) -> String {
        errors.into_iter().fold(String::new(), |mut all, error| {
            let _ = writeln!(all, "{}\n", Problem::from(&error));
            all
        })
    }

    #[test]
    fn no_engine_is_one_line_that_says_what_to_do() {
        let url = || "unix:///run/docker.sock".to_owned();
        let errors = [
            EngineError::NotFound { tried: vec!["/var/run/docker.sock".into(), "/run/docker.sock".into()] },
            EngineError::UnsupportedUrl { url: "ssh://host".to_owned() },
            EngineError::Denied { socket: "/run/docker.sock".into() },
            EngineError::NoAnswer { url: url(), source: None },
            EngineError::TooOld { url: url(), found: "1.40".to_owned(), needed: "1.41".to_owned() },
            EngineError::NoBuildKit { url: url(), name: "Podman Engine".to_owned() },
        ];
        insta::assert_snapshot!(show(errors));
    }

    #[test]
    fn a_failed_build_names_the_step() {
        insta::assert_snapshot!(show([
            failure(Some(&format!("[3/5] RUN {}", "npm ci ".repeat(20))), Some(1), "executor failed running"),
            failure(Some("[4/5] RUN make"), Some(137), "executor failed running"),
            failure(Some("[2/5] COPY app.py /"), None, "\"/app.py\" not found"),
            failure(None, None, "dockerfile parse error line 2: unknown instruction: FOO"),
            overtime(900, false, Some("[4/5] RUN make")),
            overtime(600, true, Some("[build 6/6] RUN --mount=type=cache,id=paas-app-1-npm npm ci")),
            overtime(600, true, None),
            EngineError::TimedOut { what: "command", limit: Duration::from_secs(90) },
            EngineError::Cancelled,
            EngineError::Context { source: io::Error::other("object 1f2e is missing") },
        ]));
    }

    #[test]
    fn a_base_that_cannot_be_made_says_what_would() {
        insta::assert_snapshot!(show([
            EngineError::Pull {
                reference: "node:22-slim".to_owned(),
                source: refused(500, "no route to host")
            },
            EngineError::NeedsRoot { suite: "bookworm".to_owned() },
            EngineError::Debootstrap {
                suite: "bookworm".to_owned(),
                exit_code: Some(1),
                lines: vec!["E: Failed getting release file".to_owned()],
            },
        ]));
    }

    #[test]
    fn everything_else_has_words_too() {
        insta::assert_snapshot!(show([
            EngineError::Api { doing: "start container 1f".to_owned(), source: refused(500, "disk full") },
            EngineError::Slow { doing: "list containers".to_owned(), limit: Duration::from_secs(60) },
            EngineError::Io { doing: "start debootstrap".to_owned(), source: io::ErrorKind::NotFound.into() },
            EngineError::Foreign { name: "paas-7".to_owned() },
            EngineError::SubnetTaken {
                app: AppId(7),
                subnet: ipnet::Ipv4Net::new_assert([10, 11, 0, 0].into(), 26),
                source: refused(403, "Pool overlaps with other one on this address space"),
            },
            EngineError::EventGap,
        ]));
    }
}
