//! Commands that the server of the data directory answers, over its socket.

use super::hook::exit_status;
use super::{fail_with, overview};
use crate::control::wire::blocking::{greet, receive, send};
use crate::control::wire::{Channel, Hello};
use crate::settings::{self, Flags};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    let mut argv = Vec::with_capacity(arguments.len());
    for word in arguments {
        match word.to_str() {
            Some(word) => argv.push(word.to_owned()),
            None => return fail_with(format!("{} is not UTF-8", word.display())),
        }
    }
    let flags = match leading_flags(&mut argv) {
        Ok(flags) => flags,
        Err(flag) => return fail_with(format!("{flag} wants a value")),
    };
    match argv.first().map(String::as_str) {
        None => return fail_with("give a command; list them: paas help"),
        Some("version") => {
            println!("paas {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some("help") if argv.len() == 1 => {
            print!("{}", overview());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let data_dir = match settings::load(&flags) {
        Ok(located) => located.settings.data_dir,
        Err(error) => return fail_with(error),
    };
    match converse(&data_dir, argv) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => fail_with(unreachable(&data_dir, &error)),
    }
}

/// Takes `--data-dir DIR` and `--config FILE` from in front of the command.
fn leading_flags(argv: &mut Vec<String>) -> Result<Flags, String> {
    let mut flags = settings::flags_from_environment();
    while let Some(word) = argv.first().filter(|word| word.starts_with("--")).cloned() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let slot = match flag.as_str() {
            "--data-dir" => &mut flags.data_dir,
            "--config" => &mut flags.config,
            _ => break,
        };
        argv.remove(0);
        let value = match value {
            Some(value) => value,
            None if argv.is_empty() => return Err(flag),
            None => argv.remove(0),
        };
        *slot = Some(PathBuf::from(value));
    }
    Ok(flags)
}

fn unreachable(data_dir: &Path, error: &io::Error) -> String {
    let data_dir = data_dir.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!(
                "no server runs in {data_dir}. Start it: paas serve; or name its directory: paas --data-dir DIR COMMAND"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("the server in {data_dir} belongs to another user. Use sudo, or ssh with a key")
        }
        _ => format!("the connection to the server in {data_dir} was lost: {error}"),
    }
}

fn converse(data_dir: &Path, argv: Vec<String>) -> io::Result<u32> {
    let mut stream = UnixStream::connect(settings::local_socket(data_dir))?;
    let reads_stdin = match argv.first().map(String::as_str) {
        Some("keys:add" | "certs:add") => true,
        Some("config:set") => argv.iter().any(|word| word == "-"),
        _ => false,
    };
    greet(&mut stream, &Hello::Command { argv })?;
    let mut input = stream.try_clone()?;
    std::thread::spawn(move || {
        if reads_stdin {
            let _ = pump(&mut input);
        }
        let _ = send(&mut input, Channel::Stdin, &[]);
    });
    loop {
        match receive(&mut stream)? {
            (Channel::Exit, status) => return Ok(exit_status(&status)),
            (Channel::Stderr, bytes) => io::stderr().write_all(&bytes)?,
            (_, bytes) => {
                let mut stdout = io::stdout().lock();
                // A reader that has seen enough (`| head`) is no error.
                if stdout.write_all(&bytes).and_then(|()| stdout.flush()).is_err() {
                    return Ok(0);
                }
            }
        }
    }
}

fn pump(to: &mut UnixStream) -> io::Result<()> {
    if io::stdin().is_terminal() {
        eprintln!("Reading from the terminal; end with Ctrl-D.");
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = io::stdin().read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        send(to, Channel::Stdin, &buffer[..length])?;
    }
}
