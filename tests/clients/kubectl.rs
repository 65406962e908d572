//! kubectl: `exec` turns a `POST` into a connection that speaks SPDY/3.1 (SPEC H9).

use e2e::daemon::{Config, Daemon};
use e2e::program::Run;

use crate::script::{self, Trust};

fn exec(config: &Config) -> (Run, Daemon) {
    script::run("kubectl_exec", &[], config, Trust::Bundle)
}

#[test]
fn h8_exec_works_in_a_tunnel() {
    let (run, _daemon) = exec(&Config::example());
    run.succeeded().says("brought home");
}

/// On a host with hooks, only WebSocket is offered to the server.
#[test]
fn h9_exec_over_spdy_is_not_upgraded_on_a_hooked_host() {
    let config = Config::example().hook("exec", "allowed.test", &["GET", "POST"], "/");
    let (run, daemon) = exec(&config);
    run.failed().says("unable to upgrade connection");
    assert!(!run.stdout.contains("asked to speak SPDY"), "{run:#?}");
    assert!(daemon.blocked().is_empty(), "{:?}", daemon.blocked());
}

#[test]
fn p7_exec_is_refused_in_limited_mode() {
    let (run, daemon) = exec(&Config::limited());
    run.failed().says("method_not_allowed");
    let entry = daemon.wait_for_blocked(|_| true);
    assert_eq!(entry["reason"], "method_not_allowed", "{entry}");
}
