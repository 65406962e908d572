//! `codex-network-proxy check`: every problem of a configuration or of requirements, and a summary.

mod report;
mod standard_input;
mod subject;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use codex_network_control::ReloadProblem;

use self::report::Verdict;
use self::subject::{Judged, Subject};
use crate::args::{Args, CheckArgs};

/// What makes `check` fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strictness {
    Errors,
    ErrorsAndWarnings,
}

/// Judges what the command line names. A summary, or JSON, goes to standard output, problems for
/// people to standard error.
pub(crate) fn run(
    args: &Args,
    wanted: &CheckArgs,
    environment: impl Fn(&str) -> Option<OsString>,
) -> ExitCode {
    let subject = match Subject::of(args, wanted, wanted.file.as_deref(), environment) {
        Ok(subject) => subject,
        Err(problem) => return finish(wanted, &[problem]),
    };
    let Judged { loaded, problems } = subject.judge();
    let code = finish(wanted, &problems);
    if let Some(loaded) = loaded
        && code == ExitCode::SUCCESS
        && !wanted.json
    {
        let unnamed = subject.unnamed_text();
        let _ = if subject.is_requirements() {
            report::summary_of_requirements(&mut io::stdout(), &loaded, unnamed)
        } else {
            report::summary(&mut io::stdout(), &loaded, unnamed)
        };
    }
    code
}

/// Reports the problems.
fn finish(wanted: &CheckArgs, problems: &[ReloadProblem]) -> ExitCode {
    let strictness = if wanted.strict {
        Strictness::ErrorsAndWarnings
    } else {
        Strictness::Errors
    };
    let verdict = Verdict::of(problems, strictness);
    // The reader of our output may have closed it early; the exit code still tells the result.
    let _ = if wanted.json {
        report::json(&mut io::stdout(), problems, verdict)
    } else {
        report::text(&mut io::stderr(), problems, verdict)
    };
    match verdict {
        Verdict::Good => ExitCode::SUCCESS,
        Verdict::Bad | Verdict::TooManyWarnings(_) => ExitCode::FAILURE,
    }
}
