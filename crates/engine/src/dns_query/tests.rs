//! Messages as programs send them, cut off, and bent.

use hickory_resolver::proto::op::ResponseCode;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::respond::{DnsAnswer, DnsTransport, dns_answer, dns_error};

/// A query for `Example.test`, type A, with EDNS and a payload of 1232 bytes.
const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\
    \x07Example\x04test\x00\x00\x01\x00\x01\
    \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";

/// Where the question of [`QUERY`] begins and ends.
const QUESTION: usize = HEADER;
const QUESTION_END: usize = QUESTION + 18;

fn code(message: &[u8]) -> Option<ResponseCode> {
    match DnsQuery::read(message) {
        Err(NotAQuery::Answered { code, .. }) => Some(code),
        Err(NotAQuery::Ignored) => None,
        Ok(query) => panic!("{query:?}"),
    }
}

/// [`QUERY`] with other bytes at a place.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut message = QUERY.to_vec();
    message[at..at + bytes.len()].copy_from_slice(bytes);
    message
}

/// A query without EDNS for these labels.
fn labels(labels: &[&[u8]]) -> Vec<u8> {
    let mut message = QUERY[..QUESTION].to_vec();
    message[11] = 0;
    for label in labels {
        message.push(u8::try_from(label.len()).expect("a short label"));
        message.extend_from_slice(label);
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

#[test]
fn t1_a_query_is_read_with_its_name_and_its_limits() {
    let query = DnsQuery::read(QUERY).expect("a query");
    assert_eq!(query.name, Ok(Host::parse("example.test").expect("a host")));
    assert_eq!(query.record_type(), RecordType::A);
    assert_eq!(query.question.name().to_ascii(), "Example.test.");
    assert_eq!(query.edns_payload, Some(1232));
    assert_eq!(query.metadata.id, 0x1234);
    assert!(query.metadata.recursion_desired);
    let plain = DnsQuery::read(&labels(&[b"a", b"test"])).expect("a query");
    assert_eq!(plain.edns(), EdnsUse::Unused);
}

#[test]
fn t1_no_prefix_of_a_query_is_a_query() {
    for length in 0..QUERY.len() {
        let wanted = (length >= HEADER).then_some(ResponseCode::FormErr);
        assert_eq!(code(&QUERY[..length]), wanted, "{length} bytes");
    }
}

#[test]
fn t1_messages_that_are_no_query_for_one_name_are_answered_with_a_code() {
    let mut two_options = QUERY.to_vec();
    two_options[11] = 2;
    two_options.extend_from_slice(&QUERY[QUESTION_END..]);
    let mut newer_edns = QUERY.to_vec();
    newer_edns[QUESTION_END + 6] = 1;
    for (what, message, wanted) in [
        ("an update", with(2, &[0x28]), Some(ResponseCode::NotImp)),
        (
            "a status query",
            with(2, &[0x10]),
            Some(ResponseCode::NotImp),
        ),
        ("no question", with(5, &[0]), Some(ResponseCode::FormErr)),
        ("two questions", with(5, &[2]), Some(ResponseCode::FormErr)),
        (
            "many questions",
            with(4, &[0xff; 2]),
            Some(ResponseCode::FormErr),
        ),
        (
            "an answer in it",
            with(7, &[1]),
            Some(ResponseCode::FormErr),
        ),
        (
            "an authority in it",
            with(9, &[1]),
            Some(ResponseCode::FormErr),
        ),
        (
            "many additions",
            with(10, &[0xff; 2]),
            Some(ResponseCode::FormErr),
        ),
        (
            "two sets of options",
            two_options,
            Some(ResponseCode::FormErr),
        ),
        ("a later EDNS", newer_edns, Some(ResponseCode::BADVERS)),
        (
            "another class",
            with(QUESTION_END - 1, &[3]),
            Some(ResponseCode::Refused),
        ),
        (
            "a pointer to itself",
            with(QUESTION, &[0xc0, 12]),
            Some(ResponseCode::FormErr),
        ),
        ("a pointer to the header", with(QUESTION, &[0xc0, 0]), None),
        (
            "a pointer forwards",
            with(QUESTION, &[0xc0, 20]),
            Some(ResponseCode::FormErr),
        ),
        (
            "a label of a reserved type",
            with(QUESTION, &[0x80]),
            Some(ResponseCode::FormErr),
        ),
        (
            "a label beyond the end",
            with(QUESTION, &[63]),
            Some(ResponseCode::FormErr),
        ),
        ("an answer", with(2, &[0x81]), None),
    ] {
        if what == "a pointer to the header" {
            // Its bytes are a name of some sort, or not. It must only be read in bounded time.
            let _ = DnsQuery::read(&message);
            continue;
        }
        assert_eq!(code(&message), wanted, "{what}");
    }
    let long = [QUERY, &[0; MAX_QUERY]].concat();
    assert_eq!(code(&long), Some(ResponseCode::FormErr));
}

#[test]
fn t1_labels_that_are_no_host_name_are_not_taken_for_one() {
    for (name, wanted) in [
        (&[b"example".as_slice(), b"test"][..], Some("example.test")),
        (&[b"EXAMPLE", b"Test"], Some("example.test")),
        (&[b"_dns", b"example", b"test"], Some("_dns.example.test")),
        (
            &["b\u{fc}cher".as_bytes(), b"test"],
            Some("xn--bcher-kva.test"),
        ),
        (&[b"localhost"], Some("localhost")),
        // A label with a dot is another name than two labels.
        (&[b"example.test"], None),
        (&[b"evil", b"example.test"], None),
        (&[b" example", b"test"], None),
        (&[b"example", b"test "], None),
        (&[b"exa mple", b"test"], None),
        (&[b"exam\0ple", b"test"], None),
        (&[b"a@b", b"test"], None),
        (&[b"\xff", b"test"], None),
        (&[b"*", b"test"], None),
        // Addresses are not looked up.
        (&[b"127", b"0", b"0", b"1"], None),
        (&[b"0x7f000001"], None),
        (&[b"::1"], None),
        (&[b"[::1]"], None),
        (&[], None),
    ] {
        let query = DnsQuery::read(&labels(name)).expect("a query");
        let found = query.name.as_ref().ok().map(ToString::to_string);
        assert_eq!(found.as_deref(), wanted, "{name:?}");
    }
}

proptest! {
    /// Bytes of any kind, and queries with some bytes changed, behind a header that says "query".
    #[test]
    fn t1_any_bytes_get_an_answer_that_can_be_sent_or_none(
        changes in vec((2..QUERY.len(), any::<u8>()), 0..6),
        rest in vec(any::<u8>(), 0..300),
        payload in any::<u16>(),
    ) {
        let mut message = QUERY.to_vec();
        message[QUESTION_END + 3..QUESTION_END + 5].copy_from_slice(&payload.to_be_bytes());
        for (at, byte) in changes {
            message[at] = byte;
        }
        for bytes in [message.clone(), [&QUERY[..HEADER], &rest].concat(), rest] {
            match DnsQuery::read(&bytes) {
                Ok(query) => {
                    let answer = dns_answer(&query, DnsAnswer::TypeRefused, DnsTransport::Udp);
                    let answer = answer.expect("an answer");
                    prop_assert_eq!(&answer[..2], &bytes[..2]);
                    prop_assert!(answer.len() <= 1232);
                    let sent = Message::from_vec(&answer).expect("a message");
                    prop_assert_eq!(sent.queries, [query.question]);
                }
                Err(not) => {
                    if let Some(answer) = dns_error(not) {
                        prop_assert_eq!(&answer[..2], &bytes[..2]);
                        prop_assert!(answer.len() <= 512);
                    }
                }
            }
        }
    }
}
