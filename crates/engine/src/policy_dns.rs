//! Policy DNS: the name server of a program in a jail (SPEC T1).
//!
//! It looks no name up. A name that the policy permits gets an address that stands for it, and a
//! connection to that address is judged, resolved and dialled like any other (SPEC T2). A name that the
//! policy refuses does not exist here.

mod recent;
mod tcp;
mod turns;
mod udp;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use codex_network_policy::{Host, RequestKind};
use hickory_resolver::proto::rr::RecordType;
use recent::RecentRefusals;
pub(crate) use tcp::serve_tcp;
use turns::Turns;
pub(crate) use udp::serve_udp;

use crate::attempt::Attempt;
use crate::client::Client;
use crate::dns_query::{DnsQuery, NotAQuery};
use crate::http::Shared;
use crate::owner::ConnectionHandle;
use crate::respond::{self, DnsAnswer, DnsTransport};
use crate::synthetic_names::SyntheticNames;

/// The listener's name in messages.
pub(crate) const DOOR: &str = "dns";

/// The names that the program of one session has looked up.
#[derive(Debug, Default)]
pub(crate) struct LookedUpNames {
    /// Those with an address.
    pub(crate) synthetic: Arc<SyntheticNames>,
    /// Those that were refused lately. A program looks a name up several times for one connection, for
    /// each type of address, and that is recorded once.
    refused: RecentRefusals,
    /// The lookups that may be answered.
    turns: Turns,
}

impl LookedUpNames {
    /// Takes a turn to answer one message. False: the client has had more than its rate, and waits.
    fn may_answer(&self, shared: &Shared, client: &ConnectionHandle) -> bool {
        let may = self.turns.take();
        if !may
            && shared
                .recorder()
                .may_log(client, "lookups beyond the rate of a session")
        {
            tracing::info!(
                door = DOOR,
                "a session looks names up faster than it may: its lookups wait"
            );
        }
        may
    }
}

/// Answers one message. `None`: it gets no answer.
fn answer(
    shared: &Shared,
    names: &LookedUpNames,
    client: &Client,
    message: &[u8],
    transport: DnsTransport,
) -> Option<Vec<u8>> {
    let query = match DnsQuery::read(message) {
        Ok(query) => query,
        Err(not) => {
            if not != NotAQuery::Ignored
                && shared
                    .recorder()
                    .may_log(&client.connection, "malformed requests")
            {
                tracing::info!(client = %client.address, door = DOOR, "refused a DNS message that is not a query for an address");
            }
            return respond::dns_error(not);
        }
    };
    let name = match &query.name {
        Ok(host) => Ok(host),
        // The root has no address.
        Err(text) if text.is_empty() => {
            return respond::dns_answer(&query, DnsAnswer::TypeRefused, transport);
        }
        Err(text) => Err(text.as_slice()),
    };
    // These are the jail's own (RFC 6761 section 6.3).
    if name.is_ok_and(Host::is_localhost) {
        let answer = match query.record_type() {
            RecordType::A => DnsAnswer::Address(Ipv4Addr::LOCALHOST),
            RecordType::AAAA => DnsAnswer::Ipv6Address(Ipv6Addr::LOCALHOST),
            record_type => without_address(record_type),
        };
        return respond::dns_answer(&query, answer, transport);
    }
    let generation = shared.live().current();
    let attempt = Attempt {
        client: client.clone(),
        kind: RequestKind::Dns,
    };
    let is_new = |refused: &str| names.refused.is_new(refused, generation.number());
    let served = name
        .ok()
        .and_then(|host| host_served(host, query.record_type()));
    let judged_name = served.as_ref().map_or(name, Ok);
    let judged = shared
        .enforcer
        .judge_name(&generation, &attempt, judged_name, is_new);
    let answer = match (&judged, name) {
        (Err(refusal), _) => DnsAnswer::NameRefused(refusal),
        (Ok(()), Ok(Host::Name(name))) if query.record_type() == RecordType::A => {
            match names.synthetic.address_of(name) {
                Some(address) => DnsAnswer::Address(address),
                None => exhausted(shared, client),
            }
        }
        (Ok(()), _) => without_address(query.record_type()),
    };
    respond::dns_answer(&query, answer, transport)
}

/// The host that a record is about, if the record describes a service: its name then begins with labels that begin
/// with an underscore (RFC 8552). Programs look such names up beside that of the host (RFC 9460 section 2.3, RFC
/// 2782), and allow lists do not have them. An address is for a name as it is.
fn host_served(host: &Host, record_type: RecordType) -> Option<Host> {
    let Host::Name(name) = host else { return None };
    if matches!(record_type, RecordType::A | RecordType::AAAA) {
        return None;
    }
    let mut rest = name.as_str();
    while let Some((_, after)) = rest.strip_prefix('_').and_then(|rest| rest.split_once('.')) {
        rest = after;
    }
    if rest.len() == name.as_str().len() {
        return None;
    }
    let served = Host::parse(rest).ok()?;
    matches!(served, Host::Name(_)).then_some(served)
}

/// The answer to a query for another type than `A`.
fn without_address(record_type: RecordType) -> DnsAnswer<'static> {
    match record_type {
        // Clients ask for these types beside `A`, and must not take an answer for the name's end.
        RecordType::A | RecordType::AAAA | RecordType::HTTPS | RecordType::SVCB => {
            DnsAnswer::NoData
        }
        _ => DnsAnswer::TypeRefused,
    }
}

fn exhausted(shared: &Shared, client: &Client) -> DnsAnswer<'static> {
    let recorder = shared.recorder();
    if recorder.may_log(&client.connection, "names beyond the limit of a session") {
        tracing::warn!(client = %client.address, door = DOOR, "a session has looked up as many names as it may");
    }
    DnsAnswer::Exhausted
}

#[cfg(test)]
pub(crate) mod tests;
