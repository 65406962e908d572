//! The real value is in no log, no record and no answer of the proxy (SPEC B4). It is searched for as bytes.

use codex_network_control::message::SessionRequest;
use e2e::leaks::Leak;
use e2e::origin::{Answer, Origin};
use e2e::proxyctl::proxyctl_json;
use e2e::session::Session;
use serde_json::json;

use super::{BOTH, REAL, Scene, VARIABLE, Way, config, contains, session_of};

#[test]
fn b4_b13_the_real_value_is_in_no_log_at_trace_level_and_in_no_answer_of_the_control_socket() {
    let scene = Scene::with(Origin::answering(|_| Answer::Echo), |port| {
        config(port)
            .hook("all", "blocked.test", &["GET"], "/")
            .set("daemon", "log", r#""trace""#)
    });
    let bearer = format!("Bearer {}", scene.dummy());
    let fields = [("authorization", &*bearer)];
    for protocol in BOTH {
        for (host, status) in [("allowed.test", 200), ("blocked.test", 403)] {
            let asked = ("GET", host, "/");
            let way = (Way::Connect, protocol);
            let answer = scene.ask_over(&scene.session, way, asked, &fields, b"");
            assert_eq!(answer.status, status);
        }
    }
    assert_eq!(
        scene.received("authorization"),
        Some(format!("Bearer {REAL}"))
    );
    let listed = proxyctl_json(&scene.daemon, &["credentials"]);
    let entry = &listed[0];
    assert_eq!(entry["session"], *scene.session.opened.id, "{listed}");
    assert_eq!(entry["id"], "openai", "{listed}");
    assert_eq!(entry["env"], json!([VARIABLE]), "{listed}");
    let place = format!("https://{}", scene.authority("allowed.test"));
    assert_eq!(entry["destinations"], json!([place]), "{listed}");
    assert_eq!(entry["source"], "environment", "{listed}");
    assert_eq!(entry["uses"], 2, "{listed}");
    assert!(entry["last_used"].is_i64(), "{listed}");
    assert!(!contains(listed.to_string().as_bytes(), scene.dummy()));
    let again = Session::open_with(&scene.daemon, SessionRequest::default());
    assert!(again.opened.dummies.is_empty());
    let url = format!("https://{}/", scene.authority("allowed.test"));
    for secret in [REAL, scene.dummy()] {
        Leak::of(secret).assert_not_written_by(&scene.daemon, &[&url]);
    }
}

#[test]
fn b4_b9_a_value_that_cannot_be_brokered_is_in_no_warning_and_no_log() {
    let scene = Scene::with(Origin::answering(|_| Answer::Echo), |port| {
        config(port).set("daemon", "log", r#""trace""#)
    });
    let leak = Leak::of("sk-proj-unfit");
    for value in [
        "sk-proj-unfit\r\nx-injected: 1",
        "sk-proj-unfit\nabcdefgh",
        "sk-proj-unfit\0abcdefgh",
        "sk-proj-unfit\x1b[31m",
        " sk-proj-unfit",
        "sk-proj-unfit\t",
    ] {
        let session = session_of(&scene.daemon, value);
        assert!(session.opened.dummies.is_empty(), "{value:?}");
        assert_eq!(session.opened.warnings.len(), 1, "{value:?}");
        leak.assert_not_in("the answer", format!("{:?}", session.opened));
    }
    let long = format!("sk-proj-unfit{}", "x".repeat(9000));
    let session = session_of(&scene.daemon, &long);
    assert!(session.opened.dummies.is_empty());
    leak.assert_not_in("the answer", format!("{:?}", session.opened));
    leak.assert_not_written_by(&scene.daemon, &[]);
}
