//! Entry points for the fuzz targets in `tests/fuzz`: parsers of this crate that are not public and
//! cannot be compiled by themselves.
//!
//! Compiled only by `cargo fuzz`, which sets `cfg(fuzzing)`. Each function checks the properties that hold
//! for any bytes, and panics where one does not hold.

use hickory_resolver::proto::op::{Message, MessageType};

use crate::dns_query::DnsQuery;
use crate::respond::{DnsAnswer, DnsTransport, dns_answer, dns_error};
use crate::socks5::handshake::{HandshakeError, ParsedMessage, greeting, request, user_name};
use crate::upstream::connect_answer;

/// Reads bytes as an upstream proxy's answer to CONNECT (SPEC H12).
///
/// # Panics
///
/// Panics if the result depends on how the bytes are split, or if an answer is not a whole head.
pub fn read_connect_answer(bytes: &[u8]) {
    if let Ok(connect_answer::Parsed::Complete(answer)) = connect_answer::read_every_way(bytes) {
        assert!((200..1000).contains(&answer.status));
        assert!(bytes[..answer.length].ends_with(b"\r\n\r\n"));
    }
}

/// Reads bytes as each of the three messages of a SOCKS5 client (SPEC S1).
///
/// # Panics
///
/// When a prefix of a whole message is not incomplete, or when later bytes change a message.
pub fn read_socks5(bytes: &[u8]) {
    read_message(greeting, bytes);
    read_message(user_name, bytes);
    read_message(request, bytes);
}

/// Reads bytes as a DNS message of a program in a jail, and answers it in every way (SPEC T1).
///
/// # Panics
///
/// If a query gets no answer, or the answer belongs to another query, or is too long. If a host is not in its
/// canonical form.
pub fn read_dns_message(bytes: &[u8]) {
    let query = match DnsQuery::read(bytes) {
        Ok(query) => query,
        Err(not) => {
            if let Some(answer) = dns_error(not) {
                assert_eq!(answer[..2], bytes[..2], "the identifier");
                assert!(answer[2] & 0x80 != 0 && answer.len() <= 512);
            }
            return;
        }
    };
    if let Ok(host) = &query.name {
        assert_eq!(
            codex_network_policy::Host::parse(&host.to_string()).as_ref(),
            Ok(host)
        );
        assert!(host.ip().is_none(), "an address is not a name");
    }
    for answer in [
        DnsAnswer::Address([198, 18, 0, 1].into()),
        DnsAnswer::Ipv6Address(std::net::Ipv6Addr::LOCALHOST),
        DnsAnswer::NoData,
        DnsAnswer::TypeRefused,
        DnsAnswer::Exhausted,
    ] {
        for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
            let written = dns_answer(&query, answer, transport).expect("an answer");
            let read = Message::from_vec(&written).expect("a message");
            assert_eq!(read.metadata.message_type, MessageType::Response);
            assert_eq!(read.metadata.id, query.metadata.id);
            assert_eq!(read.queries, [query.question.clone()]);
            let limit = usize::from(query.edns_payload.unwrap_or(0)).clamp(512, 1232);
            assert!(transport == DnsTransport::Tcp || written.len() <= limit);
        }
    }
}

fn read_message<T>(parse: fn(&[u8]) -> Result<ParsedMessage<T>, HandshakeError>, bytes: &[u8])
where
    T: std::fmt::Debug + PartialEq,
{
    match parse(bytes) {
        Ok(ParsedMessage::Complete(message, length)) => {
            for end in 0..length {
                assert_eq!(
                    parse(&bytes[..end]),
                    Ok(ParsedMessage::Incomplete),
                    "up to {end}"
                );
            }
            let alone = parse(&bytes[..length]);
            assert_eq!(alone, Ok(ParsedMessage::Complete(message, length)));
        }
        // A message has at most 262 bytes.
        Ok(ParsedMessage::Incomplete) => assert!(bytes.len() < 262),
        Err(error) => {
            let mut longer = bytes.to_vec();
            longer.push(0);
            assert_eq!(
                parse(&longer).err(),
                Some(error),
                "later bytes are not read"
            );
        }
    }
}
