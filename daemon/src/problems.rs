//! The problems of a configuration, on their way from the loader to the callers of a reload.
//!
//! There are two versions. The full one includes lines of the files. It is for callers of the
//! control socket, who are authenticated, and for the user who starts the proxy. The other one, the
//! outline, has no content of the files. It is for the admin API, which every user of the machine
//! can call (SPEC A1). The monitor passes both on and parses neither.

use codex_network_config::{Diagnostic, Diagnostics, Severity};
use codex_network_control::ReloadProblem;
use serde::{Deserialize, Serialize};

use crate::privsep::message::Problems;

/// The outline of problems that cannot be outlined one by one.
const UNLISTED: &str = "error: there are more problems than fit here";

/// Why a reload changed nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct ReloadError {
    /// The problems as text for people, on several lines.
    pub(crate) text: String,
    /// The problems one by one, with file, line and column.
    pub(crate) problems: Vec<ReloadProblem>,
    /// The text for people who may not read the files, on several lines.
    pub(crate) outline: String,
    /// The changes beside the only one that a guarded reload may have (SPEC C14). Empty for every other cause.
    pub(crate) other_changes: Vec<String>,
}

/// One problem, as it passes the monitor.
#[derive(Serialize, Deserialize)]
struct Carried {
    problem: ReloadProblem,
    outline: String,
}

/// Diagnostics for people, and for programs on the control socket.
pub(crate) fn diagnosed(found: &Diagnostics) -> Problems {
    let more = unlisted(found).map(|problem| {
        let outline = problem.text.clone();
        Carried { problem, outline }
    });
    let listed = found.iter().map(|found| Carried {
        problem: problem(found),
        outline: found.without_content(),
    });
    let carried: Vec<Carried> = listed.chain(more).collect();
    Problems {
        text: found.to_string(),
        detail: serde_json::to_string(&carried).unwrap_or_default(),
    }
}

/// Each diagnostic, then the number of errors that are not listed.
pub(crate) fn each(found: &Diagnostics) -> Vec<ReloadProblem> {
    let more = unlisted(found).map(|more| ReloadProblem {
        text: format!("and {}", more.message),
        ..more
    });
    found.iter().map(problem).chain(more).collect()
}

fn unlisted(found: &Diagnostics) -> Option<ReloadProblem> {
    let listed = found
        .iter()
        .filter(|found| found.severity == Severity::Error)
        .count();
    match found.error_count() - listed {
        0 => None,
        1 => Some(ReloadProblem::placeless("1 more error")),
        more => Some(ReloadProblem::placeless(&format!("{more} more errors"))),
    }
}

/// A problem that is in no file, and its outline for users who may not read the files.
pub(crate) fn withheld(message: &str, outline: &str) -> Problems {
    let problem = ReloadProblem::placeless(message);
    let text = problem.text.clone();
    let outline = format!("error: {outline}");
    Problems {
        text,
        detail: serde_json::to_string(&[Carried { problem, outline }]).unwrap_or_default(),
    }
}

/// A diagnostic with its text for people.
pub(crate) fn problem(diagnostic: &Diagnostic) -> ReloadProblem {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    ReloadProblem {
        severity: severity.to_owned(),
        file: diagnostic.source.to_string(),
        line: diagnostic.line,
        column: diagnostic.column,
        message: diagnostic.message.clone(),
        text: diagnostic.to_string(),
    }
}

impl ReloadError {
    /// One error that is in no file and has no content of a file.
    pub(crate) fn placeless(message: &str) -> Self {
        let problem = ReloadProblem::placeless(message);
        Self {
            text: problem.text.clone(),
            outline: problem.text.clone(),
            problems: vec![problem],
            other_changes: Vec::new(),
        }
    }

    /// A guarded reload would have had other changes too.
    pub(crate) fn other_changes(changes: Vec<String>) -> Self {
        Self {
            other_changes: changes,
            ..Self::placeless(
                "the configuration has other changes than the one that the reload is for",
            )
        }
    }

    /// Diagnostics as one error.
    pub(crate) fn of(found: &Diagnostics) -> Self {
        Self {
            outline: found.without_content(),
            ..Self::placeless(&found.one_line())
        }
    }
}

impl From<Problems> for ReloadError {
    fn from(problems: Problems) -> Self {
        let message = problems
            .text
            .strip_prefix("error: ")
            .unwrap_or(&problems.text);
        // Only a problem without a file has no detail.
        if problems.detail.is_empty() {
            return Self::placeless(message);
        }
        match serde_json::from_str::<Vec<Carried>>(&problems.detail) {
            Ok(carried) if !carried.is_empty() => {
                let outlines: Vec<&str> = carried.iter().map(|one| &*one.outline).collect();
                Self {
                    outline: outlines.join("\n"),
                    problems: carried.into_iter().map(|one| one.problem).collect(),
                    text: problems.text,
                    other_changes: Vec::new(),
                }
            }
            // The detail was too long and was cut.
            _ => Self {
                outline: UNLISTED.to_owned(),
                ..Self::placeless(message)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use codex_network_config::{Sources, load};

    use super::*;

    fn broken() -> Diagnostics {
        let sources = Sources::none().with_text("c.toml", "[network]\nhunter2 = 1\n");
        load(&sources).expect_err("an unknown key")
    }

    #[test]
    fn a1_the_outline_crosses_the_monitor_beside_the_whole() {
        let error = ReloadError::from(diagnosed(&broken()));
        assert!(error.text.contains("2 | hunter2 = 1"), "{}", error.text);
        assert!(error.problems[0].text.contains("hunter2"));
        assert_eq!(
            error.outline,
            "error: c.toml:2:1: unknown key `…` in [network]"
        );
        assert_eq!(ReloadError::of(&broken()).outline, error.outline);
        let error = ReloadError::from(withheld("log = \"hunter2\" is wrong", "log is wrong"));
        assert!(error.problems[0].message.contains("hunter2"));
        assert_eq!(error.outline, "error: log is wrong");
    }

    #[test]
    fn a1_detail_that_is_cut_off_makes_no_outline_of_the_whole() {
        let mut problems = diagnosed(&broken());
        problems.detail.pop();
        let error = ReloadError::from(problems);
        assert_eq!(error.outline, UNLISTED);
        assert!(error.text.contains("hunter2"));
        let placeless = Problems {
            text: "error: 127.0.0.1:1 is in use".to_owned(),
            detail: String::new(),
        };
        let error = ReloadError::from(placeless);
        assert_eq!(error.outline, "error: 127.0.0.1:1 is in use");
    }
}
