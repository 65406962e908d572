//! A collector over gRPC.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use e2e::collector::{GrpcAnswer, GrpcCollector, attribute};
use e2e::daemon::{Config, Daemon};
use e2e::origin::Origin;
use e2e::tls::{Server, TestCa};
use tempfile::TempDir;

use super::{at, config, count, degraded, metric, refuse, taken, until};

fn grpc(url: &str) -> Config {
    config(url).set("daemon.telemetry", "protocol", r#""grpc""#)
}

#[test]
fn o2_audit_events_arrive_over_grpc() {
    let collector = GrpcCollector::start();
    let daemon = Daemon::start(&grpc(&at(collector.addr())));
    refuse(&daemon, 3);
    collector.wait_for("three events", |exports| {
        (count(exports) == 3).then_some(())
    });
    let export = &collector.exports()[0];
    let form = export.fields.get("content-type").expect("a content type");
    assert_eq!(form, "application/grpc+proto");
    assert_eq!(export.fields.get("te").expect("a field"), "trailers");
    let server = attribute(export.records()[0], "server.address");
    assert_eq!(server.as_deref(), Some("blocked.test"));
    until("the count", || metric(&daemon, "exported_total") == 3);
    // A further batch comes over the same connection or another one.
    refuse(&daemon, 1);
    until("the count", || metric(&daemon, "exported_total") == 4);
}

#[test]
fn o2_statuses_of_grpc_decide_whether_events_are_sent_again() {
    let statuses = [14, 8, 0];
    let collector = GrpcCollector::answering(None, move |number| GrpcAnswer {
        // RetryInfo with a delay of one nanosecond.
        details: (number == 1).then(|| {
            "GjAKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5SZXRyeUluZm8SBAoCEAE=".to_owned()
        }),
        ..GrpcAnswer::status(statuses.get(number).copied().unwrap_or(3))
    });
    let daemon = Daemon::start(&grpc(&at(collector.addr())));
    refuse(&daemon, 2);
    until("an export", || metric(&daemon, "exported_total") == 2);
    let exports = collector.exports();
    assert_eq!(exports.len(), 3);
    assert_eq!(exports[0].message, exports[2].message);
    refuse(&daemon, 1);
    until("a loss", || metric(&daemon, "lost_total") == 1);
    let part = degraded(&daemon).expect("the collector refused it");
    let detail = part["detail"].as_str().expect("a sentence");
    assert!(detail.contains("the gRPC status 3"), "{detail}");
}

#[test]
fn o2_grpc_in_tls_is_verified_against_the_certificates_of_ca_file() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let tls = Server::of(&ca, &["127.0.0.1"]).alpn(&["h2"]).config();
    let collector = GrpcCollector::answering(Some(tls), |_| GrpcAnswer::status(0));
    let url = format!("https://{}", collector.addr());
    let trusting = |ca: &TestCa| {
        let file = format!("{:?}", ca.file().display().to_string());
        grpc(&url).set("daemon.telemetry", "ca_file", &file)
    };
    let daemon = Daemon::start(&trusting(&other));
    refuse(&daemon, 1);
    daemon.wait_for_message("certificate_unknown_issuer");
    assert_eq!(collector.exports().len(), 0);
    daemon.reload_with(&trusting(&ca));
    collector.wait_for("the event", |exports| (count(exports) == 1).then_some(()));
}

#[test]
fn o2_an_answer_without_a_status_of_grpc_takes_nothing() {
    let collector = GrpcCollector::answering(None, |number| GrpcAnswer {
        status: (number > 0).then_some(0),
        ..GrpcAnswer::status(0)
    });
    let daemon = Daemon::start(&grpc(&at(collector.addr())));
    refuse(&daemon, 1);
    until("an export", || metric(&daemon, "exported_total") == 1);
    assert_eq!(collector.exports().len(), 2);
    daemon.wait_for_message("its answer has no gRPC status");
}

#[test]
fn o2_header_fields_are_sent_over_grpc_and_the_most_detailed_log_has_no_value() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("headers");
    fs::write(&file, "authorization: Bearer token-4712\n").expect("a file of ours");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a file of ours");
    let file = format!("{:?}", file.display().to_string());
    let collector = GrpcCollector::start();
    let config = grpc(&at(collector.addr()))
        .set("daemon.telemetry", "headers_file", &file)
        .set("daemon", "log", r#""trace""#);
    let daemon = Daemon::start(&config);
    refuse(&daemon, 1);
    until("an export", || metric(&daemon, "exported_total") == 1);
    let sent = collector.exports()[0].fields.get("authorization").cloned();
    assert_eq!(sent.expect("a field"), "Bearer token-4712");
    let logs = format!("{:?}", daemon.logs());
    assert!(!logs.contains("4712"), "{logs}");
}

#[test]
fn o2_a_flood_and_a_server_that_speaks_no_grpc_do_no_harm() {
    let collector = GrpcCollector::answering(None, |number| GrpcAnswer {
        flood: if number == 0 { 1 << 20 } else { 0 },
        ..GrpcAnswer::status(0)
    });
    let daemon = Daemon::start(&grpc(&at(collector.addr())));
    refuse(&daemon, 1);
    until("an export", || metric(&daemon, "exported_total") == 1);
    let exports = collector.exports().len();
    assert_eq!(exports, 2, "an answer that is too long is no answer");
    let plain = Origin::start(|_| taken());
    daemon.reload_with(&grpc(&at(plain.addr())));
    refuse(&daemon, 1);
    until("a failure", || degraded(&daemon).is_some());
    assert_eq!(metric(&daemon, "exported_total"), 1);
    daemon.reload_with(&grpc(&at(collector.addr())));
    until("an export", || metric(&daemon, "exported_total") == 2);
}
