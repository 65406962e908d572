//! `proxyctl`: inspects and controls a running codex-network-proxy (SPEC K1, K2).
//!
//! The proxy answers every question over its control socket, so the answers are about the settings
//! in force and not about files. Only `doctor` also inspects the machine. `args` is the command
//! line, `find` finds the socket, `listener` names the owner of its listener, `commands` has one
//! module per command, `system_tool` runs tools of the system, and `output` writes for people and
//! for programs.

mod args;
mod capabilities;
mod commands;
mod find;
mod listener;
mod output;
mod system_tool;

use std::process::ExitCode;

use clap::Parser as _;

use args::Args;
use output::Output;

/// Why a command failed. Each reason has its exit code. clap uses 2 for an invalid command line.
#[derive(Debug)]
enum Failure {
    /// The proxy, or this program, could not do it.
    Failed(String),
    /// No proxy answers.
    Unreachable(String),
    /// The proxy answers, but this user may not do that, or no user may.
    NotPermitted(String),
    /// The error has already been printed.
    Told,
    /// The answer could not be written.
    Output(std::io::Error),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output::new(args.form());
    let failure = match commands::run(args, &output) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    let (message, code) = match failure {
        Failure::Failed(message) => (message, 1),
        Failure::Unreachable(message) => (message, 3),
        Failure::NotPermitted(message) => (message, 4),
        Failure::Told => return ExitCode::from(1),
        // The reader of the answer has closed it early.
        Failure::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Failure::Output(error) => (format!("cannot write the answer: {error}"), 1),
    };
    output.complain(&message);
    ExitCode::from(code)
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}
