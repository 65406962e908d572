//! The result of a check, and its output.

use codex_network_control::message::Fingerprints;
use serde::Serialize;

use crate::args::Check;
use crate::failure::Failure;
use crate::output::{Output, OutputFormat, Tone, counted, padded, printable};

/// One result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    /// The state of the checked thing, as a sentence.
    pub(super) found: String,
    /// The remedy: a command where there is one.
    pub(super) advice: Option<String>,
    /// The fingerprints of what is in force, for programs that compare machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fingerprints: Option<Fingerprints>,
}

/// The state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// Nothing is broken, but it may not be intended; or it could not be checked.
    Note,
    Problem,
}

/// A finding and the check that made it.
#[derive(Debug, Serialize)]
pub(super) struct CheckResult {
    pub(super) check: Check,
    #[serde(flatten)]
    pub(super) finding: Finding,
}

impl Finding {
    pub(super) fn ok(found: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            found: found.into(),
            advice: None,
            fingerprints: None,
        }
    }

    pub(super) fn note(found: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Note,
            ..Self::ok(found)
        }
    }

    /// A problem and its remedy.
    pub(super) fn problem(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Problem,
            ..Self::ok(found)
        }
        .advise(advice)
    }

    /// Something that could not be checked, and why.
    pub(super) fn skipped(why: &str) -> Self {
        Self::note(format!("skipped: {why}"))
    }

    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..self
        }
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Ok => Tone::Good,
            Self::Note => Tone::Doubtful,
            Self::Problem => Tone::Bad,
        }
    }
}

/// Writes all results. If one of them is a problem, the command fails without a further message.
pub(super) fn report(output: &Output, lines: &[CheckResult]) -> Result<(), Failure> {
    if output.format() == OutputFormat::Json {
        output.json(&lines)?;
    } else {
        table(output, lines)?;
    }
    match count(lines, Verdict::Problem) {
        0 => Ok(()),
        _ => Err(Failure::AlreadyReported),
    }
}

fn table(output: &Output, lines: &[CheckResult]) -> std::io::Result<()> {
    let name = |line: &CheckResult| line.check.to_string();
    let width = lines.iter().map(|line| name(line).len()).max().unwrap_or(0);
    let verdicts = Verdict::Problem.word().len();
    for line in lines {
        let finding = &line.finding;
        let verdict = padded(finding.verdict.word(), verdicts);
        let verdict = output.paint(finding.verdict.tone(), &verdict);
        let check = padded(&name(line), width);
        let blanks = padded("", verdicts + width + 4);
        let beginning = format!("{verdict}  {check}  ");
        output.indented(&beginning, &blanks, &one_line(&finding.found))?;
        if let Some(advice) = &finding.advice {
            // On a terminal it begins at the left edge and is not wrapped, so that it can be copied.
            let blanks = if output.wraps() {
                "  "
            } else {
                blanks.as_str()
            };
            output.command(&format!("{blanks}-> "), &one_line(advice))?;
        }
    }
    let problems = match count(lines, Verdict::Problem) {
        0 => output.paint(Tone::Good, "no problems"),
        some => output.paint(Tone::Bad, &counted(some, "problem", "problems")),
    };
    match count(lines, Verdict::Note) {
        0 => output.line(&problems),
        notes => output.line(&format!("{problems}, {}", counted(notes, "note", "notes"))),
    }
}

fn count(lines: &[CheckResult], verdict: Verdict) -> usize {
    let of_it = lines.iter().filter(|line| line.finding.verdict == verdict);
    of_it.count()
}

/// The text in one line.
fn one_line(text: &str) -> String {
    printable(&text.replace('\n', " "))
}
