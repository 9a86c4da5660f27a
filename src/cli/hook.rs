//! `paas hook PHASE`: run by git, asks the server. Fails closed.

use crate::control::wire::blocking::{greet, receive};
use crate::control::wire::{Channel, Hello};
use crate::settings::{self, HookVariables};
use std::io::{self, BufRead, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

pub(super) fn run(phase: &str) -> ExitCode {
    let Some(variables) = settings::hook_variables() else {
        eprintln!(" !     This is a hook of paas; git runs it during a push.");
        return ExitCode::FAILURE;
    };
    match ask(phase, variables) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(_) if phase == "post-receive" => {
            eprintln!(" !     The server went away. It will finish this deploy when it is back.");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!(" !     The server went away. Nothing has changed; push again.");
            ExitCode::FAILURE
        }
    }
}

fn ask(phase: &str, variables: HookVariables) -> io::Result<u32> {
    let HookVariables { push, socket, quarantine } = variables;
    // post-receive's input is the same list; the server has it already.
    // A ref's name may be any bytes; one that is no text is refused as such.
    let lines = io::stdin().lock().split(b'\n');
    let updates: Vec<String> = lines
        .map(|line| line.map(|line| String::from_utf8_lossy(&line).into_owned()))
        .collect::<Result<_, _>>()?;
    let hello = match phase {
        "pre-receive" => Hello::PreReceive { push, updates, quarantine },
        "post-receive" => Hello::PostReceive { push },
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let mut stream = UnixStream::connect(socket)?;
    greet(&mut stream, &hello)?;
    let mut stdout = io::stdout().lock();
    loop {
        match receive(&mut stream)? {
            (Channel::Exit, status) => return Ok(exit_status(&status)),
            (_, bytes) => {
                stdout.write_all(&bytes)?;
                stdout.flush()?;
            }
        }
    }
}

/// Four bytes big-endian; anything else is a failure.
pub(super) fn exit_status(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(1, u32::from_be_bytes)
}
