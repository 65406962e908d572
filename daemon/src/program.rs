//! The program: runs the command line, and determines the exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use crate::args::{Args, Command};
use crate::{check, init, loader, logging, memory, monitor, privsep, worker};

/// `EX_CONFIG` of `sysexits(3)`. A service starts all the same, on a stand-in (SPEC L16).
const UNUSABLE_CONFIGURATION: u8 = 78;

/// Runs the program with its command-line arguments to its end. Exit codes: 0 done, 1 failed (or
/// `check` found an error), 2 the command line is invalid, 78 the proxy cannot start with this
/// configuration.
pub fn main() -> ExitCode {
    if let Err(error) = memory::keep_private() {
        complain(&format!(
            "cannot keep other processes out of the memory of this one: {error}"
        ));
        return ExitCode::FAILURE;
    }
    memory::bound_reserve();
    let args = Args::read();
    let environment = |name: &str| std::env::var_os(name);
    let code = match args.command {
        None | Some(Command::Proxy(_)) => end(monitor::run(args.for_loader())),
        Some(Command::Load(_)) => {
            privsep::show_as(c"codex-np-loader");
            loader::run(&args)
        }
        Some(Command::Work) => {
            privsep::show_as(c"codex-np-worker");
            match worker::run() {
                Ok(()) => ExitCode::SUCCESS,
                // The monitor has the error, and prints it.
                Err(_) => ExitCode::FAILURE,
            }
        }
        Some(Command::Init(_)) => init::run(&args.sources(environment)),
        Some(Command::Check {
            check: ref options, ..
        }) => check::run(&args, options, environment),
    };
    logging::flush();
    code
}

fn end(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let why = format!("{error:#}");
            complain(&why);
            monitor::failed_start::wait(&why);
            if error.is::<monitor::UnusableConfiguration>() {
                ExitCode::from(UNUSABLE_CONFIGURATION)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Prints an error for the person who started the program. A failure to write it is ignored:
/// standard error may be closed or not read.
fn complain(message: &str) {
    let (red, plain) = if std::io::stderr().is_terminal() {
        ("\x1b[1;31m", "\x1b[0m")
    } else {
        ("", "")
    };
    logging::last_words(&format!("{red}error{plain}: {message}\n"));
}
