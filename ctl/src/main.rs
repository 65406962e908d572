//! `proxyctl`: asks a running codex-network-proxy how it is, and tells it what to do (SPEC K1, K2).
//!
//! Everything that is asked is answered by the proxy over its control socket, so the answer is about
//! the settings in force and not about files; `doctor` alone looks at the machine as well. `args` is
//! the command line, `find` the way to the socket, `listener` names who listens there, `commands` has
//! one module per command, `system_tool` runs tools of the system, `output` writes for people and for
//! programs.

mod args;
mod commands;
mod find;
mod listener;
mod output;
mod system_tool;

use std::process::ExitCode;

use clap::Parser as _;

use args::Args;
use output::Output;

/// Why a command was not done. Each has its exit code; 2, for a command line that was not
/// understood, is clap's.
#[derive(Debug)]
enum Failure {
    /// The proxy, or this program, could not do it.
    Failed(String),
    /// No proxy answers.
    Unreachable(String),
    /// The proxy answers, but this user may not do that, or nobody may.
    NotPermitted(String),
    /// What was to be told has been told.
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
        // Whoever read the answer has heard enough.
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
