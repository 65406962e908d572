//! `proxyctl(1)`, and one page for each of its commands.
//!
//! The program's own page ends with `reasons.roff` and `proxyctl.1.roff`, and that of `run` with
//! `proxyctl-run.1.roff`. The pages of the other commands refer to the program's.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use clap::Command;

use crate::roff;

/// The sections that the definition of the command line does not have.
const SECTIONS: &str = include_str!("../proxyctl.1.roff");
/// The end of the page of `run`.
const RUN_SECTIONS: &str = include_str!("../proxyctl-run.1.roff");
/// The end of a command's page.
const SEE_ALSO: &str = ".SH SEE ALSO\n.BR proxyctl (1),\n.BR codex-network-proxy (8)\n";

/// Writes all pages into an existing directory.
pub(crate) fn write(program: Command, directory: &Path) -> anyhow::Result<()> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let end = [roff::REASONS, SECTIONS].concat();
    pages(&program, directory, &end)
        .with_context(|| format!("cannot write man pages into {}", directory.display()))
}

fn pages(command: &Command, directory: &Path, end: &str) -> io::Result<()> {
    let man = roff::page(command.clone(), "1", "User Commands");
    let mut page = File::create(directory.join(man.get_filename()))?;
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    page.write_all(end.as_bytes())?;
    for command in command.get_subcommands() {
        let end = match command.get_name() {
            "run" => RUN_SECTIONS,
            _ => SEE_ALSO,
        };
        pages(command, directory, end)?;
    }
    Ok(())
}
