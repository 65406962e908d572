//! The framing rules of SPEC H1 and H4: tables of sound and of flawed streams, each in every split,
//! and comparisons with httparse and hyper, the parsers that the scanner guards.

use std::fmt::Write as _;

use streams::{CHUNKED_HEAD, MALFORMED, MALFORMED_CHUNKS, SOUND, flawed_streams, latin1};

use super::{Framing, FramingError, MAX_CHUNK_LINE, MAX_FIELDS, MAX_LENGTH, Position};

mod differential;
mod streams;

const LIMIT: usize = 4096;

/// The result of scanning a whole stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    accepted: usize,
    error: Option<FramingError>,
    position: Position,
}

/// Feeds the pieces in order, also those after an error: none of their bytes may be accepted.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> Verdict {
    let mut framing = Framing::new(limit);
    let mut accepted = 0;
    let mut error = None;
    for piece in pieces {
        match framing.scan(piece) {
            Ok(()) => {
                assert_eq!(error, None, "accepted {piece:?} after an error");
                accepted += piece.len();
            }
            Err(cut) if error.is_none() => {
                assert!(cut.accepted < piece.len(), "{cut:?} in {piece:?}");
                accepted += cut.accepted;
                error = Some(cut.error);
            }
            Err(cut) => assert_eq!((0, error), (cut.accepted, Some(cut.error))),
        }
    }
    Verdict {
        accepted,
        error,
        position: framing.position(),
    }
}

/// The verdict on a stream. Checks that the verdict is the same if the stream arrives whole, byte
/// by byte, or in any two parts.
fn verdict(stream: &[u8]) -> Verdict {
    let whole = feed([stream], LIMIT);
    assert_eq!(whole, feed(stream.chunks(1), LIMIT), "byte by byte");
    for at in 0..=stream.len() {
        let (first, second) = stream.split_at(at);
        assert_eq!(whole, feed([first, second], LIMIT), "split at {at}");
    }
    whole
}

#[test]
fn h1_sound_messages_pass_in_every_split_and_so_does_every_prefix() {
    for text in SOUND {
        let stream = latin1(text);
        let sound = Verdict {
            accepted: stream.len(),
            error: None,
            position: Position::BetweenMessages,
        };
        assert_eq!(verdict(&stream), sound, "{text:?}");
        for end in 0..stream.len() {
            let prefix = feed([&stream[..end]], LIMIT);
            assert_eq!(prefix.error, None, "{text:?} up to {end}");
            assert_eq!(prefix.accepted, end, "{text:?} up to {end}");
        }
    }
}

#[test]
fn h4_malformed_streams_end_at_the_invalid_byte_in_any_pieces() {
    for (stream, accepted, error) in flawed_streams() {
        let text = stream.escape_ascii();
        let verdict = verdict(&stream);
        assert_eq!(
            (verdict.accepted, verdict.error),
            (accepted, Some(error)),
            "{text}"
        );
    }
}

#[test]
fn h4_malformed_streams_after_sound_requests_end_at_the_same_byte() {
    let before = SOUND.concat();
    let before = latin1(&before);
    for (flawed, accepted, error) in flawed_streams() {
        let verdict = feed([&before[..], &flawed[..]], LIMIT);
        let text = flawed.escape_ascii();
        let total = before.len() + accepted;
        assert_eq!(
            (verdict.accepted, verdict.error),
            (total, Some(error)),
            "{text}"
        );
    }
}

/// hyper must not get a malformed request: the accepted bytes are never a whole head.
#[test]
fn h4_a_malformed_head_is_never_accepted_whole() {
    for (sound, rest, error) in MALFORMED {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let released = latin1(sound);
        let parsed = request.parse(&released);
        assert!(
            !matches!(parsed, Ok(status) if status.is_complete()),
            "{rest:?}: {error}"
        );
    }
}

#[test]
fn h1_the_position_is_right_between_any_two_bytes() {
    let steps = [
        ("", Position::BetweenMessages),
        ("\r", Position::BetweenMessages),
        ("\n", Position::BetweenMessages),
        ("G", Position::InHead),
        ("ET / HTTP/1.1\r\nA: b\r\n\r", Position::InHead),
        ("\n", Position::BetweenMessages),
        (
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r",
            Position::InHead,
        ),
        ("\n", Position::InBody),
        ("x", Position::InBody),
        ("\n", Position::BetweenMessages),
        (CHUNKED_HEAD, Position::InBody),
        ("1\r", Position::InBody),
        ("\nx", Position::InBody),
        ("\r\n0\r\n", Position::InBody),
        ("X: 1\r\n\r", Position::InBody),
        ("\n", Position::BetweenMessages),
        (
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r",
            Position::InHead,
        ),
        ("\n", Position::Opaque),
        ("\0\n\n GET", Position::Opaque),
    ];
    let mut framing = Framing::new(LIMIT);
    for (bytes, position) in steps {
        assert_eq!(framing.scan(bytes.as_bytes()), Ok(()), "{bytes:?}");
        assert_eq!(framing.position(), position, "after {bytes:?}");
    }
}

/// RFC 9110 section 9.3.6. A byte behind the CONNECT belongs to the tunnel, whatever it is.
#[test]
fn h8_a_stream_goes_on_only_directly_behind_a_connect() {
    let connect = b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n";
    let get = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let stream = [get, &connect[..], get].concat();
    let behind = get.len() + connect.len();
    for length in 0..=stream.len() {
        for piece in [1, 7, stream.len()] {
            let mut framing = Framing::new(LIMIT);
            for part in stream[..length].chunks(piece) {
                assert_eq!(framing.scan(part), Ok(()));
            }
            assert_eq!(framing.is_at_connect_end(), length == behind, "{length}");
            assert_eq!(framing.resume(), length == behind, "{length}");
            assert!(!framing.resume(), "once");
            if length == behind {
                assert_eq!(framing.position(), Position::BetweenMessages);
                assert_eq!(framing.scan(connect), Ok(()));
                assert!(framing.is_at_connect_end());
            }
        }
    }
}

/// The scanner checks the next request as it checks the first one.
#[test]
fn h4_a_malformed_request_behind_a_refused_connect_is_an_error() {
    for (sound, rest, error) in MALFORMED {
        let mut framing = Framing::new(LIMIT);
        framing
            .scan(b"CONNECT a.test:443 HTTP/1.1\r\n\r\n")
            .expect("a sound head");
        assert!(framing.resume());
        let stream = [latin1(sound), latin1(rest)].concat();
        let first = framing.scan(&stream).expect_err(rest);
        assert_eq!((first.accepted, first.error), (latin1(sound).len(), *error));
    }
}

#[test]
fn h1_the_largest_sizes_are_counted_and_not_looked_into() {
    for head in [
        format!("POST / HTTP/1.1\r\nContent-Length: {MAX_LENGTH}\r\n\r\n"),
        format!("{CHUNKED_HEAD}{:x}\r\n", u64::MAX),
    ] {
        let bytes = vec![b'\n'; 1 << 16];
        let mut framing = Framing::new(LIMIT);
        assert_eq!(framing.scan(head.as_bytes()), Ok(()));
        for _ in 0..16 {
            assert_eq!(framing.scan(&bytes), Ok(()));
            assert_eq!(framing.position(), Position::InBody);
        }
    }
}

/// The stream just fits a limit of its own length. With one byte less, the error is at the last
/// byte.
fn assert_limited(before: &str, section: &str, error: FramingError) {
    let stream = latin1(&format!("{before}{section}"));
    let fits = feed([&stream[..]], section.len());
    assert_eq!(
        (fits.accepted, fits.error),
        (stream.len(), None),
        "{section:?}"
    );
    for pieces in [1, 7, stream.len()] {
        let cut = feed(stream.chunks(pieces), section.len() - 1);
        assert_eq!(
            (cut.accepted, cut.error),
            (stream.len() - 1, Some(error)),
            "{section:?}"
        );
    }
}

#[test]
fn h4_heads_and_trailer_sections_are_limited() {
    let long = "x".repeat(100);
    assert_limited("", &long, FramingError::SectionTooLong);
    assert_limited("", &format!("GET /{long}"), FramingError::TargetTooLong);
    assert_limited("", &format!("GET /{long} H"), FramingError::SectionTooLong);
    assert_limited(
        "",
        &format!("GET / HTTP/1.1\r\n{long}"),
        FramingError::SectionTooLong,
    );
    assert_limited(
        "",
        &format!("GET / HTTP/1.1\r\nA: {long}"),
        FramingError::SectionTooLong,
    );
    assert_limited(
        "",
        "GET / HTTP/1.1\r\nA: 1\r\n\r\n",
        FramingError::SectionTooLong,
    );
    // Empty lines before the request line and the requests before it do not count.
    assert_limited(
        "\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        FramingError::SectionTooLong,
    );
    let before = "GET / HTTP/1.1\r\n\r\n";
    assert_limited(
        before,
        "GET / HTTP/1.1\r\nA: 1\r\n\r\n",
        FramingError::SectionTooLong,
    );
    // Nor do the head, the chunk lines and the data count against the trailers.
    let chunks = format!("{CHUNKED_HEAD}40\r\n{}\r\n0\r\n", "x".repeat(0x40));
    assert_limited(
        &chunks,
        &format!("A: {long}\r\n\r\n"),
        FramingError::SectionTooLong,
    );
}

#[test]
fn h4_fields_are_counted_in_heads_and_in_trailer_sections() {
    let mut fields = String::new();
    for number in 0..MAX_FIELDS {
        write!(fields, "f{number}: x\r\n").unwrap();
    }
    for before in [
        "GET / HTTP/1.1\r\n".to_owned(),
        format!("{CHUNKED_HEAD}0\r\n"),
    ] {
        let fits = feed([format!("{before}{fields}\r\n").as_bytes()], LIMIT);
        assert_eq!(
            (fits.error, fits.position),
            (None, Position::BetweenMessages)
        );
        let cut = feed([format!("{before}{fields}g: x\r\n\r\n").as_bytes()], LIMIT);
        assert_eq!(cut.error, Some(FramingError::TooManyFields));
        assert_eq!(cut.accepted, before.len() + fields.len());
    }
}

#[test]
fn h4_chunk_size_lines_are_limited() {
    let padding = "x".repeat(MAX_CHUNK_LINE - "1;\r\n".len());
    // Twice, since one line must not count against the next.
    let fits = format!("{CHUNKED_HEAD}1;{padding}\r\ny\r\n0;{padding}\r\n\r\n");
    let fits = feed(fits.as_bytes().chunks(5), LIMIT);
    assert_eq!(
        (fits.error, fits.position),
        (None, Position::BetweenMessages)
    );
    let line = format!("{CHUNKED_HEAD}1;{padding}x\r\n");
    let cut = feed(line.as_bytes().chunks(5), LIMIT);
    assert_eq!(cut.error, Some(FramingError::ChunkLineTooLong));
    assert_eq!(cut.accepted, line.len() - 1);
}

#[test]
fn h1_options_without_a_path_are_reported_in_the_order_of_requests() {
    let requests = [
        ("OPTIONS http://a.test", true),
        ("OPTIONS http://a.test/", false),
        ("GET http://a.test", false),
        ("OPTIONS *", false),
        ("OPTIONS http://a.test:81", true),
        ("OPTIONS http://a.test?q", false),
    ];
    let (lines, wanted): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
    let mut stream = String::new();
    for line in lines {
        write!(stream, "{line} HTTP/1.1\r\nContent-Length: 1\r\n\r\nx").unwrap();
    }
    for length in 1..=stream.len() {
        let mut framing = Framing::new(LIMIT);
        let mut reported = Vec::new();
        for piece in stream.as_bytes().chunks(length) {
            assert_eq!(framing.scan(piece), Ok(()));
            reported.extend(framing.take_pathless());
        }
        assert_eq!(reported, wanted, "in pieces of {length}");
    }
}

#[test]
fn h4_each_error_has_its_status() {
    assert_eq!(FramingError::TargetTooLong.status(), 414);
    assert_eq!(FramingError::SectionTooLong.status(), 431);
    assert_eq!(FramingError::TooManyFields.status(), 431);
    for (_, _, error) in MALFORMED.iter().chain(MALFORMED_CHUNKS) {
        let expected = if *error == FramingError::Version {
            505
        } else {
            400
        };
        assert_eq!(error.status(), expected, "{error}");
    }
}
