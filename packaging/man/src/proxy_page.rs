//! `codex-network-proxy(8)`: one page for the program and its commands.
//!
//! It ends with `reasons.roff` and `codex-network-proxy.8.roff`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use clap::builder::StyledStr;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use crate::roff;

/// The sections that the definition of the command line does not have.
const SECTIONS: &str = include_str!("../codex-network-proxy.8.roff");

/// Writes the page into an existing directory.
pub(crate) fn write(command: &Command, directory: &Path) -> anyhow::Result<()> {
    let path = directory.join("codex-network-proxy.8");
    File::create(&path)
        .and_then(|mut file| page(command, &mut file))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn page(command: &Command, out: &mut impl Write) -> io::Result<()> {
    let man = roff::page(command.clone(), "8", "System Manager's Manual");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    let mut description = Roff::new();
    description.control("SH", ["DESCRIPTION"]);
    description.text([roman(sentence(command.get_about()))]);
    description.control("PP", []);
    // The exit codes and signals have sections of their own below.
    let after = sentence(command.get_after_help());
    description.text([roman(after.lines().next().unwrap_or_default())]);
    description.to_writer(out)?;
    man.render_options_section(out)?;
    commands(command, out)?;
    out.write_all(roff::REASONS.as_bytes())?;
    out.write_all(SECTIONS.as_bytes())
}

/// The section with all commands. They have few options, so they need no pages of their own.
fn commands(command: &Command, out: &mut impl Write) -> io::Result<()> {
    let mut section = Roff::new();
    section.control("SH", ["COMMANDS"]);
    // The section with the options of the program has these already.
    let shared: Vec<_> = command.get_opts().map(clap::Arg::get_id).collect();
    for command in command.get_subcommands() {
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

/// A help text with its full stop, which clap removes.
fn sentence(text: Option<&StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    let end = if text.is_empty() || text.ends_with('.') {
        ""
    } else {
        "."
    };
    text + end
}
