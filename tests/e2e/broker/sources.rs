//! Sources that the proxy reads itself: files and programs (SPEC B5, B13).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use codex_network_control::message::{DoorKind, GivenCredentials, SessionRequest};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin, Request};
use e2e::proxyctl::{exported_ca, proxyctl, proxyctl_json};
use e2e::session::{Caller, Session};
use e2e::tls::{Server, TestCa};
use tempfile::TempDir;

use super::{BOTH, REAL, Scene, VARIABLE, Way, contains, dummy};

/// Another value of the same shape.
const RENEWED: &str = "sk-proj-RENEWEDrenewed6789abcdefABCDEF-_y";

/// A file with a credential, which only its owner may read.
pub(super) struct TokenFile {
    pub(super) path: PathBuf,
    _directory: TempDir,
}

impl TokenFile {
    pub(super) fn new(value: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = Self {
            path: directory.path().join("token"),
            _directory: directory,
        };
        file.write(value);
        file
    }

    fn write(&self, value: &str) {
        fs::write(&self.path, format!("{value}\n")).expect("our own file");
        fs::set_permissions(&self.path, Permissions::from_mode(0o600)).expect("our own file");
    }
}

/// The credential of `allowed.test` at this port, from this source.
fn config(port: u16, source: &str, more: &str) -> Config {
    super::config(port).append(&format!("source = {source}\n{more}"))
}

fn of_file(path: &Path) -> String {
    format!("{{ file = \"{}\" }}", path.display())
}

/// A daemon with a credential of this source, and a session whose launcher gives nothing.
fn scene(source: &str, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Scene {
    let ca = TestCa::new();
    let server = Server::of(&ca, &["allowed.test", "blocked.test"]).alpn(&["h2", "http/1.1"]);
    let origin = Origin::answering(script).tls_as(&server).start();
    let daemon = Daemon::start_trusting(&config(origin.addr().port(), source, ""), &ca);
    let proxy_ca = exported_ca(&daemon);
    let session = Session::open(&daemon);
    Scene {
        session,
        origin,
        daemon,
        proxy_ca,
        ca,
    }
}

#[test]
fn b13_a_credential_of_a_file_reaches_its_host_and_a_reload_renews_it_under_the_same_dummy() {
    let token = TokenFile::new(REAL);
    let scene = scene(&of_file(&token.path), |_| Answer::Echo);
    let bearer = format!("Bearer {}", scene.dummy());
    let fields = [("authorization", &*bearer)];
    let answer = scene.get("allowed.test", "/", &fields);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.text().contains(REAL), "{}", answer.text());
    let got = scene.received("authorization");
    assert_eq!(got, Some(format!("Bearer {REAL}")));
    token.write(RENEWED);
    proxyctl(&scene.daemon, &["reload"]).succeeded();
    let answer = scene.get("allowed.test", "/", &fields);
    assert!(!answer.text().contains(RENEWED), "{}", answer.text());
    let got = scene.received("authorization");
    assert_eq!(got, Some(format!("Bearer {RENEWED}")));
    let listed = proxyctl_json(&scene.daemon, &["credentials"]);
    assert_eq!(listed[0]["uses"], 2, "{listed}");
    assert_eq!(listed[0]["failures"], 0, "{listed}");
    assert!(listed[0]["read_at"].as_i64().is_some(), "{listed}");
    for line in scene.daemon.logs() {
        let text = line.raw;
        assert!(!text.contains(REAL) && !text.contains(RENEWED), "{text}");
    }
}

#[test]
fn b13_a_credential_of_a_program_reaches_its_host() {
    let token = TokenFile::new(REAL);
    let source = format!(
        "{{ command = [\"/bin/cat\", \"{}\"] }}",
        token.path.display()
    );
    let scene = scene(&source, |_| Answer::Echo);
    let bearer = format!("Bearer {}", scene.dummy());
    let answer = scene.get("allowed.test", "/", &[("authorization", &bearer)]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = scene.received("authorization");
    assert_eq!(got, Some(format!("Bearer {REAL}")));
}

#[test]
fn b13_a_value_that_the_origin_refuses_is_read_again_and_the_request_repeated_once() {
    let token = TokenFile::new(REAL);
    let scene = scene(&of_file(&token.path), |request| {
        let renewed = format!("Bearer {RENEWED}");
        match request.header("authorization") {
            Some(field) if field == renewed => Answer::Echo,
            _ => Answer::status(401),
        }
    });
    let bearer = format!("Bearer {}", scene.dummy());
    let fields = [("authorization", &*bearer)];
    let refused = scene.get("allowed.test", "/same", &fields);
    assert_eq!(refused.status, 401, "{}", refused.text());
    assert_eq!(
        scene.origin.requests().len(),
        1,
        "the value is still the same"
    );
    // Another daemon, since a source is not read twice within ten seconds.
    let port = scene.origin.addr().port();
    let daemon = Daemon::start_trusting(&config(port, &of_file(&token.path), ""), &scene.ca);
    token.write(RENEWED);
    let proxy_ca = exported_ca(&daemon);
    let session = Session::open(&daemon);
    let scene = Scene {
        session,
        daemon,
        proxy_ca,
        ..scene
    };
    for protocol in BOTH {
        let bearer = format!("Bearer {}", scene.dummy());
        let asked = ("GET", "allowed.test", "/renewed");
        let way = (Way::Connect, protocol);
        let fields = [("authorization", &*bearer), ("x-kept", "1")];
        let answer = scene.ask_over(&scene.session, way, asked, &fields, b"");
        assert_eq!(answer.status, 200, "{protocol}: {}", answer.text());
        assert!(!answer.text().contains(RENEWED), "{}", answer.text());
        assert!(answer.text().contains(scene.dummy()), "{}", answer.text());
        assert_eq!(scene.received("x-kept").as_deref(), Some("1"));
    }
    let requests = scene.origin.requests();
    let refused = requests.iter().filter(|one| {
        one.header("authorization")
            .is_some_and(|field| field.ends_with(REAL))
    });
    assert_eq!(refused.count(), 2, "one of each daemon");
}

#[test]
fn b13_a_source_that_cannot_be_read_gives_no_dummy_and_is_reported_once() {
    let token = TokenFile::new(REAL);
    fs::set_permissions(&token.path, Permissions::from_mode(0o644)).expect("our own file");
    let source = of_file(&token.path);
    let daemon = Daemon::start(&config(443, &source, ""));
    let session = Session::open(&daemon);
    assert!(session.opened.dummies.is_empty());
    let [warning] = &session.opened.warnings[..] else {
        panic!("{:?}", session.opened.warnings);
    };
    assert!(
        warning.contains("the credential openai is refused"),
        "{warning}"
    );
    let listed = proxyctl_json(&daemon, &["credentials"]);
    assert_eq!(listed[0]["failures"], 1, "{listed}");
    let why = listed[0]["failure"].as_str().expect("a reason");
    assert!(why.contains("chmod 600"), "{why}");
    let shown = proxyctl(&daemon, &["credentials"]);
    assert!(shown.stdout.contains("chmod 600"), "{shown:#?}");
    let reported = daemon.logs().into_iter().map(|line| line.raw);
    let reported: Vec<String> = reported.filter(|line| line.contains("chmod 600")).collect();
    assert_eq!(reported.len(), 1, "{reported:#?}");
    assert!(!contains(format!("{reported:?}{shown:?}").as_bytes(), REAL));
    daemon.reload_with(&config(443, &source, "require = true\n"));
    let (_, sockets) = e2e::session::sockets(&[DoorKind::Http]);
    let refused = Caller::connect(&daemon).open(SessionRequest {
        command: "curl".to_owned(),
        doors: vec![DoorKind::Http],
        sockets: sockets.into(),
        ..SessionRequest::default()
    });
    let refused = refused.expect_err("the credential is required").to_string();
    assert!(refused.contains("the settings require it"), "{refused}");
    // The file is right again.
    token.write(REAL);
    daemon.reload_with(&config(443, &source, "require = true\n"));
    assert!(dummy(&Session::open(&daemon)).contains("masked"));
}

#[test]
fn b13_a_session_without_credentials_gets_none_of_the_proxy_either() {
    let token = TokenFile::new(REAL);
    let daemon = Daemon::start(&config(443, &of_file(&token.path), ""));
    let credentials = GivenCredentials {
        without_any: true,
        ..GivenCredentials::default()
    };
    let session = Session::open_with(
        &daemon,
        SessionRequest {
            credentials,
            ..SessionRequest::default()
        },
    );
    assert!(session.opened.dummies.is_empty());
    let other = Session::open(&daemon);
    assert_eq!(dummy(&other).len(), REAL.len());
    let listed = proxyctl_json(&daemon, &["credentials"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed[0]["env"][0], VARIABLE);
}
