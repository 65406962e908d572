//! File descriptors of this process, which all tests of a run share.
//!
//! A Debian gives a process 1024 of them, with more for the asking or not. A test that opens hundreds of
//! connections reserves them first, so that it and another such test run one after the other where both
//! do not fit.

use std::sync::LazyLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::machine::{self, Need};
use crate::wait::Watched;

/// What the tests that reserve nothing have for themselves.
const SHARE_OF_OTHERS: u64 = 256;

/// How many a test can reserve.
static LIMIT: LazyLock<u64> = LazyLock::new(|| raise().saturating_sub(SHARE_OF_OTHERS));

/// How many are reserved.
static RESERVED: Watched<u64> = Watched::new(0);

/// Descriptors that a test will open; given back when this is dropped.
#[derive(Debug)]
pub struct Descriptors(u64);

/// The most that one test can reserve.
pub fn limit() -> u64 {
    *LIMIT
}

impl Descriptors {
    /// Reserves descriptors of this process; those of a daemon are not among them. Waits until other tests
    /// have given back enough. `None`, and a line that says so, where there will never be that many.
    #[must_use]
    pub fn reserve(count: u64) -> Option<Self> {
        if !machine::has(Need::Descriptors(count)) {
            return None;
        }
        // Without a deadline: tests that hold some end by themselves.
        let taken = |reserved: &mut u64| (*reserved + count <= limit()).then(|| *reserved += count);
        while RESERVED.wait(crate::wait::PATIENCE, taken).is_none() {}
        Some(Self(count))
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        RESERVED.update(|reserved| *reserved -= self.0);
    }
}

/// Raises the soft limit of this process as far as it may, and says what it is now.
fn raise() -> u64 {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every system has this limit");
    // macOS says "unlimited" and does not give that.
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_waits_until_enough_is_given_back() {
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
