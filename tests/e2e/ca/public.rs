//! The public facts about the CA: `proxyctl ca`, and the public files.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use e2e::daemon::{Config, Daemon};
use e2e::machine::{self, Need};
use e2e::program::Program;
use e2e::proxyctl::{proxyctl, proxyctl_at};
use e2e::wait::{TIMEOUT, poll};
use serde_json::Value;

use super::{ca, daemon_in, fingerprint, init, set, shown};

/// Two roots that issued nothing, as PEM.
fn roots(directory: &Path) -> (PathBuf, String) {
    let mut made = ["one.test", "two.test"].map(|name| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]);
        made.expect("a certificate").cert
    });
    // In the order of the bundle.
    made.sort_unstable_by(|one, other| one.der().cmp(other.der()));
    let pem: String = made.map(|made| made.pem().replace("\r\n", "\n")).concat();
    let path = directory.join("roots.pem");
    std::fs::write(&path, &pem).expect("a new file");
    (path, pem)
}

fn with_roots(state: &Path, roots: &Path) -> Daemon {
    Daemon::launch()
        .config(&Config::example())
        .env("SSL_CERT_FILE", roots)
        .arg("-c")
        .arg(set("daemon.state_dir", state))
        .start()
}

fn file(shown: &Value, key: &str) -> PathBuf {
    let path = shown[key].as_str();
    path.unwrap_or_else(|| panic!("no {key}: {shown}")).into()
}

/// Sets limited mode, in which every allowed host is intercepted.
fn limit(daemon: &Daemon) {
    proxyctl(daemon, &["mode", "limited"]).succeeded();
}

/// The public files in a state directory.
fn public_files(state: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("ca-"))
        })
        .collect();
    files.sort_unstable();
    files
}

#[test]
fn m5_a_temporary_ca_writes_no_file_while_nothing_can_be_intercepted() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    for _ in 0..2 {
        let daemon = daemon_in(&state);
        let shown = shown(&daemon);
        assert_eq!(shown["certificate_file"], Value::Null);
        assert_eq!(shown["unused"], true);
        ca(&daemon, &["show"])
            .succeeded()
            .says("written when something can be intercepted");
        // The certificate can still be exported.
        ca(&daemon, &["export", "--bundle"])
            .succeeded()
            .says("BEGIN CERTIFICATE");
        assert_eq!(public_files(&state), Vec::<PathBuf>::new());
    }
}

#[test]
fn m5_the_files_appear_when_a_reload_makes_interception_possible() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let daemon = daemon_in(&state);
    daemon.reload_with(&Config::limited());
    let shown = shown(&daemon);
    let written = [
        file(&shown, "certificate_file"),
        file(&shown, "bundle_file"),
    ];
    let mut written = written.to_vec();
    written.sort_unstable();
    assert_eq!(public_files(&state), written);
}

#[test]
fn m5_files_written_for_limited_mode_at_run_time_stay_known() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let daemon = daemon_in(&state);
    limit(&daemon);
    let before = file(&shown(&daemon), "bundle_file");
    assert!(before.exists());
    let again = || {
        poll(TIMEOUT, || {
            let shown = shown(&daemon);
            shown["bundle_file"].as_str().map(PathBuf::from)
        })
    };
    // The new configuration has full mode. Limited mode was set at run time and stays.
    daemon.reload_with(&Config::example().allow("more.test"));
    assert_eq!(again().as_ref(), Some(&before));
    let first = daemon.worker();
    e2e::process::kill_process(first);
    poll(TIMEOUT, || (daemon.worker() != first).then_some(())).expect("another worker");
    assert_eq!(again().as_ref(), Some(&before));
}

#[test]
fn m5_everyone_may_read_the_certificate_and_the_bundle() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, roots) = roots(directory.path());
    let daemon = with_roots(&directory.path().join("state"), &path);
    limit(&daemon);
    let shown = shown(&daemon);
    assert_eq!(shown["roots"], 2);
    let certificate = file(&shown, "certificate_file");
    let bundle = file(&shown, "bundle_file");
    for (path, kind) in [(&certificate, "ca-"), (&bundle, "ca-bundle-")] {
        let content = std::fs::read(path).expect("a file");
        let sum = Program::new("sha256sum").arg(path).run();
        let name = format!("{kind}{}.pem", &sum.succeeded().stdout[..16]);
        assert_eq!(
            path.file_name().and_then(|name| name.to_str()),
            Some(&*name)
        );
        assert_eq!(path.metadata().expect("a file").mode() & 0o7777, 0o644);
        assert!(!String::from_utf8_lossy(&content).contains("PRIVATE"));
    }
    let certificate = std::fs::read_to_string(certificate).expect("text");
    let bundle = std::fs::read_to_string(bundle).expect("text");
    assert_eq!(bundle, roots + &certificate);
    assert_eq!(ca(&daemon, &["export"]).succeeded().stdout, certificate);
    let exported = ca(&daemon, &["export", "--bundle"]);
    assert_eq!(exported.succeeded().stdout, bundle);
}

#[test]
fn m6_our_own_ca_is_never_a_root() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    init(&state).succeeded();
    let (path, roots) = roots(directory.path());
    let own = std::fs::read_to_string(state.join("ca.pem")).expect("text");
    std::fs::write(&path, own.clone() + &roots).expect("a file");
    let daemon = with_roots(&state, &path);
    assert_eq!(shown(&daemon)["roots"], 2);
    let bundle = ca(&daemon, &["export", "--bundle"]);
    assert_eq!(bundle.succeeded().stdout, roots + &own, "once, and last");
}

#[test]
fn m5_without_roots_the_proxy_runs_and_logs_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").expect("a new file");
    let daemon = with_roots(&directory.path().join("state"), &empty);
    assert_eq!(shown(&daemon)["roots"], 0);
    ca(&daemon, &["show"]).succeeded().says("none were found");
    daemon.wait_for_log(|line| line.message_starts_with("no root certificates were found"));
}

#[test]
fn m5_a_state_directory_that_cannot_be_written_is_a_warning() {
    // Even root cannot make directories there.
    let daemon = daemon_in(Path::new("/proc/no-such-place"));
    limit(&daemon);
    daemon.wait_for_log(|line| line.message_starts_with("the CA's public files are missing"));
    let shown = shown(&daemon);
    assert_eq!(
        (&shown["certificate_file"], &shown["bundle_file"]),
        (&Value::Null, &Value::Null)
    );
    ca(&daemon, &["show"])
        .succeeded()
        .says("the state directory cannot be used");
    ca(&daemon, &["export"])
        .succeeded()
        .says("BEGIN CERTIFICATE");
}

#[test]
fn k1_ca_show_prints_fingerprint_validity_files_and_how_to_trust_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let daemon = daemon_in(directory.path());
    let run = ca(&daemon, &["show"]);
    run.succeeded()
        .says("CN=codex-network-proxy CA ")
        .says(&fingerprint(&daemon))
        .says("codex-network-proxy init");
    for program in [
        "Debian",
        "Fedora",
        "macOS",
        "Firefox",
        "keytool",
        "NODE_EXTRA_CA_CERTS",
    ] {
        run.says(program);
    }
    let shown = shown(&daemon);
    let (from, until) = (&shown["not_before"], &shown["not_after"]);
    assert!(from.as_i64() < until.as_i64(), "{shown}");
    assert_eq!(shown["kept_at"], Value::Null);
}

#[test]
fn k1_ca_export_never_overwrites_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let daemon = daemon_in(directory.path());
    let out = directory.path().join("out.pem");
    let path = out.to_string_lossy();
    ca(&daemon, &["export", "--out", &path]).succeeded();
    let pem = std::fs::read_to_string(&out).expect("a file");
    assert_eq!(pem, ca(&daemon, &["export"]).stdout);
    assert_eq!(out.metadata().expect("a file").mode() & 0o7777, 0o644);
    std::fs::write(&out, "mine").expect("a file");
    let again = ca(&daemon, &["export", "--out", &path]);
    again.failed().says("was not changed");
    assert_eq!(std::fs::read_to_string(&out).expect("a file"), "mine");
}

#[test]
fn k1_ca_install_refuses_a_temporary_ca() {
    let directory = tempfile::tempdir().expect("a directory");
    let daemon = daemon_in(directory.path());
    let run = ca(&daemon, &["install"]);
    if machine::is_root() {
        assert_eq!(run.code, Some(1), "{run:?}");
        run.says("worthless after a restart")
            .says("codex-network-proxy init");
    } else {
        assert_eq!(run.code, Some(4), "{run:?}");
        run.says("sudo proxyctl ca install");
    }
}

#[test]
fn m1_without_interception_there_is_no_ca() {
    let config = Config::example().set("network.mitm", "enabled", "false");
    let daemon = Daemon::start(&config);
    for command in ["show", "export", "install"] {
        if command == "install" && !machine::has(Need::Root) {
            continue;
        }
        ca(&daemon, &[command]).failed().says("mitm = false");
    }
    let state = std::fs::read_dir(daemon.directory().join("state")).expect("the numbers' place");
    let names = state.map(|entry| entry.expect("an entry").file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["sequence"], "nothing of a CA");
}

#[test]
fn m3_openssl_takes_the_certificate_for_a_cas() {
    let directory = tempfile::tempdir().expect("a directory");
    init(directory.path()).succeeded();
    let path = directory.path().join("ca.pem");
    let path = path.to_string_lossy();
    let openssl = |arguments: &[&str]| Program::new("openssl").args(arguments).run();
    let text = openssl(&["x509", "-in", &path, "-noout", "-text"]);
    text.succeeded()
        .says("Subject: CN = codex-network-proxy CA")
        .says("X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0")
        .says("X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign")
        .says("X509v3 Subject Key Identifier")
        .says("ecdsa-with-SHA256")
        .says("P-256");
    openssl(&["verify", "-x509_strict", "-CAfile", &path, &path])
        .succeeded()
        .says(": OK");
    let key = directory.path().join("ca.key");
    openssl(&["pkey", "-in", &key.to_string_lossy(), "-noout", "-check"])
        .succeeded()
        .says("Key is valid");
}

#[test]
fn k2_ca_without_a_proxy_says_how_to_start_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = proxyctl_at(&directory.path().join("missing.sock"), &["ca", "show"]);
    assert_eq!(run.code, Some(3), "{run:?}");
}
