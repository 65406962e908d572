//! The threads that serve the doors: one for each core, each with a runtime of its own.
//!
//! A connection stays on one thread, so nothing is passed between threads while it is served.
//! The worker's first thread serves the control socket and the admin API, and carries out the monitor's
//! orders. A long reload therefore delays no client. One more thread accepts for sessions, whose openers can make
//! it block, and serves nothing else.

use std::{io, thread};

use codex_network_engine::yield_to_new_clients;
use tokio::runtime::{Builder, Handle};

/// Starts the threads. They run until the process ends.
///
/// # Errors
///
/// Returns the system's error if a runtime or a thread cannot be made.
pub(super) fn start() -> io::Result<Vec<Handle>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let names = (0..cores).map(|number| format!("doors-{number}"));
    names.map(|name| start_one(&name)).collect()
}

/// Starts one thread with a runtime. It runs until the process ends.
///
/// # Errors
///
/// The same as [`start`].
pub(super) fn start_one(name: &str) -> io::Result<Handle> {
    // The clients on this machine get the core to send their next messages, which then wake the thread together.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .on_thread_park(yield_to_new_clients)
        .build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}
