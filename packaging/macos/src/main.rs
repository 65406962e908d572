//! `macos-package`: `packaging/macos/build` calls it once the programs are there.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use macos_package::archive;
use macos_package::contents::Places;

/// Pack the programs for macOS into an installer package.
#[derive(Debug, Parser)]
struct Args {
    /// The directory of the universal programs.
    #[arg(long, value_name = "DIRECTORY")]
    programs: PathBuf,
    /// The directory of the generated man pages and completions.
    #[arg(long, value_name = "DIRECTORY")]
    made: PathBuf,
    /// The root of the source tree.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    tree: PathBuf,
    /// The package to write.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[expect(clippy::print_stderr, reason = "a program for the command line")]
fn main() -> ExitCode {
    match pack(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn pack(args: Args) -> anyhow::Result<()> {
    let places = Places {
        programs: args.programs,
        tree: args.tree,
        made: args.made,
    };
    let package = archive::build(&places, env!("CARGO_PKG_VERSION"))?;
    std::fs::write(&args.output, package)
        .with_context(|| format!("cannot write {}", args.output.display()))
}
