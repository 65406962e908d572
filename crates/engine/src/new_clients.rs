//! Lets new clients run before a thread that serves them waits.
//!
//! After the first answer, the next message of a client on this machine arrives as soon as the client gets a turn
//! on a core. A thread that goes to sleep at once is woken for the first of these messages, and competes for
//! the core with the clients that have not sent theirs yet. A thread that gives its turn away first finds the
//! messages of them all.

use std::cell::Cell;
use std::thread;

thread_local! {
    /// Whether a client of this thread was given something to answer since the last yield.
    static AWAITS_CLIENT: Cell<bool> = const { Cell::new(false) };
}

/// Notes that this thread serves a new client, or has answered a step of a handshake.
pub(crate) fn note() {
    AWAITS_CLIENT.set(true);
}

/// Whether a new client was noted on this thread since the last call.
pub(crate) fn take() -> bool {
    AWAITS_CLIENT.replace(false)
}

/// Gives the turn of this thread to the others of the machine, once, if an engine has accepted a connection or
/// answered a step of a SOCKS5 handshake on this thread since the last call. Otherwise it does nothing.
///
/// The owner of a single-threaded runtime may call it each time the thread is about to wait
/// ([`on_thread_park`](tokio::runtime::Builder::on_thread_park)). New tunnels of many clients on the same machine
/// then have less latency. An engine works without it.
pub fn yield_to_new_clients() {
    if take() {
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_yields_once_for_all_its_new_clients() {
        assert!(!take());
        note();
        note();
        let elsewhere = thread::spawn(take).join();
        assert!(!elsewhere.expect("a thread"));
        yield_to_new_clients();
        assert!(!take());
    }
}
