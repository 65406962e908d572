//! Header fields and certificates of files: who may see them, and which files are refused.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use e2e::daemon::{Config, Daemon};
use e2e::origin::Origin;
use e2e::program::Program;
use e2e::proxyctl::proxyctl;
use e2e::shipped;
use e2e::tls::TestCa;
use tempfile::TempDir;

use super::{at, config, count, degraded, exports, refuse, taken, until};

const TOKEN: &str = "token-of-the-collector-4711";

fn written(directory: &Path, text: &str, mode: u32) -> PathBuf {
    let file = directory.join("headers");
    fs::write(&file, text).expect("a file of ours");
    fs::set_permissions(&file, Permissions::from_mode(mode)).expect("a file of ours");
    file
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

#[test]
fn o2_header_fields_of_the_file_are_sent_and_shown_nowhere() {
    let directory = TempDir::new().expect("a directory");
    let text =
        format!("# for the collector\n\nauthorization: Bearer {TOKEN}\r\nx-scope-orgid:  team \n");
    let file = written(directory.path(), &text, 0o600);
    let collector = Origin::start(|_| taken());
    let config = config(&at(collector.addr()))
        .set("daemon.telemetry", "headers_file", &quoted(&file))
        .set("daemon", "log", r#""trace""#);
    let daemon = Daemon::start(&config);
    refuse(&daemon, 1);
    until("an export", || count(&exports(&collector)) == 1);
    let request = collector.requests().remove(0);
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(request.header("authorization"), Some(&*bearer));
    assert_eq!(request.header("x-scope-orgid"), Some("team"));
    let shown = daemon.admin("GET", "/config", None).text();
    assert!(shown.contains("headers_file"), "{shown}");
    let status = proxyctl(&daemon, &["config"]).succeeded().stdout.clone();
    let logs = format!("{:?}", daemon.logs());
    for (place, text) in [("/config", shown), ("proxyctl", status), ("the log", logs)] {
        assert!(!text.contains(TOKEN), "{place} has the token: {text}");
    }
}

#[test]
fn o2_check_refuses_files_of_header_fields_that_are_unfit() {
    let directory = TempDir::new().expect("a directory");
    let secret = "hidden-value";
    for (text, mode, wanted) in [
        (
            format!("authorization {secret}"),
            0o600,
            "line 1 of the headers file",
        ),
        (
            format!("a: b\n{secret} x: y"),
            0o600,
            "line 2 of the headers file",
        ),
        (format!("host: {secret}"), 0o600, "names a field that"),
        (
            format!("grpc-timeout: {secret}"),
            0o600,
            "names a field that",
        ),
        (format!("a: {secret}\u{1}"), 0o600, "is not printable ASCII"),
        ("a:".to_owned(), 0o600, "has no value"),
        (format!("a: {secret}"), 0o644, "can be read by others"),
    ] {
        let file = written(directory.path(), &text, mode);
        let config =
            config("http://127.0.0.1:4318").set("daemon.telemetry", "headers_file", &quoted(&file));
        let path = directory.path().join("config.toml");
        fs::write(&path, config.write(directory.path())).expect("a file of ours");
        let run = Program::new(shipped::proxy())
            .args(["check", "--config"])
            .arg(&path)
            .run();
        let said = format!("{}{}", run.stdout, run.stderr);
        assert_ne!(run.code, Some(0), "{text}");
        assert!(said.contains(wanted), "{text}: {said}");
        assert!(!said.contains(secret), "{said}");
        let errors = said
            .lines()
            .filter(|line| line.starts_with("error: "))
            .count();
        assert_eq!(errors, 1, "{said}");
    }
}

#[test]
fn o2_a_collector_in_tls_is_verified_against_the_certificates_of_ca_file() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let collector = Origin::answering(|_| taken())
        .tls(&ca, &["127.0.0.1"])
        .start();
    let url = format!("https://{}", collector.addr());
    let trusting =
        |ca: &TestCa| config(&url).set("daemon.telemetry", "ca_file", &quoted(ca.file()));
    let daemon = Daemon::start(&trusting(&other));
    refuse(&daemon, 1);
    until("a failure", || degraded(&daemon).is_some());
    let detail = degraded(&daemon).expect("it failed")["detail"].to_string();
    assert!(detail.contains("certificate_unknown_issuer"), "{detail}");
    assert_eq!(collector.requests().len(), 0);
    daemon.reload_with(&trusting(&ca));
    until("an export", || count(&exports(&collector)) == 1);
    // Without the key, the roots of the system count, and this authority is not among them.
    daemon.reload_with(&config(&url));
    refuse(&daemon, 1);
    until("a failure", || degraded(&daemon).is_some());
    assert_eq!(count(&exports(&collector)), 1);
}

#[test]
fn o2_a_collector_in_tls_without_ca_file_is_verified_against_the_roots_of_the_system() {
    let ca = TestCa::new();
    let collector = Origin::answering(|_| taken())
        .tls(&ca, &["127.0.0.1"])
        .start();
    let url = format!("https://{}/otlp/", collector.addr());
    let other = Daemon::start_trusting(&config(&url), &TestCa::new());
    refuse(&other, 1);
    until("a failure", || degraded(&other).is_some());
    let detail = degraded(&other).expect("it failed")["detail"].to_string();
    assert!(detail.contains("certificate_unknown_issuer"), "{detail}");
    assert_eq!(collector.requests().len(), 0);
    let daemon = Daemon::start_trusting(&config(&url), &ca);
    refuse(&daemon, 1);
    until("an export", || count(&exports(&collector)) == 1);
    assert_eq!(collector.requests()[0].target, "/otlp/v1/logs");
}

#[test]
fn o2_the_lines_of_the_fleet_guide_export() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/fleet/README.md");
    let guide = fs::read_to_string(guide).expect("the guide");
    let (_, block) = guide.split_once("[daemon.telemetry]\n").expect("the lines");
    let (block, _) = block.split_once("```").expect("the end of the lines");
    let directory = TempDir::new().expect("a directory");
    let ca = TestCa::new();
    let collector = Origin::answering(|_| taken())
        .tls(&ca, &["collector.example.com"])
        .start();
    let file = written(
        directory.path(),
        &format!("authorization: Bearer {TOKEN}\n"),
        0o600,
    );
    let mut lines = block
        .replace("# headers_file", "headers_file")
        .replace("# ca_file", "ca_file");
    for (shown, here) in [
        (":4318\"", format!(":{}\"", collector.addr().port())),
        (
            "/etc/codex-network-proxy/collector-headers",
            file.display().to_string(),
        ),
        (
            "/etc/codex-network-proxy/collector-ca.pem",
            ca.file().display().to_string(),
        ),
    ] {
        assert!(lines.contains(shown), "{lines}");
        lines = lines.replace(shown, &here);
    }
    let config = Config::example()
        .host("collector.example.com", Ipv4Addr::LOCALHOST)
        .append(&format!("[daemon.telemetry]\n{lines}"));
    let daemon = Daemon::start(&config);
    refuse(&daemon, 1);
    until("an export", || count(&exports(&collector)) == 1);
    let bearer = format!("Bearer {TOKEN}");
    let request = collector.requests().remove(0);
    assert_eq!(request.header("authorization"), Some(&*bearer));
    let status = proxyctl(&daemon, &["status"]).succeeded().stdout.clone();
    assert!(
        status.contains("1 audit events exported to https://collector.example.com"),
        "{status}"
    );
}
