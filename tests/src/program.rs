//! Runs real clients (curl, git, pip and the like), but in an empty environment, with an empty home
//! directory, and with a deadline.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User, chown};
use tempfile::TempDir;

use crate::wait::poll;

/// npm and pip take many seconds to start on a loaded machine with two cores.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A client about to be run.
pub struct Program {
    command: Command,
    stdin: Vec<u8>,
    deadline: Duration,
    home: TempDir,
}

/// How a client ended, and its output.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a client with these arguments: the short form of [`Program`].
pub fn run(program: &str, args: &[&str]) -> Run {
    Program::new(program).args(args).run()
}

/// A file that `.ci/clients` installs, by its path under `target/clients`.
pub fn installed(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/clients")
        .join(path);
    assert!(
        path.exists(),
        "{} is missing: run .ci/clients",
        path.display()
    );
    path
}

impl Program {
    /// A program by name, looked up in `PATH`, or by path.
    ///
    /// Its environment is empty except for `PATH`, `HOME` (an empty directory that is removed with
    /// the value), `TMPDIR` and a UTF-8 locale: no proxy, no certificate and no configuration of
    /// this machine reaches it.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let mut command = Command::new(program);
        command.env_clear().current_dir(home.path());
        for name in ["PATH", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", home.path()).env("LANG", "C.UTF-8");
        Self {
            command,
            stdin: Vec::new(),
            deadline: TIMEOUT,
            home,
        }
    }

    /// The directory of `HOME`, which is also the default working directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Chooses the working directory.
    #[must_use]
    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it as another user, who gets the directory of `HOME`. Needs root.
    #[must_use]
    pub fn user(mut self, user: &User) -> Self {
        chown(self.home(), Some(user.uid), Some(user.gid)).expect("root gives directories away");
        self.command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        self
    }

    /// Gives it something to read; otherwise its standard input is empty.
    #[must_use]
    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.to_vec();
        self
    }

    /// Chooses how long it may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end. After the deadline it is killed with all its children, and the test
    /// fails with its output so far.
    pub fn run(self) -> Run {
        let (run, bytes) = self.run_for_bytes();
        Run {
            stdout: text(&bytes),
            ..run
        }
    }

    /// Runs it to its end like [`Self::run`], and returns its standard output as bytes; the text of
    /// the output is empty then.
    pub fn run_for_bytes(mut self) -> (Run, Vec<u8>) {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that its children can be ended too.
            .process_group(0);
        let shown = shown(&self.command);
        let mut child = self.command.spawn().unwrap_or_else(|error| {
            panic!("cannot run {shown}: {error}; when it is not installed, run .ci/clients")
        });
        let mut input = child.stdin.take().expect("a piped stdin");
        let stdin = self.stdin;
        // A client may exit without reading; the write then fails, as it should.
        thread::spawn(move || input.write_all(&stdin));
        let stdout = collect(child.stdout.take().expect("a piped stdout"));
        let stderr = collect(child.stderr.take().expect("a piped stderr"));
        let status = ended(&mut child, self.deadline);
        let stdout = stdout.join().expect("a thread that reads");
        let stderr = text(&stderr.join().expect("a thread that reads"));
        let Some(status) = status else {
            panic!(
                "{shown} did not end within {:?}\nstdout: {}\nstderr: {stderr}",
                self.deadline,
                text(&stdout)
            );
        };
        let run = Run {
            command: shown,
            code: status.code(),
            stdout: String::new(),
            stderr: match status.signal() {
                Some(signal) => format!("{stderr}\n(ended by signal {signal})"),
                None => stderr,
            },
        };
        (run, stdout)
    }
}

impl Run {
    /// Fails unless the client succeeded.
    #[track_caller]
    pub fn succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "should have succeeded: {self:#?}");
        self
    }

    /// Fails unless the client ended with an error of its own: visible to a script, and not caused
    /// by a signal.
    #[track_caller]
    pub fn failed(&self) -> &Self {
        assert!(
            self.code.is_some_and(|code| code != 0),
            "should have failed: {self:#?}"
        );
        self
    }

    /// Fails unless the client's output on either stream has this text.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        self.says_one_of(&[text])
    }

    /// Fails unless the client's output on either stream has one of these texts: for clients whose
    /// versions differ in their wording.
    #[track_caller]
    pub fn says_one_of(&self, texts: &[&str]) -> &Self {
        assert!(
            texts
                .iter()
                .any(|text| self.stdout.contains(text) || self.stderr.contains(text)),
            "should have said one of {texts:?}: {self:#?}"
        );
        self
    }
}

/// Waits for the end; `None` if it was killed at the deadline.
fn ended(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let status = poll(deadline, || child.try_wait().expect("our own child"));
    // Even if it ended by itself: its children may hold its pipes open.
    let group = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    // The group may have no member left, which is the usual case.
    let _: nix::Result<()> = killpg(group, Signal::SIGKILL);
    if status.is_none() {
        child.wait().expect("our own child");
    }
    status
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _: io::Result<usize> = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shown(command: &Command) -> String {
    let words: Vec<OsString> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_owned)
        .collect();
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_sees_nothing_of_this_machine_but_the_path() {
        let run = run("env", &[]);
        let mut names: Vec<&str> = run
            .succeeded()
            .stdout
            .lines()
            .filter_map(|line| line.split('=').next())
            .filter(|name| *name != "TMPDIR")
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "LANG", "PATH"]);
    }

    #[test]
    fn a_client_gets_its_input_and_its_failure_is_seen() {
        let run = Program::new("sh")
            .args(["-c", "cat; echo trouble >&2; exit 3"])
            .stdin(b"given")
            .run();
        assert_eq!(run.failed().code, Some(3));
        run.says("given").says("trouble");
    }

    #[test]
    #[should_panic(expected = "run .ci/clients")]
    fn a_missing_client_fails_the_test_and_names_the_remedy() {
        run("a-client-that-is-not-installed", &[]);
    }

    #[test]
    #[should_panic(expected = "did not end within")]
    fn a_client_that_hangs_is_ended_with_its_children() {
        Program::new("sh")
            .args(["-c", "tail -f /dev/null & wait"])
            .deadline(Duration::from_millis(200))
            .run();
    }
}
