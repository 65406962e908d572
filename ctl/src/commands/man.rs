//! `proxyctl man DIRECTORY`: for packagers. One page for the program, one per command.
//!
//! They are generated from the definition of the command line. The program's own page ends with
//! `packaging/man/reasons.roff` and `packaging/man/proxyctl.1.roff`, and those of the commands refer to it.

use std::env;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use time::OffsetDateTime;

use crate::args::Args;
use crate::failure::Failure;

/// The sections that the definition of the command line lacks.
const SECTIONS: &str = concat!(
    include_str!("../../../packaging/man/reasons.roff"),
    include_str!("../../../packaging/man/proxyctl.1.roff")
);
/// The end of a command's page.
const SEE_ALSO: &str = ".SH SEE ALSO\n.BR proxyctl (1),\n.BR codex-network-proxy (8)\n";

pub(super) fn run(directory: &Path) -> Result<(), Failure> {
    let mut program = Args::for_people().disable_help_subcommand(true);
    program.build();
    pages(&program, directory, SECTIONS).map_err(|error| {
        let path = directory.display();
        Failure::Failed(format!("cannot write man pages into {path}: {error}"))
    })
}

fn pages(command: &Command, directory: &Path, end: &str) -> io::Result<()> {
    let man = Man::new(command.clone())
        .date(date())
        .source(format!("codex-network-proxy {}", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
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
        pages(command, directory, SEE_ALSO)?;
    }
    Ok(())
}

/// The date of a page: that of the sources for a reproducible build (`SOURCE_DATE_EPOCH`), else
/// today.
fn date() -> String {
    let epoch = env::var("SOURCE_DATE_EPOCH").ok();
    let of_sources = epoch
        .and_then(|seconds| seconds.parse().ok())
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let date = of_sources.unwrap_or_else(OffsetDateTime::now_utc).date();
    date.to_string()
}
