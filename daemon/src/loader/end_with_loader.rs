//! Ends a program together with this process, however this process ends (SPEC B13). The monitor kills a loader that
//! takes too long.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};

/// Has the kernel kill the program when the thread that starts it ends. The programs that it starts itself are not
/// killed then.
#[expect(
    unsafe_code,
    reason = "code between fork and exec has no safe interface"
)]
pub(super) fn end_with_loader(command: &mut Command) {
    let loader = getpid();
    let prepare = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // It may have ended before.
        if getppid() == loader {
            Ok(())
        } else {
            Err(io::Error::from(Errno::ESRCH))
        }
    };
    // SAFETY: the closure makes system calls alone. It takes no lock and allocates nothing, so the state that other
    // threads of the parent left does not matter.
    unsafe { command.pre_exec(prepare) };
}
