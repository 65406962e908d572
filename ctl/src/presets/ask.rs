//! Runs a tool of the user within a limit of time and output, and returns its output.
//!
//! The tool runs in the root directory unless the caller names another, so that no file of the working
//! directory decides: a program that ran there before may have written it.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Time limit of one tool. npm takes a second on a loaded machine.
const TOOL_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest output that is read.
const MAX_OUTPUT: u64 = 4 << 20;

/// A question to a tool.
pub(super) struct Question<'a> {
    pub(super) program: &'a str,
    pub(super) arguments: &'a [&'a str],
    pub(super) directory: &'a Path,
}

impl Question<'_> {
    /// The tool's standard output.
    ///
    /// # Errors
    ///
    /// A sentence: the tool is missing, fails, does not end in time, or prints too much.
    pub(super) fn ask(&self) -> Result<String, String> {
        self.ask_within(TOOL_TIMEOUT)
    }

    fn ask_within(&self, timeout: Duration) -> Result<String, String> {
        let program = self.program;
        let mut child = Command::new(program)
            .args(self.arguments)
            .current_dir(self.directory)
            // The output is parsed, not shown.
            .env("LC_ALL", "C")
            .env("NO_COLOR", "1")
            // pip breaks lines at this width.
            .env("COLUMNS", "4000")
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => format!("{program} is not installed"),
                _ => format!("cannot run {program}: {error}"),
            })?;
        let (sender, ended) = mpsc::channel();
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(format!("{program} has no output"));
        };
        thread::spawn(move || {
            let mut output = Vec::new();
            let read = stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output);
            // Sending fails after the time limit, when the receiver has been dropped.
            let _ = sender.send(read.map(|_| output));
        });
        let complaint = thread::spawn(move || {
            let mut output = Vec::new();
            // Only a hint, so a part of it is enough.
            let _ = stderr.take(MAX_OUTPUT).read_to_end(&mut output);
            output
        });
        let output = ended.recv_timeout(timeout);
        let is_too_long = matches!(&output, Ok(Ok(output)) if output.len() as u64 > MAX_OUTPUT);
        if output.is_err() || is_too_long {
            // This fails if the tool has ended just now, which is harmless.
            let _ = child.kill();
        }
        let status = child
            .wait()
            .map_err(|error| format!("cannot wait for {program}: {error}"))?;
        match output {
            Err(_) => Err(format!(
                "{program} did not answer within {} seconds",
                timeout.as_secs()
            )),
            Ok(_) if is_too_long => Err(format!("the answer of {program} is too long")),
            Ok(Err(error)) => Err(format!("cannot read the output of {program}: {error}")),
            Ok(Ok(_)) if !status.success() => Err(format!(
                "{} failed: {}",
                self.shown(),
                first_line(complaint.join().unwrap_or_default().as_slice())
            )),
            Ok(Ok(output)) => Ok(String::from_utf8_lossy(&output).into_owned()),
        }
    }

    /// The command line, for people.
    pub(super) fn shown(&self) -> String {
        let words = [&[self.program], self.arguments].concat();
        words.join(" ")
    }
}

/// The first line that has a text.
fn first_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("it said nothing").to_owned()
}

/// Whether a file exists, for tools that read their configuration from one.
pub(super) fn is_file(path: impl AsRef<OsStr>) -> bool {
    Path::new(path.as_ref()).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<String, String> {
        let question = Question {
            program: "sh",
            arguments: &["-c", script],
            directory: Path::new("/"),
        };
        question.ask_within(Duration::from_secs(2))
    }

    #[test]
    fn j16_a_tool_that_fails_hangs_floods_or_is_missing_is_an_error_in_words() {
        assert_eq!(shell("pwd"), Ok("/\n".to_owned()));
        let failed = shell("echo; echo 'no such key' >&2; exit 1").expect_err("it fails");
        assert!(failed.ends_with("failed: no such key"), "{failed}");
        let hanging = shell("exec tail -f /dev/null").expect_err("it hangs");
        assert_eq!(hanging, "sh did not answer within 2 seconds");
        let flood = shell("exec tail -c 5000000 /dev/zero").expect_err("it floods");
        assert_eq!(flood, "the answer of sh is too long");
        let missing = Question {
            program: "a-tool-that-does-not-exist",
            arguments: &[],
            directory: Path::new("/"),
        };
        let missing = missing.ask().expect_err("it is missing");
        assert_eq!(missing, "a-tool-that-does-not-exist is not installed");
    }
}
