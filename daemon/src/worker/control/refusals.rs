//! Disconnected callers are logged once for each user and interval, and counted beyond that. Any
//! user of the machine can call, and must not be able to fill the log.

use std::collections::BTreeMap;
use std::time::Duration;

/// The time that one log line about a user covers.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// Users that are counted separately in an interval.
const MAX_USERS: usize = 256;

/// The refusals of an interval.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// How many followed the logged one.
    further: BTreeMap<u32, u64>,
    /// Refusals of users beyond the bound.
    others: u64,
}

/// Refusals that were not logged one by one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Further {
    /// `None`: several users.
    pub(super) user: Option<u32>,
    pub(super) count: u64,
}

impl Refusals {
    /// Counts a refusal. Returns whether to log it.
    pub(super) fn note(&mut self, user: u32) -> bool {
        if let Some(further) = self.further.get_mut(&user) {
            *further += 1;
            return false;
        }
        if self.further.len() >= MAX_USERS {
            self.others += 1;
            return false;
        }
        self.further.insert(user, 0);
        true
    }

    /// Whether the interval has any.
    pub(super) fn is_empty(&self) -> bool {
        self.further.is_empty()
    }

    /// Ends the interval.
    pub(super) fn drain(&mut self) -> Vec<Further> {
        let further = std::mem::take(&mut self.further).into_iter();
        let others = std::mem::take(&mut self.others);
        further
            .map(|(user, count)| (Some(user), count))
            .chain([(None, others)])
            .filter(|(_, count)| *count > 0)
            .map(|(user, count)| Further { user, count })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k3_a_user_that_is_refused_many_times_is_logged_once_and_counted() {
        let mut refusals = Refusals::default();
        let logged = (0..100_000).filter(|_| refusals.note(7)).count();
        assert_eq!(logged, 1);
        assert!(refusals.note(8));
        let expected = Further {
            user: Some(7),
            count: 99_999,
        };
        assert_eq!(refusals.drain(), [expected]);
        assert!(refusals.is_empty());
        assert!(refusals.note(7), "another interval");
    }

    #[test]
    fn k3_users_beyond_the_bound_are_counted_together() {
        let mut refusals = Refusals::default();
        for user in 0..1000 {
            refusals.note(user);
        }
        let count = 1000 - MAX_USERS as u64;
        assert_eq!(refusals.drain(), [Further { user: None, count }]);
    }
}
