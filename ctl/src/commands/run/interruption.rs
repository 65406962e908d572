//! Signals that end or stop `run` before its command starts. While a jail is prepared, this process blocks
//! them: from the start of the command on they are for the command.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::time::Duration;

use codex_network_files::Reading;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::failure::{EndedSession, Failure};
use crate::jail::PreparedJail;

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

/// Waits for a signal that ends `run`. Takes its number from the kernel.
pub(super) async fn interruption() -> Result<Infallible, Failure> {
    let signals = signals().map_err(failed)?;
    loop {
        ended_by(&signals)?;
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Acts on the signals that came while the jail was prepared: stops this process, or fails if one of them
/// ends `run`.
pub(super) fn act_on_pending(prepared: &PreparedJail) -> Result<(), Failure> {
    prepared.stop_if_asked();
    ended_by(&signals().map_err(failed)?)
}

/// Fails if one of these signals has come.
fn ended_by(signals: &SignalFd) -> Result<(), Failure> {
    let Some(signal) = signals
        .read_signal()
        .map_err(|error| failed(error.into()))?
    else {
        return Ok(());
    };
    let code = u8::try_from(128 + signal.ssi_signo).unwrap_or(u8::MAX);
    Err(Failure::Session(EndedSession::silent(code)))
}

fn failed(error: io::Error) -> Failure {
    Failure::NoSession(format!("cannot receive signals: {error}"))
}

/// The signals that end `run`. Those that the caller ignores, as `nohup` does, are left alone.
fn signals() -> io::Result<SignalFd> {
    let ignored = ignored();
    let ending = ENDING.into_iter();
    let ending: SigSet = ending
        .filter(|signal| ignored & (1 << (*signal as i32 - 1)) == 0)
        .collect();
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&ending, flags)?)
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
