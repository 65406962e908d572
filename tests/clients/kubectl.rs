//! kubectl: `exec` turns a `POST` into a connection that speaks SPDY/3.1 (SPEC H9).

use std::path::Path;

use e2e::daemon::{Config, Daemon};
use e2e::program::{Run, installed};
use e2e::tls::{Server, TestCa};
use tempfile::TempDir;

use crate::intercepted::{bundle, limited, proxy, start};
use crate::scene::Attempt;

fn exec(config: &Config) -> (Run, Daemon) {
    let ca = TestCa::new();
    let daemon = start(config, &ca);
    let directory = TempDir::new().expect("a temporary directory");
    let server = Server::of(&ca, &["allowed.test"]).alpn(&["http/1.1"]);
    server.write(directory.path()).expect("a directory of ours");
    let both = directory.path().join("both.pem");
    let bundle = std::fs::read_to_string(bundle(&daemon)).expect("a bundle");
    std::fs::write(&both, bundle + &ca.pem()).expect("a directory of ours");
    let attempt = Attempt {
        base: String::new(),
        proxy: Some(proxy(&daemon)),
        ca: &both,
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/kubectl_exec.py");
    let run = attempt
        .program(installed("venv/bin/python"))
        .arg("-B")
        .arg(script)
        .arg(attempt.proxy_or_empty())
        .args([directory.path(), &both])
        .run();
    (run, daemon)
}

/// H8.
#[test]
fn exec_works_in_a_tunnel() {
    let (run, _daemon) = exec(&Config::example());
    run.succeeded().says("brought home");
}

/// H9: where hooks judge requests, only WebSocket is offered to the server.
#[test]
fn exec_is_not_carried_where_hooks_judge_requests() {
    let config = Config::example().append(
        "[network.mitm.hooks.exec]\n\
         host = \"allowed.test\"\nmethods = [\"GET\", \"POST\"]\npath_prefixes = [\"/\"]\n",
    );
    let (run, daemon) = exec(&config);
    run.failed().says("unable to upgrade connection");
    assert!(!run.stdout.contains("asked to speak SPDY"), "{run:#?}");
    assert!(daemon.blocked().is_empty(), "{:?}", daemon.blocked());
}

/// P7.
#[test]
fn exec_is_refused_in_limited_mode() {
    let (run, daemon) = exec(&limited());
    run.failed().says("method_not_allowed");
    let entry = daemon.wait_for_blocked(|_| true);
    assert_eq!(entry["reason"], "method_not_allowed", "{entry}");
}
