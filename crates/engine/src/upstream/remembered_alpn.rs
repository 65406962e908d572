//! Remembers the protocol of HTTP that each origin chose in ALPN (RFC 7301) when it was offered both. The
//! handshake with its next client need not wait for the handshake with the origin.
//!
//! The number of origins is bounded, and a choice is remembered for an hour at most. A change of the settings,
//! the name servers or the roots ends all choices, since the authority may then lead elsewhere.

use std::collections::HashMap;
use std::time::Duration;

use codex_network_policy::Authority;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::enforce::Permit;
use crate::tls::Wire;

/// Most authorities that are remembered. Beyond this number all are forgotten.
const MAX_AUTHORITIES: usize = 4096;
/// How long a choice is remembered. An origin that starts to speak HTTP/2 is noticed after this time.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// The protocol that each origin chose.
#[derive(Debug, Default)]
pub(super) struct RememberedAlpn(Mutex<Choices>);

#[derive(Debug, Default)]
struct Choices {
    /// The generation of the connections on which the origins chose (`Generation::connections` in
    /// `live_policy.rs`).
    generation: u64,
    by_authority: HashMap<Authority, (Wire, Instant)>,
}

impl RememberedAlpn {
    /// The protocol that the origin of a permit chose.
    pub(super) fn choice(&self, permit: &Permit) -> Option<Wire> {
        let generation = permit.generation().connections();
        let choices = self.0.lock();
        choices.get(generation, permit.authority(), Instant::now())
    }

    /// Notes the protocol that the origin of a permit has chosen.
    pub(super) fn note(&self, permit: &Permit, wire: Wire) {
        let generation = permit.generation().connections();
        let mut choices = self.0.lock();
        choices.note(generation, permit.authority(), wire, Instant::now());
    }

    /// Forgets the choice of an origin that now refuses this protocol.
    pub(super) fn forget(&self, permit: &Permit) {
        self.0.lock().by_authority.remove(permit.authority());
    }
}

impl Choices {
    fn get(&self, generation: u64, authority: &Authority, now: Instant) -> Option<Wire> {
        let (wire, noted_at) = self.by_authority.get(authority)?;
        (generation == self.generation && now < *noted_at + MAX_AGE).then_some(*wire)
    }

    fn note(&mut self, generation: u64, authority: &Authority, wire: Wire, now: Instant) {
        if generation > self.generation {
            self.by_authority.clear();
            self.generation = generation;
        }
        if generation != self.generation {
            return;
        }
        if self.by_authority.len() >= MAX_AUTHORITIES && !self.by_authority.contains_key(authority)
        {
            self.by_authority.clear();
        }
        self.by_authority.insert(authority.clone(), (wire, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(number: usize) -> Authority {
        Authority::parse(&format!("h{number}.test:443"), None).expect("an authority")
    }

    #[test]
    fn m6_a_choice_is_remembered_for_an_hour_and_one_generation() {
        let (mut choices, now) = (Choices::default(), Instant::now());
        let (one, two) = (authority(1), authority(2));
        choices.note(1, &one, Wire::TlsHttp2, now);
        assert_eq!(choices.get(1, &one, now), Some(Wire::TlsHttp2));
        assert_eq!(choices.get(1, &two, now), None);
        assert_eq!(choices.get(1, &one, now + MAX_AGE), None);
        assert_eq!(choices.get(2, &one, now), None, "of other settings");
        choices.note(2, &two, Wire::TlsHttp1, now);
        assert_eq!(choices.get(2, &one, now), None);
        assert_eq!(choices.get(2, &two, now), Some(Wire::TlsHttp1));
        // A connection that was opened under earlier settings has come late.
        choices.note(1, &two, Wire::TlsHttp2, now);
        assert_eq!(choices.get(2, &two, now), Some(Wire::TlsHttp1));
    }

    #[test]
    fn m6_the_memory_of_choices_is_bounded() {
        let (mut choices, now) = (Choices::default(), Instant::now());
        for number in 0..3 * MAX_AUTHORITIES {
            choices.note(1, &authority(number), Wire::TlsHttp1, now);
            assert!(choices.by_authority.len() <= MAX_AUTHORITIES);
        }
    }
}
