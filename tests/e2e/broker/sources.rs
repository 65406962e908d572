//! Sources that the proxy reads itself: files and programs (SPEC B5, B13).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use codex_network_control::message::{DoorKind, GivenCredentials, SessionRequest};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin, Request};
#[cfg(target_os = "linux")]
use e2e::process::{has_ended, kill_process, status_field};
use e2e::proxyctl::{exported_ca, proxyctl, proxyctl_json};
use e2e::session::{Caller, Session};
use e2e::tls::{Server, TestCa};
use e2e::wait::{TIMEOUT, poll};
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

    pub(super) fn write(&self, value: &str) {
        fs::write(&self.path, format!("{value}\n")).expect("our own file");
        fs::set_permissions(&self.path, Permissions::from_mode(0o600)).expect("our own file");
    }
}

/// The credential of `allowed.test` at this port, from this source.
pub(super) fn config(port: u16, source: &str, more: &str) -> Config {
    super::config(port).append(&format!("source = {source}\n{more}"))
}

pub(super) fn of_file(path: &Path) -> String {
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
fn b13_a_program_is_run_again_ahead_of_ttl_under_the_same_dummy() {
    let token = TokenFile::new(REAL);
    let source = format!(
        "{{ command = [\"/bin/cat\", \"{}\"], ttl = \"15s\" }}",
        token.path.display()
    );
    let scene = scene(&source, |_| Answer::Echo);
    let read_at = || proxyctl_json(&scene.daemon, &["credentials"])[0]["read_at"].clone();
    let first = read_at();
    token.write(RENEWED);
    let is_read_again = || (read_at() != first).then_some(());
    assert!(poll(TIMEOUT, is_read_again).is_some(), "{first}");
    let bearer = format!("Bearer {}", scene.dummy());
    let answer = scene.get("allowed.test", "/", &[("authorization", &bearer)]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = scene.received("authorization");
    assert_eq!(got, Some(format!("Bearer {RENEWED}")));
    assert_eq!(
        scene.origin.requests().len(),
        1,
        "the first was not refused"
    );
}

#[test]
fn b13_a_credential_of_systemd_reaches_its_host() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    fs::write(&path, format!("{REAL}\n")).expect("our own file");
    // As systemd makes it for a service of a user, who has access by a list.
    fs::set_permissions(&path, Permissions::from_mode(0o440)).expect("our own file");
    let ca = TestCa::new();
    let server = Server::of(&ca, &["allowed.test"]).alpn(&["h2", "http/1.1"]);
    let origin = Origin::answering(|_| Answer::Echo).tls_as(&server).start();
    let source = "{ systemd_credential = \"token\" }";
    let daemon = Daemon::launch()
        .config(&config(origin.addr().port(), source, ""))
        .trusting(&ca)
        .env("CREDENTIALS_DIRECTORY", directory.path())
        .start();
    let scene = Scene {
        proxy_ca: exported_ca(&daemon),
        session: Session::open(&daemon),
        origin,
        daemon,
        ca,
    };
    let bearer = format!("Bearer {}", scene.dummy());
    let answer = scene.get("allowed.test", "/", &[("authorization", &bearer)]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = scene.received("authorization");
    assert_eq!(got, Some(format!("Bearer {REAL}")));
}

#[test]
#[cfg(target_os = "linux")]
fn b13_a_program_ends_with_a_loader_that_is_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let started = directory.path().join("started");
    // The first load has the value.
    let script = format!(
        "test -e {0}.wanted || exec echo {REAL}; echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000",
        started.display()
    );
    let source = format!("{{ command = [\"/bin/sh\", \"-c\", \"{script}\"], timeout = \"20s\" }}");
    let daemon = Daemon::start(&config(443, &source, ""));
    fs::write(directory.path().join("started.wanted"), "").expect("our own directory");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    let pid = poll(TIMEOUT, || fs::read_to_string(&started).ok()).expect("the program runs");
    let pid: u32 = pid.trim().parse().expect("a number");
    let loader: u32 = status_field(pid, "PPid").parse().expect("a number");
    assert_ne!(loader, daemon.pid());
    kill_process(loader);
    assert!(poll(TIMEOUT, || has_ended(pid).then_some(())).is_some());
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
