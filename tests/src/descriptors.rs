//! File descriptors of this process, which all tests of a run share.
//!
//! Debian gives a process 1024 of them, and permits more if asked. A test that opens hundreds of
//! connections reserves them first, so that two such tests run one after the other if both do not
//! fit.

use std::sync::LazyLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::machine::{self, Need};
use crate::wait::Watched;

/// The descriptors left for tests that reserve none.
const SHARE_OF_OTHERS: u64 = 256;

/// How many a test can reserve.
static LIMIT: LazyLock<u64> = LazyLock::new(|| raise().saturating_sub(SHARE_OF_OTHERS));

/// How many are reserved.
static RESERVED: Watched<u64> = Watched::new(0);

/// Descriptors that a test will open; released on drop.
#[derive(Debug)]
pub struct Descriptors(u64);

/// The most that one test can reserve.
pub fn limit() -> u64 {
    *LIMIT
}

impl Descriptors {
    /// Reserves descriptors of this process; those of a daemon do not count. Waits until other
    /// tests have released enough. `None`, and a line about it, if there will never be that
    /// many.
    #[must_use]
    pub fn reserve(count: u64) -> Option<Self> {
        if !machine::has(Need::Descriptors(count)) {
            return None;
        }
        // Without a deadline: the tests that hold descriptors end by themselves.
        let taken = |reserved: &mut u64| (*reserved + count <= limit()).then(|| *reserved += count);
        while RESERVED.wait(crate::wait::TIMEOUT, taken).is_none() {}
        Some(Self(count))
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        RESERVED.update(|reserved| *reserved -= self.0);
    }
}

/// Raises the soft limit of this process to the hard limit, and returns it.
fn raise() -> u64 {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every system has this limit");
    // macOS reports "unlimited" but does not permit that.
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_waits_until_enough_is_released() {
        let all = Descriptors::reserve(limit()).expect("no more than there is");
        assert_eq!(*RESERVED.lock(), limit());
        let next = std::thread::spawn(|| Descriptors::reserve(1));
        drop(all);
        let one = next.join().expect("it goes on");
        assert_eq!(*RESERVED.lock(), 1);
        drop(one);
        assert_eq!(*RESERVED.lock(), 0);
    }
}
