//! A local network-policy proxy: decides which hosts the programs on a machine may talk to.
//!
//! This package is the binary `codex-network-proxy` and ties the crates together: configuration
//! comes from `codex-network-config`, enforcement is `codex-network-engine`, and what is here
//! starts them, keeps them running and takes an operator's orders.
//!
//! - `admitted`: who may call on the control socket, by id.
//! - `args`: the command line.
//! - `ca`: the CA of the interception, its files, and what everybody may know of it.
//! - `check`: judging a configuration without using it.
//! - `init`: making the CA that is kept.
//! - `logging`: where records and messages go.
//! - `monitor`: what keeps the service's privilege and sockets, and starts the other two roles.
//! - `loader`: judges the configuration for the monitor, and is gone.
//! - `worker`: the running proxy, confined; `worker::admin` is the admin HTTP API.
//! - `state`: where state is kept.
//! - `privsep`: what stands between monitor and worker.

mod admitted;
mod args;
mod ca;
mod check;
mod init;
mod loader;
mod logging;
mod monitor;
mod notify;
mod privsep;
mod state;
mod worker;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use args::{Args, Command};

/// What `sysexits(3)` calls `EX_CONFIG`. The service unit takes it as a reason not to try again.
const UNUSABLE_CONFIGURATION: u8 = 78;

/// Runs the program with the arguments that it was started with, to its end. Exit codes: 0 done,
/// 1 failed (and `check` found an error), 2 the command line was not understood, 78 the proxy cannot
/// start with this configuration.
pub fn main() -> ExitCode {
    let args = Args::read();
    let code = match args.command {
        None | Some(Command::Proxy) => end(monitor::run(args.for_loader())),
        Some(Command::Load) => loader::run(&args.sources(None)),
        Some(Command::Work) => match worker::run() {
            Ok(()) => ExitCode::SUCCESS,
            // The monitor has been told, and tells.
            Err(_) => ExitCode::FAILURE,
        },
        Some(Command::Init) => init::run(&args.sources(None)),
        Some(Command::Check { ref file }) => check::run(&args.sources(file.as_deref())),
    };
    logging::flush();
    code
}

fn end(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            if error.is::<monitor::UnusableConfiguration>() {
                ExitCode::from(UNUSABLE_CONFIGURATION)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Tells the person who started the program what went wrong. A standard error that is closed or that
/// nobody reads is no reason to fail in another way.
fn complain(message: &str) {
    let (red, plain) = if std::io::stderr().is_terminal() {
        ("\x1b[1;31m", "\x1b[0m")
    } else {
        ("", "")
    };
    logging::last_words(&format!("{red}error{plain}: {message}\n"));
}
