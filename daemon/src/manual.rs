//! `codex-network-proxy man DIRECTORY` and `codex-network-proxy completions SHELL`: for packagers.
//!
//! The page is built from the definition of the command line and from
//! `packaging/man/reasons.roff` and `packaging/man/codex-network-proxy.8.roff`.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use time::OffsetDateTime;

use crate::args::Args;

/// The sections that the definition of the command line lacks.
const SECTIONS: &str = concat!(
    include_str!("../../packaging/man/reasons.roff"),
    include_str!("../../packaging/man/codex-network-proxy.8.roff")
);

/// Writes the page into an existing directory.
pub(crate) fn write(directory: &Path) -> ExitCode {
    let path = directory.join("codex-network-proxy.8");
    let written = File::create(&path).and_then(|mut file| page(&mut file));
    told(written, &format!("cannot write {}", path.display()))
}

/// Writes completions to standard output.
pub(crate) fn complete(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(
        shell,
        &mut Args::for_people(),
        "codex-network-proxy",
        &mut script,
    );
    told(
        io::stdout().write_all(&script),
        "cannot write the completions",
    )
}

fn told(written: io::Result<()>, what: &str) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {what}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn page(out: &mut impl Write) -> io::Result<()> {
    let command = Args::for_people();
    let man = Man::new(command.clone())
        .section("8")
        .date(date())
        .source(format!("codex-network-proxy {}", env!("CARGO_PKG_VERSION")))
        .manual("System Manager's Manual");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    let mut description = Roff::new();
    description.control("SH", ["DESCRIPTION"]);
    description.text([roman(sentence(command.get_about()))]);
    description.control("PP", []);
    // The details are below.
    let after = sentence(command.get_after_help());
    description.text([roman(after.lines().next().unwrap_or_default())]);
    description.to_writer(out)?;
    man.render_options_section(out)?;
    commands(&command, out)?;
    out.write_all(SECTIONS.as_bytes())
}

/// The commands have few options, and share one page.
fn commands(command: &clap::Command, out: &mut impl Write) -> io::Result<()> {
    let mut section = Roff::new();
    section.control("SH", ["COMMANDS"]);
    // The page has those of all commands already.
    let shared: Vec<_> = command.get_opts().map(clap::Arg::get_id).collect();
    for command in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        section.control("TP", []);
        let arguments: Vec<String> = command
            .get_positionals()
            .map(|argument| format!(" [{}]", argument.get_id().as_str().to_uppercase()))
            .collect();
        section.text([bold(command.get_name()), roman(arguments.concat())]);
        section.text([roman(sentence(command.get_about()))]);
        for argument in command.get_positionals() {
            section.control("br", []);
            section.text([
                bold(argument.get_id().as_str().to_uppercase()),
                roman(": "),
                roman(sentence(argument.get_help())),
            ]);
        }
        let is_shared = |option: &&clap::Arg| shared.contains(&option.get_id());
        for option in command.get_opts().filter(|option| !is_shared(option)) {
            section.control("br", []);
            section.text(option_line(option));
        }
    }
    section.to_writer(out)
}

/// An option with its values and its help.
fn option_line(option: &clap::Arg) -> Vec<Inline> {
    let name = option.get_long().unwrap_or_default();
    let takes_values = option.get_action().takes_values();
    let values = option.get_value_names().filter(|_| takes_values);
    let values = values.into_iter().flatten();
    let values: Vec<String> = values.map(|value| format!(" {value}")).collect();
    vec![
        bold(format!("--{name}")),
        roman(values.concat()),
        roman(": "),
        roman(sentence(option.get_help())),
    ]
}

/// A text of the definition, with the full stop that clap removes.
fn sentence(text: Option<&StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    let end = if text.is_empty() || text.ends_with('.') {
        ""
    } else {
        "."
    };
    text + end
}

/// The date of the page: that of the sources for a reproducible build (`SOURCE_DATE_EPOCH`), else
/// today.
fn date() -> String {
    let epoch = env::var("SOURCE_DATE_EPOCH").ok();
    let of_sources = epoch
        .and_then(|seconds| seconds.parse().ok())
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let date = of_sources.unwrap_or_else(OffsetDateTime::now_utc).date();
    date.to_string()
}
