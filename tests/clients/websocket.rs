//! WebSocket with permessage-deflate, by `websockets` of `PyPI` on both sides: in a
//! tunnel, inside intercepted TLS, and over plain HTTP (SPEC H9, P7).

use e2e::daemon::{Config, Daemon};
use e2e::program::Run;

use crate::script::{self, Trust};

const CLOSED: &str = "brought home 4000 enough";

/// Runs server and client with the proxy between them.
fn talk(config: &Config, options: &[&str]) -> (Run, Daemon) {
    script::run("websocket_echo", options, config, Trust::Bundle)
}

#[test]
fn h8_h9_a_websocket_works_in_a_tunnel() {
    for options in [&["--plain"][..], &[]] {
        let (run, daemon) = talk(&Config::example(), options);
        run.succeeded().says(CLOSED);
        assert_eq!(protocols(&daemon), ["https_connect"]);
    }
}

#[test]
fn h9_m6_a_websocket_works_inside_intercepted_tls() {
    let config = Config::example().hook("websocket", "allowed.test", &["GET"], "/echo");
    let (run, daemon) = talk(&config, &[]);
    run.succeeded().says(CLOSED);
    assert_eq!(protocols(&daemon), ["https_connect", "https"]);
}

#[test]
fn h9_a_websocket_works_over_plain_http() {
    let (run, daemon) = talk(&Config::example(), &["--plain", "--forward"]);
    run.succeeded().says(CLOSED);
    assert_eq!(protocols(&daemon), ["http"]);
}

#[test]
fn p7_h5_a_websocket_is_refused_in_limited_mode() {
    for options in [&[][..], &["--plain", "--forward"]] {
        let (run, daemon) = talk(&Config::limited(), options);
        run.failed().says("rejected WebSocket connection: HTTP 403");
        let entry = daemon.wait_for_blocked(|_| true);
        assert_eq!(entry["reason"], "method_not_allowed", "{entry}");
    }
}

/// The allowed requests, by protocol.
fn protocols(daemon: &Daemon) -> Vec<String> {
    let logs = daemon.logs();
    let protocols = logs
        .iter()
        .filter_map(|line| line.field("network.transport.protocol")?.as_str());
    protocols.map(str::to_owned).collect()
}
