//! Whether a new web process may get traffic.

use super::error::Unhealthy;
use crate::engine::Engine;
use crate::model::{CheckKind, HealthCheck, ProcessState};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// First pause between two tries, and the longest one while a process is young
/// and later: most boot within seconds, and each is to be noticed at once.
const PAUSES: (Duration, Duration, Duration) =
    (Duration::from_millis(4), Duration::from_millis(10), Duration::from_millis(100));

/// The pause where each question starts a program.
const COSTLY: Duration = Duration::from_millis(250);

/// Within which no process is found to be unwell: a busy host makes all of them slow.
const LEAST: Duration = Duration::from_secs(2);

/// How long a process is young.
const YOUNG: Duration = Duration::from_secs(4);

/// How often the container itself is looked at while it does not answer.
const LOOK: Duration = Duration::from_millis(400);

/// How long a process that listens elsewhere is given to open PORT as well.
const ELSEWHERE: Duration = Duration::from_millis(2500);

/// One new process to be checked.
pub(super) struct Check<'a> {
    pub engine: &'a dyn Engine,
    pub container: &'a str,
    pub address: Ipv4Addr,
    pub port: u16,
    /// The Host of the request: frameworks refuse names that they do not know.
    pub host: &'a str,
    /// What it is asked.
    pub how: &'a HealthCheck,
}

impl Check<'_> {
    /// How long a process has until its first good answer.
    fn boot(&self) -> Duration {
        Duration::from_secs(self.how.start_period.into())
    }

    /// How long one answer may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(self.how.timeout.into())
    }
}

/// What a look at the container has shown so far.
#[derive(Default)]
struct Seen {
    /// Since when it listens, but not on PORT.
    elsewhere: Option<Instant>,
    last: Option<Unhealthy>,
}

/// Waits until the process answers; returns the port on which it does, which is
/// another than `port` when it listens on exactly one other.
pub(super) async fn wait(check: &Check<'_>) -> Result<u16, Unhealthy> {
    let begin = Instant::now();
    let mut pause = if check.how.is_costly() { COSTLY } else { PAUSES.0 };
    let mut looked = Instant::now();
    let mut seen = Seen::default();
    while begin.elapsed() < check.boot() {
        match probe(check, check.port).await {
            Probe::Up => return Ok(check.port),
            Probe::Bad(Unhealthy::CheckCommand(code)) if check.how.is_hollow(code) => {
                return Err(Unhealthy::CheckCommand(code));
            }
            Probe::Bad(why) => seen.last = Some(why),
            Probe::Closed => {}
        }
        tokio::time::sleep(pause).await;
        let longest = if begin.elapsed() < YOUNG { PAUSES.1 } else { PAUSES.2 };
        pause = if check.how.is_costly() { COSTLY } else { (pause * 5 / 4).min(longest) };
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            if let Some(port) = look(check, &mut seen).await? {
                return Ok(port);
            }
        }
    }
    Err(seen.last.unwrap_or(Unhealthy::Silent))
}

/// Waits until a restarted process answers; `false` if it does not in time.
/// That it has been restarted is no reason to give up here.
pub(super) async fn wait_again(check: &Check<'_>, stop: &CancellationToken) -> bool {
    let tries = async {
        let mut pause = PAUSES.0;
        while !matches!(probe(check, check.port).await, Probe::Up) {
            tokio::time::sleep(pause).await;
            pause = (pause * 5 / 4).min(PAUSES.2);
        }
    };
    tokio::select! {
        result = tokio::time::timeout(check.boot(), tries) => result.is_ok(),
        () = stop.cancelled() => false,
    }
}

/// Whether the process takes connections, whatever it answers.
pub(super) async fn listens(check: &Check<'_>) -> bool {
    connect(check, check.port).await.is_some()
}

/// Looks at the container: has it exited, and where does it listen?
async fn look(check: &Check<'_>, seen: &mut Seen) -> Result<Option<u16>, Unhealthy> {
    match check.engine.inspect(check.container).await {
        Ok(state) if !state.running || state.restarts > 0 => return Err(exited(check, state).await),
        Err(error) if error.is_missing() => return Err(Unhealthy::Removed),
        _ => {}
    }
    let mut listening = check.engine.listening(check.container).await.unwrap_or_default();
    listening.retain(|at| at.port() != INSPECTOR || check.port == INSPECTOR);
    if listening.is_empty() || listening.iter().any(|at| at.port() == check.port && !at.ip().is_loopback()) {
        seen.elsewhere = None;
        return Ok(None);
    }
    if seen.elsewhere.get_or_insert_with(Instant::now).elapsed() < ELSEWHERE {
        return Ok(None);
    }
    elsewhere(check, &listening).await
}

/// Where Node's debugger listens, before the app does.
const INSPECTOR: u16 = 9229;

/// How long the next exit of a restarted process is waited for.
const NEXT_EXIT: Duration = Duration::from_secs(3);

/// The process has exited, and the engine may have restarted it already: then its
/// code can be seen when it exits again, as it mostly does.
async fn exited(check: &Check<'_>, mut state: ProcessState) -> Unhealthy {
    let begin = Instant::now();
    while state.exit_code.is_none() && begin.elapsed() < NEXT_EXIT {
        tokio::time::sleep(PAUSES.1).await;
        match check.engine.inspect(check.container).await {
            Ok(now) => state = now,
            Err(_) => break,
        }
    }
    Unhealthy::Exited { code: state.exit_code, out_of_memory: state.oom_killed }
}

/// The process listens, but not on PORT: adopt its one open port, or refuse.
async fn elsewhere(check: &Check<'_>, listening: &[SocketAddr]) -> Result<Option<u16>, Unhealthy> {
    let mut ports: Vec<u16> =
        listening.iter().filter(|at| !at.ip().is_loopback()).map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    // The one that is only asked gets no traffic, unless there is no other.
    if ports.len() > 1 {
        ports.retain(|port| check.how.port != Some(*port));
    }
    match ports[..] {
        [] => Err(Unhealthy::LoopbackOnly(listening.to_vec())),
        _ if check.how.strict_port => Err(Unhealthy::OtherPorts(ports)),
        [port] => match probe(check, port).await {
            Probe::Up => Ok(Some(port)),
            Probe::Bad(why) => Err(why),
            Probe::Closed => Ok(None),
        },
        _ => Err(Unhealthy::OtherPorts(ports)),
    }
}

enum Probe {
    Up,
    Closed,
    Bad(Unhealthy),
}

/// One question, as the app wants to be asked, if the port of its traffic is open.
async fn probe(check: &Check<'_>, port: u16) -> Probe {
    let Some(mut stream) = connect(check, port).await else { return Probe::Closed };
    if let Some(asked) = check.how.port.filter(|&asked| asked != port) {
        match connect(check, asked).await {
            Some(other) => stream = other,
            None => return Probe::Bad(Unhealthy::PortClosed(asked)),
        }
    }
    let answer = async {
        match &check.how.kind {
            CheckKind::Tcp => Probe::Up,
            CheckKind::Start => judged(status(stream, check.host, "/").await, None),
            CheckKind::Path(path) => judged(status(stream, check.host, path).await, Some(path)),
            CheckKind::Command(line) => command(check, &["/bin/sh", "-c", line]).await,
            CheckKind::Exec(words) => {
                command(check, &words.iter().map(String::as_str).collect::<Vec<_>>()).await
            }
        }
    };
    tokio::time::timeout(check.patience(), answer).await.unwrap_or(Probe::Bad(Unhealthy::NoAnswer))
}

async fn connect(check: &Check<'_>, port: u16) -> Option<TcpStream> {
    let address = SocketAddr::new(IpAddr::V4(check.address), port);
    tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address)).await.ok()?.ok()
}

/// Without a path of the app's own, any answer that is no server error will do.
fn judged(status: Option<u16>, path: Option<&String>) -> Probe {
    match (status, path) {
        (None, _) => Probe::Bad(Unhealthy::NoAnswer),
        (Some(..400), _) | (Some(..500), None) => Probe::Up,
        (Some(status), None) => Probe::Bad(Unhealthy::ServerError(status)),
        (Some(status), Some(path)) => Probe::Bad(Unhealthy::CheckStatus(path.clone(), status)),
    }
}

async fn command(check: &Check<'_>, words: &[&str]) -> Probe {
    match check.engine.run_in(check.container, words).await {
        Ok(0) => Probe::Up,
        Ok(code) => Probe::Bad(Unhealthy::CheckCommand(code)),
        Err(error) => {
            tracing::debug!(container = check.container, %error, "a check could not be run");
            Probe::Bad(Unhealthy::NoAnswer)
        }
    }
}

/// One question to a process that has been well.
pub(super) async fn ask(check: &Check<'_>) -> Result<(), Unhealthy> {
    match probe(check, check.port).await {
        Probe::Up => Ok(()),
        Probe::Closed => Err(Unhealthy::NoAnswer),
        Probe::Bad(why) => Err(why),
    }
}

/// As many questions within an interval as the check has attempts, each so long after
/// the one before that all fit in; the first good answer ends it. A process that hangs is
/// found out in that time whatever patience the check has, and one that is slow, but
/// answers within the interval, passes.
pub(super) async fn ask_in_a_row(check: &Check<'_>) -> Result<(), Unhealthy> {
    let attempts = u32::from(check.how.attempts.max(1));
    let interval = Duration::from_secs(check.how.interval.into()).max(LEAST);
    let pause = (interval / attempts).max(COSTLY);
    let whole = pause * attempts;
    let question = |number: u32| async move {
        let begin = pause * number;
        tokio::time::sleep(begin).await;
        let answer = tokio::time::timeout(whole.saturating_sub(begin), ask(check)).await;
        answer.unwrap_or(Err(Unhealthy::NoAnswer))
    };
    let mut answers: FuturesUnordered<_> = (0..attempts).map(question).collect();
    let mut last = Err(Unhealthy::NoAnswer);
    while let Some(answer) = answers.next().await {
        last = answer;
        if last.is_ok() {
            break;
        }
    }
    last
}

/// The status code of the answer, if it is HTTP.
async fn status(mut stream: TcpStream, host: &str, path: &str) -> Option<u16> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: paas-health\r\nAccept: */*\r\n\
         X-Forwarded-Proto: http\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut line = Vec::new();
    let mut buffer = [0; 512];
    while !line.contains(&b'\n') && line.len() < 4096 {
        match stream.read(&mut buffer).await.ok()? {
            0 => break,
            length => line.extend_from_slice(&buffer[..length]),
        }
    }
    parse_status(&line)
}

/// Reads `HTTP/1.1 200 OK`.
fn parse_status(line: &[u8]) -> Option<u16> {
    let line = line.strip_prefix(b"HTTP/1.")?;
    std::str::from_utf8(line.get(2..5)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse_status;

    #[test]
    fn only_http_is_an_answer() {
        assert_eq!(parse_status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(parse_status(b"HTTP/1.0 500\r\n"), Some(500));
        for bad in [&b"SSH-2.0-OpenSSH\r\n"[..], b"HTTP/1.1 ", b"", b"HTTP/2 200"] {
            assert_eq!(parse_status(bad), None);
        }
    }
}
