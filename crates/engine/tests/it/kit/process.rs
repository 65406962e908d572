//! Runs a test again in a process of its own.

use std::process::{Command, Output};

/// Set in the process that runs one test alone.
const ALONE: &str = "ENGINE_TEST_ALONE";

/// Whether this process runs one test alone.
pub(crate) fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Runs a test, by its full name, in a process of its own. `launcher` starts the command that
/// follows it; empty, the test program starts directly.
///
/// # Errors
///
/// The launcher's output, when it ends before it has started the test.
pub(crate) fn run_alone(test: &str, launcher: &[&str]) -> Result<(), String> {
    let this = std::env::current_exe().expect("the test program");
    let mut command = match launcher.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this);
            command
        }
        None => Command::new(this),
    };
    let ran = command
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "yes")
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = ran.expect("the command starts");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(
        !stdout.contains("running 0 tests"),
        "there is no test {test}"
    );
    if !stdout.contains("running 1 test") {
        return Err(stderr.into_owned());
    }
    assert!(
        status.success() && stdout.contains("1 passed"),
        "{stdout}{stderr}"
    );
    Ok(())
}
