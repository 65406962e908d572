//! Real values in answers become dummies (SPEC B12).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::daemon::Config;
use e2e::origin::{Answer, Body, Reply};
use e2e::tls::Client;

use super::{BOTH, REAL, Scene, Way};

/// An answer with the real value in fields, in an interim answer, in content over the borders of chunks, and in a
/// trailer.
fn leaking() -> Reply {
    let basic = STANDARD.encode(format!("me:{REAL}"));
    let text = format!("plain {REAL}, basic {basic}, json \"{REAL}\" end");
    let chunks = text.as_bytes().chunks(7).map(<[u8]>::to_vec).collect();
    let trailers = vec![("x-late".to_owned(), REAL.to_owned())];
    Reply::new(200, Body::Chunked { chunks, trailers })
        .header("set-cookie", &format!("key={REAL}"))
        .header("x-echo", &format!("Bearer {REAL}"))
        .header("trailer", "x-late")
        .interim(103, &[("link", &format!("</{REAL}>"))])
}

#[test]
fn b12_the_real_value_appears_nowhere_in_an_answer() {
    let scene = Scene::new(|_| Answer::Reply(leaking()));
    let bearer = format!("Bearer {}", scene.dummy());
    for protocol in BOTH {
        let fields = [("authorization", &*bearer), ("te", "trailers")];
        let asked = ("GET", "allowed.test", "/");
        let way = (Way::Connect, protocol);
        let answer = scene.ask_over(&scene.session, way, asked, &fields, b"");
        let whole = format!("{:?} {}", answer.headers, answer.text());
        assert!(!whole.contains(REAL), "{protocol}: {whole}");
        let basic = STANDARD.encode(format!("me:{}", scene.dummy()));
        let wanted = format!("plain {0}, basic {basic}, json \"{0}\" end", scene.dummy());
        assert_eq!(answer.text(), wanted, "{protocol}");
        let echoed = answer.header("x-echo").expect("a field");
        assert_eq!(echoed, bearer, "{protocol}");
        assert_eq!(
            scene.received("accept-encoding").as_deref(),
            Some("identity")
        );
    }
}

#[test]
fn b12_content_of_a_known_length_keeps_it() {
    let scene = Scene::new(|_| Answer::text(&format!("<{REAL}>")));
    for protocol in BOTH {
        let asked = ("GET", "allowed.test", "/");
        let way = (Way::Connect, protocol);
        let answer = scene.ask_over(&scene.session, way, asked, &[], b"");
        assert_eq!(answer.text(), format!("<{}>", scene.dummy()), "{protocol}");
        let length = answer.header("content-length").expect("a length");
        assert_eq!(length, answer.text().len().to_string());
    }
}

/// Without compression, in the coding `deflate` (RFC 1950, RFC 1951 section 3.2.4).
fn deflate(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short text");
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in content {
        low = (low + u32::from(*byte)) % 65521;
        high = (high + low) % 65521;
    }
    let mut coded = vec![0x78, 0x01, 0x01];
    coded.extend_from_slice(&length.to_le_bytes());
    coded.extend_from_slice(&(!length).to_le_bytes());
    coded.extend_from_slice(content);
    coded.extend_from_slice(&(high << 16 | low).to_be_bytes());
    coded
}

#[test]
fn b12_an_answer_that_was_encoded_unasked_is_decoded_and_scrubbed() {
    let scene = Scene::new(|_| {
        let content = deflate(&deflate(format!("<{REAL}>").as_bytes()));
        let reply = Reply::new(200, Body::Sized(content))
            .header("content-encoding", "deflate, deflate")
            .header("etag", "\"abc\"")
            .header("digest", "sha-256=abc");
        Answer::Reply(reply)
    });
    for protocol in BOTH {
        let asked = ("GET", "allowed.test", "/");
        let way = (Way::Connect, protocol);
        let answer = scene.ask_over(&scene.session, way, asked, &[], b"");
        assert_eq!(answer.text(), format!("<{}>", scene.dummy()), "{protocol}");
        assert_eq!(answer.header("etag"), Some("W/\"abc\""));
        for name in ["content-encoding", "content-length", "digest"] {
            assert_eq!(answer.header(name), None, "{protocol} {name}");
        }
    }
}

#[test]
fn b12_content_that_cannot_be_decoded_ends_the_answer_and_is_logged() {
    let scene = Scene::new(|_| {
        let mut content = deflate(REAL.as_bytes());
        content.truncate(30);
        let reply = Reply::new(200, Body::Sized(content));
        Answer::Reply(reply.header("content-encoding", "deflate"))
    });
    let tunnel = scene.tunnel(&scene.session, Way::Connect, "allowed.test");
    let client = Client::trusting_pem(&scene.proxy_ca).alpn(&["h2"]);
    let client = tunnel.into_http2(&client, "allowed.test");
    let url = format!("https://{}/", scene.authority("allowed.test"));
    let mut exchange = client.begin("GET", &url, &[]);
    // The reset may overtake the head.
    if exchange.try_head().is_ok() {
        while let Ok(piece) = exchange.try_read_some() {
            assert!(!piece.is_empty(), "the answer looks complete");
        }
    }
    let words = "the host sent encoded content, unasked, that cannot be decoded";
    let line = scene
        .daemon
        .wait_for_log(|line| line.flow_cause() == Some(words));
    assert_eq!(line.field("network.flow.fault"), Some(&"host".into()));
}

#[test]
fn b12_an_answer_in_an_unknown_coding_does_not_pass() {
    let content_coding = || {
        let reply = Reply::new(200, Body::Sized(b"not really compressed".to_vec()));
        Answer::Reply(reply.header("content-encoding", "gzip, compress"))
    };
    let zstd = || {
        let reply = Reply::new(200, Body::Sized(b"not really compressed".to_vec()));
        Answer::Reply(reply.header("content-encoding", "zstd"))
    };
    let part = || {
        let reply = Reply::new(206, Body::Sized(b"a part".to_vec()));
        let reply = reply.header("content-range", "bytes 0-5/10");
        Answer::Reply(reply.header("content-encoding", "gzip"))
    };
    let transfer_coding = || {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        Answer::Raw(format!("{head}f\r\nnot really gzip\r\n0\r\n\r\n").into_bytes())
    };
    let answers: [fn() -> Answer; 4] = [content_coding, zstd, part, transfer_coding];
    let reasons = [
        "encoded its answer",
        "encoded its answer",
        "sent a part of its content",
        "used transfer codings",
    ];
    for (answer, reason) in answers.into_iter().zip(reasons) {
        let scene = Scene::new(move |_| answer());
        let bearer = format!("Bearer {}", scene.dummy());
        // An origin may return the value of an earlier request too.
        for fields in [&[("authorization", &*bearer)][..], &[]] {
            let answer = scene.get("allowed.test", "/", fields);
            assert_eq!(answer.status, 502, "{}", answer.text());
            assert!(answer.text().contains(reason), "{}", answer.text());
        }
    }
}

/// A part of a value is not found.
#[test]
fn b12_a_part_of_content_that_was_not_asked_for_does_not_pass() {
    let scene = Scene::new(|request| {
        let status = request.target[1..4].parse().expect("a status");
        let reply = Reply::new(status, Body::Sized(REAL.as_bytes()[8..18].to_vec()));
        Answer::Reply(if request.target.ends_with("field") {
            reply.header("content-range", "bytes 8-17/41")
        } else {
            reply
        })
    });
    let bearer = format!("Bearer {}", scene.dummy());
    for protocol in BOTH {
        for (path, status) in [
            ("/206?field", 502),
            ("/206", 502),
            ("/226", 502),
            ("/200?field", 502),
            ("/416?field", 416),
            ("/200", 200),
        ] {
            for fields in [&[("authorization", &*bearer)][..], &[]] {
                let way = (Way::Connect, protocol);
                let asked = ("GET", "allowed.test", path);
                let answer = scene.ask_over(&scene.session, way, asked, fields, b"");
                assert_eq!(answer.status, status, "{protocol} {path} {}", answer.text());
                if status == 502 {
                    let text = answer.text();
                    assert!(text.contains("sent a part of its content"), "{text}");
                    assert!(!text.contains(&REAL[8..18]), "{text}");
                }
            }
        }
    }
}

#[test]
fn b12_after_a_reload_that_removes_the_provider_answers_of_its_host_are_still_scrubbed() {
    let scene = Scene::new(|_| Answer::Reply(leaking()));
    let removed =
        Config::example()
            .allow("blocked.test")
            .set("network", "credential_broker", "true");
    scene.daemon.reload_with(&removed);
    for protocol in BOTH {
        let asked = ("GET", "allowed.test", "/");
        let way = (Way::Connect, protocol);
        let answer = scene.ask_over(&scene.session, way, asked, &[("te", "trailers")], b"");
        assert_eq!(answer.status, 200);
        let whole = format!("{:?} {}", answer.headers, answer.text());
        assert!(!whole.contains(REAL), "{protocol}: {whole}");
        assert!(answer.text().contains(scene.dummy()), "{protocol}: {whole}");
    }
    // The dummy is of no use there any more.
    let bearer = format!("Bearer {}", scene.dummy());
    let answer = scene.get("allowed.test", "/", &[("authorization", &bearer)]);
    assert_eq!(answer.status, 403, "{}", answer.text());
}
