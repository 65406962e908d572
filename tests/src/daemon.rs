//! The daemon as a child process, started on a configuration of one test.
//!
//! The program is the one that ships ([`shipped`]). The harness requires that it logs JSON lines on
//! stderr: one with the message `listening` and the fields `listener` and `address` per listener, and
//! one with the message `ready` when all of them accept.

mod config;
mod log;
mod requests;
mod start_script;

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub use self::config::Config;
use self::log::Log;
pub use self::log::LogLine;
pub use self::start_script::StartScript;
use crate::program::Program;
use crate::tls::TestCa;
use crate::wait::{TIMEOUT, poll};
use crate::{process, shipped};

/// How long the daemon may take to end by itself after a test.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// A running daemon. Dropping it ends it; when the test has failed, its log is
/// printed.
pub struct Daemon {
    child: Child,
    stderr: Log,
    stdout: Log,
    config_path: PathBuf,
    directory: TempDir,
    /// Kept for its name server.
    _config: Option<Config>,
}

/// A daemon that has ended, and all its output.
#[derive(Debug)]
pub struct Exit {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Every line of stderr.
    pub logs: Vec<LogLine>,
    /// Every line of stdout.
    pub stdout: Vec<LogLine>,
}

/// A daemon about to be started.
pub struct Launch {
    /// The shipped proxy if it is `None`.
    program: Option<PathBuf>,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    text: String,
    config: Option<Config>,
    directory: TempDir,
    cores: Cores,
}

/// The cores that a daemon may use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cores {
    All,
    One,
}

impl Daemon {
    /// Starts the shipped proxy on a configuration and waits until it is ready.
    pub fn start(config: &Config) -> Self {
        Self::launch().config(config).start()
    }

    /// Starts it so that it trusts only this authority.
    pub fn start_trusting(config: &Config, ca: &TestCa) -> Self {
        Self::launch().config(config).trusting(ca).start()
    }

    /// Prepares a start with further options.
    pub fn launch() -> Launch {
        Launch {
            program: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            text: String::new(),
            config: None,
            directory: open_directory(),
            cores: Cores::All,
        }
    }

    /// Where the HTTP proxy listens.
    pub fn http_addr(&self) -> SocketAddr {
        self.listener("http")
    }

    /// Where the SOCKS5 proxy listens.
    pub fn socks_addr(&self) -> SocketAddr {
        self.listener("socks5")
    }

    /// Where the admin API listens.
    pub fn admin_addr(&self) -> SocketAddr {
        self.listener("admin")
    }

    /// The path of the control socket. Waits until it is logged.
    pub fn control_socket(&self) -> PathBuf {
        let line = self.wait_for_log(|line| line.listener() == Some("control"));
        let address = line.field("address").and_then(Value::as_str);
        PathBuf::from(address.expect("an address"))
    }

    /// The last logged address of this listener: a reload may move it.
    fn listener(&self, name: &str) -> SocketAddr {
        let logs = self.logs();
        let mut lines = logs.iter().rev();
        let line = lines.find(|line| line.listener() == Some(name));
        line.and_then(|line| line.field("address")?.as_str()?.parse().ok())
            .unwrap_or_else(|| panic!("the daemon has not logged where {name} listens"))
    }

    /// The configuration file.
    pub fn config_path(&self) -> &Path {
        &self.config_path
    }

    /// A directory of this daemon alone, which holds its configuration.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process ids of its children: the worker, and a loader while it runs.
    pub fn children(&self) -> Vec<u32> {
        process::children(self.pid())
    }

    /// The process id of its worker. Waits until there is one, and no other child.
    pub fn worker(&self) -> u32 {
        let only_child = || match self.children()[..] {
            [child] => Some(child),
            _ => None,
        };
        poll(TIMEOUT, only_child).expect("one worker and no other child")
    }

    /// Every line of stderr so far.
    pub fn logs(&self) -> Vec<LogLine> {
        self.stderr.lines()
    }

    /// Every line of stdout so far.
    pub fn stdout(&self) -> Vec<LogLine> {
        self.stdout.lines()
    }

    /// Waits for a line of stderr, past or future.
    pub fn wait_for_log(&self, look: impl FnMut(&LogLine) -> bool) -> LogLine {
        self.stderr
            .wait_for(TIMEOUT, look)
            .expect("the daemon logs the line that the test waits for")
    }

    /// Waits for a line of stderr, past or future, whose message has this part.
    pub fn wait_for_message(&self, part: &str) -> LogLine {
        self.wait_for_log(|line| line.message_contains(part))
    }

    /// Waits until stderr has this many lines that satisfy `look`, and returns all of them.
    #[track_caller]
    pub fn wait_for_logs(&self, count: usize, look: impl Fn(&LogLine) -> bool) -> Vec<LogLine> {
        let find = || {
            let mut lines = self.logs();
            lines.retain(&look);
            lines
        };
        poll(TIMEOUT, || {
            Some(find()).filter(|lines| lines.len() >= count)
        })
        .unwrap_or_else(|| {
            let lines = find();
            panic!("{} lines of {count} are logged: {lines:#?}", lines.len())
        })
    }

    /// Waits until stderr has this many lines with this message, and returns all of them.
    #[track_caller]
    pub fn wait_for_messages(&self, count: usize, message: &str) -> Vec<LogLine> {
        self.wait_for_logs(count, |line| line.message() == Some(message))
    }

    /// Replaces the configuration file by a pipe, and returns its path: a reload then waits until the
    /// pipe is opened for writing and closed.
    pub fn replace_config_by_pipe(&self) -> &Path {
        let path = self.config_path();
        std::fs::remove_file(path).expect("the test's own file can be removed");
        Program::new("mkfifo").arg(path).run().succeeded();
        path
    }

    /// Replaces the configuration file; nothing reads it before a reload.
    pub fn rewrite_config(&self, config: &Config) {
        self.rewrite_config_text(&config.write(self.directory.path()));
    }

    /// Replaces the configuration file by any text.
    pub fn rewrite_config_text(&self, text: &str) {
        std::fs::write(&self.config_path, text).expect("the test's own file can be written");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("our own child takes signals");
    }

    /// Waits until the daemon has ended.
    pub fn wait_exit(mut self) -> Exit {
        let status = poll(TIMEOUT, || self.child.try_wait().expect("our own child"))
            .unwrap_or_else(|| panic!("the daemon does not end; its log:\n{}", self.stderr.text()));
        self.exit(status)
    }

    fn exit(&self, status: ExitStatus) -> Exit {
        self.stderr.wait_for_end(TIMEOUT);
        self.stdout.wait_for_end(TIMEOUT);
        Exit {
            code: status.code(),
            signal: status.signal(),
            logs: self.stderr.lines(),
            stdout: self.stdout.lines(),
        }
    }
}

impl Exit {
    /// Everything on stderr, as a person reads it.
    pub fn text(&self) -> String {
        let raw = |line: &LogLine| line.raw.clone();
        self.logs.iter().map(raw).collect::<Vec<_>>().join("\n")
    }
}

/// A directory that the daemon's worker can read too. The worker is another user if root runs the
/// tests.
fn open_directory() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).expect("the directory is ours");
    directory
}

impl Launch {
    /// Runs this program instead of the shipped proxy.
    #[must_use]
    pub fn program(mut self, program: impl AsRef<Path>) -> Self {
        self.program = Some(program.as_ref().to_owned());
        self
    }

    /// Uses this configuration.
    #[must_use]
    pub fn config(mut self, config: &Config) -> Self {
        self.text = config.write(self.directory.path());
        self.config = Some(config.clone());
        self
    }

    /// Uses any text as the configuration file. The text must name a
    /// resolver on loopback, so that no lookup leaves this machine.
    #[must_use]
    pub fn config_text(mut self, text: &str) -> Self {
        text.clone_into(&mut self.text);
        self
    }

    /// Adds an argument, after `--config FILE`.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Sets an environment variable; otherwise there are only `PATH`, and `HOME`
    /// and `CODEX_HOME`, which are the daemon's own directory.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Makes it trust only this authority.
    #[must_use]
    pub fn trusting(self, ca: &TestCa) -> Self {
        self.env("SSL_CERT_FILE", ca.file())
            .env("SSL_CERT_DIR", "/nonexistent")
    }

    /// Lets it use one core only, on Linux. Connections to origins are kept for each core, so only then do
    /// all clients share them.
    #[must_use]
    pub fn on_one_core(mut self) -> Self {
        self.cores = Cores::One;
        self
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(self) -> Daemon {
        match self.try_start() {
            Ok(daemon) => daemon,
            Err(exit) => panic!("the daemon ended ({:?}):\n{}", exit.code, exit.text()),
        }
    }

    /// Starts the daemon and waits until it is ready or has given up.
    ///
    /// # Errors
    /// It ended before it was ready.
    pub fn try_start(self) -> Result<Daemon, Exit> {
        let daemon = self.spawn();
        let ready = |line: &LogLine| line.message() == Some("ready");
        if daemon.stderr.wait_for(TIMEOUT, ready).is_some() {
            return Ok(daemon);
        }
        Err(daemon.wait_exit())
    }

    /// Starts the daemon without waiting.
    pub fn spawn(self) -> Daemon {
        crate::descriptors::limit();
        let config_path = self.directory.path().join("config.toml");
        std::fs::write(&config_path, &self.text).expect("a new directory takes a file");
        let shipped = || PathBuf::from(shipped::proxy());
        let program = self.program.unwrap_or_else(shipped);
        let mut command = Command::new(&program);
        command
            .arg("--config")
            .arg(&config_path)
            // Its own socket: the default path belongs to one proxy of a user.
            .args(["-c", &control_socket(self.directory.path())])
            .args(["-c", &state_directory(self.directory.path())])
            .args(&self.arguments)
            .env_clear()
            .env("HOME", self.directory.path())
            .env("CODEX_HOME", self.directory.path())
            .envs(self.environment)
            .current_dir(self.directory.path());
        // The second is for measuring coverage.
        for name in ["PATH", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let spawned = match self.cores {
            Cores::All => command.spawn(),
            Cores::One => spawn_on_one_core(&mut command),
        };
        let mut child =
            spawned.unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
        Daemon {
            stderr: Log::read(child.stderr.take().expect("a piped stderr")),
            stdout: Log::read(child.stdout.take().expect("a piped stdout")),
            child,
            config_path,
            directory: self.directory,
            _config: self.config,
        }
    }
}

/// A child gets the cores of the thread that starts it.
#[cfg(target_os = "linux")]
fn spawn_on_one_core(command: &mut Command) -> std::io::Result<Child> {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};

    let this = Pid::from_raw(0);
    let all = sched_getaffinity(this)?;
    let mut one = CpuSet::new();
    let first = (0..CpuSet::count()).find(|core| all.is_set(*core).unwrap_or(false));
    one.set(first.expect("this thread runs on a core"))?;
    sched_setaffinity(this, &one)?;
    let child = command.spawn();
    sched_setaffinity(this, &all)?;
    child
}

#[cfg(not(target_os = "linux"))]
fn spawn_on_one_core(command: &mut Command) -> std::io::Result<Child> {
    command.spawn()
}

/// `daemon.control.socket="DIRECTORY/control.sock"`.
fn control_socket(directory: &Path) -> String {
    let path = Value::from(directory.join("control.sock").to_string_lossy());
    format!("daemon.control.socket={path}")
}

/// `daemon.state_dir="DIRECTORY/state"`.
fn state_directory(directory: &Path) -> String {
    let path = Value::from(directory.join("state").to_string_lossy());
    format!("daemon.state_dir={path}")
}

impl Drop for Daemon {
    #[expect(
        clippy::print_stderr,
        reason = "the test runner shows it with the failed test, where it is looked for"
    )]
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.signal(Signal::SIGTERM);
            if poll(END_TIMEOUT, || self.child.try_wait().ok().flatten()).is_none() {
                self.child.kill().expect("our own child can be killed");
                self.child.wait().expect("our own child");
            }
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.stderr.text());
        }
    }
}

#[cfg(test)]
mod tests;
