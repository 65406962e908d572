//! Signals that end `run` before its command starts. While a jail is prepared, this process blocks them: from
//! the start of the command on they are for the command.

use std::io;
use std::path::Path;
use std::time::Duration;

use codex_network_files::Reading;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals. Each ends a process that does nothing about it.
const ENDING: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

/// Interval between looks for a signal.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Waits for one of these signals. Those that the caller ignores, as `nohup` does, are left alone. Takes its
/// number from the kernel.
pub(super) async fn interruption() -> io::Result<i32> {
    let ignored = ignored();
    let ending = ENDING.into_iter();
    let ending: SigSet = ending
        .filter(|signal| ignored & (1 << (*signal as i32 - 1)) == 0)
        .collect();
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&ending, flags)?;
    loop {
        if let Some(signal) = signals.read_signal()? {
            return Ok(signal.ssi_signo.cast_signed());
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// The signals that this process ignores, one bit for each.
fn ignored() -> u64 {
    let status = Reading::up_to(64 << 10).read_text(Path::new("/proc/self/status"));
    let status = status.unwrap_or_default();
    let mut lines = status.lines();
    let set = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0)
}
