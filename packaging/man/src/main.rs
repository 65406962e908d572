//! `manual DIRECTORY`: writes the man pages and completions for a package.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Write the man pages and shell completions of codex-network-proxy and proxyctl.
#[derive(Debug, Parser)]
struct Args {
    /// The directory for `man` and `completions`.
    directory: PathBuf,
}

#[expect(clippy::print_stderr, reason = "a program for the command line")]
fn main() -> ExitCode {
    match manual::write(&Args::parse().directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
