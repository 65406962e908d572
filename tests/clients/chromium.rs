//! A headless Chromium that shows a page: forty fetches at once, server-sent events and a WebSocket, in a
//! tunnel and inside intercepted TLS (SPEC H8, H9, M6).

use e2e::daemon::{Config, Daemon};
use e2e::program::Run;

use crate::script::{self, Trust};

fn show(config: &Config) -> (Run, Daemon) {
    script::run("chromium_page", &[], config, Trust::Bundle)
}

/// Asserts that no request of the page was refused. Those that the browser makes for itself may be.
fn nothing_of_the_page_was_refused(daemon: &Daemon) {
    let blocked = daemon.blocked();
    assert!(
        blocked.iter().all(|entry| entry["host"] != "allowed.test"),
        "{blocked:#?}"
    );
}

#[test]
fn h8_a_page_works_in_a_tunnel() {
    let (run, daemon) = show(&Config::example());
    assert_eq!(run.succeeded().stdout, "40 3 echo\n");
    nothing_of_the_page_was_refused(&daemon);
}

#[test]
fn m6_h9_a_page_works_inside_intercepted_tls() {
    let config = Config::example().hook("page", "allowed.test", &["GET"], "/");
    let (run, daemon) = show(&config);
    assert_eq!(run.succeeded().stdout, "40 3 echo\n");
    nothing_of_the_page_was_refused(&daemon);
}

/// P7: all but the WebSocket.
#[test]
fn p7_a_page_without_its_websocket_works_in_limited_mode() {
    let (run, daemon) = show(&Config::limited());
    assert_eq!(run.succeeded().stdout, "40 3 error\n");
    let entry = daemon.wait_for_blocked(|entry| entry["host"] == "allowed.test");
    assert_eq!(entry["reason"], "method_not_allowed", "{entry}");
}
