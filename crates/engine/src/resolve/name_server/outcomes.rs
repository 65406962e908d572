//! The outcomes of the lookups at one name server, and whether they show that it fails (SPEC O4).
//!
//! Clients choose the names, and the owner of a zone chooses its answers. So failures for the names of one domain prove
//! nothing about the name server, however many there are.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::super::health::{MAX_ERROR, NameServerHealth};

/// Lookups in a row without any answer that show that a server fails.
const MIN_SILENCES: u32 = 3;
/// Domains with failures, and no success among them, that show that a server fails.
const MIN_DOMAINS: usize = 5;
/// The last failure proves nothing any more when it is this old: a server that nobody asks may have recovered.
const PROOF_AGE: Duration = Duration::from_secs(5 * 60);

/// How a lookup failed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failure<'a> {
    /// The server answered nothing.
    NoAnswer,
    /// The server answered that it cannot resolve this name.
    OfName(&'a str),
}

/// The outcomes since the last success.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    last_success: Option<SystemTime>,
    /// All failures since then.
    failures: u32,
    last_error: Option<String>,
    /// The lookups in a row that got no answer.
    silences: u32,
    /// The domains whose names failed, up to [`MIN_DOMAINS`].
    domains: Vec<Box<str>>,
    first_failure: Option<SystemTime>,
    last_failure: Option<Instant>,
}

impl Outcomes {
    /// The server gave an answer that counts; "no such name" is one.
    pub(super) fn succeeded(&mut self, wall: SystemTime) {
        *self = Self {
            last_success: Some(wall),
            ..Self::default()
        };
    }

    pub(super) fn failed(
        &mut self,
        failure: Failure<'_>,
        error: &str,
        wall: SystemTime,
        now: Instant,
    ) {
        if self.is_proof_old(now) {
            (self.silences, self.first_failure) = (0, None);
            self.domains.clear();
        }
        let mut ends = (0..=MAX_ERROR.min(error.len())).rev();
        let end = ends.find(|end| error.is_char_boundary(*end));
        self.last_error = Some(error[..end.unwrap_or(0)].to_owned());
        self.failures = self.failures.saturating_add(1);
        self.first_failure.get_or_insert(wall);
        self.last_failure = Some(now);
        match failure {
            Failure::NoAnswer => self.silences = self.silences.saturating_add(1),
            Failure::OfName(name) => {
                self.silences = 0;
                let domain = domain(name);
                let is_new = self.domains.iter().all(|known| **known != *domain);
                if is_new && self.domains.len() < MIN_DOMAINS {
                    self.domains.push(domain.into());
                }
            }
        }
    }

    pub(super) fn health(&self, address: SocketAddr, now: Instant) -> NameServerHealth {
        let fails = self.silences >= MIN_SILENCES || self.domains.len() >= MIN_DOMAINS;
        NameServerHealth {
            address,
            last_success: self.last_success,
            failures: self.failures,
            failing_since: self
                .first_failure
                .filter(|_| fails && !self.is_proof_old(now)),
            last_error: self.last_error.clone(),
        }
    }

    fn is_proof_old(&self, now: Instant) -> bool {
        self.last_failure
            .is_some_and(|last| now.saturating_duration_since(last) >= PROOF_AGE)
    }
}

/// The domain that a name belongs to: its last two labels. Below a public suffix of two labels (`co.uk`) this joins the
/// domains of different owners, which makes the proof harder and never easier.
fn domain(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.');
    dots.nth(1).map_or(name, |(at, _)| &name[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a server fails after these failures, a second apart; an empty name is a lookup without an answer.
    fn fails(failures: &[&str]) -> bool {
        let mut outcomes = Outcomes::default();
        let start = Instant::now();
        let mut now = start;
        for name in failures {
            now += Duration::from_secs(1);
            let failure = match *name {
                "" => Failure::NoAnswer,
                name => Failure::OfName(name),
            };
            outcomes.failed(failure, "why", SystemTime::UNIX_EPOCH, now);
        }
        let health = outcomes.health(SocketAddr::from(([192, 0, 2, 1], 53)), now);
        assert_eq!(health.failures as usize, failures.len());
        health.failing_since.is_some()
    }

    #[test]
    fn o4_a_server_fails_when_it_answers_nothing_or_fails_for_many_domains() {
        for (failures, expected) in [
            (&["", ""][..], false),
            (&["", "", ""], true),
            // The last lookup was answered, if only with a failure.
            (&["", "", "", "a.test"], false),
            (&["a.test", "b.test", "c.test", "d.test"], false),
            (&["a.test", "b.test", "c.test", "d.test", "e.test"], true),
            (
                &[
                    "1.a.test",
                    "2.a.test",
                    "a.test",
                    "3.a.test",
                    "4.a.test",
                    "5.6.a.test",
                ],
                false,
            ),
            (
                &["a.co.uk", "b.co.uk", "c.co.uk", "d.co.uk", "e.co.uk"],
                false,
            ),
            (&["test", "a", "b", "c", "d"], true),
        ] {
            assert_eq!(fails(failures), expected, "{failures:?}");
        }
    }

    #[test]
    fn o4_a_success_ends_the_failure_and_old_failures_prove_nothing() {
        let address = SocketAddr::from(([192, 0, 2, 1], 53));
        let (wall, start) = (SystemTime::UNIX_EPOCH, Instant::now());
        let mut outcomes = Outcomes::default();
        for _ in 0..MIN_SILENCES {
            outcomes.failed(Failure::NoAnswer, "why", wall, start);
        }
        let just = start + PROOF_AGE - Duration::from_secs(1);
        assert_eq!(outcomes.health(address, just).failing_since, Some(wall));
        let late = start + PROOF_AGE;
        assert_eq!(outcomes.health(address, late).failing_since, None);
        // One more after a long time proves nothing by itself.
        let again = wall + Duration::from_secs(9);
        outcomes.failed(Failure::NoAnswer, "why", again, late);
        assert_eq!(outcomes.health(address, late).failing_since, None);
        for _ in 1..MIN_SILENCES {
            outcomes.failed(Failure::NoAnswer, "why", again, late);
        }
        assert_eq!(outcomes.health(address, late).failing_since, Some(again));
        outcomes.succeeded(wall);
        let health = outcomes.health(address, late);
        assert_eq!((health.failing_since, health.failures), (None, 0));
    }
}
