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

#[cfg(test)]
mod tests {
    use codex_network_policy::{
        Authority, Facts, Host, HostCredentials, InterceptionSupport, NoLocalAddresses,
        NoProxyListeners, Policy, PolicySpec, Protocol, Request, RequestKind,
    };
    use hickory_resolver::proto::op::Query;
    use hickory_resolver::proto::rr::rdata::opt::EdnsCode;
    use hickory_resolver::proto::rr::{Name, RecordType};

    use super::*;
    use crate::attempt::DestinationKind;

    /// A query for an address of `name`.
    fn query(name: &str, payload: Option<u16>) -> DnsQuery {
        let mut message = Message::query();
        let name = Name::from_ascii(name).expect("a name");
        message.add_query(Query::query(name, RecordType::A));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        DnsQuery::read(&message.to_vec().expect("a message")).expect("a query")
    }

    /// The refusal of a name by an empty policy.
    fn refusal(name: &str) -> Refusal {
        let authority = Authority {
            host: Host::parse(name).expect("a host"),
            port: 1,
        };
        let decision = Policy::compile(&PolicySpec::default())
            .expect("an empty policy")
            .decide(&Request {
                host: &authority.host,
                port: 0,
                kind: &RequestKind::Dns,
                facts: Facts {
                    machine: &NoLocalAddresses,
                    listeners: &NoProxyListeners,
                    interception: InterceptionSupport::Unavailable,
                    credentials: HostCredentials::None,
                },
            });
        Refusal {
            decision,
            destination: DestinationKind::Host,
            protocol: Protocol::Dns,
            host: authority.host.to_string(),
            port: 0,
            detail: None,
            decider_reason: None,
            credential: None,
            approval: None,
        }
    }

    fn extended_error(answer: &[u8]) -> Option<(u16, String)> {
        let message = Message::from_vec(answer).expect("a message");
        let edns = message.edns?;
        let EdnsOption::Unknown(_, data) = edns.option(EdnsCode::Unknown(EXTENDED_ERROR))? else {
            panic!("another form of the option");
        };
        let code = u16::from_be_bytes([data[0], data[1]]);
        Some((code, String::from_utf8(data[2..].to_vec()).expect("text")))
    }

    #[test]
    fn t1_a_refused_name_does_not_exist_and_the_answer_says_why() {
        let refusal = refusal("blocked.test");
        let query = query("Blocked.TEST.", Some(1232));
        let answer = dns_answer(&query, DnsAnswer::NameRefused(&refusal), DnsTransport::Udp);
        let answer = answer.expect("an answer");
        let message = Message::from_vec(&answer).expect("a message");
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(message.metadata.id, query.metadata.id);
        assert!(message.answers.is_empty() && message.authorities.is_empty());
        // Some clients compare the letters' case with their query.
        let spelt = b"\x07Blocked\x04TEST\0";
        assert!(answer.windows(spelt.len()).any(|bytes| bytes == spelt));
        let (code, text) = extended_error(&answer).expect("an extended error");
        assert_eq!(code, 17);
        assert!(
            text.starts_with("blocked.test is not on the allow list"),
            "{text}"
        );
    }

    #[test]
    fn t1_an_answer_fits_into_the_datagrams_that_the_client_takes() {
        let label = "a".repeat(60);
        let name = format!("{label}.{label}.{label}.{label}.test");
        let refusal = refusal(&name);
        let refused = DnsAnswer::NameRefused(&refusal);
        for (payload, transport, limit, has_text) in [
            (None, DnsTransport::Udp, 512, false),
            (Some(0), DnsTransport::Udp, 512, true),
            (Some(512), DnsTransport::Udp, 512, true),
            (Some(600), DnsTransport::Udp, 600, true),
            (Some(u16::MAX), DnsTransport::Udp, 1232, true),
            (Some(512), DnsTransport::Tcp, 65_535, true),
        ] {
            let query = query(&format!("{name}."), payload);
            let answer = dns_answer(&query, refused, transport).expect("an answer");
            assert!(answer.len() <= limit, "{} of {limit}", answer.len());
            let error = extended_error(&answer);
            assert_eq!(error.is_some(), has_text, "{payload:?}");
            let whole = sentence(&refusal);
            if let Some((code, text)) = error {
                assert_eq!(code, 17);
                assert!(whole.starts_with(&text), "{text}");
                let is_whole = limit > 600;
                assert_eq!(text == whole, is_whole, "{payload:?} {transport:?}");
            }
        }
    }

    #[test]
    fn t1_an_address_is_given_for_a_minute_and_other_answers_hold_no_record() {
        let query = query("a.test.", None);
        let address = Ipv4Addr::new(198, 18, 0, 1);
        for (answer, code, data) in [
            (
                DnsAnswer::Address(address),
                ResponseCode::NoError,
                Some(RData::A(A(address))),
            ),
            (DnsAnswer::NoData, ResponseCode::NoError, None),
            (DnsAnswer::TypeRefused, ResponseCode::Refused, None),
            (DnsAnswer::Exhausted, ResponseCode::ServFail, None),
        ] {
            let bytes = dns_answer(&query, answer, DnsTransport::Udp).expect("an answer");
            let message = Message::from_vec(&bytes).expect("a message");
            assert_eq!(message.metadata.response_code, code, "{answer:?}");
            assert!(message.metadata.recursion_available);
            assert_eq!(
                message.answers.first().map(|record| record.data.clone()),
                data
            );
            assert!(message.answers.iter().all(|record| record.ttl == TTL));
            assert!(message.edns.is_none());
        }
    }
}
