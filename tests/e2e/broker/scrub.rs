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
fn b12_a_compressed_answer_to_a_real_value_does_not_pass() {
    let scene = Scene::new(|_| {
        let reply = Reply::new(200, Body::Sized(b"not really gzip".to_vec()));
        Answer::Reply(reply.header("content-encoding", "gzip"))
    });
    let bearer = format!("Bearer {}", scene.dummy());
    let answer = scene.get("allowed.test", "/", &[("authorization", &bearer)]);
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(
        answer.text().contains("compressed its answer"),
        "{}",
        answer.text()
    );
    // Without a real value in the request, the origin has none to return.
    assert_eq!(scene.get("allowed.test", "/", &[]).status, 200);
}
