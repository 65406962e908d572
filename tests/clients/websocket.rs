//! WebSocket with permessage-deflate, by `websockets` of `PyPI` on both sides: in a
//! tunnel, inside intercepted TLS, and over plain HTTP (SPEC H9, P7).

use std::path::Path;

use e2e::daemon::{Config, Daemon};
use e2e::program::{Run, installed};
use e2e::tls::{Server, TestCa};
use tempfile::TempDir;

use crate::intercepted::{bundle, limited, proxy, start};
use crate::scene::{Attempt, Scheme};

const HOOK: &str = r#"
    [network.mitm.hooks.websocket]
    host = "allowed.test"
    methods = ["GET"]
    path_prefixes = ["/echo"]
"#;
const CLOSED: &str = "brought home 4000 enough";

/// Runs server and client with the proxy between them.
fn talk(config: &Config, scheme: Scheme, arguments: &[&str]) -> (Run, Daemon) {
    let ca = TestCa::new();
    let daemon = start(config, &ca);
    let directory = TempDir::new().expect("a temporary directory");
    let attempt = Attempt {
        base: String::new(),
        proxy: Some(proxy(&daemon)),
        ca: &bundle(&daemon),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/websocket_echo.py");
    let mut program = attempt
        .program(installed("venv/bin/python"))
        .arg("-B")
        .arg(script)
        .args(arguments);
    if scheme == Scheme::Https {
        let server = Server::of(&ca, &["allowed.test"]);
        server.write(directory.path()).expect("a directory of ours");
        program = program.arg("--directory").arg(directory.path());
    }
    let run = program.arg(attempt.proxy_or_empty()).run();
    (run, daemon)
}

/// H8, H9.
#[test]
fn a_websocket_goes_through_a_tunnel() {
    for scheme in [Scheme::Http, Scheme::Https] {
        let (run, daemon) = talk(&Config::example(), scheme, &[]);
        run.succeeded().says(CLOSED);
        assert_eq!(protocols(&daemon), ["https_connect"]);
    }
}

/// H9, M6.
#[test]
fn a_websocket_goes_through_intercepted_tls() {
    let config = Config::example().append(HOOK);
    let (run, daemon) = talk(&config, Scheme::Https, &[]);
    run.succeeded().says(CLOSED);
    assert_eq!(protocols(&daemon), ["https_connect", "https"]);
}

/// H9.
#[test]
fn a_websocket_goes_through_plain_http() {
    let (run, daemon) = talk(&Config::example(), Scheme::Http, &["--forward"]);
    run.succeeded().says(CLOSED);
    assert_eq!(protocols(&daemon), ["http"]);
}

/// P7, H5.
#[test]
fn a_websocket_is_refused_in_limited_mode() {
    for (scheme, arguments) in [(Scheme::Https, &[][..]), (Scheme::Http, &["--forward"])] {
        let (run, daemon) = talk(&limited(), scheme, arguments);
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
