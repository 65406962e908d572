//! The system calls of a stage that no crate offers as safe functions.

use std::io;

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, Pid};

/// Forks. Returns the child's number in the parent, and `None` in the child.
#[expect(
    unsafe_code,
    reason = "only a process of one thread may go on after a fork"
)]
pub(super) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: a stage has one thread, so that no lock is held by a thread that the child lacks.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Closes every descriptor from this number on.
#[expect(unsafe_code, reason = "the descriptors' owners must be gone")]
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: a stage calls this before it opens anything, so that no value of this program owns one of
    // these descriptors. The call touches no memory.
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives SIGCHLD its default action. A caller that ignores it would make the kernel reap the children.
#[expect(unsafe_code, reason = "a signal handler may be unsound")]
pub(super) fn keep_children() -> io::Result<()> {
    // SAFETY: the default action runs no code of this program.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    Ok(())
}
