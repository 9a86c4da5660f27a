//! The terminal: flags, and output to a screen.

mod check;
mod detect;
mod hook;
mod local;
mod proxy;
mod serve;

use crate::command;
use crate::model::Problem;
use crate::settings::{self, Flags};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// What this program does by itself; every other command goes to the server.
#[derive(Debug, Parser)]
#[command(
    name = "paas",
    version,
    about = "A git-push deployment server",
    after_help = "Every other command is answered by the server of the data directory: paas help",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Run the server: SSH, deploys, commands
    Serve {
        #[command(flatten)]
        flags: Flags,
        /// Check the settings and what the server needs, and start nothing
        #[arg(long)]
        check_config: bool,
    },
    /// Run the HTTP proxy (serve starts one where nothing else runs it)
    Proxy {
        #[command(flatten)]
        flags: Flags,
        /// Take over from the proxy that runs, which loses no connection
        #[arg(long)]
        upgrade: bool,
    },
    /// Show what a push of this folder would build and run
    Detect(Detect),
    /// Check paas.toml, Procfile and app.json of a folder
    Check {
        /// The folder
        #[arg(default_value = ".", value_name = "DIR")]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Detect {
    /// The folder
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// Where base images would come from: registry or debian
    #[arg(long, env = "PAAS_IMAGE_SOURCE", value_name = "SOURCE", default_value = "registry")]
    image_source: String,
}

/// The program.
pub fn main() -> ExitCode {
    // The one provider of cryptography; that there is one already is no failure.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|word| word.to_str()).collect();
    match words[..] {
        ["hook", phase] => hook::run(phase),
        ["serve" | "proxy" | "detect" | "check" | "--version" | "-V", ..] => own(Cli::parse()),
        [] | ["--help" | "-h"] => {
            print!("{}", Cli::command().render_help());
            ExitCode::FAILURE
        }
        _ => local::run(&arguments[1..]),
    }
}

fn own(cli: Cli) -> ExitCode {
    match cli.mode {
        Mode::Serve { flags, check_config } => serve::serve(&flags, check_config),
        Mode::Proxy { flags, upgrade } => proxy::proxy(&flags, upgrade),
        Mode::Check { folder } => check::run(&folder),
        Mode::Detect(Detect { folder, image_source }) => detect::run(&folder, &image_source),
    }
}

/// Says a problem on one line and fails.
fn fail(problem: &Problem) -> ExitCode {
    let lines: Vec<&str> = problem.lines().filter(|line| !line.is_empty()).collect();
    eprintln!("paas: {}", lines.join(" "));
    ExitCode::FAILURE
}

fn fail_with(text: impl std::fmt::Display) -> ExitCode {
    eprintln!("paas: {text}");
    ExitCode::FAILURE
}

/// The settings, or the one line that says what is wrong with them.
fn load(flags: &Flags) -> Result<settings::Located, ExitCode> {
    settings::load(flags).map_err(fail_with)
}

/// What commands there are, for those who ask without a server.
fn overview() -> String {
    command::overview()
}
