//! The process that removes the directory of a private proxy when `proxyctl` and the proxy have ended,
//! even if both were killed.

use std::ffi::OsString;
use std::io::{self, Read as _};
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

/// Starts it. It waits for the end of its standard input, whose other end only `proxyctl` holds.
pub(super) fn start(directory: &Path, proxy: u32) -> io::Result<Child> {
    super::apart(&mut Command::new("/proc/self/exe"))
        .arg(ARGUMENT)
        .arg(proxy.to_string())
        .arg(directory)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Waits and removes: `PROXY DIRECTORY`.
pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    let [proxy, directory] = arguments else {
        return ExitCode::FAILURE;
    };
    // Nothing is sent. An error ends the wait too.
    let _ = io::stdin().read(&mut [0]);
    let start = Instant::now();
    let proxy = proxy.to_str().and_then(|pid| pid.parse().ok());
    let lives = |pid: i32| kill(Pid::from_raw(pid), None).is_ok();
    while proxy.is_some_and(lives) && start.elapsed() < PROXY_TIMEOUT {
        thread::sleep(PROXY_INTERVAL);
    }
    match std::fs::remove_dir_all(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
