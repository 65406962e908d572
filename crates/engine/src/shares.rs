//! Equal shares of the connection slots (SPEC C5): which client is admitted, and which connection ends,
//! when slots are short. It has no clock, no locks and no sockets.
//!
//! A holder is a user of this machine or the address of a client ([`Holder`]). Each connection
//! counts for one holder. The equal share of a holder is the limit divided by the number of holders
//! that have a connection or wait for one. The rules, in this order:
//!
//! 1. The holder with the fewest connections gets a free slot.
//! 2. A holder below its equal share is always admitted. So is a holder without a connection, if another
//!    holder has several. The holder with the most connections loses one.
//! 3. A holder at or above its share is admitted only if a connection ends that has been idle for the
//!    minimum time. The holder of that connection must be above its share, the newcomer counted.
//!    Usually it is the same holder.
//!
//! The connection of a holder that has been idle longest ends first. A holder that stays within its
//! share loses no connection to another holder.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The user or address that a connection counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Holder {
    /// A user of this machine, by its id.
    User(u32),
    /// The client's IPv4 address, or the /64 of its IPv6 address.
    Address(IpAddr),
}

/// A connection that has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdmittedConnection {
    pub(crate) holder: Holder,
    /// For how long nothing has flowed; zero while a request is in hand.
    pub(crate) idle: Duration,
}

/// A plan for waiting clients. Entries are indices into the input of [`plan`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The waiting clients to admit.
    pub(crate) admit: Vec<usize>,
    /// The connections to end for them.
    pub(crate) end: Vec<usize>,
}

/// The connections of one holder.
#[derive(Default)]
struct HolderShare {
    connections: usize,
    /// Its connections, the longest idle one last.
    by_idle_time: Vec<usize>,
    waiting: VecDeque<usize>,
    /// No slot can be found for its waiting clients.
    is_stuck: bool,
}

impl Holder {
    /// The holder of the connections from an address. All loopback addresses are one holder, since
    /// every user of this machine may use any of them.
    pub(crate) fn at(address: IpAddr) -> Self {
        let address = address.to_canonical();
        if address.is_loopback() {
            return Self::Address(Ipv4Addr::LOCALHOST.into());
        }
        match address {
            IpAddr::V4(_) => Self::Address(address),
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << 64);
                Self::Address(Ipv6Addr::from_bits(network).into())
            }
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "uid {uid}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "{address}/64"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Finds slots for waiting clients, in order for each holder. `admitted` is in the order of admission.
/// If two connections have been idle for the same time, the newer one ends first.
pub(crate) fn plan(
    limit: usize,
    min_idle: Duration,
    admitted: &[AdmittedConnection],
    waiting: &[Holder],
) -> Plan {
    let mut shares: BTreeMap<Holder, HolderShare> = BTreeMap::new();
    for (position, connection) in admitted.iter().enumerate() {
        let share = shares.entry(connection.holder).or_default();
        share.connections += 1;
        share.by_idle_time.push(position);
    }
    for share in shares.values_mut() {
        share.by_idle_time.sort_by_key(|&at| admitted[at].idle);
    }
    for (position, holder) in waiting.iter().enumerate() {
        let share = shares.entry(*holder).or_default();
        share.waiting.push_back(position);
    }
    let equal = limit / shares.len().max(1);
    let mut open = admitted.len();
    let mut plan = Plan::default();
    while let Some(newcomer) = next(&shares) {
        if open >= limit {
            let Some(from) = loses_one(&shares, newcomer, equal, min_idle, admitted) else {
                if let Some(share) = shares.get_mut(&newcomer) {
                    share.is_stuck = true;
                }
                continue;
            };
            if let Some(share) = shares.get_mut(&from) {
                plan.end.extend(share.by_idle_time.pop());
                share.connections -= 1;
                open -= 1;
            }
        }
        if let Some(share) = shares.get_mut(&newcomer) {
            plan.admit.extend(share.waiting.pop_front());
            share.connections += 1;
            open += 1;
        }
    }
    plan
}

/// The holder that gets the next slot: of those with waiting clients, the one with the fewest
/// connections.
fn next(shares: &BTreeMap<Holder, HolderShare>) -> Option<Holder> {
    shares
        .iter()
        .filter(|(_, share)| !share.is_stuck)
        .filter_map(|(holder, share)| Some((share.connections, *share.waiting.front()?, *holder)))
        .min()
        .map(|(_, _, holder)| holder)
}

/// The holder that loses a connection when one of `newcomer` is admitted.
fn loses_one(
    shares: &BTreeMap<Holder, HolderShare>,
    newcomer: Holder,
    equal: usize,
    min_idle: Duration,
    admitted: &[AdmittedConnection],
) -> Option<Holder> {
    let guaranteed = equal.max(1);
    let is_below = shares.get(&newcomer)?.connections < guaranteed;
    shares
        .iter()
        .filter_map(|(holder, share)| {
            let idlest = admitted[*share.by_idle_time.last()?].idle;
            let is_own = *holder == newcomer;
            let connections = share.connections + usize::from(is_own && !is_below);
            let is_idle = connections > equal && idlest >= min_idle;
            let may_end = is_idle || (is_below && connections > guaranteed);
            may_end.then_some((connections, is_own, idlest, *holder))
        })
        .max()
        .map(|(_, _, _, holder)| holder)
}

/// The clients to turn away so that at most `most` wait, as indices: the newest ones of the holder with
/// the most waiting clients.
pub(crate) fn surplus(most: usize, waiting: &[Holder]) -> Vec<usize> {
    let mut by_holder: BTreeMap<Holder, Vec<usize>> = BTreeMap::new();
    for (position, holder) in waiting.iter().enumerate() {
        by_holder.entry(*holder).or_default().push(position);
    }
    let mut turned_away = Vec::new();
    while waiting.len() - turned_away.len() > most {
        let largest = by_holder.values_mut().max_by_key(|waiting| waiting.len());
        let Some(newest) = largest.and_then(Vec::pop) else {
            break;
        };
        turned_away.push(newest);
    }
    turned_away
}

#[cfg(test)]
mod tests;
