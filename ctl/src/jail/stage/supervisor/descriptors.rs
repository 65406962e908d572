//! Takes duplicates of the descriptors of other threads.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use codex_network_files::Reading;
use nix::errno::Errno;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// `PIDFD_THREAD` (Linux 6.9).
const PIDFD_THREAD: u32 = 0x80;
/// Threads whose handles stay open.
const MAX_CALLERS: usize = 64;

/// Handles of the threads that called last. A new handle costs more than the rest of a call's
/// preparation.
#[derive(Default)]
pub(super) struct Callers(VecDeque<(Pid, OwnedFd)>);

impl Callers {
    /// A duplicate of a descriptor of `thread`, which is a caller if its call still waits after this.
    /// If it does not, the handle must be forgotten.
    pub(super) fn take(&mut self, thread: Pid, descriptor: i32) -> Result<OwnedFd, Errno> {
        match self.try_take(thread, descriptor) {
            // The handles may hold them all.
            Err(Errno::EMFILE) if !self.0.is_empty() => {
                self.0.clear();
                self.try_take(thread, descriptor)
            }
            taken => taken,
        }
    }

    fn try_take(&mut self, thread: Pid, descriptor: i32) -> Result<OwnedFd, Errno> {
        if let Some((_, handle)) = self.0.iter().find(|(known, _)| *known == thread) {
            match duplicate(handle, descriptor) {
                // The thread of this handle has ended, and another one has its number.
                Err(Errno::ESRCH) => self.forget(thread),
                taken => return taken,
            }
        }
        let (handle, whose) = open(thread)?;
        let taken = duplicate(&handle, descriptor);
        if whose == Whose::Thread {
            if self.0.len() >= MAX_CALLERS {
                self.0.pop_front();
            }
            self.0.push_back((thread, handle));
        }
        taken
    }

    pub(super) fn forget(&mut self, thread: Pid) {
        self.0.retain(|(known, _)| *known != thread);
    }
}

/// The thread that a handle is of.
#[derive(PartialEq, Eq)]
enum Whose {
    Thread,
    /// The first thread of its process. It may live longer than the thread does.
    First,
}

/// A duplicate of another thread's descriptor.
pub(super) fn take(thread: Pid, descriptor: i32) -> Result<OwnedFd, Errno> {
    duplicate(&open(thread)?.0, descriptor)
}

fn duplicate(handle: &OwnedFd, descriptor: i32) -> Result<OwnedFd, Errno> {
    if descriptor < 0 {
        return Err(Errno::EBADF);
    }
    pidfd_getfd(handle, descriptor, PidfdGetfdFlags::empty()).map_err(errno)
}

fn open(thread: Pid) -> Result<(OwnedFd, Whose), Errno> {
    /// Whether the kernel opens threads that are not the first of their process.
    static THREADS: AtomicBool = AtomicBool::new(true);
    let pid = rustix::process::Pid::from_raw(thread.as_raw()).ok_or(Errno::ESRCH)?;
    let opened = |flags| pidfd_open(pid, PidfdFlags::from_bits_retain(flags)).map_err(errno);
    if THREADS.load(Ordering::Relaxed) {
        match opened(PIDFD_THREAD) {
            Err(Errno::EINVAL) => THREADS.store(false, Ordering::Relaxed),
            handle => return Ok((handle?, Whose::Thread)),
        }
    }
    if let Ok(handle) = opened(0) {
        return Ok((handle, Whose::Thread));
    }
    let [first] = status(thread, ["Tgid:"]);
    let first = first.and_then(|first| rustix::process::Pid::from_raw(first.parse().ok()?));
    let handle = pidfd_open(first.ok_or(Errno::ESRCH)?, PidfdFlags::empty()).map_err(errno)?;
    Ok((handle, Whose::First))
}

/// Values in the status of a thread, by their names. None when the thread has ended.
pub(super) fn status<const COUNT: usize>(
    thread: Pid,
    names: [&str; COUNT],
) -> [Option<String>; COUNT] {
    let path = format!("/proc/{thread}/status");
    let status = Reading::up_to(64 << 10).read_text(Path::new(&path));
    let status = status.ok();
    names.map(|name| {
        let mut lines = status.as_deref()?.lines();
        let value = lines.find_map(|line| line.strip_prefix(name))?;
        Some(value.trim().to_owned())
    })
}

pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
