//! Child processes with a time limit, their output kept.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status; -1 if a signal or our time limit ended it.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Both streams as text, standard error first.
    pub fn text(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stderr), self.out())
    }

    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Panics with everything it said unless its status was 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "should have succeeded:\n{}", self.text());
        self
    }

    /// Panics unless it failed by itself, with a status of its own.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert!(self.code > 0, "should have failed (status {}):\n{}", self.code, self.text());
        self
    }

    /// Panics unless each of `parts` is somewhere in what it said.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        let text = self.text();
        for part in parts {
            assert!(text.contains(part), "nothing of {part:?} in:\n{text}");
        }
        self
    }

    /// Panics if `part` is anywhere in what it said.
    #[track_caller]
    pub fn silent_about(self, part: &str) -> Self {
        assert!(!self.text().contains(part), "{part:?} in:\n{}", self.text());
        self
    }
}

/// A command under way; killed when dropped.
pub struct Running {
    child: Child,
    stdout: Collector,
    stderr: Collector,
}

type Bytes = Arc<Mutex<Vec<u8>>>;

struct Collector {
    bytes: Bytes,
    reader: Option<JoinHandle<()>>,
}

impl Collector {
    fn new(mut source: impl Read + Send + 'static) -> Self {
        let bytes = Bytes::default();
        let shared = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            while let Ok(length @ 1..) = source.read(&mut buffer) {
                shared.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// Waits for the end of the stream, but not long: a grandchild may hold it.
    fn finish(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            let end = Instant::now() + Duration::from_secs(2);
            while !reader.is_finished() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.so_far()
    }
}

impl Running {
    /// Starts it, in a process group as a terminal would, and writes `input` to it
    /// from a thread of its own.
    pub fn start(mut command: Command, input: &[u8]) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        std::thread::spawn(move || stdin.write_all(&input));
        let stdout = Collector::new(child.stdout.take().unwrap());
        let stderr = Collector::new(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// What it said until now, standard error first.
    pub fn text(&self) -> String {
        let mut bytes = self.stderr.so_far();
        bytes.extend(self.stdout.so_far());
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until it has said `part`.
    #[track_caller]
    pub fn wait_for(&mut self, part: &str, limit: Duration) {
        let end = Instant::now() + limit;
        while !self.text().contains(part) {
            let ended = self.child.try_wait().unwrap().is_some();
            assert!(Instant::now() < end && !ended, "never said {part:?}:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal to it and its children, as Ctrl-C on a terminal does.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::killpg(pid, signal).unwrap();
    }

    /// Waits for its end; kills it after `limit`.
    pub fn finish(mut self, limit: Duration) -> Finished {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            if Instant::now() > end {
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if status.is_none() {
            let _ = self.child.kill();
        }
        let (stdout, stderr) = (self.stdout.finish(), self.stderr.finish());
        Finished { code: status.unwrap_or(-1), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it to its end with `input`, twenty minutes at most: a first push makes its bases.
pub fn run(command: Command, input: &[u8]) -> Finished {
    Running::start(command, input).finish(Duration::from_secs(1200))
}
