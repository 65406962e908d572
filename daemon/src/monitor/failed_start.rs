//! The delay after a failed start under systemd (SPEC L16).
//!
//! systemd starts the service again at once while clients wait at its sockets, and gives sockets up
//! that start a service too often. So the failing process itself waits before it ends, longer each
//! time. The number of failed starts in a row is in the service's runtime directory.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use codex_network_files::{Reading, Trust};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::notify;

/// The file that holds the number of failed starts in a row.
const NAME: &str = "failed-starts";
/// The longest delay. systemd waits 90 seconds for a start.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// The interval at which the wait checks for a request to stop.
const STEP: Duration = Duration::from_millis(50);

/// Waits, if this is a service of systemd. A request to stop ends the wait.
pub(crate) fn wait(why: &str) {
    let Some(file) = file() else {
        return;
    };
    let before = count(&file);
    // Without the number the delay does not grow.
    let _ = fs::write(&file, before.saturating_add(1).to_string());
    let delay = delay(before);
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        if signal_hook::flag::register(signal, Arc::clone(&stopped)).is_err() {
            return;
        }
    }
    notify::status(&format!(
        "cannot start: {}; ending in {}s",
        why.lines().next().unwrap_or_default(),
        delay.as_secs()
    ));
    let end = Instant::now() + delay;
    while Instant::now() < end && !stopped.load(Ordering::Relaxed) {
        std::thread::sleep(STEP);
    }
}

/// A start has succeeded.
pub(super) fn forget() {
    if let Some(file) = file() {
        // After a start that did not fail the file does not exist.
        let _ = fs::remove_file(file);
    }
}

/// In the first of systemd's runtime directories (`RUNTIME_DIRECTORY`, `systemd.exec(5)`).
fn file() -> Option<PathBuf> {
    let directories = std::env::var_os("RUNTIME_DIRECTORY").filter(|_| notify::is_heard())?;
    let first = std::env::split_paths(&directories).next()?;
    Some(first.join(NAME))
}

fn count(file: &std::path::Path) -> u32 {
    let reading = Reading::up_to(16)
        .without_links()
        .kept_by(Trust::of_process());
    let text = reading.read_text(file).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

fn delay(before: u32) -> Duration {
    let seconds = 1_u64.checked_shl(before).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l16_the_delay_grows_to_a_bound() {
        let delays = [0, 1, 2, 5, 6, 7, 63, 64, u32::MAX].map(|before| delay(before).as_secs());
        assert_eq!(delays, [1, 2, 4, 32, 60, 60, 60, 60, 60]);
    }
}
