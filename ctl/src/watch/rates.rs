//! Rates, from counts that only rise.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use codex_network_control::message::{Decisions, SessionEntry};

/// The time over which a rate is taken.
const WINDOW: Duration = Duration::from_secs(5);

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) allowed: u64,
    pub(super) refused: u64,
    pub(super) asked: u64,
    pub(super) lost: u64,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
}

/// The counts, and how they rose lately.
#[derive(Debug, Default)]
pub(super) struct Rates {
    counts: Counts,
    /// The bytes of each session at the last look.
    bytes: HashMap<String, (u64, u64)>,
    /// The counts that the proxy gave last. It begins anew with each connection.
    answered: Counts,
    samples: VecDeque<(Instant, Counts)>,
}

impl Rates {
    /// The counts since this program began to watch.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Another connection counts from 0.
    pub(super) fn begin_anew(&mut self) {
        self.answered = Counts::default();
        self.bytes.clear();
        self.samples.clear();
    }

    pub(super) fn add(&mut self, decisions: &Decisions) {
        let answered = Counts {
            allowed: decisions.allowed,
            refused: decisions.refused,
            asked: decisions.asked,
            lost: decisions.lost,
            ..Counts::default()
        };
        // Other rights make the proxy count anew.
        let last = if answered.allowed < self.answered.allowed
            || answered.refused < self.answered.refused
            || answered.asked < self.answered.asked
        {
            Counts::default()
        } else {
            self.answered
        };
        self.counts.allowed += answered.allowed - last.allowed;
        self.counts.refused += answered.refused - last.refused;
        self.counts.asked += answered.asked - last.asked;
        self.counts.lost += answered.lost.saturating_sub(last.lost);
        self.answered = answered;
    }

    /// Takes a sample. The bytes of a session count from the first look at it.
    pub(super) fn sample(&mut self, sessions: &[SessionEntry], now: Instant) {
        let before = std::mem::take(&mut self.bytes);
        for session in sessions {
            if let Some((up, down)) = before.get(&session.id) {
                self.counts.bytes_up += session.bytes_up.saturating_sub(*up);
                self.counts.bytes_down += session.bytes_down.saturating_sub(*down);
            }
            let bytes = (session.bytes_up, session.bytes_down);
            self.bytes.insert(session.id.clone(), bytes);
        }
        self.samples.push_back((now, self.counts));
        while let Some((second, _)) = self.samples.get(1)
            && now.duration_since(*second) >= WINDOW
        {
            self.samples.pop_front();
        }
    }

    /// The rates per second.
    pub(super) fn per_second(&self) -> Counts {
        let (Some((from, first)), Some((to, last))) = (self.samples.front(), self.samples.back())
        else {
            return Counts::default();
        };
        let milliseconds = to.duration_since(*from).as_millis();
        let rate = |of: fn(&Counts) -> u64| {
            let more = u128::from(of(last) - of(first)) * 1000;
            let each = more.checked_div(milliseconds).unwrap_or(0);
            // A slow rate is not shown as none.
            let one = u128::from(more > 0 && milliseconds > 0);
            u64::try_from(each.max(one)).unwrap_or(u64::MAX)
        };
        Counts {
            allowed: rate(|counts| counts.allowed),
            refused: rate(|counts| counts.refused),
            asked: rate(|counts| counts.asked),
            lost: rate(|counts| counts.lost),
            bytes_up: rate(|counts| counts.bytes_up),
            bytes_down: rate(|counts| counts.bytes_down),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(allowed: u64, refused: u64) -> Decisions {
        Decisions {
            allowed,
            refused,
            ..Decisions::default()
        }
    }

    fn session(id: &str, bytes_up: u64) -> SessionEntry {
        SessionEntry {
            id: id.to_owned(),
            bytes_up,
            ..SessionEntry::default()
        }
    }

    #[test]
    fn w4_rates_are_of_the_last_seconds() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        for second in 0..20 {
            rates.add(&answer(100 * second, 7));
            rates.sample(&[], start + Duration::from_secs(second));
        }
        let shown = rates.per_second();
        assert_eq!((shown.allowed, shown.refused), (100, 0));
        assert_eq!(rates.counts().refused, 7);
        for second in 20..26 {
            rates.sample(&[], start + Duration::from_secs(second));
        }
        assert_eq!(rates.per_second(), Counts::default());
    }

    #[test]
    fn w4_another_connection_continues_the_counts() {
        let mut rates = Rates::default();
        rates.add(&answer(5, 1));
        rates.begin_anew();
        rates.add(&answer(2, 0));
        rates.add(&answer(3, 0));
        assert_eq!((rates.counts().allowed, rates.counts().refused), (8, 1));
        rates.add(&answer(1, 0));
        assert_eq!(rates.counts().allowed, 9, "the proxy began anew by itself");
    }

    #[test]
    fn w4_the_bytes_of_sessions_that_come_and_go_are_a_rate() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        rates.sample(&[session("a", 1000)], after(0));
        rates.sample(&[session("a", 3000), session("b", 1 << 40)], after(1));
        rates.sample(&[session("b", 1 << 40)], after(2));
        assert_eq!(rates.per_second().bytes_up, 1000);
    }
}
