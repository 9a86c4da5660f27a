//! `paas serve`, and what it has in common with `paas proxy`.

use super::{fail, fail_with, load};
use crate::model::Problem;
use crate::server;
use crate::settings::{Flags, LogFormat, Settings};
use std::io::IsTerminal;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub(super) fn serve(flags: &Flags, check: bool) -> ExitCode {
    let located = match load(flags) {
        Ok(located) => located,
        Err(code) => return code,
    };
    log_to_stderr(located.settings.log_format);
    crate::git::initialise();
    if check {
        return check_config(&located.settings, located.file.as_deref());
    }
    run(async move |stop| {
        server::serve(located.settings, stop).await.map_err(|error| {
            tracing::debug!(?error, "serve ended");
            error.problem()
        })
    })
}

fn check_config(settings: &Settings, file: Option<&std::path::Path>) -> ExitCode {
    let settings = settings.clone();
    let code = run(async move |_| server::check_config(&settings).await.map_err(|error| error.problem()));
    if code == ExitCode::SUCCESS {
        match file {
            Some(file) => println!("{} and the rest are in order.", file.display()),
            None => println!("Everything is in order (no settings file is used)."),
        }
    }
    code
}

/// Runs one of our long-lived parts until SIGINT or SIGTERM.
pub(super) fn run(work: impl AsyncFnOnce(CancellationToken) -> Result<(), Problem>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail_with(error),
    };
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return Err(Problem::new("Signals cannot be received.", "", ""));
        };
        let asked = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            asked.cancel();
            tracing::info!("stopping");
        });
        work(stop).await
    });
    // Threads that still block (a tree being read) are not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(&problem),
    }
}

pub(super) fn log_to_stderr(format: LogFormat) {
    let level = tracing::Level::INFO;
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_writer(std::io::stderr)
        // A line that nobody takes any more (a pipe whose reader is gone) would be told of on
        // the same stderr, which ends whatever task has it to say.
        .log_internal_errors(false);
    match format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}
