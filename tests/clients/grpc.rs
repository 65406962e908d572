//! gRPC by grpcio of `PyPI` on both sides: calls of every kind, streaming and trailers, inside
//! intercepted TLS (SPEC M6). It uses `POST`, so it needs a hook in full mode.

use std::path::Path;

use e2e::daemon::{Config, Daemon};
use e2e::program::{Run, installed};
use e2e::tls::{Server, TestCa};
use tempfile::TempDir;

use crate::intercepted::{bundle, distrust_is_logged_once, limited, proxy, start};
use crate::scene::Attempt;

/// The authority that the client trusts.
#[derive(Clone, Copy)]
enum Trust {
    Bundle,
    Origin,
}

fn call(config: &Config, trust: Trust) -> (Run, Daemon) {
    run_script("clients/python/grpc_echo.py", config, trust)
}

fn run_script(script: &str, config: &Config, trust: Trust) -> (Run, Daemon) {
    let ca = TestCa::new();
    let daemon = start(config, &ca);
    let directory = TempDir::new().expect("a temporary directory");
    let server = Server::of(&ca, &["allowed.test"]);
    server.write(directory.path()).expect("a directory of ours");
    let bundle = bundle(&daemon);
    let attempt = Attempt {
        base: String::new(),
        proxy: Some(proxy(&daemon)),
        ca: match trust {
            Trust::Bundle => &bundle,
            Trust::Origin => ca.file(),
        },
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let run = attempt
        .program(installed("venv/bin/python"))
        .arg("-B")
        .arg(script)
        .arg(attempt.proxy_or_empty())
        .arg(directory.path())
        .run();
    (run, daemon)
}

fn hooked(prefix: &str) -> Config {
    Config::example().append(&format!(
        "[network.mitm.hooks.grpc]\n\
         host = \"allowed.test\"\nmethods = [\"POST\"]\npath_prefixes = [\"{prefix}\"]\n"
    ))
}

/// M6, M9.
#[test]
fn calls_of_every_kind_go_through_intercepted_tls() {
    let (run, daemon) = call(&hooked("/test.Echo/"), Trust::Bundle);
    run.succeeded();
    let said: Vec<_> = run.stdout.lines().collect();
    assert_eq!(
        said,
        [
            "unary hello unary",
            "download 5000000 download",
            "upload 5000000",
            "both one!",
            "both two!",
            "both three!",
            "both OUT_OF_RANGE no more",
        ]
    );
    let logs = daemon.logs();
    let inside = logs.iter().filter(|line| {
        line.field("network.transport.protocol")
            .is_some_and(|protocol| protocol == "https")
    });
    assert_eq!(inside.count(), 4, "each call is judged by itself");
}

/// M6: streams do not stop each other, and the end of one is passed on.
#[test]
fn streams_that_are_not_read_and_calls_that_end_early_go_through_intercepted_tls() {
    let hooked = hooked("/test.Echo/");
    let (run, daemon) = run_script("clients/python/grpc_streams.py", &hooked, Trust::Bundle);
    run.succeeded();
    let said: Vec<_> = run.stdout.lines().collect();
    assert_eq!(
        said,
        [
            "answered beside three streams that are not read",
            "the server learnt of three cancellations",
            "DEADLINE_EXCEEDED",
            "the server learnt of the deadline",
            "brought back 8388608",
        ]
    );
    assert!(daemon.blocked().is_empty(), "{:?}", daemon.blocked());
}

/// M10, H5: gRPC takes 403 for this status.
#[test]
fn a_call_that_no_hook_is_for_is_refused() {
    let (run, daemon) = call(&hooked("/test.Echo/Upload"), Trust::Bundle);
    run.failed().says("PERMISSION_DENIED: ");
    let entry = daemon.wait_for_blocked(|_| true);
    assert_eq!(entry["reason"], "mitm_hook_denied", "{entry}");
}

/// P7.
#[test]
fn a_call_is_refused_in_limited_mode() {
    let (run, daemon) = call(&limited(), Trust::Bundle);
    run.failed().says("PERMISSION_DENIED: ");
    let entry = daemon.wait_for_blocked(|_| true);
    assert_eq!(entry["reason"], "method_not_allowed", "{entry}");
}

/// M5.
#[test]
fn a_client_that_does_not_trust_the_ca_says_so() {
    let (run, daemon) = call(&limited(), Trust::Origin);
    run.failed().says("CERTIFICATE_VERIFY_FAILED");
    distrust_is_logged_once(&daemon);
}
