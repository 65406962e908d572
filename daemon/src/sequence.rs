//! The time from which refusals are numbered, kept across starts of the service (SPEC R1).
//!
//! Numbers are times in milliseconds, multiplied (see [`PER_MILLISECOND`]), so they rise without being
//! stored. The system's clock may be set back between two starts, though. So each load writes down the
//! time that it used, and how long the machine had been up. A later load in the same boot adds what has
//! passed since by a clock that nobody sets. After a reboot it begins behind the time in the file.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use codex_network_files::Reading;
use nix::fcntl::OFlag;

use crate::ca::publish::own_directory;

/// Numbers that a worker may use per millisecond of its life. Programs that read JSON numbers as
/// floating point read them exactly below 2^53, which the product reaches in the year 2248.
pub(crate) const PER_MILLISECOND: u64 = 1024;
/// The largest time whose numbers are whole in floating point. A file that says more is not used.
const MAX_TIME: u64 = (1 << 53) / PER_MILLISECOND;

/// The file in the state directory: a time, the boot's id, and the time since the boot.
const NAME: &str = "sequence";
/// The file that is being written.
const NEW: &str = ".sequence-new";
/// Longest file.
const LONGEST: u64 = 256;

/// A boot of the machine, and for how long it has lasted, in milliseconds. The machine's sleep counts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Boot {
    id: String,
    lasted: u64,
}

/// A time from which refusals are numbered, in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    time: u64,
    boot: Option<Boot>,
}

/// The time from which a service that starts now numbers refusals, which is written down. When that
/// fails, there is a sentence that says why; then the time is at least that of the clock.
pub(crate) fn next(state: Option<&Path>, now: SystemTime) -> (u64, Option<String>) {
    let clock = Mark {
        time: milliseconds(now.duration_since(UNIX_EPOCH).unwrap_or_default()),
        boot: boot(),
    };
    let Some(state) = state else {
        return (clock.time, None);
    };
    let next = after(read(&state.join(NAME)).as_ref(), clock);
    let written = own_directory(state).and_then(|()| {
        let written = write(state, &next);
        written.map_err(|error| format!("cannot write {}: {error}", state.join(NAME).display()))
    });
    let warning = written.err().map(|why| {
        format!("the sequence of blocked entries goes back if the clock is set back while the service is stopped: {why}")
    });
    (next.time, warning)
}

/// The mark behind a kept one, and not before the clock.
fn after(kept: Option<&Mark>, clock: Mark) -> Mark {
    let Some(kept) = kept else {
        return clock;
    };
    let passed = match (&kept.boot, &clock.boot) {
        (Some(then), Some(now)) if then.id == now.id => now.lasted.saturating_sub(then.lasted),
        _ => 0,
    };
    Mark {
        time: clock.time.max(kept.time + passed + 1),
        boot: clock.boot,
    }
}

fn read(path: &Path) -> Option<Mark> {
    let file = Reading::up_to(LONGEST).without_links().open(path).ok()?;
    parse(std::str::from_utf8(&file.read().ok()?).ok()?)
}

fn parse(text: &str) -> Option<Mark> {
    let mut words = text.split_ascii_whitespace();
    let time = words.next()?.parse().ok().filter(|time| *time < MAX_TIME)?;
    let boot = match (words.next(), words.next()) {
        (Some(id), Some(lasted)) => Some(Boot {
            id: id.to_owned(),
            lasted: lasted.parse().ok().filter(|lasted| *lasted < MAX_TIME)?,
        }),
        _ => None,
    };
    Some(Mark { time, boot })
}

fn write(state: &Path, mark: &Mark) -> io::Result<()> {
    let boot = mark.boot.as_ref();
    let boot = boot.map(|boot| format!(" {} {}", boot.id, boot.lasted));
    let text = format!("{}{}\n", mark.time, boot.unwrap_or_default());
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

/// The present boot, where the system tells.
#[cfg(target_os = "linux")]
fn boot() -> Option<Boot> {
    use nix::time::{ClockId, clock_gettime};

    /// Linux's own id of this boot, a UUID (`random(4)`).
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    let id = Reading::up_to(LONGEST).open(Path::new(BOOT_ID)).ok()?;
    let id = String::from_utf8(id.read().ok()?.to_vec()).ok()?;
    let id = id.trim();
    let lasted = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let is_word = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic());
    is_word.then(|| Boot {
        id: id.to_owned(),
        lasted: milliseconds(Duration::from(lasted)),
    })
}

/// Other systems tell no id that this program can read without unsafe code.
#[cfg(not(target_os = "linux"))]
fn boot() -> Option<Boot> {
    None
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(time: u64, boot: Option<(&str, u64)>) -> Mark {
        Mark {
            time,
            boot: boot.map(|(id, lasted)| Boot {
                id: id.to_owned(),
                lasted,
            }),
        }
    }

    #[test]
    fn r1_a_clock_that_is_set_back_between_two_starts_lowers_no_number() {
        for (kept, clock, wanted) in [
            (None, mark(1000, Some(("a", 50))), 1000),
            // The clock goes as it should.
            (
                Some(mark(1000, Some(("a", 50)))),
                mark(2000, Some(("a", 1050))),
                2001,
            ),
            // It was set forth, or back.
            (
                Some(mark(1000, Some(("a", 50)))),
                mark(9000, Some(("a", 1050))),
                9000,
            ),
            (
                Some(mark(1000, Some(("a", 50)))),
                mark(3, Some(("a", 1050))),
                2001,
            ),
            // After a reboot the time that has passed is not known.
            (
                Some(mark(1000, Some(("a", 9999)))),
                mark(3, Some(("b", 10))),
                1001,
            ),
            (Some(mark(1000, None)), mark(3, None), 1001),
            (Some(mark(1000, Some(("a", 50)))), mark(2000, None), 2000),
        ] {
            let next = after(kept.as_ref(), clock.clone());
            assert_eq!(next.time, wanted, "{kept:?} {clock:?}");
            assert_eq!(next.boot, clock.boot);
        }
    }

    #[test]
    fn r1_each_start_writes_down_what_the_next_one_begins_behind() {
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
            "-1",
            "99999999999999999999999",
            "18446744073709551615 a 1",
            "1000 a x",
            "1000 a 18446744073709551615",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse("1000\n"), Some(mark(1000, None)));
        assert_eq!(parse("1000 a 5\n"), Some(mark(1000, Some(("a", 5)))));
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
