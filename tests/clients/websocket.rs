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

/// H8, H9.
#[test]
fn a_websocket_goes_through_a_tunnel() {
    for options in [&["--plain"][..], &[]] {
        let (run, daemon) = talk(&Config::example(), options);
        run.succeeded().says(CLOSED);
        assert_eq!(protocols(&daemon), ["https_connect"]);
    }
}

/// H9, M6.
#[test]
fn a_websocket_goes_through_intercepted_tls() {
    let config = Config::example().hook("websocket", "allowed.test", &["GET"], "/echo");
    let (run, daemon) = talk(&config, &[]);
    run.succeeded().says(CLOSED);
    assert_eq!(protocols(&daemon), ["https_connect", "https"]);
}

/// H9.
#[test]
fn a_websocket_goes_through_plain_http() {
    let (run, daemon) = talk(&Config::example(), &["--plain", "--forward"]);
    run.succeeded().says(CLOSED);
    assert_eq!(protocols(&daemon), ["http"]);
}

/// P7, H5.
#[test]
fn a_websocket_is_refused_in_limited_mode() {
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
