//! The destinations of an association: the permitted ones with their addresses, the refused ones, and
//! the addresses that may answer.
//!
//! The table has a bounded size. A new destination replaces the one that was unused longest. A
//! destination that is unused for [`UNUSED_TIMEOUT`] is forgotten, and then judged and recorded like a
//! new one. This file judges nothing and sends nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use codex_network_policy::{Authority, Host, Reason};

use crate::enforce::{Flow, VettedAddrs, WeakFlow};
use crate::live_policy::GenerationNumber;
use crate::outcome::Ending;
use crate::upstream::datagram::MAX_ATTEMPTS;

/// Most destinations, and so most addresses that may answer.
pub(crate) const MAX_DESTINATIONS: usize = 256;
/// How long an unused destination is remembered (RFC 4787 section 4.3, the recommended value). Only
/// datagrams of the client count as use: datagrams from outside could keep a destination open for ever
/// (REQ-6).
pub(crate) const UNUSED_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long a failed lookup is remembered. The resolver remembers "no such name" for the same time.
const UNRESOLVED_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of waiting datagrams: two of the largest, with [`DATAGRAM_OVERHEAD`] for each one.
const MAX_WAITING_BYTES: usize = 128 * 1024;
/// The memory of a waiting datagram besides its bytes. It bounds the number of empty datagrams.
const DATAGRAM_OVERHEAD: usize = 64;

/// The destination of a datagram: an authority, or bytes that are not a valid host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DatagramTarget {
    pub(crate) host: Result<Host, Vec<u8>>,
    pub(crate) port: u16,
}

/// The table of destinations.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    table: HashMap<DatagramTarget, DestinationEntry>,
    /// The addresses that were sent to, which may answer.
    peers: HashMap<SocketAddr, DestinationPeer>,
    /// Bytes of all waiting datagrams.
    waiting: usize,
}

/// An address that was sent to.
#[derive(Debug)]
struct DestinationPeer {
    /// The number of destinations that were sent to at this address.
    count: usize,
    /// The flow of the last of them, which counts the answers.
    flow: WeakFlow,
}

#[derive(Debug)]
struct DestinationEntry {
    /// The generation of the settings by which it was judged.
    generation: GenerationNumber,
    used: Instant,
    state: DestinationState,
}

#[derive(Debug)]
enum DestinationState {
    /// Its name is being looked up, and these datagrams wait.
    Resolving(Vec<Vec<u8>>),
    /// It is permitted. The address is the last one that was sent to.
    Permitted(VettedAddrs, Flow, Option<SocketAddr>),
    /// It is refused, perhaps until a time. The number counts dropped datagrams after the recorded one.
    Refused(Reason, Option<Instant>, u64),
}

/// The state of a destination under the settings in force.
#[derive(Debug)]
pub(crate) enum KnownDestination<'a> {
    /// Unknown. It must be judged.
    Unknown,
    /// It was permitted under earlier settings. It and its addresses must be judged again.
    Outdated(&'a VettedAddrs),
    /// It is being looked up.
    Resolving,
    /// It is permitted.
    Permitted(&'a VettedAddrs),
    /// It is refused, and this datagram is counted.
    Refused,
}

/// A forgotten refusal, with the number of datagrams dropped after its record was written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ForgottenRefusal {
    pub(crate) target: DatagramTarget,
    pub(crate) reason: Reason,
    /// More than 0.
    pub(crate) further: u64,
}

impl Destinations {
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Looks up the destination of a datagram, under this generation of the settings.
    pub(crate) fn look(
        &mut self,
        target: &DatagramTarget,
        generation: GenerationNumber,
        now: Instant,
    ) -> KnownDestination<'_> {
        let Some(destination) = self.table.get_mut(target) else {
            return KnownDestination::Unknown;
        };
        destination.used = now;
        let current = destination.generation == generation;
        match &mut destination.state {
            DestinationState::Resolving(_) => KnownDestination::Resolving,
            DestinationState::Permitted(addresses, ..) => {
                if current {
                    KnownDestination::Permitted(addresses)
                } else {
                    KnownDestination::Outdated(addresses)
                }
            }
            DestinationState::Refused(_, until, further) => {
                if current && until.is_none_or(|until| now < until) {
                    *further += 1;
                    KnownDestination::Refused
                } else {
                    KnownDestination::Unknown
                }
            }
        }
    }

    /// Remembers a refusal. Returns the refusals that were forgotten to make room.
    pub(crate) fn refuse(
        &mut self,
        target: DatagramTarget,
        generation: GenerationNumber,
        reason: Reason,
        now: Instant,
    ) -> Vec<ForgottenRefusal> {
        let until = (reason == Reason::DnsFailure).then(|| now + UNRESOLVED_TIMEOUT);
        let state = DestinationState::Refused(reason, until, 0);
        self.put(target, generation, state, now)
    }

    /// Remembers the addresses of a permitted destination. Returns the refusals that are forgotten
    /// to make room. See also [`take_waiting`](Self::take_waiting).
    pub(crate) fn permit(
        &mut self,
        target: DatagramTarget,
        generation: GenerationNumber,
        (mut addresses, flow): (VettedAddrs, Flow),
        now: Instant,
    ) -> Vec<ForgottenRefusal> {
        // A name may have hundreds of addresses, which would add up over all associations.
        addresses.cut(MAX_ATTEMPTS);
        let state = DestinationState::Permitted(addresses, flow, None);
        self.put(target, generation, state, now)
    }

    /// Remembers that a name is being looked up.
    pub(crate) fn resolving(
        &mut self,
        target: DatagramTarget,
        generation: GenerationNumber,
        now: Instant,
    ) -> Vec<ForgottenRefusal> {
        self.put(
            target,
            generation,
            DestinationState::Resolving(Vec::new()),
            now,
        )
    }

    /// Keeps a datagram for a destination that is being looked up; `false` if there is no room.
    pub(crate) fn wait(&mut self, target: &DatagramTarget, data: &[u8]) -> bool {
        let cost = data.len() + DATAGRAM_OVERHEAD;
        let Some(destination) = self.table.get_mut(target) else {
            return false;
        };
        let DestinationState::Resolving(waiting) = &mut destination.state else {
            return false;
        };
        if self.waiting + cost > MAX_WAITING_BYTES {
            return false;
        }
        self.waiting += cost;
        waiting.push(data.to_vec());
        true
    }

    /// The datagrams that wait for a destination that is being looked up; `None` if it is not.
    pub(crate) fn take_waiting(&mut self, target: &DatagramTarget) -> Option<Vec<Vec<u8>>> {
        let destination = self.table.get_mut(target)?;
        let DestinationState::Resolving(waiting) = &mut destination.state else {
            return None;
        };
        let taken = std::mem::take(waiting);
        self.waiting -= cost(&taken);
        Some(taken)
    }

    /// Notes the address that a datagram was sent to. Answers from it are accepted from now on.
    pub(crate) fn sent(&mut self, target: &DatagramTarget, to: SocketAddr, bytes: usize) {
        let Some(destination) = self.table.get_mut(target) else {
            return;
        };
        let DestinationState::Permitted(_, flow, peer) = &mut destination.state else {
            return;
        };
        flow.sent(bytes);
        if *peer == Some(to) {
            return;
        }
        flow.connected(Some(to));
        let before = peer.replace(to);
        let flow = flow.downgrade();
        let known = self.peers.remove(&to).map_or(0, |peer| peer.count);
        let count = known + 1;
        self.peers.insert(to, DestinationPeer { count, flow });
        self.release(before);
    }

    /// The flow that counts an answer from this address; `None` if the address may not answer.
    pub(crate) fn may_answer(&self, from: SocketAddr) -> Option<&WeakFlow> {
        self.peers.get(&from).map(|peer| &peer.flow)
    }

    /// Forgets destinations that were unused too long. Returns the refusals among them.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<ForgottenRefusal> {
        self.forget(|destination| now.duration_since(destination.used) < UNUSED_TIMEOUT)
    }

    /// Forgets the refusals of other generations of the settings.
    pub(crate) fn forget_old_refusals(
        &mut self,
        generation: GenerationNumber,
    ) -> Vec<ForgottenRefusal> {
        self.forget(|destination| {
            destination.generation == generation
                || !matches!(destination.state, DestinationState::Refused(..))
        })
    }

    /// Forgets every refusal, at the end.
    pub(crate) fn forget_refusals(&mut self) -> Vec<ForgottenRefusal> {
        self.forget(|destination| !matches!(destination.state, DestinationState::Refused(..)))
    }

    /// Judges every permitted destination again with `judge`. Ends those for which it returns a reason.
    pub(crate) fn rejudge(&mut self, judge: impl Fn(&Authority, &VettedAddrs) -> Option<Reason>) {
        let mut forbidden = Vec::new();
        for (target, destination) in &self.table {
            if let (DestinationState::Permitted(addresses, flow, _), Some(authority)) =
                (&destination.state, target.authority())
                && let Some(reason) = judge(&authority, addresses)
            {
                flow.end(Ending::forbidden(reason));
                forbidden.push(target.clone());
            }
        }
        for target in forbidden {
            self.remove(&target);
        }
    }

    fn put(
        &mut self,
        target: DatagramTarget,
        generation: GenerationNumber,
        state: DestinationState,
        now: Instant,
    ) -> Vec<ForgottenRefusal> {
        let mut forgotten = Vec::from_iter(self.remove(&target));
        if self.table.len() >= MAX_DESTINATIONS {
            let oldest = self.table.iter().min_by_key(|(_, it)| it.used);
            if let Some(oldest) = oldest.map(|(target, _)| target.clone()) {
                forgotten.extend(self.remove(&oldest));
            }
        }
        let destination = DestinationEntry {
            generation,
            used: now,
            state,
        };
        self.table.insert(target, destination);
        forgotten
    }

    fn forget(&mut self, keep: impl Fn(&DestinationEntry) -> bool) -> Vec<ForgottenRefusal> {
        let gone = self.table.iter().filter(|(_, it)| !keep(it));
        let gone: Vec<DatagramTarget> = gone.map(|(target, _)| target.clone()).collect();
        let forget = |target: DatagramTarget| self.remove(&target);
        gone.into_iter().filter_map(forget).collect()
    }

    fn remove(&mut self, target: &DatagramTarget) -> Option<ForgottenRefusal> {
        let (target, destination) = self.table.remove_entry(target)?;
        match destination.state {
            DestinationState::Resolving(waiting) => self.waiting -= cost(&waiting),
            DestinationState::Permitted(_, flow, peer) => {
                flow.complete();
                self.release(peer);
            }
            DestinationState::Refused(reason, _, further) if further > 0 => {
                return Some(ForgottenRefusal {
                    target,
                    reason,
                    further,
                });
            }
            DestinationState::Refused(..) => {}
        }
        None
    }

    /// Removes one destination from the count of an address.
    fn release(&mut self, peer: Option<SocketAddr>) {
        let Some(peer) = peer else { return };
        if let Some(known) = self.peers.get_mut(&peer) {
            known.count -= 1;
            if known.count == 0 {
                self.peers.remove(&peer);
            }
        }
    }
}

impl DatagramTarget {
    /// The authority, if the host is valid.
    pub(crate) fn authority(&self) -> Option<Authority> {
        let host = self.host.clone().ok()?;
        Some(Authority {
            host,
            port: self.port,
        })
    }
}

/// The host and port, with invalid bytes escaped.
impl std::fmt::Display for DatagramTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.host, self.authority()) {
            (_, Some(authority)) => authority.fmt(f),
            (host, None) => {
                let bytes = host.as_ref().err().map_or(&[][..], Vec::as_slice);
                write!(f, "{}:{}", bytes.escape_ascii(), self.port)
            }
        }
    }
}

fn cost(waiting: &[Vec<u8>]) -> usize {
    waiting
        .iter()
        .map(|data| data.len() + DATAGRAM_OVERHEAD)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(number: u64) -> GenerationNumber {
        GenerationNumber::numbered(number)
    }

    fn target(number: usize) -> DatagramTarget {
        DatagramTarget {
            host: Ok(Host::parse(&format!("n{number}.test")).expect("a host")),
            port: 53,
        }
    }

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    /// A destination that may be sent to. Its addresses do not matter to the table.
    fn permit(table: &mut Destinations, number: usize, now: Instant) {
        let allowed = (VettedAddrs::none_for_tests(), Flow::for_tests());
        assert_eq!(
            table.permit(target(number), generation(1), allowed, now),
            []
        );
    }

    #[test]
    fn s3_ten_thousand_destinations_leave_the_last_ones() {
        let mut table = Destinations::default();
        let start = Instant::now();
        for number in 0..10_000 {
            let now = start + Duration::from_millis(number as u64);
            permit(&mut table, number, now);
            table.sent(
                &target(number),
                peer(u16::try_from(number).expect("small")),
                1,
            );
            assert!(table.table.len() <= MAX_DESTINATIONS);
            assert!(table.peers.len() <= MAX_DESTINATIONS);
        }
        assert!(table.may_answer(peer(9_999)).is_some());
        assert!(table.may_answer(peer(1)).is_none());
        assert!(matches!(
            table.look(&target(0), generation(1), start),
            KnownDestination::Unknown
        ));
    }

    #[test]
    fn s3_used_destinations_stay_and_unused_ones_expire() {
        let mut table = Destinations::default();
        let start = Instant::now();
        permit(&mut table, 1, start);
        permit(&mut table, 2, start);
        table.sent(&target(1), peer(1), 1);
        table.sent(&target(2), peer(2), 1);
        let later = start + UNUSED_TIMEOUT / 2;
        table.look(&target(1), generation(1), later);
        table.expire(start + UNUSED_TIMEOUT);
        assert!(table.may_answer(peer(1)).is_some());
        assert!(table.may_answer(peer(2)).is_none());
    }

    #[test]
    fn s3_a_peer_of_two_destinations_stays_with_the_second() {
        let mut table = Destinations::default();
        let now = Instant::now();
        for number in [1, 2] {
            permit(&mut table, number, now);
            table.sent(&target(number), peer(1), 1);
            table.sent(&target(number), peer(1), 1);
        }
        table.sent(&target(1), peer(3), 1);
        assert!(table.may_answer(peer(1)).is_some());
        assert!(table.may_answer(peer(3)).is_some());
        table.remove(&target(2));
        assert!(table.may_answer(peer(1)).is_none());
    }

    #[test]
    fn r1_a_refusal_is_remembered_once_and_later_datagrams_are_counted() {
        let mut table = Destinations::default();
        let now = Instant::now();
        table.refuse(target(1), generation(1), Reason::Denied, now);
        for _ in 0..3 {
            assert!(matches!(
                table.look(&target(1), generation(1), now),
                KnownDestination::Refused
            ));
        }
        // Under other settings it is judged again.
        assert!(matches!(
            table.look(&target(1), generation(2), now),
            KnownDestination::Unknown
        ));
        let forgotten = table.refuse(target(1), generation(2), Reason::NotAllowed, now);
        let told = ForgottenRefusal {
            target: target(1),
            reason: Reason::Denied,
            further: 3,
        };
        assert_eq!(forgotten, [told]);
        // These are the settings in force.
        assert_eq!(table.forget_old_refusals(generation(2)), []);
        assert!(matches!(
            table.look(&target(1), generation(2), now),
            KnownDestination::Refused
        ));
        assert_eq!(table.forget_old_refusals(generation(3)).len(), 1);
        assert!(matches!(
            table.look(&target(1), generation(2), now),
            KnownDestination::Unknown
        ));
    }

    #[test]
    fn s3_a_name_that_does_not_resolve_is_looked_up_again_later() {
        let mut table = Destinations::default();
        let now = Instant::now();
        table.refuse(target(1), generation(1), Reason::DnsFailure, now);
        assert!(matches!(
            table.look(&target(1), generation(1), now),
            KnownDestination::Refused
        ));
        let later = now + UNRESOLVED_TIMEOUT;
        assert!(matches!(
            table.look(&target(1), generation(1), later),
            KnownDestination::Unknown
        ));
    }

    #[test]
    fn s3_waiting_datagrams_are_bounded_and_counted_exactly() {
        let mut table = Destinations::default();
        let now = Instant::now();
        table.resolving(target(1), generation(1), now);
        table.resolving(target(2), generation(1), now);
        let data = [0; 1000];
        let kept = (0..200).filter(|_| table.wait(&target(1), &data)).count();
        assert_eq!(kept, MAX_WAITING_BYTES / (1000 + DATAGRAM_OVERHEAD));
        assert!(!table.wait(&target(2), &data), "they share the room");
        let empty = (0..10_000).filter(|_| table.wait(&target(2), b"")).count();
        assert!(empty < 20, "{empty} empty ones beside them");
        let waiting = table.take_waiting(&target(1)).expect("it is looked up");
        assert_eq!(waiting.len(), kept);
        table.remove(&target(2));
        assert_eq!(table.waiting, 0);
    }

    #[test]
    fn p11_a_destination_that_is_no_longer_permitted_is_forgotten_with_its_peer() {
        let mut table = Destinations::default();
        let now = Instant::now();
        for number in [1, 2] {
            permit(&mut table, number, now);
            table.sent(
                &target(number),
                peer(u16::try_from(number).expect("small")),
                1,
            );
        }
        let first = target(1).authority().expect("an authority");
        let judge = |authority: &Authority, _: &VettedAddrs| {
            (*authority == first).then_some(Reason::Denied)
        };
        table.rejudge(judge);
        assert!(table.may_answer(peer(1)).is_none());
        assert!(table.may_answer(peer(2)).is_some());
        assert!(matches!(
            table.look(&target(2), generation(2), now),
            KnownDestination::Outdated(_)
        ));
    }
}
