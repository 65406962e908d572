//! How many descriptors the worker has open (SPEC O4). The confined worker cannot list `/proc/self/fd`, so it asks
//! `poll(2)` about each number: one that is not open yields `POLLNVAL`.

use nix::libc;

/// Numbers in one question. The kernel gives out the lowest free number, so after this many free ones in a row the rest
/// is taken to be free too.
const STEP: u64 = 8192;

/// How many of the numbers below `limit` are open.
pub(super) fn count(limit: u64) -> u64 {
    let mut open = 0;
    let mut first = 0;
    while first < limit {
        let end = limit.min(first + STEP);
        let used = count_between(first, end);
        if used == 0 {
            break;
        }
        open += used;
        first = end;
    }
    open
}

#[expect(
    unsafe_code,
    reason = "the safe wrappers of `poll` take open descriptors only"
)]
fn count_between(first: u64, end: u64) -> u64 {
    let asked = (first..end).filter_map(|number| libc::c_int::try_from(number).ok());
    let mut asked: Vec<_> = asked
        .map(|fd| libc::pollfd {
            fd,
            events: 0,
            revents: 0,
        })
        .collect();
    let Ok(length) = libc::nfds_t::try_from(asked.len()) else {
        return 0;
    };
    // SAFETY: the array has `length` elements, and the call writes to nothing else. It does not wait, and reads and
    // changes none of the files.
    let answer = unsafe { libc::poll(asked.as_mut_ptr(), length, 0) };
    if answer < 0 {
        return 0;
    }
    let open = asked
        .iter()
        .filter(|asked| asked.revents & libc::POLLNVAL == 0);
    open.count() as u64
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn o4_an_open_descriptor_counts_and_a_closed_one_does_not() {
        let (one, other) = std::os::unix::net::UnixStream::pair().expect("two sockets");
        let number = u64::try_from(one.as_raw_fd()).expect("a number");
        assert_eq!(count_between(number, number + 1), 1);
        // Far above the numbers that other tests of this process use.
        let free = 5_000_000;
        assert_eq!(count_between(free, free + 100), 0);
        assert!(count(1024) >= 2);
        drop(other);
    }
}
