//! The real value is in no log, no record and no answer of the proxy (SPEC B4). It is searched for as bytes.

use codex_network_control::message::SessionRequest;
use e2e::daemon::Daemon;
use e2e::origin::{Answer, Origin};
use e2e::proxyctl::{exported_ca, proxyctl, proxyctl_json};
use e2e::session::Session;
use e2e::tls::{Server, TestCa};
use serde_json::json;

use super::{BOTH, REAL, Scene, VARIABLE, Way, config, contains, session_of};

#[test]
fn b4_b13_the_real_value_is_in_no_log_at_trace_level_and_in_no_answer_of_the_control_socket() {
    let ca = TestCa::new();
    let server = Server::of(&ca, &["allowed.test", "blocked.test"]).alpn(&["h2", "http/1.1"]);
    let origin = Origin::answering(|_| Answer::Echo).tls_as(&server).start();
    let config = config(origin.addr().port())
        .hook("all", "blocked.test", &["GET"], "/")
        .set("daemon", "log", r#""trace""#);
    let daemon = Daemon::start_trusting(&config, &ca);
    let scene = Scene {
        session: session_of(&daemon, REAL),
        proxy_ca: exported_ca(&daemon),
        origin,
        daemon,
        ca,
    };
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
    let url = format!("https://{}/", scene.authority("allowed.test"));
    for arguments in [
        &["config"][..],
        &["--json", "config"],
        &["--json", "status"],
        &["--json", "sessions"],
        &["credentials"],
        &["--json", "blocked"],
        &["explain", &url],
    ] {
        let run = proxyctl(&scene.daemon, arguments);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(!contains(said.as_bytes(), REAL), "{arguments:?}: {said}");
    }
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
    let answer = scene.daemon.admin("GET", "/config", None);
    assert!(!contains(answer.text().as_bytes(), REAL));
    let again = Session::open_with(&scene.daemon, SessionRequest::default());
    assert!(again.opened.dummies.is_empty());
    for line in scene.daemon.logs() {
        assert!(!contains(line.raw.as_bytes(), REAL), "{}", line.raw);
        assert!(
            !contains(line.raw.as_bytes(), scene.dummy()),
            "{}",
            line.raw
        );
    }
}
