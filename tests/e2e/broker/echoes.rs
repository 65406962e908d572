//! Origins that answer with the real value: the client, the log and the records never have it (SPEC B4, B12). For
//! malformed answers see `malformed`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use e2e::leaks::Leak;
use e2e::origin::{Answer, Body, Reply};

use super::forms::percent;
use super::{BOTH, REAL, Scene, Way};

/// The texts that hold the value, in all forms that are found.
fn texts() -> Vec<String> {
    let percent = percent(REAL);
    let mut texts = vec![
        REAL.to_owned(),
        format!("Bearer {REAL}"),
        format!("{{\"key\":\"{REAL}\",\"again\":\"{REAL}{REAL}\"}}"),
        format!("https://me:{REAL}@allowed.test/?key={percent}"),
        percent.to_uppercase(),
    ];
    for before in ["", "x", "me:", "user:"] {
        let text = format!("{before}{REAL}:end");
        texts.push(format!("Basic {}", STANDARD.encode(&text)));
        texts.push(URL_SAFE_NO_PAD.encode(&text));
    }
    texts
}

/// A reply with a text in the fields, the interim answers, the content and the trailers.
fn everywhere(status: u16, text: &str) -> Reply {
    let chunks = vec![
        b"<pre>".to_vec(),
        text.as_bytes().to_vec(),
        b"</pre>".to_vec(),
    ];
    let late = vec![("x-late".to_owned(), text.to_owned())];
    let mut reply = Reply::new(
        status,
        Body::Chunked {
            chunks,
            trailers: late,
        },
    )
    .interim(102, &[("x-interim", text)])
    .interim(103, &[("link", &format!("<{text}>; rel=preload"))]);
    for name in [
        "authorization",
        "content-disposition",
        "etag",
        "location",
        "set-cookie",
        "warning",
        "www-authenticate",
        "x-echo",
    ] {
        reply = reply
            .header(name, text)
            .header(name, &format!("a={text}; path=/"));
    }
    reply.header("trailer", "x-late")
}

#[test]
fn b12_no_part_of_an_answer_has_the_value_in_any_form() {
    let texts = texts();
    let scene = Scene::new(move |request| {
        let mut path = request.target.split('/').skip(1);
        let mut number = || {
            path.next()
                .and_then(|part| part.parse::<u16>().ok())
                .expect("a number")
        };
        let status = number();
        Answer::Reply(everywhere(status, &texts[usize::from(number())]))
    });
    let leak = Leak::of(REAL);
    let bearer = format!("Bearer {}", scene.dummy());
    let fields = [("authorization", &*bearer), ("te", "trailers")];
    let host = scene.authority("allowed.test");
    for status in [200, 302, 401, 404, 500] {
        for text in 0..self::texts().len() {
            let path = format!("/{status}/{text}");
            let place = format!("the answer to {path}");
            let client = scene.http2("allowed.test");
            let mut exchange = client.begin("GET", &format!("https://{host}{path}"), &fields);
            while let Some((interim, given)) = exchange.interim() {
                leak.assert_not_in(&place, format!("{interim} {given:?}"));
            }
            let mut answer = exchange.head();
            assert_eq!(answer.status, status);
            loop {
                let piece = exchange.read_some();
                if piece.is_empty() {
                    break;
                }
                answer.body.extend(piece);
            }
            answer.trailers = exchange.trailers().clone();
            leak.assert_not_in_answer(&place, &answer);
            let mut client = scene.secured("allowed.test");
            client.send(format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {bearer}\r\nTE: trailers\r\nConnection: te\r\n\r\n"
            ));
            loop {
                let answer = client.read_response();
                leak.assert_not_in_answer(&place, &answer);
                if answer.status == status {
                    assert!(!answer.trailers.is_empty());
                    break;
                }
            }
        }
    }
    leak.assert_not_written_by(&scene.daemon, &[]);
}

#[test]
fn b12_the_value_is_found_in_chunks_of_every_size() {
    let scene = Scene::new(|request| {
        let size: usize = request.target[1..].parse().expect("a number");
        let text = format!("({REAL})({})", STANDARD.encode(format!("me:{REAL}")));
        let chunks = text.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
        Answer::Reply(Reply::new(
            200,
            Body::Chunked {
                chunks,
                trailers: Vec::new(),
            },
        ))
    });
    let dummy = scene.dummy();
    let expected = format!("({dummy})({})", STANDARD.encode(format!("me:{dummy}")));
    let host = scene.authority("allowed.test");
    let mut http1 = scene.secured("allowed.test");
    let http2 = scene.http2("allowed.test");
    for size in 1..=REAL.len() + 1 {
        let answer = http1.exchange(&format!("GET /{size} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.text(), expected, "{size}");
        let answer = http2.request("GET", &format!("https://{host}/{size}"), &[], b"");
        assert_eq!(answer.text(), expected, "{size}");
    }
}

/// The text in a block of gzip that is not compressed (RFC 1951 section 3.2.4).
fn gzip(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    bytes.extend(length.to_le_bytes());
    bytes.extend((!length).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend([0; 4]);
    bytes.extend(u32::from(length).to_le_bytes());
    bytes
}

#[test]
fn b12_content_in_a_coding_that_was_not_asked_for_does_not_bring_the_value() {
    const CODINGS: [&str; 9] = [
        "gzip",
        "GZip",
        "x-gzip",
        "deflate",
        "br",
        "gzip, identity",
        "identity, gzip",
        "gzip, gzip",
        "unknown",
    ];
    let scene = Scene::new(|request| {
        let coding: usize = request.target[1..].parse().expect("a number");
        let reply = Reply::new(200, Body::Sized(gzip(REAL)));
        Answer::Reply(reply.header("content-encoding", CODINGS[coding]))
    });
    let leak = Leak::of(REAL);
    let bearer = format!("Bearer {}", scene.dummy());
    let host = scene.authority("allowed.test");
    for (number, coding) in CODINGS.iter().enumerate() {
        // Content that is not in its coding breaks off.
        let mut client = scene.secured("allowed.test");
        client.send(format!(
            "GET /{number} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {bearer}\r\nAccept-Encoding: gzip\r\n\
             Connection: close\r\n\r\n"
        ));
        let mut all = Vec::new();
        while let Ok(byte) = client.try_read_exact(1) {
            all.extend(byte);
        }
        leak.assert_not_in(coding, &all);
        assert_eq!(
            scene.received("accept-encoding").as_deref(),
            Some("identity")
        );
        let client = scene.http2("allowed.test");
        let fields = [("authorization", &*bearer), ("accept-encoding", "gzip, br")];
        let mut exchange = client.begin("GET", &format!("https://{host}/{number}"), &fields);
        if let Ok(head) = exchange.try_head() {
            leak.assert_not_in_answer(coding, &head);
        }
        while let Ok(piece) = exchange.try_read_some() {
            leak.assert_not_in(coding, &piece);
            if piece.is_empty() {
                break;
            }
        }
        assert_eq!(
            scene.received("accept-encoding").as_deref(),
            Some("identity")
        );
    }
}

/// The length of compressed content that holds the value and a guess says how much of the guess is right.
#[test]
fn b12_the_length_of_compressed_content_is_not_told() {
    let scene = Scene::new(|request| {
        let coding = request.target.trim_start_matches("/?");
        let reply = Reply::new(200, Body::Sized(vec![0; 1234]));
        Answer::Reply(reply.header("content-encoding", coding))
    });
    let bearer = format!("Bearer {}", scene.dummy());
    let host = scene.authority("allowed.test");
    let fields = [("authorization", &*bearer)];
    for coding in ["gzip", "unknown"] {
        let mut client = scene.secured("allowed.test");
        let answer = client.exchange(&format!(
            "HEAD /?{coding} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {bearer}\r\n\r\n"
        ));
        assert_ne!(answer.header("content-length"), Some("1234"), "{coding}");
        let url = format!("https://{host}/?{coding}");
        let client = scene.http2("allowed.test");
        let answer = client.begin("HEAD", &url, &fields).head();
        assert_ne!(answer.header("content-length"), Some("1234"), "{coding}");
    }
}

/// Content as `br` with one block that is not compressed (RFC 7932 section 9.2).
fn stored_br(content: &[u8]) -> Vec<u8> {
    // A window of 64 KiB, not the last block, four digits of its length, not compressed.
    let length = u32::try_from(content.len() - 1).expect("it is short");
    let head = (length << 4 | 1 << 20).to_le_bytes();
    // The last block is empty.
    [&head[..3], content, &[3]].concat()
}

#[test]
fn b12_an_echo_in_br_becomes_the_dummy() {
    let scene = Scene::new(|request| {
        let field = request.header("authorization").expect("a field");
        let reply = Reply::new(200, Body::Sized(stored_br(format!("[{field}]").as_bytes())));
        Answer::Reply(reply.header("content-encoding", "br"))
    });
    let bearer = format!("Bearer {}", scene.dummy());
    for protocol in BOTH {
        let way = (Way::Connect, protocol);
        let asked = ("GET", "allowed.test", "/");
        let fields = [("authorization", &*bearer)];
        let answer = scene.ask_over(&scene.session, way, asked, &fields, b"");
        assert_eq!(answer.text(), format!("[{bearer}]"), "{protocol}");
        assert_eq!(answer.header("content-encoding"), None);
    }
    assert_eq!(
        scene.received("authorization"),
        Some(format!("Bearer {REAL}"))
    );
}
