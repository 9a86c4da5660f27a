//! What the user is told of processes that do not answer, or are not there.

use super::error::Unhealthy;
use super::last_words;
use crate::model::{Problem, ProcessName, Selection};
use crate::output::tame;

/// Lines of an app's log that are shown with a failure.
const TAIL: usize = 50;

/// Columns of each.
const QUOTE: usize = 60;

/// The words for a new release that gets no traffic.
pub(super) fn unhealthy(
    process: &str,
    port: u16,
    why: &Unhealthy,
    tail: &[String],
    advice: Option<&str>,
) -> Problem {
    let (cause, next) = match why {
        Unhealthy::Exited { code, out_of_memory } => {
            let (cause, next) = exited(process, *code, *out_of_memory);
            let reason = last_words::reason(tail).filter(|_| !out_of_memory && *code != Some(137));
            let told = reason.iter().map(|reason| format!("\n{}", clipped(&reason.text)));
            let cause = cause + &told.collect::<String>();
            let next = reason.and_then(|reason| reason.next).map_or(next, |next| tame(&next));
            (cause, advice.map_or(next, str::to_owned))
        }
        Unhealthy::Removed => (
            format!("The container of {process} was removed while it started."),
            "Somebody did that on the server. Push again.".to_owned(),
        ),
        Unhealthy::Silent => (
            format!("{process} runs, but listens on no port."),
            if tail.iter().any(|line| tells_of_a_failure(line)) {
                "Something in it has failed before it could: its lines are above. Mend that first.".to_owned()
            } else {
                format!("Listen on 0.0.0.0 and the port in $PORT (here {port}).")
            },
        ),
        Unhealthy::LoopbackOnly(addresses) => (
            format!(
                "{process} listens only on {}, which nothing outside\nits container can reach.",
                addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
            advice.into_iter().fold(
                format!("Listen on 0.0.0.0 (not 127.0.0.1 or localhost), port $PORT ({port})."),
                |next, advice| format!("{next}\n{advice}"),
            ),
        ),
        Unhealthy::OtherPorts(ports) => (
            format!(
                "{process} listens on the ports {}, none of which is\n$PORT ({port}).",
                ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
            "Listen on the port in $PORT.".to_owned(),
        ),
        Unhealthy::NoAnswer => (
            format!("{process} accepts connections on port {port}, but gives no\nHTTP answer."),
            "web must speak HTTP; name other processes differently in Procfile.".to_owned(),
        ),
        Unhealthy::ServerError(status) => (
            format!("{process} answers GET / with status {status}."),
            "Anything below 500 will do. Its log lines are above; fix it and push.".to_owned(),
        ),
        Unhealthy::CheckStatus(path, status) => (
            format!("{process} answers its health check, GET {path}, with status {status}."),
            "Below 400 is well; who names the path: paas checks APP".to_owned(),
        ),
        Unhealthy::PortClosed(asked) => (
            format!("{process} listens on port {port}, but not on {asked}, where its health check asks."),
            "Who names that port: paas checks APP".to_owned(),
        ),
        Unhealthy::CheckCommand(code) => (
            format!("The command of {process}'s health check exits with status {code}."),
            "0 is well; who names the command: paas checks APP".to_owned(),
        ),
    };
    let tail = last_words::without_frames(tail);
    let tail = tail.into_iter().rev().take(TAIL).rev().map(|line| quoted(line));
    let cause = [cause].into_iter().chain(tail).collect::<Vec<_>>().join("\n");
    Problem::new("Push rejected: the new release does not answer.", cause, next)
}

/// Whether a process that goes on has written that what it runs has not: servers
/// and watchers outlive workers that a syntax error ended.
fn tells_of_a_failure(line: &str) -> bool {
    let line = line.trim();
    let first = line.split_whitespace().next().unwrap_or_default();
    first.ends_with("Error:")
        || first.ends_with("Exception:")
        || line.starts_with("Traceback (")
        || line.contains("app crashed")
}

/// A line of the app's, cut to what fits a push; `logs` has all of it.
fn quoted(line: &str) -> String {
    let line = crate::output::tame(line);
    let cut: String = line.chars().take(QUOTE).collect();
    let mark = if line.chars().count() > QUOTE { "…" } else { "" };
    format!("  {cut}{mark}")
}

/// A reason in one line, which may be long where it names a path.
fn clipped(text: &str) -> String {
    const MOST: usize = 200;
    let text = crate::output::tame(text);
    if text.chars().count() <= MOST {
        return text;
    }
    text.chars().take(MOST - 1).chain(['…']).collect()
}

fn exited(process: &str, code: Option<i64>, out_of_memory: bool) -> (String, String) {
    let cause = match code {
        Some(code) => format!("{process} exited with status {code}."),
        None => format!("{process} exited and had to be restarted."),
    };
    if out_of_memory || code == Some(137) {
        return (
            format!("{cause} It was killed: out of memory?"),
            "Use less memory, or have the server's limit raised (server.toml).".to_owned(),
        );
    }
    let next = match code {
        Some(127) => {
            "The command was not found in the image; check the Procfile. (A script saved with\nWindows line ends is not found either: git add --renormalize, with *.sh eol=lf in .gitattributes.)"
        }
        Some(126) => "The command cannot be executed; check its mode (git update-index --chmod=+x).",
        Some(0) => "A web process must keep running.",
        _ => "Its last lines are above. Fix it, commit and push again.",
    };
    (cause, next.to_owned())
}

/// The words for a process that is not there.
pub(super) fn no_process(selection: &Selection, known: &[ProcessName]) -> Problem {
    let kind = selection.kind();
    if known.is_empty() {
        let cause = format!("The app runs no {kind}: its count is 0.");
        return Problem::new(
            format!("There is no process {selection}."),
            cause,
            format!("Have some: paas ps:scale APP {kind}=1"),
        );
    }
    let known: Vec<String> = known.iter().map(ToString::to_string).collect();
    let cause = format!("Of {kind} there are: {}.", known.join(", "));
    Problem::new(
        format!("There is no process {selection}."),
        cause,
        format!("More of them: paas ps:scale APP {kind}+1"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::deploy::DeployError;

    #[test]
    fn every_reason_why_a_release_gets_no_traffic() {
        let reasons = [
            Unhealthy::Exited { code: Some(3), out_of_memory: false },
            Unhealthy::Exited { code: Some(137), out_of_memory: true },
            Unhealthy::Exited { code: Some(127), out_of_memory: false },
            Unhealthy::Exited { code: None, out_of_memory: false },
            Unhealthy::Removed,
            Unhealthy::Silent,
            Unhealthy::LoopbackOnly(vec!["127.0.0.1:5000".parse().unwrap()]),
            Unhealthy::OtherPorts(vec![3000, 3001]),
            Unhealthy::NoAnswer,
            Unhealthy::ServerError(502),
            Unhealthy::PortClosed(9000),
            Unhealthy::CheckStatus("/healthz".into(), 404),
            Unhealthy::CheckCommand(1),
        ];
        let text: Vec<String> = reasons
            .into_iter()
            .map(|why| {
                let process = ProcessName::parse("web.1").unwrap();
                let tail = vec!["boom".to_owned()];
                let error = DeployError::Unhealthy { process, port: 8000, why, tail, advice: None };
                error.advised(Some("app.py line 3 names it."), None).problem().to_string()
            })
            .collect();
        insta::assert_snapshot!(text.join("\n\n"));
    }

    #[test]
    fn a_worker_that_died_is_mended_before_the_port() {
        let next = |line: &str| {
            let process = ProcessName::parse("web.1").unwrap();
            let tail = vec![line.to_owned()];
            DeployError::Unhealthy { process, port: 5000, why: Unhealthy::Silent, tail, advice: None }
                .problem()
                .next
        };
        for line in [
            "SyntaxError: invalid syntax",
            "  ModuleNotFoundError: No module named 'flask'",
            "Traceback (most recent call last):",
            "[nodemon] app crashed - waiting for file changes before starting...",
        ] {
            assert!(next(line).starts_with("Something in it has failed"), "{line}");
        }
        for line in ["boom", "errors: 0", "no Error: here"] {
            assert!(next(line).starts_with("Listen on 0.0.0.0"), "{line}");
        }
    }

    #[test]
    fn an_image_without_a_command_is_told_so() {
        let why = Unhealthy::Exited { code: Some(0), out_of_memory: false };
        let process = ProcessName::parse("web.1").unwrap();
        let error = DeployError::Unhealthy { process, port: 5000, why, tail: Vec::new(), advice: None };
        let text = error.advised(None, Some("Dockerfile has no CMD.")).problem().to_string();
        assert!(text.ends_with("Dockerfile has no CMD."), "{text}");
    }
}
