//! Hostile HTTP/2 clients: the connection ends or its cost is bounded, other clients are
//! served, and the memory stays the same (SPEC M6; RFC 9113 section 10.5).

use e2e::daemon::Config;
use e2e::origin::Answer;
use e2e::process::memory;
use e2e::setup::TlsSetup;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameConnection, GOAWAY, HEADERS, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, field, frame,
};

/// Permitted growth of the worker, in KiB.
const GROWTH: u64 = 48 * 1024;

/// The same for a client that leaves as many answers unread as a connection carries: 100, each with
/// a window of 1 MiB to the origin, a buffer and a frame. Shares of the memory bound all
/// connections of one client together.
const UNREAD_GROWTH: u64 = 160 * 1024;

/// Runs an attack and checks that the proxy survives it.
fn survives(attack: impl FnOnce(&TlsSetup, &mut FrameConnection)) {
    survives_within(GROWTH, attack);
}

fn survives_within(growth: u64, attack: impl FnOnce(&TlsSetup, &mut FrameConnection)) {
    let setup = TlsSetup::new(
        &Config::limited(),
        &["h2", "http/1.1"],
        |request| match request.target.as_str() {
            "/silent" => Answer::Silence,
            "/big" => Answer::bytes("text/plain", &vec![b'x'; 4 << 20]),
            _ => Answer::text("here"),
        },
    );
    assert_eq!(setup.status("allowed.test"), 200);
    let before = memory(setup.daemon.worker()).resident;
    let mut raw = FrameConnection::open(&setup, "allowed.test", &[]);
    attack(&setup, &mut raw);
    assert_eq!(setup.status("allowed.test"), 200, "others are served");
    let get = setup.http2("allowed.test");
    let url = setup.url("allowed.test", "/");
    assert_eq!(get.request("GET", &url, &[], b"").status, 200);
    let after = memory(setup.daemon.worker()).resident;
    assert!(after < before + growth, "{before} to {after} KiB");
    setup.assert_no_crash();
}

/// Sends until the other end closes, or this many times.
fn flood(raw: &mut FrameConnection, times: usize, mut part: impl FnMut(usize) -> Vec<u8>) -> bool {
    (0..times).any(|number| raw.try_send(part(number)).is_err())
}

fn stream(number: usize) -> u32 {
    u32::try_from(2 * number + 1).expect("a stream identifier")
}

/// CVE-2023-44487.
#[test]
fn m6_a_rapid_reset_attack_is_ended_or_bounded() {
    for path in ["/", "/silent"] {
        survives(|_, raw| {
            let block = raw.request("GET", path, &[]);
            flood(raw, 4000, |number| {
                let stream = stream(number);
                let begun = frame(HEADERS, END_STREAM | END_HEADERS, stream, &block);
                [begun, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
            });
        });
    }
}

/// CVE-2025-8671: resets that the server is provoked to send.
#[test]
fn m6_provoked_resets_are_ended_or_bounded() {
    survives(|_, raw| {
        let block = raw.request("GET", "/silent", &[]);
        let ended = flood(raw, 4000, |number| {
            let stream = stream(number);
            let begun = frame(HEADERS, END_STREAM | END_HEADERS, stream, &block);
            // A window of more than 2^31 - 1 bytes is a stream error (section 6.9.1).
            let over = frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
            [begun, over].concat()
        });
        assert!(ended || raw.until(|frame| frame.kind == GOAWAY).is_some());
    });
}

/// CVE-2019-9515 and CVE-2019-9512: nothing is read, so that answers pile up if possible.
#[test]
fn m6_floods_of_settings_and_pings_are_bounded() {
    for part in [
        frame(SETTINGS, 0, 0, &[]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff].repeat(100)),
        frame(PING, 0, 0, &[0; 8]),
    ] {
        survives(|_, raw| {
            // As many as a socket accepts while the other end does not read.
            let batch = part.repeat(100);
            let mut sent = 0;
            while sent < 2000 && raw.try_send(&batch).is_ok() {
                sent += 1;
                if sent % 20 == 0 {
                    // A client that reads is not delayed by those that do not.
                    raw.until(|frame| frame.flags & 1 == 1);
                }
            }
        });
    }
}

/// Floods by a client that reads, and so never blocks the other end: CVE-2019-9512, CVE-2019-9513,
/// CVE-2019-9515, and frames of no known kind.
#[test]
fn m6_many_empty_frames_end_the_connection() {
    let number = |number: u32| number.to_be_bytes();
    for part in [
        frame(SETTINGS, 0, 0, &[]),
        frame(PING, 0, 0, &[0; 8]),
        frame(WINDOW_UPDATE, 0, 0, &number(1)),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0]),
        frame(0xbe, 0, 0, &[]),
    ] {
        let kind = part[3];
        survives(|setup, raw| {
            let batch = part.repeat(100);
            let ended = flood(raw, 1_000, |number| match number % 20 {
                // Reads everything up to the answer to the last frame.
                0 => [&batch[..], &frame(PING, 0, 0, &[1; 8])].concat(),
                _ => batch.clone(),
            });
            assert!(ended || raw.until(|_| false).is_none(), "kind {kind}");
            setup.daemon.wait_for_message("too many HTTP/2 frames");
        });
    }
}

/// CVE-2023-44487 again: resets after the requests have gone upstream.
#[test]
fn m6_many_requests_reset_before_their_answer_end_the_connection() {
    const BATCH: usize = 100;
    survives(|setup, raw| {
        let block = raw.request("GET", "/silent", &[]);
        let ended = (0..40).any(|batch| {
            let streams = || (batch * BATCH..(batch + 1) * BATCH).map(stream);
            let begun = streams()
                .flat_map(|id| frame(HEADERS, END_STREAM | END_HEADERS, id, &block))
                .chain(frame(PING, 0, 0, &[0; 8]))
                .collect::<Vec<_>>();
            if raw.try_send(begun).is_err() || raw.until(|frame| frame.kind == PING).is_none() {
                return true;
            }
            // h2 itself limits resets of requests that were not begun.
            setup.origin.wait_for("the requests", |requests| {
                let silent = requests.iter().filter(|one| one.target == "/silent");
                (silent.count() >= (batch + 1) * BATCH).then_some(())
            });
            let reset = streams()
                .flat_map(|id| frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()))
                .chain(frame(PING, 0, 0, &[0; 8]))
                .collect::<Vec<_>>();
            raw.try_send(reset).is_err() || raw.until(|frame| frame.kind == PING).is_none()
        });
        assert!(ended, "4000 requests were begun and reset");
        setup.daemon.wait_for_message("too many HTTP/2 frames");
    });
}

/// CVE-2019-9518.
#[test]
fn m6_a_flood_of_empty_data_frames_is_ended_or_bounded() {
    for path in ["/", "/silent"] {
        survives(|_, raw| {
            let block = raw.request("GET", path, &[]);
            raw.send(frame(HEADERS, END_HEADERS, 1, &block));
            let batch = frame(DATA, 0, 1, &[]).repeat(100);
            flood(raw, 5000, |_| batch.clone());
        });
    }
}

#[test]
fn m6_a_header_bomb_is_refused() {
    survives(|_, raw| {
        // The block adds an entry of 4000 bytes to the table and then repeats its index (RFC 7541
        // section 6.1), so 60 KB of frames decode to 240 MB of fields.
        let mut block = raw.request("GET", "/", &[]);
        let mut entry = field("x-bomb", &"b".repeat(4000));
        entry[0] = 0x40;
        block.extend(entry);
        raw.send(frame(HEADERS, 0, 1, &block));
        let bomb = vec![0xbe; 16_000];
        for _ in 0..3 {
            if raw.try_send(frame(CONTINUATION, 0, 1, &bomb)).is_err() {
                return;
            }
        }
        let _ = raw.try_send(frame(CONTINUATION, END_HEADERS, 1, &[0xbe]));
        let answer = raw.until(|frame| [HEADERS, RST_STREAM, GOAWAY].contains(&frame.kind));
        if let Some(answer) = answer.filter(|answer| answer.kind == HEADERS) {
            let refused = answer.payload.windows(3).any(|part| part == b"431");
            assert!(refused || answer.payload.first() != Some(&0x88), "no 200");
        }
    });
}

/// CVE-2024-27316.
#[test]
fn m6_a_flood_of_continuations_ends_the_connection() {
    survives(|_, raw| {
        let block = raw.request("GET", "/", &[]);
        raw.send(frame(HEADERS, 0, 1, &block));
        let part = field("x-part", &"c".repeat(8000));
        let ended = flood(raw, 5000, |_| frame(CONTINUATION, 0, 1, &part));
        assert!(ended, "40 MB of one header");
    });
    survives(|_, raw| {
        let block = raw.request("GET", "/", &[]);
        raw.send(frame(HEADERS, 0, 1, &block));
        let ended = flood(raw, 100_000, |_| frame(CONTINUATION, 0, 1, &[]));
        assert!(ended, "without a byte each");
    });
}

#[test]
fn m6_a_client_that_opens_no_windows_costs_bounded_memory() {
    survives_within(UNREAD_GROWTH, |_, raw| {
        let block = raw.request("GET", "/big", &[]);
        for number in 0..120 {
            let begun = frame(HEADERS, END_STREAM | END_HEADERS, stream(number), &block);
            raw.send(begun);
        }
        let got: Vec<_> = (0..100)
            .map_while(|_| raw.until(|frame| frame.kind == HEADERS))
            .collect();
        assert!(!got.is_empty(), "the heads need no window");
    });
}

#[test]
fn m6_streams_beyond_the_announced_limit_are_refused() {
    survives(|_, raw| {
        let settings = raw
            .until(|frame| frame.kind == SETTINGS && frame.flags == 0)
            .expect("settings");
        let reported = settings
            .payload
            .chunks(6)
            .find(|setting| setting[..2] == [0, 3])
            .map(|setting| u32::from_be_bytes(setting[2..].try_into().expect("four bytes")));
        let reported = reported.expect("MAX_CONCURRENT_STREAMS");
        assert!((1..=1000).contains(&reported), "{reported}");
        let block = raw.request("GET", "/silent", &[]);
        let more = (0..1000).any(|number| {
            let begun = frame(HEADERS, END_STREAM | END_HEADERS, stream(number), &block);
            raw.try_send(begun).is_err()
        });
        let refused = more
            || raw
                .until(|frame| [RST_STREAM, GOAWAY].contains(&frame.kind))
                .is_some();
        assert!(refused, "the rest is refused");
    });
}

/// The one request without a path (RFC 9110 section 7.1).
#[test]
fn p7_options_for_the_server_itself_reach_it() {
    survives(|setup, raw| {
        let block = raw.request("OPTIONS", "*", &[]);
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
        let answer = raw.until(|frame| frame.stream == 1).expect("an answer");
        assert_eq!(answer.payload.first(), Some(&0x88), "200: {answer:?}");
        let seen = setup.origin.requests().pop().expect("a request");
        assert_eq!((&*seen.method, &*seen.target), ("OPTIONS", "*"));
    });
}

/// Extended CONNECT (RFC 8441) is not offered to any client, and CONNECT is not a method inside
/// (SPEC M7).
#[test]
fn m7_connect_on_a_stream_is_refused() {
    survives(|setup, raw| {
        let authority = setup.authority("allowed.test");
        let connect = [field(":method", "CONNECT"), field(":authority", &authority)].concat();
        raw.send(frame(HEADERS, END_HEADERS, 1, &connect));
        let answer = raw.until(|frame| frame.stream == 1).expect("an answer");
        if answer.kind == HEADERS {
            // `:status`, and "405" in Huffman's code (RFC 7541 appendices A and B).
            assert_eq!(answer.payload[..5], [0x48, 0x83, 0x68, 0x0d, 0xff]);
        }
        let extended = raw.request("CONNECT", "/", &[]);
        let extended = [extended, field(":protocol", "websocket")].concat();
        raw.send(frame(HEADERS, END_HEADERS, 3, &extended));
        let answer = raw.until(|frame| frame.stream == 3 || frame.kind == GOAWAY);
        if let Some(answer) = answer.filter(|answer| answer.kind == HEADERS) {
            assert_ne!(answer.payload.first(), Some(&0x88), "no 200");
        }
        let reached = setup.origin.requests();
        assert!(reached.iter().all(|request| request.method == "GET"));
    });
}

/// A malformed request is an error of the stream or the connection, and never reaches the origin.
#[test]
fn m6_malformed_requests_never_reach_the_origin() {
    type Field = (&'static str, &'static str);
    let cases: [&[Field]; 9] = [
        &[("Upper", "case")],
        &[("connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("upgrade", "websocket")],
        &[("te", "gzip")],
        &[(":path", "/again")],
        &[("x", "a\r\nb: c")],
        &[("x\r\n", "a")],
        &[("content-length", "1"), ("content-length", "2")],
    ];
    for fields in cases {
        survives(|setup, raw| {
            let before = setup.origin.requests().len();
            let block = raw.request("GET", "/malformed", fields);
            raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
            let answer = raw.until(|frame| frame.stream == 1 || frame.kind == GOAWAY);
            let answer = answer.filter(|answer| answer.kind == HEADERS);
            let ok = answer.is_some_and(|answer| answer.payload.first() == Some(&0x88));
            assert!(!ok, "{fields:?}");
            assert_eq!(setup.origin.requests().len(), before, "{fields:?}");
        });
    }
}

/// One client cannot use up the resources of another.
#[test]
fn m6_clients_of_one_origin_do_not_starve_each_other() {
    survives(|setup, raw| {
        let block = raw.request("GET", "/silent", &[]);
        let mut greedy: Vec<FrameConnection> = (0..3)
            .map(|_| FrameConnection::open(setup, "allowed.test", &[]))
            .collect();
        for raw in &mut greedy {
            for number in 0..100 {
                let begun = frame(HEADERS, END_STREAM | END_HEADERS, stream(number), &block);
                raw.send(begun);
            }
        }
        setup
            .origin
            .wait_for("what it can have in hand", |requests| {
                let held = requests
                    .iter()
                    .filter(|request| request.target == "/silent");
                (held.count() >= 200).then_some(())
            });
        let block = raw.request("GET", "/", &[]);
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
        let answer = raw.until(|frame| frame.stream == 1).expect("an answer");
        assert_eq!(answer.payload.first(), Some(&0x88), "200: {answer:?}");
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, &block));
        let answer = raw.until(|frame| frame.stream == 3).expect("another");
        assert_eq!(answer.payload.first(), Some(&0x88), "200: {answer:?}");
    });
}
