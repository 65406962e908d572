//! Real values in answers become dummies (SPEC B12).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::origin::{Answer, Body, Reply};

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

#[test]
fn b12_a_compressed_answer_does_not_pass() {
    let content_coding = || {
        let reply = Reply::new(200, Body::Sized(b"not really gzip".to_vec()));
        Answer::Reply(reply.header("content-encoding", "gzip"))
    };
    let transfer_coding = || {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        Answer::Raw(format!("{head}f\r\nnot really gzip\r\n0\r\n\r\n").into_bytes())
    };
    let answers: [fn() -> Answer; 2] = [content_coding, transfer_coding];
    let reasons = ["compressed its answer", "used transfer codings"];
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
