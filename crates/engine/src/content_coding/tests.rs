//! Content in each coding, whole, in pieces, broken, and made to grow.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

fn raw_deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

/// Blocks without compression (RFC 7932 section 9.2), with this beginning.
fn brotli_with(first_bits: u32, bits: u32, content: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    let (mut begin, mut shift) = (first_bits, bits);
    for part in content.chunks(1 << 16) {
        let length = u32::try_from(part.len() - 1).expect("a length");
        // ISLAST 0, MNIBBLES 4, the length, ISUNCOMPRESSED 1.
        let header = begin | (length << (shift + 3)) | (1 << (shift + 19));
        let bytes = (shift + 20).div_ceil(8);
        coded.extend_from_slice(&header.to_le_bytes()[..usize::try_from(bytes).expect("few")]);
        coded.extend_from_slice(part);
        (begin, shift) = (0, 0);
    }
    // An empty last block.
    let last = begin | 3 << shift;
    coded.push(u8::try_from(last).expect("a byte"));
    coded
}

fn brotli(content: &[u8]) -> Vec<u8> {
    brotli_with(0, 1, content)
}

fn codings(text: &str) -> Option<ContentCodings> {
    let mut fields = HeaderMap::new();
    let value = HeaderValue::from_str(text).expect("a value");
    fields.insert(header::CONTENT_ENCODING, value);
    ContentCodings::of(&fields)
}

/// Decodes content that arrives in pieces of this size.
fn decode(names: &str, coded: &[u8], size: usize) -> Result<Vec<u8>, CodingError> {
    let mut decoder = Decoder::new(
        &codings(names).expect("known codings"),
        &UserWindows::default(),
    )?;
    let mut content = Vec::new();
    for piece in coded.chunks(size) {
        decoder.push(Bytes::copy_from_slice(piece));
        let mut before = given(&decoder);
        loop {
            let pulled = decoder.pull()?;
            assert!(given(&decoder) - before <= MAX_GIVEN_IN_A_TURN, "{names}");
            match pulled {
                Pulled::Piece(piece) => {
                    assert!(!piece.is_empty());
                    assert!(piece.len() <= 512 << 10, "{}", piece.len());
                    content.extend_from_slice(&piece);
                }
                Pulled::Paused => before = given(&decoder),
                Pulled::NeedsMore => break,
            }
        }
    }
    decoder.finish()?;
    Ok(content)
}

/// The bytes that all codings gave.
fn given(decoder: &Decoder) -> u64 {
    decoder.stages.iter().map(|stage| stage.given).sum()
}

/// The elements that all codings decoded.
fn elements(decoder: &Decoder) -> u64 {
    decoder.stages.iter().map(|stage| stage.elements).sum()
}

/// A turn and its last step, which may grow by much, give at most so many bytes in all codings.
const MAX_GIVEN_IN_A_TURN: u64 = 3 * MAX_TURN;

/// Text that compresses somewhat.
fn text(length: usize) -> Vec<u8> {
    let words = (0..).map(|number: usize| format!("{} token {number}; ", number * number % 977));
    words.flat_map(String::into_bytes).take(length).collect()
}

/// Each coding, and nested ones.
fn coded(content: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("gzip", gzip(content)),
        (
            "X-GZip",
            [
                gzip(&content[..content.len() / 2]),
                gzip(&content[content.len() / 2..]),
            ]
            .concat(),
        ),
        ("deflate", zlib(content)),
        ("deflate", raw_deflate(content)),
        ("br", brotli(content)),
        ("gzip, br", brotli(&gzip(content))),
        ("br,deflate , identity,gzip", gzip(&zlib(&brotli(content)))),
    ]
}

#[test]
fn b12_content_is_decoded_in_pieces_of_any_size() {
    for length in [1, 2, 300, 200_000] {
        let content = text(length);
        for (name, coded) in coded(&content) {
            for size in [1, 2, 7, 1000, 1 << 20] {
                if size < 7 && length > 1000 {
                    continue;
                }
                let decoded = decode(name, &coded, size);
                assert!(
                    decoded.as_ref() == Ok(&content),
                    "{name} {length} {size}: {:?}",
                    decoded.err()
                );
            }
        }
    }
}

#[test]
fn b12_content_that_ends_within_its_coding_or_is_not_in_it_is_an_error() {
    let content = text(3000);
    for (name, coded) in coded(&content) {
        for end in [1, 5, coded.len() / 2, coded.len() - 1] {
            let result = decode(name, &coded[..end], 100);
            assert!(result.is_err(), "{name} {end}");
        }
        let mut longer = coded.clone();
        longer.extend_from_slice(b"more than that");
        assert!(decode(name, &longer, 100).is_err(), "{name}, longer");
        assert!(
            decode(name, b"not really compressed", 100).is_err(),
            "{name}, plain"
        );
        assert_eq!(decode(name, b"", 100), Ok(Vec::new()), "{name}, nothing");
    }
}

#[test]
fn b12_only_known_codings_are_decoded_and_few_of_them() {
    for (names, is_known) in [
        ("", true),
        ("identity", true),
        ("gzip", true),
        ("GZIP, x-gzip", true),
        ("br, gzip, deflate", true),
        ("br, gzip, deflate, gzip", false),
        ("compress", false),
        ("zstd", false),
        ("gzip, zstd", false),
        ("gzip, aes128gcm", false),
        ("gzip;q=1", false),
        ("dcb", false),
    ] {
        assert_eq!(codings(names).is_some(), is_known, "{names}");
    }
    assert!(codings("identity").expect("known").is_identity());
}

#[test]
fn b12_content_that_grows_without_measure_is_an_error() {
    let zeros = vec![0; 6 << 20];
    for (name, coded) in [("gzip", gzip(&zeros)), ("gzip, gzip", gzip(&gzip(&zeros)))] {
        let result = decode(name, &coded, 1000);
        assert_eq!(result.err(), Some(CodingError::Unbounded), "{name}");
    }
    let small = vec![0; 4 << 20];
    assert_eq!(
        decode("gzip", &gzip(&small), 1000).map(|all| all.len()),
        Ok(small.len())
    );
}

#[test]
fn b12_content_that_grows_only_between_two_codings_is_an_error() {
    for (what, name, inner) in [
        ("members", "gzip, gzip, gzip", gzip(b"").repeat(60_000)),
        ("few members", "gzip, gzip", gzip(b"").repeat(60_000)),
        (
            "empty blocks of deflate",
            "deflate, gzip",
            [0, 0, 0, 0xff, 0xff].repeat(60_000),
        ),
        (
            "empty meta-blocks",
            "br, gzip",
            [&[0x0c][..], &[0x06].repeat(300_000)].concat(),
        ),
    ] {
        let coded = (1..name.split(',').count()).fold(inner, |content, _| gzip(&content));
        let mut decoder = Decoder::new(&codings(name).expect("known"), &UserWindows::default())
            .expect("a decoder");
        decoder.push(coded.into());
        let error = loop {
            match decoder.pull() {
                Ok(Pulled::Paused) => {}
                Ok(other) => panic!("{what}: {other:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error, CodingError::Unbounded, "{what}");
        // One step beyond the bound.
        let free = MAX_FREE_BYTES + 512 * 1024;
        assert!(given(&decoder) <= 2 * free, "{what}: {}", given(&decoder));
        let free = MAX_FREE_BYTES / ELEMENT_BYTES + 16 * 1024 / 8;
        assert!(elements(&decoder) <= free, "{what}");
    }
}

#[test]
fn b12_content_of_one_coding_may_have_any_number_of_empty_elements() {
    for (name, coded) in [
        ("gzip", gzip(b"").repeat(60_000)),
        (
            "deflate",
            [
                &[0, 0, 0, 0xff, 0xff].repeat(60_000)[..],
                &[1, 0, 0, 0xff, 0xff],
            ]
            .concat(),
        ),
        (
            "br",
            [&[0x0c][..], &[0x06].repeat(300_000), &[0x03]].concat(),
        ),
    ] {
        assert_eq!(decode(name, &coded, 100_000), Ok(Vec::new()), "{name}");
    }
    // As do pieces of one byte.
    let content = text(100_000);
    assert!(decode("gzip", &gzip(&content), 1).as_ref() == Ok(&content));
}

#[test]
fn b12_a_turn_of_decoding_is_short() {
    let text = text(3 << 20);
    let zeros = vec![0; 3 << 20];
    for (name, coded) in [
        ("gzip", gzip(&text)),
        ("gzip, gzip", gzip(&gzip(&zeros))),
        ("gzip, br, deflate", zlib(&brotli(&gzip(&text)))),
        ("gzip", gzip(b"").repeat(20_000)),
        ("deflate", [0, 0, 0, 0xff, 0xff].repeat(20_000)),
        ("br", [&[0x0c][..], &[0x06].repeat(100_000)].concat()),
    ] {
        let mut decoder = Decoder::new(&codings(name).expect("known"), &UserWindows::default())
            .expect("a decoder");
        decoder.push(coded.into());
        let (mut bytes, mut parts, mut turns) = (0, 0, 0);
        loop {
            let pulled = decoder.pull().expect("content");
            assert!(given(&decoder) - bytes <= MAX_GIVEN_IN_A_TURN, "{name}");
            assert!(elements(&decoder) - parts <= 4096, "{name}");
            match pulled {
                Pulled::Piece(_) => {}
                Pulled::Paused => {
                    (bytes, parts) = (given(&decoder), elements(&decoder));
                    turns += 1;
                }
                Pulled::NeedsMore => break,
            }
        }
        assert!(turns > 4, "{name}: {turns}");
    }
}

#[tokio::test]
async fn b12_other_tasks_run_while_much_is_decoded() {
    let mut decoder =
        Decoder::new(&codings("gzip").expect("known"), &UserWindows::default()).expect("a decoder");
    decoder.push(gzip(b"").repeat(20_000).into());
    let other = tokio::spawn(std::future::ready(()));
    let mut polls = 0;
    let piece = std::future::poll_fn(|cx| {
        polls += 1;
        let before = given(&decoder);
        let polled = decoder.poll_piece(cx);
        assert!(given(&decoder) - before <= MAX_GIVEN_IN_A_TURN);
        assert!(polls == 1 || other.is_finished());
        polled
    });
    assert_eq!(piece.await, Ok(None));
    assert!(polls > 4, "{polls}");
}

#[test]
fn b12_a_coding_with_a_large_window_is_an_error() {
    // WBITS 23 and 24.
    for first in [0x0d, 0x0f] {
        let coded = brotli_with(first, 4, b"content");
        assert_eq!(decode("br", &coded, 100), Err(CodingError::Window));
    }
    assert_eq!(
        decode("br", &brotli_with(0x0b, 4, b"content"), 100),
        Ok(b"content".to_vec())
    );
}

#[test]
fn b12_few_answers_have_a_coding_with_a_large_window_at_a_time() {
    let br = codings("br").expect("known");
    let mut decoders = Vec::new();
    let error = loop {
        match Decoder::new(&br, &UserWindows::default()) {
            Ok(decoder) => decoders.push(decoder),
            Err(error) => break error,
        }
    };
    assert_eq!(error, CodingError::Window);
    assert!(decoders.len() <= 16);
    assert!(Decoder::new(&codings("gzip").expect("known"), &UserWindows::default()).is_ok());
    drop(decoders);
    assert!(Decoder::new(&br, &UserWindows::default()).is_ok());
}

#[test]
fn b12_content_that_was_flushed_passes_at_once() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mut decoder =
        Decoder::new(&codings("gzip").expect("known"), &UserWindows::default()).expect("a decoder");
    for event in ["data: one\n\n", "data: two\n\n"] {
        encoder.write_all(event.as_bytes()).expect("memory");
        encoder.flush().expect("memory");
        decoder.push(std::mem::take(encoder.get_mut()).into());
        assert_eq!(decoder.pull(), Ok(Pulled::Piece(Bytes::from(event))));
        assert_eq!(decoder.pull(), Ok(Pulled::NeedsMore));
    }
}

proptest! {
    #[test]
    fn b12_no_content_makes_a_decoder_fail_in_another_way(
        number in 0usize..7,
        place in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..6),
        size in 1usize..400,
    ) {
        let (name, mut coded) = coded(&text(2000)).swap_remove(number);
        let place = place.index(coded.len());
        for (at, byte) in bytes.into_iter().enumerate() {
            if let Some(changed) = coded.get_mut(place + at) {
                *changed = byte;
            }
        }
        let _any = decode(name, &coded, size);
    }
}
