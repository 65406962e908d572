//! Signals that come while a jail is prepared and its session is opened. They are blocked, since from the start of
//! the command on they are for the command. Until then a thread lets them act on `proxyctl` as on a program that
//! does nothing about them: they end it, or stop it, whatever its other threads wait for.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{self, JoinHandle};

use codex_network_files::Reading;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::stop::stop_too;

/// The signals that end a process that does nothing about them, of those that go on to the command.
const ENDING: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

/// Lets the signals act until it is dropped.
#[derive(Debug)]
pub(super) struct EarlySignals {
    /// Closing it ends the thread.
    end: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl EarlySignals {
    /// Lets these signals act. They are blocked, and stay blocked in every other thread.
    pub(super) fn obey(signals: &SigSet) -> io::Result<Self> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(signals, flags)?;
        let ignored = ignored();
        let (end, ended) = UnixStream::pair()?;
        let thread = thread::Builder::new()
            .name("early-signals".to_owned())
            .spawn(move || {
                let mut goes_on = true;
                while goes_on {
                    goes_on = wait(&signals, &ended);
                    // Those that came before the end act too.
                    while let Ok(Some(signal)) = signals.read_signal() {
                        act(signal.ssi_signo.cast_signed(), ignored);
                    }
                }
            })?;
        Ok(Self {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for EarlySignals {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for a signal. Returns false when the other end of the stream is closed.
fn wait(signals: &SignalFd, ended: &UnixStream) -> bool {
    let mut watched = [
        PollFd::new(ended.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut watched, PollTimeout::NONE) {
        Ok(_) => !watched[0].any().unwrap_or(true),
        Err(error) => error == nix::Error::EINTR,
    }
}

/// Lets a signal act as on a process that does nothing about it. One that the caller ignores, as `nohup` does, has
/// no effect.
fn act(number: i32, ignored: u64) {
    let is_ignored = ignored & (1 << (number - 1)) != 0;
    if is_ignored {
        return;
    }
    if ENDING.iter().any(|signal| *signal as i32 == number) {
        // The kernel ends the jail and a private proxy with this process.
        std::process::exit(128 + number);
    }
    stop_too(number);
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
