//! The report of `check`: for people, or as JSON for programs.

use std::io::{self, Write};

use codex_network_config::{Loaded, Settings};
use codex_network_control::ReloadProblem;
use serde::Serialize;

use super::Strictness;
use super::against::Replay;
use crate::changes::Changes;

/// The output of `--json`. Its shape is public: see codex-network-proxy(7), CHECKING FILES.
#[derive(Serialize)]
struct CheckReport<'a> {
    ok: bool,
    problems: &'a [ReloadProblem],
    #[serde(flatten)]
    changes: Option<&'a Changes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<&'a Replay>,
}

/// The exit status for the problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    /// There is an error.
    Bad,
    /// No error, but this many warnings, and `--strict`.
    TooManyWarnings(usize),
}

impl Verdict {
    pub(super) fn of(problems: &[ReloadProblem], strictness: Strictness) -> Self {
        let count = |severity| {
            let of_it = problems.iter().filter(|found| found.severity == severity);
            of_it.count()
        };
        match (count("error"), count("warning"), strictness) {
            (0, 0, _) | (0, _, Strictness::Errors) => Self::Good,
            (0, warnings, Strictness::ErrorsAndWarnings) => Self::TooManyWarnings(warnings),
            _ => Self::Bad,
        }
    }
}

/// One line of JSON.
pub(super) fn json(
    out: &mut impl Write,
    problems: &[ReloadProblem],
    (changes, against): (Option<&Changes>, Option<&Replay>),
    verdict: Verdict,
) -> io::Result<()> {
    let report = CheckReport {
        ok: verdict == Verdict::Good,
        problems,
        changes,
        against,
    };
    writeln!(out, "{}", serde_json::to_string(&report)?)
}

/// The problems for people. An empty line follows each if the summary follows them.
pub(super) fn text(
    out: &mut impl Write,
    problems: &[ReloadProblem],
    verdict: Verdict,
) -> io::Result<()> {
    let end = if verdict == Verdict::Good { "\n" } else { "" };
    for problem in problems {
        writeln!(out, "{}{end}", problem.text)?;
    }
    match verdict {
        Verdict::Good | Verdict::Bad => Ok(()),
        Verdict::TooManyWarnings(1) => writeln!(
            out,
            "error: 1 warning, and --strict makes it an error; fix it, or check without --strict"
        ),
        Verdict::TooManyWarnings(count) => writeln!(
            out,
            "error: {count} warnings, and --strict makes them errors; fix them, or check without --strict"
        ),
    }
}

/// A configuration, in a few lines.
pub(super) fn summary(
    out: &mut impl Write,
    loaded: &Loaded,
    unnamed: Option<&str>,
) -> io::Result<()> {
    let settings = &loaded.settings;
    let policy = &settings.policy;
    if settings.files.is_empty() && unnamed.is_none() {
        writeln!(out, "no configuration files: built-in defaults")?;
    }
    files(out, settings, unnamed)?;
    let state = if policy.is_enabled() {
        "enabled"
    } else {
        "disabled"
    };
    writeln!(
        out,
        "ok: {state}, {} mode, {}, {}",
        policy.mode(),
        counted(policy.allowed().len(), "allow rule"),
        counted(policy.denied().len(), "deny rule"),
    )?;
    match settings.mitm.hooks.len() {
        0 => {}
        count => writeln!(out, "{}", counted(count, "hook"))?,
    }
    let listen = &settings.listen;
    write!(out, "listens on http {}", listen.http)?;
    if let Some(socks5) = listen.socks5 {
        write!(out, ", socks5 {socks5}")?;
    }
    if let Some(admin) = listen.admin {
        write!(out, ", admin {admin}")?;
    }
    writeln!(out)
}

/// Requirements, in a few lines.
pub(super) fn summary_of_requirements(
    out: &mut impl Write,
    loaded: &Loaded,
    unnamed: Option<&str>,
) -> io::Result<()> {
    let settings = &loaded.settings;
    files(out, settings, unnamed)?;
    let pins = settings.managed.pins();
    writeln!(
        out,
        "ok: requirements, {}, {}, {}",
        counted(pins.len(), "bound"),
        counted(settings.policy.allowed().len(), "allow rule"),
        counted(settings.policy.denied().len(), "deny rule"),
    )?;
    for pin in pins {
        writeln!(out, "{}: {pin}", pin.key)?;
    }
    Ok(())
}

fn files(out: &mut impl Write, settings: &Settings, unnamed: Option<&str>) -> io::Result<()> {
    if let Some(name) = unnamed {
        writeln!(out, "read {name}")?;
    }
    for file in &settings.files {
        writeln!(out, "read {}", file.display())?;
    }
    Ok(())
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
