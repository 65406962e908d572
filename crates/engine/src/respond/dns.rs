//! The answers of policy DNS (SPEC T1, T3).

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_resolver::proto::op::{Edns, Message, Metadata, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::opt::EdnsOption;
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record};

use super::sentence;
use crate::attempt::Refusal;
use crate::dns_query::{DnsQuery, EdnsUse, NotAQuery};

/// How long a program may keep an address, in seconds. The connection is judged anyway, so this only
/// limits how long a name that is refused by now still resolves.
const TTL: u32 = 60;
/// The longest answer over UDP for a client without EDNS (RFC 1035 section 2.3.4).
const MAX_PLAIN_ANSWER: usize = 512;
/// The longest answer over UDP, and the longest query that a client should send. Larger datagrams are
/// often lost on the Internet (RFC 9715), and programs expect this number.
const MAX_DATAGRAM: u16 = 1232;
/// The longest answer over TCP.
const MAX_MESSAGE: usize = 65_535;
/// The option for an extended error (RFC 8914 section 2).
const EXTENDED_ERROR: u16 = 15;

/// An answer to a query.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DnsAnswer<'a> {
    Address(Ipv4Addr),
    Ipv6Address(Ipv6Addr),
    /// The name exists, and has no record of this type.
    NoData,
    /// The policy refuses the name.
    NameRefused(&'a Refusal),
    /// Records of this type are not served.
    TypeRefused,
    /// The session has no address left for a further name.
    Exhausted,
}

/// How an answer travels, which limits its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DnsTransport {
    Udp,
    Tcp,
}

/// The info code of an extended error (RFC 8914 section 4).
#[derive(Clone, Copy)]
#[repr(u16)]
enum InfoCode {
    Other = 0,
    Filtered = 17,
    NotSupported = 21,
}

/// An answer as it is sent. `None` if it cannot be written, which does not happen for a query that was
/// read.
pub(crate) fn dns_answer(
    query: &DnsQuery,
    answer: DnsAnswer<'_>,
    transport: DnsTransport,
) -> Option<Vec<u8>> {
    let refused;
    let (code, record, error) = match answer {
        DnsAnswer::Address(address) => (ResponseCode::NoError, Some(RData::A(A(address))), None),
        DnsAnswer::Ipv6Address(address) => (
            ResponseCode::NoError,
            Some(RData::AAAA(AAAA(address))),
            None,
        ),
        DnsAnswer::NoData => (ResponseCode::NoError, None, None),
        DnsAnswer::NameRefused(refusal) => {
            refused = sentence(refusal);
            let error = (InfoCode::Filtered, refused.as_str());
            (ResponseCode::NXDomain, None, Some(error))
        }
        DnsAnswer::TypeRefused => {
            let error = (
                InfoCode::NotSupported,
                "the network policy's name server answers only queries for addresses.",
            );
            (ResponseCode::Refused, None, Some(error))
        }
        DnsAnswer::Exhausted => {
            let error = (
                InfoCode::Other,
                "this session has looked up as many names as it may; start the program again.",
            );
            (ResponseCode::ServFail, None, Some(error))
        }
    };
    let mut message = message(query.metadata, Some(query.question.clone()), code);
    if let Some(data) = record {
        let name = query.question.name().clone();
        message.add_answer(Record::from_rdata(name, TTL, data));
    }
    let write = |text: &str| {
        let mut message = message.clone();
        if query.edns() == EdnsUse::Used {
            message.set_edns(edns(error.map(|(code, _)| (code, text))));
        }
        message.to_vec().ok()
    };
    let text = error.map_or("", |(_, text)| text);
    let whole = write(text)?;
    let limit = limit(query, transport);
    if whole.len() <= limit {
        return Some(whole);
    }
    // Only the sentence makes an answer long. The client can use the answer without it.
    let excess = whole.len() - limit;
    let kept = text.len().saturating_sub(excess);
    write(text.get(..kept).unwrap_or_default())
}

/// The answer to a message that is not a query that policy DNS judges, if it gets one.
pub(crate) fn dns_error(not: NotAQuery) -> Option<Vec<u8>> {
    let NotAQuery::Answered {
        metadata,
        question,
        code,
        edns: used,
    } = not
    else {
        return None;
    };
    let mut message = message(metadata, question, code);
    if used == EdnsUse::Used {
        message.set_edns(edns(None));
    }
    message.to_vec().ok()
}

fn message(metadata: Metadata, question: Option<Query>, code: ResponseCode) -> Message {
    let mut message = Message::response(metadata.id, metadata.op_code);
    message.metadata.recursion_desired = metadata.recursion_desired;
    // Resolvers ignore an answer of a server that neither recurses nor is an authority.
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.add_queries(question);
    message
}

fn edns(error: Option<(InfoCode, &str)>) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_DATAGRAM);
    if let Some((code, text)) = error {
        let data = [&(code as u16).to_be_bytes(), text.as_bytes()].concat();
        edns.options_mut()
            .insert(EdnsOption::Unknown(EXTENDED_ERROR, data));
    }
    edns
}

fn limit(query: &DnsQuery, transport: DnsTransport) -> usize {
    match (transport, query.edns_payload) {
        (DnsTransport::Tcp, _) => MAX_MESSAGE,
        (DnsTransport::Udp, None) => MAX_PLAIN_ANSWER,
        (DnsTransport::Udp, Some(payload)) => {
            usize::from(payload.min(MAX_DATAGRAM)).max(MAX_PLAIN_ANSWER)
        }
    }
}
