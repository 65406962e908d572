//! Runs the system's own tools within a time limit.

use std::io::Read as _;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::system_tool;

/// Time limit of one tool. It queries a local service and prints the answer.
const TOOL_TIMEOUT: Duration = Duration::from_secs(3);

/// A tool's standard output, and whether it succeeded; or why there is no output.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<(String, Success), String> {
    let mut child = system_tool::command(program)
        .args(arguments)
        // The output is parsed, not shown.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    let Some(mut stdout) = child.stdout.take() else {
        return Err(format!("{program} has no output"));
    };
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        let mut output = Vec::new();
        let read = stdout.read_to_end(&mut output);
        // Sending fails after the time limit, when the receiver has been dropped.
        let _ = sender.send(read.map(|_| output));
    });
    let output = ended.recv_timeout(TOOL_TIMEOUT);
    if output.is_err() {
        // This fails if the tool has ended just now, which is harmless.
        let _ = child.kill();
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for {program}: {error}"))?;
    match output {
        Ok(Ok(output)) => {
            let success = if status.success() {
                Success::Yes
            } else {
                Success::No
            };
            Ok((String::from_utf8_lossy(&output).into_owned(), success))
        }
        Ok(Err(error)) => Err(format!("cannot read the output of {program}: {error}")),
        Err(_) => Err(format!("{program} does not answer")),
    }
}

/// Whether a tool succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Success {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_a_tool_that_hangs_or_is_missing_is_an_error() {
        assert_eq!(
            run("sh", &["-c", "echo hello; exit 3"]),
            Ok(("hello\n".to_owned(), Success::No))
        );
        let hanging = run("sh", &["-c", "exec tail -f /dev/null"]);
        assert_eq!(hanging, Err("sh does not answer".to_owned()));
        let missing = run("a-tool-that-does-not-exist", &[]).expect_err("it is missing");
        assert!(missing.starts_with("cannot run a-tool"), "{missing}");
    }
}
