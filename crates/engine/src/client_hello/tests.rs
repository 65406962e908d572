//! The reader on real hellos, on every way to cut them up, and on everything that is wrong with
//! them. `differential` compares it with rustls on bytes that nobody wrote down.

mod build;
mod captured;
mod differential;

use codex_network_policy::Host;

use self::build::{Hello, alpn, extension, record, records, rustls_hello, server_name};
use super::{Alpn, ClientHello, FirstBytes, Flaw, MAX_MESSAGE, MESSAGE_HEADER, Reader};

/// What the bytes are when they arrive at once.
fn read(stream: &[u8]) -> FirstBytes {
    Reader::new().feed(stream)
}

/// What they are when they arrive one by one, which must be no different, and the work it took.
fn trickle(stream: &[u8]) -> (FirstBytes, usize) {
    let mut reader = Reader::new();
    for end in 0..=stream.len() {
        let verdict = reader.feed(&stream[..end]);
        if verdict != FirstBytes::Undecided {
            assert_eq!(reader.feed(&stream[..end]), verdict, "it is final");
            assert_eq!(reader.feed(stream), verdict, "more bytes change nothing");
            return (verdict, reader.looks);
        }
    }
    (FirstBytes::Undecided, reader.looks)
}

fn found(server_name: Option<&str>, alpn: Alpn) -> FirstBytes {
    FirstBytes::ClientHello(ClientHello {
        server_name: server_name.map(|name| Host::parse(name).expect("a host")),
        alpn,
    })
}

fn http() -> Alpn {
    Alpn {
        h2: true,
        http11: true,
        other: false,
    }
}

/// One hello of each kind, in one record, and what it says.
fn real() -> Vec<(Vec<u8>, FirstBytes)> {
    let none = Alpn::default();
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    vec![
        (
            captured::openssl_tls12(),
            found(Some("legacy.example.com"), http()),
        ),
        (captured::openssl_nameless(), found(None, none)),
        (captured::curl(), found(Some("www.example.com"), http())),
        (
            captured::git_gnutls(),
            found(Some("www.example.org"), http()),
        ),
        (
            rustls_hello(&rustls::version::TLS12, "a.test", &[]),
            found(Some("a.test"), none),
        ),
        (
            rustls_hello(&rustls::version::TLS13, "b.test", both),
            found(Some("b.test"), http()),
        ),
        (
            rustls_hello(&rustls::version::TLS13, "127.0.0.1", &[b"h2"]),
            found(None, Alpn { h2: true, ..none }),
        ),
    ]
}

#[test]
fn m2_real_hellos_say_what_their_clients_meant() {
    for (stream, meaning) in real() {
        assert_eq!(read(&stream), meaning);
    }
}

#[test]
fn m2_every_prefix_is_undecided() {
    for (stream, meaning) in real() {
        for end in 0..stream.len() {
            assert_eq!(
                read(&stream[..end]),
                FirstBytes::Undecided,
                "prefix of {end}"
            );
        }
        assert_eq!(trickle(&stream).0, meaning);
    }
}

#[test]
fn m2_records_may_cut_the_message_at_any_byte() {
    for (stream, meaning) in real() {
        let message = &stream[5..];
        for at in 1..message.len() {
            let (first, second) = message.split_at(at);
            let cut = [record(first), record(second)].concat();
            assert_eq!(read(&cut), meaning, "cut at {at}");
            assert_eq!(trickle(&cut).0, meaning, "cut at {at}");
        }
        let tiny = records(message, 1);
        assert_eq!(read(&tiny), meaning);
        assert_eq!(trickle(&tiny).0, meaning);
    }
}

#[test]
fn m2_what_follows_the_hello_in_other_records_is_not_looked_at() {
    for (mut stream, meaning) in real() {
        stream.extend_from_slice(b"\x14\x03\x03\x00\x01\x01\x17 early data");
        assert_eq!(read(&stream), meaning);
    }
}

#[test]
fn m2_work_grows_with_the_bytes_and_not_with_their_square() {
    let padding = extension(21, &vec![0; MAX_MESSAGE - 200]);
    let hello = Hello::new(&[server_name(b"a.test"), padding]).message();
    for size in [1, 7, 1 << 14] {
        let stream = records(&hello, size);
        let (verdict, looks) = trickle(&stream);
        assert_eq!(verdict, found(Some("a.test"), Alpn::default()));
        // One look per byte that came, and one per record that ended.
        assert!(looks <= 2 * stream.len(), "{looks} for {}", stream.len());
    }
}

#[test]
fn m2_a_long_list_of_protocols_is_read_to_its_end() {
    let names: Vec<Vec<u8>> = (0..900).map(|n| format!("{n:070}").into_bytes()).collect();
    let mut list: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    list.push(b"h2");
    let stream = rustls_hello(&rustls::version::TLS13, "long.test", &list);
    assert!(stream.len() > 60_000, "{}", stream.len());
    let alpn = Alpn {
        h2: true,
        http11: false,
        other: true,
    };
    assert_eq!(read(&stream), found(Some("long.test"), alpn));
    assert_eq!(trickle(&stream).0, found(Some("long.test"), alpn));
}

#[test]
fn m2_a_hello_of_64_kib_passes_and_a_longer_one_is_refused_by_its_header() {
    let base = Hello::new(&[extension(21, &[])]).message().len() - MESSAGE_HEADER;
    let padded = |length: usize| {
        let padding = extension(21, &vec![0; length - base]);
        Hello::new(&[padding]).message()
    };
    let most = padded(MAX_MESSAGE - 100);
    assert_eq!(read(&records(&most, 1 << 14)), found(None, Alpn::default()));
    // The extensions alone cannot fill it: many cipher suites do.
    let mut hello = Hello::new(&[server_name(b"a.test")]);
    let rest = MAX_MESSAGE - (hello.message().len() - MESSAGE_HEADER);
    hello.cipher_suites.extend(vec![0x0a; rest]);
    let full = hello.message();
    assert_eq!(full.len(), MESSAGE_HEADER + MAX_MESSAGE);
    let meaning = found(Some("a.test"), Alpn::default());
    assert_eq!(read(&records(&full, 1 << 14)), meaning);
    assert_eq!(read(&records(&full, 1)), meaning);
    hello.cipher_suites.extend([0x0a; 2]);
    let longer = records(&hello.message(), 1 << 14);
    let refused = FirstBytes::Malformed(Flaw::TooLong);
    assert_eq!(read(&longer[..9]), refused);
    assert_eq!(read(&longer), refused);
    assert_eq!(read(b"\x16\x03\x01\x02\x00\x01\xff\xff\xff"), refused);
}

#[test]
fn m2_another_protocol_is_known_by_its_first_byte() {
    for first in (0..=u8::MAX).filter(|first| *first != 0x16) {
        assert_eq!(read(&[first]), FirstBytes::NotTls);
    }
    // A hello in the form of SSL 2; HTTP; SSH; an alert.
    for stream in [
        &b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x01\x00",
    ] {
        assert_eq!(read(stream), FirstBytes::NotTls);
    }
}

#[test]
fn m2_what_begins_like_a_record_never_becomes_opaque() {
    for (stream, flaw) in [
        (&b"\x16G"[..], Flaw::RecordVersion),
        (b"\x16\x02", Flaw::RecordVersion),
        (b"\x16\x03\x05", Flaw::RecordVersion),
        (b"\x16\x03\x01\x00\x00", Flaw::RecordLength),
        (b"\x16\x03\x01\x40\x01", Flaw::RecordLength),
        (b"\x16\x03\x01\x40\x00\x02", Flaw::NotClientHello),
        (b"\x16\x03\x01\x00\x01\x00", Flaw::NotClientHello),
        (b"\x16\x03\x01\x00\x02\x01\x00\x17", Flaw::Interrupted),
        (
            b"\x16\x03\x01\x00\x02\x01\x00\x16\x03\x01\x00\x00",
            Flaw::RecordLength,
        ),
        // The record is longer than the message.
        (b"\x16\x03\x01\x00\x09\x01\x00\x00\x04", Flaw::Trailing),
    ] {
        assert_eq!(
            trickle(stream).0,
            FirstBytes::Malformed(flaw),
            "{stream:x?}"
        );
        assert_eq!(read(stream), FirstBytes::Malformed(flaw), "{stream:x?}");
        let before = &stream[..stream.len() - 1];
        assert_eq!(read(before), FirstBytes::Undecided, "{before:x?}");
    }
}

#[test]
fn m2_the_parts_of_a_hello_have_their_lengths() {
    let refused = |change: &dyn Fn(&mut Hello), flaw| {
        let mut hello = Hello::new(&[server_name(b"a.test")]);
        change(&mut hello);
        assert_eq!(read(&record(&hello.message())), FirstBytes::Malformed(flaw));
    };
    refused(&|hello| hello.version = [2, 0], Flaw::Version);
    refused(&|hello| hello.version = [3, 5], Flaw::Version);
    refused(&|hello| hello.session_id = vec![0; 33], Flaw::Length);
    refused(&|hello| hello.cipher_suites.clear(), Flaw::Length);
    refused(&|hello| hello.cipher_suites.push(0), Flaw::Length);
    refused(&|hello| hello.compression.clear(), Flaw::Compression);
    refused(&|hello| hello.compression = vec![1], Flaw::Compression);
    refused(&|hello| hello.trailing.push(0), Flaw::Length);
    refused(
        &|hello| hello.extensions.extend([0, 21, 0, 1]),
        Flaw::Length,
    );
    refused(&|hello| hello.extensions.extend([0, 21, 0]), Flaw::Length);
    refused(
        &|hello| hello.extensions.extend(server_name(b"a.test")),
        Flaw::RepeatedExtension,
    );
    refused(
        &|hello| {
            hello
                .extensions
                .extend([extension(21, &[]), extension(21, &[])].concat());
        },
        Flaw::RepeatedExtension,
    );
}

#[test]
fn m2_a_hello_cut_off_inside_is_refused_wherever_it_ends() {
    let whole = Hello::new(&[server_name(b"a.test"), alpn(&[b"h2"])]).message();
    for end in MESSAGE_HEADER..whole.len() {
        let mut short = whole[..end].to_vec();
        short[3] = u8::try_from(end - MESSAGE_HEADER).expect("a short hello");
        let verdict = read(&record(&short));
        // Before the extensions is an end too (RFC 5246 section 7.4.1.2).
        if verdict == found(None, Alpn::default()) {
            assert_eq!(end, MESSAGE_HEADER + 2 + 32 + 1 + 4 + 2);
        } else {
            assert!(matches!(verdict, FirstBytes::Malformed(_)), "{verdict:?}");
        }
    }
}

#[test]
fn m2_the_server_name_is_one_host_name() {
    let named = |content: &[u8]| read(&record(&Hello::new(&[extension(0, content)]).message()));
    for (content, flaw) in [
        (&b""[..], Flaw::Length),
        (b"\x00\x00", Flaw::NameList),
        (b"\x00\x03\x00\x00\x00", Flaw::NameList),
        (b"\x00\x04\x01\x00\x01a", Flaw::NameList),
        (b"\x00\x08\x00\x00\x01a\x00\x00\x01b", Flaw::NameList),
        (b"\x00\x05\x00\x00\x01ab", Flaw::NameList),
        (b"\x00\x04\x00\x00\x02a", Flaw::Length),
        (b"\x00\x05\x00\x00\x01a", Flaw::Length),
        (b"\x00\x04\x00\x00\x01ab", Flaw::Length),
    ] {
        assert_eq!(named(content), FirstBytes::Malformed(flaw), "{content:x?}");
    }
}

#[test]
fn p1_the_server_name_is_in_its_one_form() {
    let named = |name: &[u8]| read(&record(&Hello::new(&[server_name(name)]).message()));
    for name in [
        "a.test",
        "A.TEST",
        "a.test.",
        "xn--bcher-kva.test",
        "_x.test",
    ] {
        assert_eq!(named(name.as_bytes()), found(Some(name), Alpn::default()));
    }
    for name in [
        &b"127.0.0.1"[..],
        b"0x7f.1",
        b"2130706433",
        b"::1",
        b"[::1]",
        b" a.test",
        b"a.test ",
        b"a.test..",
        b"a..test",
        b".",
        b"a\0.test",
        b"a.test:443",
        b"b\xc3\xbccher.test",
        b"\xef\xbd\x81.test",
        b"\xff",
        &[b'a'; 64],
        &[b'a'; 2000],
    ] {
        let refused = FirstBytes::Malformed(Flaw::InvalidName);
        assert_eq!(named(name), refused, "{}", name.escape_ascii());
    }
}

#[test]
fn m2_application_protocols_are_read_strictly() {
    let offered = |content: &[u8]| read(&record(&Hello::new(&[extension(16, content)]).message()));
    for (content, flaw) in [
        (&b""[..], Flaw::Length),
        (b"\x00\x00", Flaw::Alpn),
        (b"\x00\x01\x00", Flaw::Alpn),
        (b"\x00\x04\x02h2\x00", Flaw::Alpn),
        (b"\x00\x04\x02h2\x01", Flaw::Length),
        (b"\x00\x03\x02h2\x00", Flaw::Length),
    ] {
        assert_eq!(
            offered(content),
            FirstBytes::Malformed(flaw),
            "{content:x?}"
        );
    }
    let read = |list: &[&[u8]]| read(&record(&Hello::new(&[alpn(list)]).message()));
    assert_eq!(read(&[b"h2", b"http/1.1"]), found(None, http()));
    assert_eq!(
        read(&[b"\x0a\x0a", b"http/1.1", b"\xfa\xfa", b"h2"]),
        found(None, http())
    );
    let other = Alpn {
        other: true,
        ..Alpn::default()
    };
    for name in [&b"H2"[..], b"h2c", b"http/1.0", b"\x0a\x1a", b"\x0a"] {
        assert_eq!(read(&[name]), found(None, other));
    }
}

#[test]
fn m2_grease_and_an_encrypted_hello_change_nothing() {
    let extensions = [
        extension(0x0a0a, &[]),
        extension(0xfe0d, b"outer, whatever it holds"),
        server_name(b"outer.test"),
        extension(0xfafa, &[0]),
    ];
    let mut hello = Hello::new(&extensions);
    hello.cipher_suites.extend([0x1a, 0x1a]);
    let meaning = found(Some("outer.test"), Alpn::default());
    assert_eq!(read(&record(&hello.message())), meaning);
}
