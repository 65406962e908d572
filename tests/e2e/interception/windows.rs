//! Concurrent HTTP/2 streams: one that a peer leaves unread does not block another (SPEC M6).

use e2e::daemon::Config;
use e2e::origin::{Answer, Origin};
use e2e::setup::TlsSetup;

use super::bodies::writable;
use super::frames::{
    DATA, END_HEADERS, END_STREAM, FrameConnection, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    frame,
};

/// More than any window of a stream, in bytes.
const BIG: usize = 8 << 20;
/// Streams that stall.
const STALLED: usize = 4;
/// Requests that follow one another meanwhile: enough for the stalled streams to fill their windows
/// in that time.
const OTHERS: usize = 60;
const OTHER_SIZE: usize = 64 * 1024;

fn stream(number: usize) -> u32 {
    u32::try_from(2 * number + 1).expect("a stream identifier")
}

#[test]
fn m6_unread_answers_do_not_block_other_streams() {
    let setup = TlsSetup::new(&Config::limited(), &["h2"], |request| {
        let length = if request.target == "/big" {
            BIG
        } else {
            OTHER_SIZE
        };
        Answer::bytes("text/plain", &vec![b'x'; length])
    });
    let mut raw = FrameConnection::open(&setup, "allowed.test", &[]);
    // The connection's window is not the cause of the stall.
    let much = 0x3fff_ffff_u32.to_be_bytes();
    raw.send(frame(WINDOW_UPDATE, 0, 0, &much));
    let big = raw.request("GET", "/big", &[]);
    for number in 0..STALLED {
        let stream = stream(number);
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &big));
    }
    let small = raw.request("GET", "/small", &[]);
    for number in STALLED..STALLED + OTHERS {
        let stream = stream(number);
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &small));
        raw.send(frame(WINDOW_UPDATE, 0, stream, &much));
        let ended = raw.until(|frame| frame.stream == stream && frame.flags & END_STREAM != 0);
        assert!(ended.is_some(), "the answer to request {number}");
    }
    setup.assert_no_crash();
}

#[test]
fn m6_unread_uploads_do_not_block_other_streams() {
    let origin = Origin::answering(|request| Answer::text(&request.body.len().to_string()))
        .before_body(|request| (request.target == "/api/slow").then_some(Answer::Silence));
    let setup = writable("h2", origin);
    let client = setup.http2("hooked.test");
    let slow = setup.url("hooked.test", "/api/slow");
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut upload = client.open("POST", &slow, &[]);
        upload.send(&vec![b'x'; BIG]);
        stalled.push(upload);
    }
    let url = setup.url("hooked.test", "/api/x");
    for _ in 0..OTHERS {
        let answer = client.request("POST", &url, &[], &vec![b'x'; OTHER_SIZE]);
        assert_eq!(answer.text(), OTHER_SIZE.to_string());
    }
    setup.assert_no_crash();
}

/// The settings in the first SETTINGS of this connection.
fn settings(raw: &mut FrameConnection) -> Vec<(u16, u32)> {
    let settings = raw
        .until(|frame| frame.kind == SETTINGS && frame.flags == 0)
        .expect("settings");
    let setting = |setting: &[u8]| {
        let (id, value) = setting.split_at(2);
        let id = u16::from_be_bytes(id.try_into().expect("two bytes"));
        (
            id,
            u32::from_be_bytes(value.try_into().expect("four bytes")),
        )
    };
    settings.payload.chunks(6).map(setting).collect()
}

/// RFC 9113 section 6.9.2: the connection's window is 65535 bytes until it is opened further.
#[test]
fn m6_the_connection_window_covers_all_streams() {
    let setup = TlsSetup::echoing(&Config::limited(), &["h2"]);
    let mut raw = FrameConnection::open(&setup, "allowed.test", &[]);
    let settings = settings(&mut raw);
    let reported = |id: u16| {
        let found = settings.iter().find(|setting| setting.0 == id);
        found.map(|setting| u64::from(setting.1))
    };
    let streams = reported(3).expect("MAX_CONCURRENT_STREAMS");
    let stream_window = reported(4).expect("INITIAL_WINDOW_SIZE");
    let opened = raw
        .until(|frame| frame.kind == WINDOW_UPDATE && frame.stream == 0)
        .expect("a larger window");
    let opened = u32::from_be_bytes(opened.payload[..].try_into().expect("four bytes"));
    assert!(65_535 + u64::from(opened) >= streams * stream_window);
}

/// More requests than one connection to an origin carries at once.
#[test]
fn m6_many_concurrent_requests_use_further_connections() {
    const IN_HAND: usize = 40;
    let setup = TlsSetup::new(&Config::limited(), &["h2"], |request| {
        match request.target.as_str() {
            "/silent" => Answer::Silence,
            _ => Answer::text("here"),
        }
    });
    let mut raw = FrameConnection::open(&setup, "allowed.test", &[]);
    let silent = raw.request("GET", "/silent", &[]);
    for number in 0..IN_HAND {
        let stream = stream(number);
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &silent));
    }
    let all = |requests: &[e2e::origin::Request]| {
        (requests.len() == IN_HAND).then(|| {
            let mut by_connection = std::collections::BTreeMap::<usize, usize>::new();
            for request in requests {
                *by_connection.entry(request.connection).or_default() += 1;
            }
            by_connection.into_values().collect::<Vec<_>>()
        })
    };
    let carried = setup.origin.wait_for("all requests", all);
    assert_eq!(carried, [16, 16, 8]);
    // Streams that have ended make room for new ones.
    for number in 0..IN_HAND {
        raw.send(frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes()));
    }
    let request = raw.request("GET", "/", &[]);
    for number in IN_HAND..IN_HAND + 20 {
        let stream = stream(number);
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &request));
        let answered = raw.until(|frame| frame.stream == stream && frame.kind == DATA);
        assert!(answered.is_some(), "request {number}");
    }
    assert_eq!(setup.origin.connections(), 3);
    setup.assert_no_crash();
}
