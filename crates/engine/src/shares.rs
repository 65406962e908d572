//! Equal shares of the places for clients (SPEC C5): which client is let in and whose connection
//! ends when places are short. Pure: no clock, no locks, no sockets.
//!
//! Each holder's equal share is the limit divided by the number of holders that have a connection
//! or wait for one. The rules, in this order:
//!
//! 1. While a place is free, the holder with the fewest connections gets it.
//! 2. A holder below its equal share is always let in, and so is one without a connection where another
//!    holder has several. The holder with most connections gives way.
//! 3. At or above its share, a holder gets a place only from connections that have been idle for the
//!    minimum time, and only from holders that are above their share when the newcomer is counted:
//!    most often its own.
//!
//! Of a holder's connections the one that has been idle longest ends first. A holder that stays within
//! its share loses no connection to another holder.

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

/// A connection that has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdmittedConnection {
    pub(crate) holder: Holder,
    /// For how long nothing has flowed; zero while a request is in hand.
    pub(crate) idle: Duration,
}

/// What to do. Entries are indices into the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Which of the waiting clients get a place.
    pub(crate) admit: Vec<usize>,
    /// Which connections end for them.
    pub(crate) end: Vec<usize>,
}

/// The connections of one holder.
#[derive(Default)]
struct HolderShare {
    connections: usize,
    /// Its connections, sorted; the one that has been idle longest is last.
    by_idleness: Vec<usize>,
    waiting: VecDeque<usize>,
    /// No place can be found for those that wait.
    is_stuck: bool,
}

impl Holder {
    /// The holder of the connections from an address. Every user of this machine may use any
    /// loopback address, so these are all one holder.
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

/// Finds places for waiting clients, in order for each holder. `held` is in the order in which the
/// connections were let in: of connections that are idle for the same time, the newest ends first.
pub(crate) fn plan(
    limit: usize,
    min_idle: Duration,
    held: &[AdmittedConnection],
    waiting: &[Holder],
) -> Plan {
    let mut shares: BTreeMap<Holder, HolderShare> = BTreeMap::new();
    for (position, connection) in held.iter().enumerate() {
        let share = shares.entry(connection.holder).or_default();
        share.connections += 1;
        share.by_idleness.push(position);
    }
    for share in shares.values_mut() {
        share.by_idleness.sort_by_key(|&at| held[at].idle);
    }
    for (position, holder) in waiting.iter().enumerate() {
        let share = shares.entry(*holder).or_default();
        share.waiting.push_back(position);
    }
    let equal = limit / shares.len().max(1);
    let mut open = held.len();
    let mut plan = Plan::default();
    while let Some(newcomer) = next(&shares) {
        if open >= limit {
            let Some(from) = gives_way(&shares, newcomer, equal, min_idle, held) else {
                if let Some(share) = shares.get_mut(&newcomer) {
                    share.is_stuck = true;
                }
                continue;
            };
            if let Some(share) = shares.get_mut(&from) {
                plan.end.extend(share.by_idleness.pop());
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

/// The holder that gets the next place: the one with the fewest connections of those that wait.
fn next(shares: &BTreeMap<Holder, HolderShare>) -> Option<Holder> {
    shares
        .iter()
        .filter(|(_, share)| !share.is_stuck)
        .filter_map(|(holder, share)| Some((share.connections, *share.waiting.front()?, *holder)))
        .min()
        .map(|(_, _, holder)| holder)
}

/// The holder that loses a connection to another one of `newcomer`.
fn gives_way(
    shares: &BTreeMap<Holder, HolderShare>,
    newcomer: Holder,
    equal: usize,
    min_idle: Duration,
    held: &[AdmittedConnection],
) -> Option<Holder> {
    let owed = equal.max(1);
    let is_owed = shares.get(&newcomer)?.connections < owed;
    shares
        .iter()
        .filter_map(|(holder, share)| {
            let idlest = held[*share.by_idleness.last()?].idle;
            let is_own = *holder == newcomer;
            let connections = share.connections + usize::from(is_own && !is_owed);
            let is_idle = connections > equal && idlest >= min_idle;
            let may_end = is_idle || (is_owed && connections > owed);
            may_end.then_some((connections, is_own, idlest, *holder))
        })
        .max()
        .map(|(_, _, _, holder)| holder)
}

/// The clients to turn away so that no more than `most` wait, as indices: the newest ones of the
/// holder with the most waiting.
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
