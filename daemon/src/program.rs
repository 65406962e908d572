//! The program: what its command line asks for, and how it ends.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use crate::args::{Args, Command};
use crate::{check, init, loader, logging, manual, memory, monitor, worker};

/// What `sysexits(3)` calls `EX_CONFIG`. The service unit takes it as a reason not to try again.
const UNUSABLE_CONFIGURATION: u8 = 78;

/// Runs the program with the arguments that it was started with, to its end. Exit codes: 0 done,
/// 1 failed (and `check` found an error), 2 the command line was not understood, 78 the proxy cannot
/// start with this configuration.
pub fn main() -> ExitCode {
    if let Err(error) = memory::keep_private() {
        complain(&format!(
            "cannot keep other processes out of the memory of this one: {error}"
        ));
        return ExitCode::FAILURE;
    }
    let args = Args::read();
    let environment = |name: &str| std::env::var_os(name);
    let code = match args.command {
        None | Some(Command::Proxy(_)) => end(monitor::run(args.for_loader())),
        Some(Command::Load(_)) => loader::run(&args),
        Some(Command::Work) => match worker::run() {
            Ok(()) => ExitCode::SUCCESS,
            // The monitor has been told, and tells.
            Err(_) => ExitCode::FAILURE,
        },
        Some(Command::Init(_)) => init::run(&args.sources(None, environment)),
        Some(Command::Completions { shell }) => manual::complete(shell),
        Some(Command::Man { ref directory }) => manual::write(directory),
        Some(Command::Check { ref file, .. }) => {
            check::run(&args.sources(file.as_deref(), environment))
        }
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
