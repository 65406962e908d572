//! `check --against RECORDS`: reads recorded decisions, which `codex_network_config` judges again (SPEC W5).

use std::io::{self, Write};
use std::path::Path;

use codex_network_config::{JudgedAttempts, RecordedAttempt, ReplayReport, Settings};
use codex_network_control::ReloadProblem;
use codex_network_files::{Reading, Sources};
use serde::Serialize;

use super::standard_input;

/// The longest text of records.
const MAX_RECORDS: u64 = 1 << 30;
/// The user named the file, so it may be a pipe.
const READING: Reading = Reading::up_to(MAX_RECORDS).from_sources(Sources::Any);

/// The result.
#[derive(Debug, Serialize)]
pub(super) struct Replay {
    #[serde(flatten)]
    report: ReplayReport,
    /// Lines without a record.
    other_lines: u64,
}

/// Reads the records, and judges them.
pub(super) fn replay(settings: &Settings, path: &Path) -> Result<Replay, ReloadProblem> {
    let text = if standard_input::is(path) {
        standard_input::read()?
    } else {
        let about = |why: &dyn std::fmt::Display| {
            ReloadProblem::placeless(&format!("--against {}: {why}", path.display()))
        };
        let bytes = READING.read(path).map_err(|error| about(&error))?;
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (records, other_lines) = RecordedAttempt::read(&text);
    if records.is_empty() {
        return Err(ReloadProblem::placeless(&format!(
            "--against {}: it has no record of a decision; give a log in JSON ([daemon] log_format = \"json\"), or the \
             output of `proxyctl blocked --json`",
            path.display()
        )));
    }
    let mut replay = codex_network_config::Replay::new(settings);
    for record in &records {
        replay.add(record);
    }
    Ok(Replay {
        report: replay.report(),
        other_lines,
    })
}

impl Replay {
    /// The result for people.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for line in self.report.lines() {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "ok: {}", self.report.summary(JudgedAttempts::Recorded))
    }
}
