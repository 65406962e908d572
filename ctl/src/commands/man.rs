//! `proxyctl man DIRECTORY`: for packagers. One page for the program, one per command.

use std::path::Path;

use clap::CommandFactory as _;

use crate::Failure;
use crate::args::Args;

pub(super) fn run(directory: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Args::command(), directory).map_err(|error| {
        let path = directory.display();
        Failure::Failed(format!("cannot write man pages into {path}: {error}"))
    })
}
