//! `proxyctl completions SHELL`: for packagers, and for shells that load them at start.

use std::io::Write as _;

use clap_complete::Shell;

use crate::args::Args;
use crate::failure::Failure;

pub(super) fn run(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::for_people(), "proxyctl", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}
