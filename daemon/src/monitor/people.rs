//! The hosts that people may allow, and for which the worker requested certificates (SPEC M4).
//!
//! The monitor does not see whether a person allowed a host, so it bounds their number and logs each. It
//! makes no certificate and judges no name. The worker names the user, so the share of a user keeps sound workers'
//! users apart; only the bound for all holds against a worker that an attacker controls.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// The most such hosts within [`PERIOD`]: as many as there are grants.
const MAX_HOSTS: usize = 1024;
/// The most of them that one user had, as with questions (SPEC Q7).
const MAX_HOSTS_OF_USER: usize = MAX_HOSTS / 2;
/// How long a host counts, from its admission on.
const PERIOD: Duration = Duration::from_secs(3600);
/// The most log lines about refusals within [`PERIOD`]: an untrusted worker could name any user.
const MAX_REFUSALS_LOGGED: usize = 32;

/// The user of the client, if it is known.
type User = Option<u32>;

/// The hosts of the last hour.
#[derive(Debug, Default)]
pub(super) struct PeoplesHosts {
    /// The user that each of them counts for.
    users: HashMap<String, User>,
    /// Their admissions, the oldest first.
    admissions: VecDeque<(Instant, String)>,
    /// The users for which a refusal was logged, the oldest first.
    refusals: VecDeque<(Instant, User)>,
}

impl PeoplesHosts {
    /// Whether there may be a certificate for a host that a client of this user requests. A new host is logged.
    pub(super) fn admit(&mut self, name: &str, user: User, now: Instant) -> bool {
        self.forget(now);
        if self.users.contains_key(name) {
            return true;
        }
        let of_user = self.users.values().filter(|of| **of == user).count();
        if self.users.len() >= MAX_HOSTS || of_user >= MAX_HOSTS_OF_USER {
            self.log_refusal(name, user, now);
            return false;
        }
        tracing::info!(
            host = name,
            uid = user,
            "the worker requested a certificate of a host that no list has: an approval, `run --allow` or `run --learn` \
             allows it"
        );
        self.users.insert(name.to_owned(), user);
        self.admissions.push_back((now, name.to_owned()));
        true
    }

    /// Forgets what is older than the period.
    fn forget(&mut self, now: Instant) {
        let is_over = |at: Instant| now.saturating_duration_since(at) >= PERIOD;
        let count = self.admissions.partition_point(|(at, _)| is_over(*at));
        for (_, name) in self.admissions.drain(..count) {
            self.users.remove(&name);
        }
        let count = self.refusals.partition_point(|(at, _)| is_over(*at));
        self.refusals.drain(..count);
    }

    fn log_refusal(&mut self, name: &str, user: User, now: Instant) {
        let is_logged = self.refusals.iter().any(|(_, of)| *of == user);
        if is_logged || self.refusals.len() >= MAX_REFUSALS_LOGGED {
            return;
        }
        self.refusals.push_back((now, user));
        tracing::warn!(
            host = name,
            uid = user,
            hosts = self.users.len(),
            "the worker requested certificates of too many hosts that no list has; refused; further ones of this user \
             are refused without logging for an hour"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scene in which user 1 has its whole share.
    fn with_a_greedy_user(start: Instant) -> PeoplesHosts {
        let mut hosts = PeoplesHosts::default();
        for number in 0..MAX_HOSTS_OF_USER {
            assert!(hosts.admit(&format!("n{number}.test"), Some(1), start));
        }
        hosts
    }

    #[test]
    fn m4_one_user_with_its_share_stops_no_other_user() {
        let start = Instant::now();
        let mut hosts = with_a_greedy_user(start);
        assert!(!hosts.admit("more.test", Some(1), start));
        assert!(hosts.admit("n7.test", Some(1), start), "one that it has");
        assert!(hosts.admit("more.test", Some(2), start));
        assert!(hosts.admit("unknown.test", None, start));
        // It counts for the other user.
        assert!(hosts.admit("more.test", Some(1), start));
    }

    #[test]
    fn m4_all_users_together_have_a_bound() {
        let start = Instant::now();
        let mut hosts = with_a_greedy_user(start);
        let rest = u32::try_from(MAX_HOSTS - MAX_HOSTS_OF_USER).expect("few");
        for user in 2..2 + rest {
            assert!(hosts.admit(&format!("of{user}.test"), Some(user), start));
        }
        assert!(!hosts.admit("more.test", Some(9999), start));
        assert!(!hosts.admit("more.test", None, start));
    }

    #[test]
    fn m4_each_host_counts_for_an_hour_from_its_admission_on() {
        let start = Instant::now();
        let half = PERIOD / 2;
        let mut hosts = PeoplesHosts::default();
        let late = MAX_HOSTS_OF_USER / 2;
        for number in late..MAX_HOSTS_OF_USER {
            assert!(hosts.admit(&format!("early{number}.test"), Some(1), start));
        }
        for number in 0..late {
            assert!(hosts.admit(&format!("late{number}.test"), Some(1), start + half));
        }
        let before = start + PERIOD.saturating_sub(Duration::from_millis(1));
        assert!(!hosts.admit("more.test", Some(1), before));
        // Only the first half is over.
        for number in 0..late {
            assert!(hosts.admit(&format!("next{number}.test"), Some(1), start + PERIOD));
        }
        assert!(!hosts.admit("more.test", Some(1), start + PERIOD));
        assert!(hosts.admit("more.test", Some(1), start + half + PERIOD));
    }

    #[test]
    fn m4_refusals_are_logged_for_few_users() {
        let start = Instant::now();
        let mut hosts = PeoplesHosts::default();
        for number in 0..MAX_HOSTS {
            let user = Some(u32::try_from(number % 2).expect("few"));
            assert!(hosts.admit(&format!("n{number}.test"), user, start));
        }
        for user in 0..10_000 {
            assert!(!hosts.admit("more.test", Some(user), start));
        }
        assert_eq!(hosts.refusals.len(), MAX_REFUSALS_LOGGED);
    }
}
