//! The process that removes the directory of a private proxy when `proxyctl` and the proxy have ended,
//! even if both were killed. It begins before the directory exists.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The hidden word of the command line.
pub(super) const ARGUMENT: &str = "__private-cleanup";
/// How long the proxy may take to end after `proxyctl`. Then the directory is removed in any case.
const PROXY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a proxy may take to end of which this process does not know yet: `proxyctl` ended just after it had
/// started it.
const UNKNOWN_TIMEOUT: Duration = Duration::from_millis(300);

/// How long the removal is tried again: a worker may end just after its proxy.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval between tries of the removal.
const REMOVAL_INTERVAL: Duration = Duration::from_millis(20);

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
    match proxy() {
        Some(proxy) => wait_for_end(&proxy),
        None if Path::new(directory).exists() => thread::sleep(UNKNOWN_TIMEOUT),
        None => {}
    }
    let start = Instant::now();
    loop {
        match fs::remove_dir_all(directory) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return ExitCode::SUCCESS,
            Err(_) if start.elapsed() < REMOVAL_TIMEOUT => thread::sleep(REMOVAL_INTERVAL),
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

/// Waits for the end of `proxyctl`, which is the end of standard input, and gives the proxy that it named. The
/// descriptor is opened while `proxyctl` lives, so the number is still the proxy's.
fn proxy() -> Option<OwnedFd> {
    let mut proxy = None;
    // An error ends the wait too.
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let pid = line.parse().ok().and_then(Pid::from_raw);
        proxy = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    }
    proxy
}

/// Waits for the end of a process, whether or not its parent has asked for its exit status.
fn wait_for_end(process: &OwnedFd) {
    let deadline = Instant::now() + PROXY_TIMEOUT;
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        // A signal interrupts the wait.
        if poll(&mut fds, left) != Err(Errno::EINTR) {
            return;
        }
    }
}
