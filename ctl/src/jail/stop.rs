//! Stops this process as the command was stopped, so that the shell takes the terminal back.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};

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
    let alone: SigSet = [signal].into_iter().collect();
    let _ = raise(signal);
    // A blocked signal waits. It stops the process here.
    if let Ok(mask) = alone.thread_swap_mask(SigmaskHow::SIG_UNBLOCK) {
        let _ = mask.thread_set_mask();
    }
}
