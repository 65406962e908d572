//! gRPC by grpcio of `PyPI` on both sides: calls of every kind, streaming and trailers, inside
//! intercepted TLS (SPEC M6). It uses `POST`, so it needs a hook in full mode.

use e2e::daemon::{Config, Daemon};
use e2e::program::Run;

use crate::intercepted::distrust_is_logged_once;
use crate::script::{self, Trust};

fn call(config: &Config, trust: Trust) -> (Run, Daemon) {
    script::run("grpc_echo", &[], config, trust)
}

fn hooked(path_prefix: &str) -> Config {
    Config::example().hook("grpc", "allowed.test", &["POST"], path_prefix)
}

#[test]
fn m6_m9_calls_of_every_kind_pass_intercepted_tls() {
    let (run, daemon) = call(&hooked("/test.Echo/"), Trust::Bundle);
    run.succeeded();
    let output: Vec<_> = run.stdout.lines().collect();
    assert_eq!(
        output,
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

/// Streams do not block each other, and the end of one is passed on.
#[test]
fn m6_unread_streams_and_cancelled_calls_affect_no_other_call() {
    let hooked = hooked("/test.Echo/");
    let (run, daemon) = script::run("grpc_streams", &[], &hooked, Trust::Bundle);
    run.succeeded();
    let output: Vec<_> = run.stdout.lines().collect();
    assert_eq!(
        output,
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
fn m10_h5_a_call_without_a_matching_hook_is_refused() {
    let (run, daemon) = call(&hooked("/test.Echo/Upload"), Trust::Bundle);
    run.failed().says("PERMISSION_DENIED: ");
    let entry = daemon.wait_for_blocked(|_| true);
    assert_eq!(entry["reason"], "mitm_hook_denied", "{entry}");
}

#[test]
fn p7_a_call_is_refused_in_limited_mode() {
    let (run, daemon) = call(&Config::limited(), Trust::Bundle);
    run.failed().says("PERMISSION_DENIED: ");
    let entry = daemon.wait_for_blocked(|_| true);
    assert_eq!(entry["reason"], "method_not_allowed", "{entry}");
}

#[test]
fn m5_a_client_without_the_ca_reports_it() {
    let (run, daemon) = call(&Config::limited(), Trust::Origin);
    run.failed().says("CERTIFICATE_VERIFY_FAILED");
    distrust_is_logged_once(&daemon);
}
