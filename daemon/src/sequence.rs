//! The time from which refusals are numbered, kept across starts of the service (SPEC R1).
//!
//! Numbers are times in milliseconds, multiplied (see [`PER_MILLISECOND`]), so they rise without being
//! stored. The system's clock may be set back between two starts, though. So each load records the
//! time that it used and the uptime of the machine. The next load adds at least the time that has
//! passed since then by the uptime clock, which cannot be set.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use codex_network_files::{Reading, Trust};
use nix::fcntl::OFlag;

use crate::ca::publish::own_directory;

/// Numbers that a worker may use per millisecond of its life. Programs that read JSON numbers as
/// floating point read them exactly below 2^53, which the product reaches in the year 2248.
pub(crate) const PER_MILLISECOND: u64 = 1024;
/// The largest time whose numbers are whole in floating point. A file that says more is not used.
const MAX_TIME: u64 = (1 << 53) / PER_MILLISECOND;

/// The file in the state directory: a time, and the time since the boot.
const NAME: &str = "sequence";
/// The file that is being written.
const NEW: &str = ".sequence-new";
/// Largest file, in bytes.
const MAX_BYTES: u64 = 256;

/// When a load took place, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// The time from which refusals are numbered, since 1970.
    time: u64,
    /// How long the machine had been up, sleep included; 0 if the system does not tell.
    uptime: u64,
}

/// Returns the time from which a service that starts now numbers refusals, and records it. If it
/// cannot be recorded, a sentence says why, and the time is at least that of the clock.
pub(crate) fn next(state: Option<&Path>, now: SystemTime) -> (u64, Option<String>) {
    let clock = Mark {
        time: milliseconds(now.duration_since(UNIX_EPOCH).unwrap_or_default()),
        uptime: uptime(),
    };
    let Some(state) = state else {
        return (clock.time, None);
    };
    let next = after(read(&state.join(NAME)), clock);
    let written = own_directory(state).and_then(|()| {
        let written = write(state, next);
        written.map_err(|error| format!("cannot write {}: {error}", state.join(NAME).display()))
    });
    let warning = written.err().map(|why| {
        format!("the sequence of blocked entries goes back if the clock is set back while the service is stopped: {why}")
    });
    (next.time, warning)
}

/// The mark behind a kept one, and not before the clock.
fn after(kept: Option<Mark>, clock: Mark) -> Mark {
    let Some(kept) = kept else {
        return clock;
    };
    // In another boot at least its own uptime has passed.
    let passed = clock
        .uptime
        .checked_sub(kept.uptime)
        .unwrap_or(clock.uptime);
    Mark {
        time: clock.time.max(kept.time + passed + 1),
        ..clock
    }
}

fn read(path: &Path) -> Option<Mark> {
    let file = Reading::up_to(MAX_BYTES)
        .without_links()
        .kept_by(Trust::of_process())
        .open(path)
        .ok()?;
    parse(std::str::from_utf8(&file.read().ok()?).ok()?)
}

fn parse(text: &str) -> Option<Mark> {
    let mut words = text.split_ascii_whitespace();
    let mut number = || {
        words
            .next()?
            .parse()
            .ok()
            .filter(|number| *number < MAX_TIME)
    };
    Some(Mark {
        time: number()?,
        uptime: number()?,
    })
}

fn write(state: &Path, mark: Mark) -> io::Result<()> {
    let text = format!("{} {}\n", mark.time, mark.uptime);
    let new = state.join(NEW);
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&new)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, state.join(NAME))
}

/// How long the machine has been up, by a clock that goes on while it sleeps.
fn uptime() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    #[cfg(target_os = "linux")]
    const SINCE_BOOT: ClockId = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    const SINCE_BOOT: ClockId = ClockId::CLOCK_MONOTONIC;
    clock_gettime(SINCE_BOOT).map_or(0, |time| milliseconds(Duration::from(time)))
}

/// A duration in milliseconds, at most the largest number.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(time: u64, uptime: u64) -> Mark {
        Mark { time, uptime }
    }

    #[test]
    fn r1_a_clock_that_is_set_back_between_two_starts_lowers_no_number() {
        let kept = Some(mark(1000, 50));
        for (kept, clock, expected) in [
            (None, mark(1000, 50), 1000),
            // The clock goes as it should.
            (kept, mark(2000, 1050), 2001),
            // It was set forth, or back.
            (kept, mark(9000, 1050), 9000),
            (kept, mark(3, 1050), 2001),
            // After a reboot only its own uptime is known to have passed.
            (Some(mark(1000, 9999)), mark(3, 10), 1011),
            // A system that does not tell its uptime.
            (Some(mark(1000, 0)), mark(3, 0), 1001),
            (kept, mark(2000, 0), 2000),
        ] {
            let next = after(kept, clock);
            assert_eq!(next.time, expected, "{kept:?} {clock:?}");
            assert_eq!(next.uptime, clock.uptime);
        }
    }

    #[test]
    fn r1_each_start_stores_the_number_after_which_the_next_one_begins() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("state");
        let now = SystemTime::now();
        let (first, warning) = next(Some(&state), now);
        assert_eq!(warning, None);
        // The clock is set back by a day while the service is stopped.
        let back = now - Duration::from_secs(24 * 60 * 60);
        let (second, _) = next(Some(&state), back);
        assert!(second > first, "{first} {second}");
        let (third, _) = next(Some(&state), back);
        assert!(third > second, "{second} {third}");
        assert!(!state.join(NEW).exists());
    }

    #[test]
    fn r1_a_file_of_any_content_is_harmless() {
        for text in [
            "",
            "\n",
            "x",
            "-1 0",
            "1000",
            "1000 x",
            "99999999999999999999999 1",
            "18446744073709551615 1",
            "1000 18446744073709551615",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse("1000 5\n"), Some(mark(1000, 5)));
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join(NAME), "\0\u{ff}").expect("a file");
        let (time, warning) = next(Some(directory.path()), SystemTime::now());
        assert!(time > 0 && warning.is_none());
    }

    #[test]
    fn r1_without_a_place_the_clock_counts() {
        let then = UNIX_EPOCH + Duration::from_secs(5);
        assert_eq!(next(None, then), (5000, None));
        let (time, warning) = next(Some(Path::new("/proc/none")), then);
        assert_eq!(time, 5000);
        assert!(warning.is_some_and(|warning| warning.contains("/proc/none")));
    }
}
