//! The hosts that people may allow, and for which the worker requested certificates (SPEC M4).
//!
//! The monitor does not see whether a person allowed a host, so it bounds their number and logs each. It
//! makes no certificate and judges no name.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The most such hosts within [`PERIOD`]: as many as there are grants.
const MAX_HOSTS: usize = 1024;
/// How long a host counts as requested.
const PERIOD: Duration = Duration::from_secs(3600);

/// The hosts of this hour.
#[derive(Debug, Default)]
pub(super) struct PeoplesHosts {
    names: BTreeSet<String>,
    since: Option<Instant>,
    refusal_is_logged: bool,
}

impl PeoplesHosts {
    /// Whether there may be a certificate for a host. A new host is logged.
    pub(super) fn admit(&mut self, name: &str, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= PERIOD {
            *self = Self {
                since: Some(now),
                ..Self::default()
            };
        }
        if self.names.contains(name) {
            return true;
        }
        if self.names.len() >= MAX_HOSTS {
            if !std::mem::replace(&mut self.refusal_is_logged, true) {
                tracing::warn!(
                    host = name,
                    "the worker requested certificates of too many hosts that no list has; refused; further ones \
                     are refused without logging for an hour"
                );
            }
            return false;
        }
        tracing::info!(
            host = name,
            "the worker requested a certificate of a host that no list has: an approval, `run --allow` or `run --learn` \
             allows it"
        );
        self.names.insert(name.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m4_so_many_hosts_of_people_get_certificates_within_an_hour_and_no_more() {
        let start = Instant::now();
        let mut hosts = PeoplesHosts::default();
        for number in 0..MAX_HOSTS {
            assert!(hosts.admit(&format!("n{number}.test"), start));
        }
        assert!(!hosts.admit("more.test", start));
        let last = start + PERIOD.saturating_sub(Duration::from_millis(1));
        assert!(!hosts.admit("more.test", last));
        assert!(hosts.admit("n7.test", last), "one that was admitted");
        assert!(hosts.admit("more.test", start + PERIOD));
    }
}
