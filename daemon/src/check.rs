//! `codex-network-proxy check`: every problem of a configuration or of requirements, and a summary,
//! what changes, or which recorded decisions would be others.

mod against;
mod report;
mod standard_input;
mod subject;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use codex_network_control::ReloadProblem;

use self::against::Replay;
use self::report::Verdict;
use self::subject::{CheckResult, Subject};
use crate::args::{Args, CheckArgs};
use crate::changes::Changes;

/// Which problems make `check` fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strictness {
    Errors,
    ErrorsAndWarnings,
}

/// Judges what the command line names. A summary, or JSON, goes to standard output, problems for
/// people to standard error.
pub(crate) fn run(
    args: &Args,
    options: &CheckArgs,
    environment: impl Fn(&str) -> Option<OsString>,
) -> ExitCode {
    if let [old, new] = options.diff.as_slice() {
        return compare(args, options, [old, new], environment);
    }
    let subject = match Subject::of(args, options, options.file.as_deref(), environment) {
        Ok(subject) => subject,
        Err(problem) => return finish(options, &[problem], None, None),
    };
    let CheckResult {
        loaded,
        mut problems,
    } = subject.judge();
    let replay = options.against.as_deref().zip(loaded.as_ref());
    let replay = replay.map(|(records, loaded)| against::replay(&loaded.settings, records));
    let replay = replay.and_then(|replay| replay.map_err(|problem| problems.push(problem)).ok());
    let code = finish(options, &problems, None, replay.as_ref());
    if let Some(replay) = replay {
        if code == ExitCode::SUCCESS && !options.json {
            let _ = replay.write(&mut io::stdout());
        }
        return code;
    }
    if let Some(loaded) = loaded
        && code == ExitCode::SUCCESS
        && !options.json
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

/// Judges two configurations, and says what the second one changes. Only errors of the first one
/// count: the second one is under review.
fn compare(
    args: &Args,
    options: &CheckArgs,
    [old, new]: [&PathBuf; 2],
    environment: impl Fn(&str) -> Option<OsString>,
) -> ExitCode {
    let judge = |path: &PathBuf| match Subject::of(args, options, Some(path), &environment) {
        Ok(subject) => subject.judge(),
        Err(problem) => CheckResult {
            loaded: None,
            problems: vec![problem],
        },
    };
    let (old, new) = (judge(old), judge(new));
    let mut problems = old.problems;
    problems.retain(|problem| problem.severity == "error");
    for problem in new.problems {
        // One in the requirements of both.
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    let changes = old.loaded.zip(new.loaded);
    let changes = changes.map(|(old, new)| Changes::between(&old.settings, &new.settings));
    let code = finish(options, &problems, changes.as_ref(), None);
    if let Some(changes) = changes
        && code == ExitCode::SUCCESS
        && !options.json
    {
        let _ = changes.write(&mut io::stdout());
    }
    code
}

/// Reports the problems, and in JSON the changes or the replay.
fn finish(
    options: &CheckArgs,
    problems: &[ReloadProblem],
    changes: Option<&Changes>,
    replay: Option<&Replay>,
) -> ExitCode {
    let strictness = if options.strict {
        Strictness::ErrorsAndWarnings
    } else {
        Strictness::Errors
    };
    let verdict = Verdict::of(problems, strictness);
    // The reader of our output may have closed it early; the exit code still has the result.
    let _ = if options.json {
        report::json(&mut io::stdout(), problems, (changes, replay), verdict)
    } else {
        report::text(&mut io::stderr(), problems, verdict)
    };
    match verdict {
        Verdict::Good => ExitCode::SUCCESS,
        Verdict::Bad | Verdict::TooManyWarnings(_) => ExitCode::FAILURE,
    }
}
