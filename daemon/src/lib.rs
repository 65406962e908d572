//! A local network-policy proxy: decides which hosts the programs on a machine may talk to.
//!
//! This package is the binary `codex-network-proxy` and ties the crates together: configuration
//! comes from `codex-network-config`, enforcement is `codex-network-engine`, and what is here
//! starts them, keeps them running and takes an operator's orders.
//!
//! - `args`: the command line.
//! - `check`: judging a configuration without using it.
//! - `logging`: where records and messages go.
//! - `worker`: the running proxy, its listeners, reloads and signals; `worker::admin` is the admin
//!   HTTP API.

mod args;
mod check;
mod logging;
mod worker;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};

/// Runs the program with the arguments that it was started with, to its end. Exit codes: 0 done,
/// 1 failed, 2 the command line was not understood.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        None | Some(Command::Proxy) => match worker::run(args.sources(None)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&format!("{error:#}"));
                ExitCode::FAILURE
            }
        },
        Some(Command::Check { ref file }) => check::run(&args.sources(file.as_deref())),
    }
}

/// Tells the person who started the program what went wrong. A closed standard error is no reason
/// to fail in another way.
fn complain(message: &str) {
    let mut stderr = std::io::stderr();
    let colour = stderr.is_terminal();
    let (red, plain) = if colour {
        ("\x1b[1;31m", "\x1b[0m")
    } else {
        ("", "")
    };
    let _ = writeln!(stderr, "{red}error{plain}: {message}");
}
