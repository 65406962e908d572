//! The command line, the output and the refusals of a start, and how the proxy ends (SPEC L1 to L8,
//! C1, C4).

mod check;
mod ending;
mod layers;
mod places;
mod starting;
mod unread;

use std::net::SocketAddr;
use std::path::Path;

use e2e::program::{Program, Run};

/// Runs the binary to its end, with an empty home.
fn run(arguments: &[&str]) -> Run {
    Program::new(e2e::shipped::proxy()).args(arguments).run()
}

/// `check` on a file `policy.toml` with this text; messages use this name.
pub(crate) fn check(text: &str) -> Run {
    let program = Program::new(e2e::shipped::proxy());
    std::fs::write(program.home().join("policy.toml"), text).expect("a new directory");
    program.args(["check", "policy.toml"]).run()
}

/// Arguments that make a proxy without a configuration listen on free ports, log JSON and resolve
/// nothing.
fn by_hand(nameserver: SocketAddr) -> Vec<String> {
    let assignments = [
        "network.proxy_url=http://127.0.0.1:0".to_owned(),
        "network.socks_url=socks5h://127.0.0.1:0".to_owned(),
        "network.admin_url=http://127.0.0.1:0".to_owned(),
        "daemon.log_format=json".to_owned(),
        format!("daemon.resolver.nameservers=[\"{nameserver}\"]"),
    ];
    assignments
        .into_iter()
        .flat_map(|assignment| ["-c".to_owned(), assignment])
        .collect()
}

/// No configuration of this machine may reach these tests.
fn assert_nothing_in_etc() {
    for path in ["/etc/codex", "/etc/codex-network-proxy"] {
        assert!(
            !Path::new(path).exists(),
            "{path} is in the way of this test"
        );
    }
}
