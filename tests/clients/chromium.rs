//! A headless Chromium that shows a page: forty fetches at once, server-sent events and a WebSocket, in a
//! tunnel and inside intercepted TLS (SPEC H8, H9, M6).

use std::path::Path;

use e2e::daemon::{Config, Daemon};
use e2e::program::{Run, installed};
use e2e::tls::{Server, TestCa};
use tempfile::TempDir;

use crate::intercepted::{bundle, limited, proxy, start};
use crate::scene::Attempt;

fn show(config: &Config) -> (Run, Daemon) {
    let ca = TestCa::new();
    let daemon = start(config, &ca);
    let directory = TempDir::new().expect("a temporary directory");
    let server = Server::of(&ca, &["allowed.test"]);
    server.write(directory.path()).expect("a directory of ours");
    let attempt = Attempt {
        base: String::new(),
        proxy: Some(proxy(&daemon)),
        ca: &bundle(&daemon),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/chromium_page.py");
    let run = attempt
        .program(installed("venv/bin/python"))
        .arg("-B")
        .arg(script)
        .arg(attempt.proxy_or_empty())
        .arg(directory.path())
        .run();
    (run, daemon)
}

/// Only requests that the browser makes for itself may have been refused.
fn nothing_of_the_page_was_refused(daemon: &Daemon) {
    let blocked = daemon.blocked();
    assert!(
        blocked.iter().all(|entry| entry["host"] != "allowed.test"),
        "{blocked:#?}"
    );
}

/// H8.
#[test]
fn a_page_works_in_a_tunnel() {
    let (run, daemon) = show(&Config::example());
    assert_eq!(run.succeeded().stdout, "40 3 echo\n");
    nothing_of_the_page_was_refused(&daemon);
}

/// M6, H9.
#[test]
fn a_page_works_inside_intercepted_tls() {
    let config = Config::example().append(
        "[network.mitm.hooks.page]\n\
         host = \"allowed.test\"\nmethods = [\"GET\"]\npath_prefixes = [\"/\"]\n",
    );
    let (run, daemon) = show(&config);
    assert_eq!(run.succeeded().stdout, "40 3 echo\n");
    nothing_of_the_page_was_refused(&daemon);
}

/// P7: all but the WebSocket.
#[test]
fn a_page_is_read_in_limited_mode() {
    let (run, daemon) = show(&limited());
    assert_eq!(run.succeeded().stdout, "40 3 error\n");
    let entry = daemon.wait_for_blocked(|entry| entry["host"] == "allowed.test");
    assert_eq!(entry["reason"], "method_not_allowed", "{entry}");
}
