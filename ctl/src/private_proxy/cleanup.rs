//! The process that removes the directory of a private proxy when `proxyctl` and the proxy have ended,
//! even if both were killed. It begins before the directory exists.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;

/// The hidden word of the command line.
pub(super) const ARGUMENT: &str = "__private-cleanup";
/// How long the proxy may take to end after `proxyctl`. Then the directory is removed in any case.
const PROXY_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between checks whether the proxy has ended.
const PROXY_INTERVAL: Duration = Duration::from_millis(20);
/// How long a proxy may take to end of which this process does not know yet: `proxyctl` ended just after it had
/// started it.
const UNKNOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The process. Dropping it lets it remove the directory, and waits for that.
#[derive(Debug)]
pub(super) struct Cleanup(Child);

impl Cleanup {
    /// Starts it for a directory that need not exist yet. It waits for the end of its standard input, whose other
    /// end only `proxyctl` holds.
    pub(super) fn start(directory: &Path) -> io::Result<Self> {
        super::apart(&mut Command::new("/proc/self/exe"))
            .arg(ARGUMENT)
            .arg(directory)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Self)
    }

    /// Lets it wait for the end of the proxy too.
    pub(super) fn wait_for(&mut self, proxy: u32) -> io::Result<()> {
        let stdin = self.0.stdin.as_mut();
        let stdin = stdin.ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(stdin, "{proxy}")
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Waits and removes: `DIRECTORY`.
pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    let [directory] = arguments else {
        return ExitCode::FAILURE;
    };
    // An error ends the wait too.
    let number = io::stdin().lines().map_while(Result::ok).last();
    let start = Instant::now();
    if let Some(proxy) = number.and_then(|number| number.parse().ok()) {
        let lives = || kill(Pid::from_raw(proxy), None).is_ok();
        while lives() && start.elapsed() < PROXY_TIMEOUT {
            thread::sleep(PROXY_INTERVAL);
        }
    } else if Path::new(directory).exists() {
        thread::sleep(UNKNOWN_TIMEOUT);
    }
    match std::fs::remove_dir_all(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
