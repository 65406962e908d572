//! Values that become dummies, at every split, beside a naive twin.

mod forms;
mod pieces;
mod steps;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::super::needles::tests::naive_find;
use super::*;

const VALUE: &str = "sk-proj-Zm9vYmFyLWJhei1xdXV4";
const DUMMY: &str = "sk-proj-maskedY2FsbGVkLWl0Lj";

fn scrubber(pairs: &[(&str, &str)]) -> Arc<Scrubber> {
    Arc::new(Scrubber::new(pairs.iter().copied()))
}

/// Scrubs content that arrives in these pieces.
fn scrub(scrubber: &Arc<Scrubber>, pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = ScrubbedStream::new(Arc::clone(scrubber));
    let mut clean = Vec::new();
    let mut send = |piece: Bytes| {
        assert!(!piece.is_empty());
        clean.extend_from_slice(&piece);
    };
    for piece in pieces {
        stream.push(Bytes::copy_from_slice(piece), &mut send);
        assert!(stream.held.len() < scrubber.search.max_bytes().max(1));
    }
    stream.finish(&mut send);
    assert!(stream.held.is_empty());
    clean
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn b12_the_value_becomes_the_dummy_wherever_the_content_is_split() {
    let scrubber = scrubber(&[(VALUE, DUMMY)]);
    let content = format!("{{\"token\": \"{VALUE}\", \"sk-proj-\": \"{VALUE}{VALUE}\"}}");
    let expected = content.replace(VALUE, DUMMY);
    let content = content.as_bytes();
    assert_eq!(text(&scrub(&scrubber, &[content])), expected);
    for first in 0..=content.len() {
        for second in first..=content.len() {
            let pieces = [
                &content[..first],
                &content[first..second],
                &content[second..],
            ];
            assert_eq!(text(&scrub(&scrubber, &pieces)), expected);
        }
    }
    let bytes: Vec<&[u8]> = content.chunks(1).collect();
    assert_eq!(text(&scrub(&scrubber, &bytes)), expected);
    assert!(scrubber.preserves_length());
}

#[test]
fn b12_base64_decodes_to_the_dummy_at_every_place_in_a_group() {
    let scrubber = scrubber(&[(VALUE, DUMMY)]);
    for before in ["", "x", "xy", "x-access-token:", "me:", "user1:"] {
        for after in ["", ":", "\"}", "\n--", ":x-oauth-basic"] {
            let plain = format!("{before}{VALUE}{after}");
            let expected = plain.replace(VALUE, DUMMY);
            for (name, encoded, dummy) in [
                (
                    "standard",
                    STANDARD.encode(&plain),
                    STANDARD.encode(&expected),
                ),
                (
                    "url-safe",
                    URL_SAFE_NO_PAD.encode(&plain),
                    URL_SAFE_NO_PAD.encode(&expected),
                ),
            ] {
                let content = format!("Basic {encoded}\r\n");
                for at in 0..=content.len() {
                    let (one, other) = content.as_bytes().split_at(at);
                    let clean = scrub(&scrubber, &[one, other]);
                    assert_eq!(text(&clean), format!("Basic {dummy}\r\n"), "{name} {at}");
                }
            }
        }
    }
}

#[test]
fn b12_a_dummy_of_another_length_keeps_base64_decodable() {
    let scrubber = scrubber(&[("password", "masked-0123456789abcdef0123456789")]);
    assert!(!scrubber.preserves_length());
    let content = b"[password]";
    let clean = scrub(&scrubber, &[content]);
    assert_eq!(text(&clean), "[masked-0123456789abcdef0123456789]");
    let clean = scrub(&scrubber, &[STANDARD.encode("me:password:x").as_bytes()]);
    let decoded = STANDARD.decode(clean).expect("base64");
    assert_eq!(text(&decoded), "me:masked-0:x");
}

#[test]
fn b12_other_content_passes_without_a_copy_and_is_not_held_back() {
    let scrubber = scrubber(&[(VALUE, DUMMY)]);
    let mut stream = ScrubbedStream::new(Arc::clone(&scrubber));
    let piece = Bytes::from_static(b"data: {\"delta\": \"hello\"}\n\n");
    let mut sent = Vec::new();
    stream.push(piece.clone(), |piece| sent.push(piece));
    assert_eq!(sent, std::slice::from_ref(&piece));
    assert_eq!(sent[0].as_ptr(), piece.as_ptr());
    assert!(stream.held.is_empty());
    assert_eq!(scrubber.scrub(b"nothing here"), None);
    let field = scrubber.scrub(format!("token={VALUE}; Path=/").as_bytes());
    let field = field.expect("a scrubbed field");
    assert_eq!(text(&field), format!("token={DUMMY}; Path=/"));
}

#[test]
fn b12_a_value_with_other_bytes_than_tokens_is_found_at_every_split() {
    let (value, dummy) = ("pass word, \"it's\"", "mask word, \"it's\"");
    let scrubber = scrubber(&[(value, dummy)]);
    let content = format!("[{value}] {value}");
    for at in 0..=content.len() {
        let (one, other) = content.as_bytes().split_at(at);
        let clean = scrub(&scrubber, &[one, other]);
        assert_eq!(text(&clean), content.replace(value, dummy), "{at}");
    }
}

#[test]
fn b12_a_value_that_begins_with_another_is_replaced_as_a_whole_at_every_split() {
    let scrubber = scrubber(&[("abcdefgh", "<one>"), ("abcdefghijkl", "<longer>")]);
    let content = b"abcdefghijkl abcdefghijkx abcdefgh";
    for at in 0..=content.len() {
        let (one, other) = content.split_at(at);
        let clean = scrub(&scrubber, &[one, other]);
        assert_eq!(text(&clean), "<longer> <one>ijkx <one>", "{at}");
    }
}

#[test]
fn b12_a_value_that_is_refreshed_in_the_middle_of_an_answer_is_found_at_every_split() {
    let renewed = "sk-proj-UmVuZXdlZC1iYXotcXV4";
    let other = DUMMY.replace("masked", "marked");
    let earlier = scrubber(&[(VALUE, DUMMY)]);
    let content = format!("data: {VALUE} {renewed}");
    let expected = content.replace(VALUE, DUMMY).replace(renewed, &other);
    for at in 0..=content.len() {
        let current = CurrentScrubber::new(Scrubber::new([(VALUE, DUMMY)]));
        let mut stream = ScrubbedStream::new(Arc::clone(&earlier));
        let mut clean = Vec::new();
        let mut send = |piece: Bytes| clean.extend_from_slice(&piece);
        let (one, next) = content.as_bytes().split_at(at);
        stream.push(Bytes::copy_from_slice(one), &mut send);
        current.replace(Scrubber::new([(renewed, &*other), (VALUE, DUMMY)]));
        stream.follow(&current);
        if !next.is_empty() {
            stream.push(Bytes::copy_from_slice(next), &mut send);
        }
        stream.finish(&mut send);
        assert_eq!(text(&clean), expected, "{at}");
    }
}

#[test]
fn b12_nothing_is_replaced_without_credentials() {
    let scrubber = scrubber(&[]);
    assert_eq!(scrub(&scrubber, &[b"ab", b"cd"]), b"abcd");
}

/// The same with the whole content at hand, by comparing at each place.
fn naive(strings: &[(Vec<u8>, Vec<u8>)], content: &[u8]) -> Vec<u8> {
    let needles: Vec<Vec<u8>> = strings.iter().map(|(value, _)| value.clone()).collect();
    let mut clean = Vec::new();
    let mut from = 0;
    while let Some((at, needle)) = naive_find(&needles, content, from) {
        clean.extend_from_slice(&content[from..at]);
        let (_, dummy) = strings.iter().find(|(v, _)| v == needle).expect("itself");
        clean.extend_from_slice(dummy);
        from = at + needle.len();
    }
    clean.extend_from_slice(&content[from..]);
    clean
}

proptest! {
    #[test]
    fn b12_a_stream_is_scrubbed_as_its_whole_content_is(
        values in prop::collection::vec("[ab]{8,12}", 1..4),
        pieces in prop::collection::vec("[ab%]{0,16}", 0..12),
    ) {
        // Values that overlap each other, begin with each other and repeat themselves.
        let pairs: Vec<(String, String)> = values
            .iter()
            .enumerate()
            .map(|(number, value)| (value.clone(), format!("<{number}>")))
            .collect();
        let borrowed: Vec<(&str, &str)> = pairs.iter().map(|(v, d)| (&**v, &**d)).collect();
        let scrubber = scrubber(&borrowed);
        let pieces: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
        let strings: Vec<(Vec<u8>, Vec<u8>)> = pairs
            .iter()
            .map(|(v, d)| (v.clone().into_bytes(), d.clone().into_bytes()))
            .collect();
        let whole = pieces.concat();
        prop_assert_eq!(scrub(&scrubber, &pieces), naive(&strings, &whole));
        prop_assert_eq!(scrub(&scrubber, &[&whole]), naive(&strings, &whole));
    }

    #[test]
    fn b12_pieces_are_sent_as_far_as_the_whole_content_would_be(
        values in prop::collection::vec("[ab\"&;]{8,10}", 1..4),
        pieces in prop::collection::vec("(a|b|b|;|&amp;|&quot;|%62|\\\\\"|\"| ){0,9}", 0..12),
    ) {
        let pairs: Vec<(String, String)> = values
            .iter()
            .enumerate()
            .map(|(number, value)| (value.clone(), format!("<{number}>")))
            .collect();
        let borrowed: Vec<(&str, &str)> = pairs.iter().map(|(v, d)| (&**v, &**d)).collect();
        let scrubber = scrubber(&borrowed);
        let mut stream = ScrubbedStream::new(Arc::clone(&scrubber));
        let (mut whole, mut clean) = (Vec::new(), Vec::new());
        for piece in pieces {
            whole.extend_from_slice(piece.as_bytes());
            stream.push(Bytes::from(piece), |piece| clean.extend_from_slice(&piece));
            // The twin searches from the beginning each time.
            let mut expected = Vec::new();
            ScrubbedStream::new(Arc::clone(&scrubber)).push(
                Bytes::copy_from_slice(&whole),
                |piece| expected.extend_from_slice(&piece),
            );
            prop_assert_eq!(text(&clean), text(&expected), "{:?}", text(&whole));
        }
    }
}
