//! A proxy for one session alone (SPEC J3): `run` starts it where no service answers, and takes it down
//! with the session.
//!
//! The proxy gets its control socket by the protocol of systemd (`LISTEN_FDS`) and state in a new directory
//! that only its user may enter, and the configuration of the user. It listens nowhere else: its clients are
//! those of the session.
//!
//! - `stage`: the process that becomes the proxy. The kernel ends it with `proxyctl`.
//! - `environment`: the variables that it gets.
//! - `cleanup`: the process that removes the directory, however `proxyctl` ends.

mod cleanup;
mod environment;
mod find_program;
mod stage;

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, BufRead as _, BufReader, PipeReader};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use self::cleanup::Cleanup;
use self::stage::{ProxyProcess, ProxyStart};
use crate::jail::forked;
use crate::private_instances::{self, PREFIX, SOCKET};

/// How long the proxy may take to end before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval between checks whether a process has ended.
const END_INTERVAL: Duration = Duration::from_millis(2);
/// How many lines of the proxy's log are kept, to explain its end.
const MAX_LINES: usize = 60;
/// How often another name is tried for the directory.
const MAX_NAMES: u32 = 16;

/// The user's options for the proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrivateOptions {
    /// The file of `--config`.
    pub(crate) config: Option<PathBuf>,
    /// The values of `-c`.
    pub(crate) overrides: Vec<String>,
    /// Whether it asks about hosts that are merely not allowed.
    pub(crate) asks: bool,
}

/// A private proxy that was started. Dropping it ends it and removes its directory.
#[derive(Debug)]
pub(crate) struct PrivateProxy {
    process: ProxyProcess,
    directory: PathBuf,
    /// Taken by [`PrivateProxy::follow`].
    stderr: Option<PipeReader>,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    /// Removes the directory when it is dropped, after the proxy has ended.
    _cleanup: Cleanup,
}

/// Runs a stage of this module if the command line names one.
pub(crate) fn stage(arguments: &[OsString]) -> Option<ExitCode> {
    let (first, rest) = arguments.get(1..)?.split_first()?;
    match first.to_str()? {
        cleanup::ARGUMENT => Some(cleanup::run(rest)),
        _ => None,
    }
}

impl PrivateProxy {
    /// Starts a proxy, and does not wait until it is ready: clients of its control socket wait in the
    /// kernel's queue. Call this on the main thread, before other threads exist: the kernel ends the proxy
    /// with the thread that started it, and a thread would take signals that are for the command.
    ///
    /// # Errors
    ///
    /// A sentence: there is no program, or no directory for it.
    pub(crate) fn start(options: &PrivateOptions) -> Result<Self, String> {
        let program = find_program::find()?;
        let (directory, cleanup) = make_directory()?;
        Self::start_in(&directory, cleanup, &program, options)
    }

    fn start_in(
        directory: &Path,
        mut cleanup: Cleanup,
        program: &Path,
        options: &PrivateOptions,
    ) -> Result<Self, String> {
        let cannot = |error: io::Error| format!("cannot start a private proxy: {error}");
        let socket = UnixListener::bind(directory.join(SOCKET)).map_err(cannot)?;
        let (stderr, log) = io::pipe().map_err(cannot)?;
        let mut environment: Vec<_> = environment::variables(options).collect();
        // Its default state directory, where it keeps the last good configuration.
        environment.push(("XDG_STATE_HOME".into(), directory.into()));
        let start = ProxyStart {
            program,
            arguments: arguments(directory, options),
            environment,
            control: socket.into(),
            log,
        };
        let process = start.start().map_err(cannot)?;
        let known = cleanup.wait_for(process.id()).map_err(cannot);
        let proxy = Self {
            stderr: Some(stderr),
            process,
            directory: directory.to_owned(),
            lines: Arc::default(),
            reader: None,
            _cleanup: cleanup,
        };
        known.map(|()| proxy)
    }

    /// Reads the log of the proxy from now on, on a thread of its own.
    pub(crate) fn follow(&mut self) {
        let Some(stderr) = self.stderr.take() else {
            return;
        };
        let lines = Arc::clone(&self.lines);
        self.reader = Some(thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() < MAX_LINES {
                    lines.push(line);
                }
            }
        }));
    }

    /// The control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    /// Removes the path of the control socket. Connections stay, and nothing connects any more.
    ///
    /// # Errors
    ///
    /// A sentence: the path stays.
    pub(crate) fn close_socket(&self) -> Result<(), String> {
        let path = self.socket();
        std::fs::remove_file(&path)
            .map_err(|error| format!("cannot remove {}: {error}", path.display()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The words of a proxy that has ended by itself, or was unable to start.
    pub(crate) fn last_words(&mut self) -> String {
        let start = std::time::Instant::now();
        while !self.process.has_ended() && start.elapsed() < END_TIMEOUT {
            thread::sleep(END_INTERVAL);
        }
        self.follow();
        if self.process.has_ended()
            && let Some(reader) = self.reader.take()
        {
            // It ends with the pipe. A panic of it loses the words, and nothing else.
            let _ = reader.join();
        }
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.join("\n")
    }
}

impl Drop for PrivateProxy {
    fn drop(&mut self) {
        // Its sessions have ended, so there is nothing to drain.
        self.process.end();
        let start = std::time::Instant::now();
        while !self.process.has_ended() {
            if start.elapsed() > END_TIMEOUT {
                self.process.kill();
                break;
            }
            thread::sleep(END_INTERVAL);
        }
    }
}

/// The arguments of the proxy. Those of the user come last and win.
fn arguments(directory: &Path, options: &PrivateOptions) -> Vec<OsString> {
    let quoted = |path: PathBuf| format!("{:?}", path.display().to_string());
    let own = [
        format!("daemon.state_dir={}", quoted(directory.join("state"))),
        format!("daemon.control.socket={}", quoted(directory.join(SOCKET))),
        "daemon.admin.enabled=false".to_owned(),
        // The log only explains a start that failed.
        "daemon.log=\"error\"".to_owned(),
        "daemon.log_format=\"text\"".to_owned(),
    ];
    let mut arguments = Vec::new();
    if let Some(config) = &options.config {
        arguments.extend([OsString::from("--config"), config.into()]);
    }
    // A request waits for a person, who reads first.
    let asking = [
        "daemon.approvals.enabled=true",
        "daemon.approvals.hold=\"1m\"",
    ];
    let asking = asking.iter().filter(|_| options.asks);
    let own = own
        .iter()
        .cloned()
        .chain(asking.map(|value| (*value).to_owned()));
    for value in own.chain(options.overrides.iter().cloned()) {
        arguments.extend([OsString::from("-c"), value.into()]);
    }
    arguments
}

/// Makes a directory that only this user may enter, below the user's runtime directory, else below the
/// directory for temporary files. The process that removes it begins before: a signal may end this one at any time. The
/// name has the number of this process, so what has it already was left by an earlier one.
fn make_directory() -> Result<(PathBuf, Cleanup), String> {
    let parent = private_instances::parent();
    let mut error = io::Error::from(io::ErrorKind::AlreadyExists);
    for attempt in 0..MAX_NAMES {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mark = now.map_or(0, |now| now.subsec_nanos());
        let name = format!("{PREFIX}{}-{mark:x}{attempt:x}", std::process::id());
        let directory = parent.join(name);
        let cleanup = Cleanup::start(&directory)
            .map_err(|error| format!("cannot start a private proxy: {error}"))?;
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok((directory, cleanup)),
            Err(failed) if failed.kind() == io::ErrorKind::AlreadyExists => {}
            Err(failed) => {
                error = failed;
                break;
            }
        }
    }
    Err(format!(
        "cannot make a directory for a private proxy in {}: {error}; set TMPDIR to another directory",
        parent.display()
    ))
}

/// Puts a process into a process group of its own, so that no signal of the terminal reaches it.
fn apart(command: &mut Command) -> &mut Command {
    forked(command).current_dir("/").process_group(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn j3_the_users_options_come_after_those_of_run() {
        let options = PrivateOptions {
            config: Some("/policy.toml".into()),
            overrides: vec!["daemon.log=\"debug\"".to_owned()],
            asks: true,
        };
        let arguments = arguments(Path::new("/run/d"), &options);
        let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
        assert_eq!(words[..2], ["--config", "/policy.toml"]);
        assert!(words.contains(&"daemon.state_dir=\"/run/d/state\""));
        assert!(words.contains(&"daemon.approvals.enabled=true"));
        assert_eq!(words.last(), Some(&"daemon.log=\"debug\""));
    }

    #[test]
    fn j3_only_the_user_may_enter_the_directory() {
        let (directory, _cleanup) = make_directory().expect("a directory");
        let mode = std::fs::metadata(&directory).expect("it exists").mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::remove_dir(&directory).expect("it is empty");
    }
}
