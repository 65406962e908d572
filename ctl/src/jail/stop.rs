//! Stops this process as the command was stopped, so that the shell takes the terminal back.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, raise};
use nix::unistd::Pid;

/// Signals that stop a process.
const STOPPING: [Signal; 4] = [
    Signal::SIGSTOP,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// Stops this process with the signal that stopped the command. The SIGCONT that continues it is passed on
/// as other signals are. A traced command stops at every signal (`PTRACE_TRACEME`); the others would end
/// this process.
pub(super) fn stop_too(number: i32) {
    let signal = STOPPING.into_iter().find(|signal| *signal as i32 == number);
    let Some(signal) = signal else { return };
    let _ = raise(signal);
    let_stop(signal);
}

/// The same for a command that has a terminal of its own. A signal of that terminal reached the command's group alone,
/// so this one goes to the whole group of this process, as one of the launcher's terminal would.
pub(super) fn stop_group_too(number: i32) {
    if number == Signal::SIGTSTP as i32 {
        let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
        let_stop(Signal::SIGTSTP);
    } else {
        stop_too(number);
    }
}

/// Lets a signal that was sent stop this process.
fn let_stop(signal: Signal) {
    let alone: SigSet = [signal].into_iter().collect();
    // A blocked signal waits. It stops the process here.
    if let Ok(mask) = alone.thread_swap_mask(SigmaskHow::SIG_UNBLOCK) {
        let _ = mask.thread_set_mask();
    }
}
