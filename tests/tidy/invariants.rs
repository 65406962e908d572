//! The invariants (`ARCHITECTURE.md`, "Invariants").

use crate::sources::{Source, rust};

/// Asserts that `word` occurs only in the product code of `allowed` files, and does occur in each.
fn only_in(word: &str, allowed: &[&str], scope: impl Fn(&Source) -> bool) {
    let mut used = false;
    for source in rust()
        .iter()
        .filter(|source| !source.is_test() && scope(source))
    {
        for (number, line) in source.product().lines().enumerate() {
            if line.trim_start().starts_with("//") || !line.contains(word) {
                continue;
            }
            let place = format!("{}:{}", source.path, number + 1);
            assert!(
                allowed.contains(&source.path.as_str()),
                "{place}: `{word}` belongs in {allowed:?}: {line}"
            );
            used = true;
        }
    }
    assert!(
        used || allowed.is_empty(),
        "`{word}` is nowhere: does the rule still look for the right thing?"
    );
}

fn anywhere(_: &Source) -> bool {
    true
}

#[test]
fn invariant_1_policy_is_pure() {
    let sources = rust();
    let library = sources
        .iter()
        .find(|source| source.path == "crates/policy/src/lib.rs")
        .expect("the crate");
    assert!(
        library.text.contains("\n#![no_std]\n"),
        "without no_std, I/O and clocks compile"
    );
    only_in("std::", &[], |source| {
        source.path.starts_with("crates/policy/src/")
    });
}

#[test]
fn invariant_2_the_monitor_parses_nothing() {
    let privileged = |source: &Source| {
        let path = source.path.as_str();
        path.starts_with("daemon/src/monitor") || path.starts_with("daemon/src/privsep")
    };
    let parsers = [
        "tokio", "hyper", "serde", "toml::", "tarpc", "rustls", "rcgen", "x509", "pem::",
    ];
    let below = [
        "codex_network_config",
        "codex_network_engine",
        "codex_network_policy",
        "worker::",
    ];
    for word in parsers.into_iter().chain(below) {
        only_in(word, &[], privileged);
    }
    assert!(
        rust().iter().any(privileged),
        "the monitor is somewhere else"
    );
}

#[test]
fn invariant_2_certificates_and_the_cas_key_have_their_place() {
    for word in ["rcgen", "x509_parser", "p256::"] {
        let sources = rust();
        let ca: Vec<&str> = sources
            .iter()
            .map(|source| source.path.as_str())
            .filter(|path| path.starts_with("daemon/src/ca"))
            .collect();
        only_in(word, &ca, anywhere);
    }
    // These files hold the key or can ask for it.
    let holders = [
        "daemon/src/ca.rs",
        "daemon/src/ca/files/make.rs",
        "daemon/src/privsep/settled.rs",
    ];
    only_in(".scalar()", &holders, anywhere);
}

#[test]
fn invariant_2_the_monitor_answers_to_a_table() {
    let sources = rust();
    let dispatch = sources
        .iter()
        .find(|source| source.path == "daemon/src/monitor/dispatch.rs");
    let (table, _) = dispatch
        .expect("the table")
        .product()
        .split_once("// One pattern for each row")
        .expect("the end of the table");
    // A row is a power of the worker. A new row needs a review of what an attacker who has taken
    // over the worker could do with it.
    assert_eq!(table.matches(" if self.").count(), 11, "rows");
}

#[test]
fn invariant_3_only_enforce_makes_permits_and_vetted_addresses() {
    let in_engine = |source: &Source| source.path.starts_with("crates/engine/");
    only_in(" Permit {", &["crates/engine/src/enforce.rs"], in_engine);
    let unix_socket = ["crates/engine/src/enforce/unix_socket.rs"];
    only_in("SocketPermit {", &unix_socket, in_engine);
    only_in(
        "VettedAddrs(",
        &["crates/engine/src/enforce/addresses.rs"],
        in_engine,
    );
}

#[test]
fn invariant_3_only_connect_dials() {
    let diallers = [
        "crates/engine/src/upstream/connect.rs",
        // A client of the proxy, which connects to its doors on this machine.
        "ctl/src/doctor/listeners.rs",
    ];
    only_in("TcpStream::connect", &diallers, anywhere);
    only_in("TcpSocket::new", &[], anywhere);
    only_in("lookup_host", &[], anywhere);
    only_in("ToSocketAddrs", &[], anywhere);
}

#[test]
fn invariant_3_only_one_place_in_the_engine_connects_to_unix_sockets() {
    let places = [
        "crates/engine/src/upstream/unix_socket.rs",
        // `proxyctl`, to the daemon.
        "crates/control/src/client.rs",
    ];
    only_in("UnixStream::connect", &places, anywhere);
    only_in("UnixSocket::new", &[], anywhere);
    only_in("UnixDatagram", &[], |source| {
        source.path.starts_with("crates/engine/")
    });
    // The file that is connected to was found there, and was judged.
    let finder = ["crates/engine/src/socket_file.rs"];
    only_in("Self { identity, pin }", &finder, anywhere);
}

#[test]
fn invariant_3_only_one_place_sends_datagrams_out_and_two_answer_clients() {
    let out = "crates/engine/src/upstream/datagram.rs";
    let back = "crates/engine/src/socks5/udp/relay.rs";
    // Answers programs in a jail.
    let dns = "crates/engine/src/policy_dns/udp.rs";
    only_in("send_to(", &[out, back, dns], anywhere);
    // The listener of a session's policy DNS, which another process serves.
    let binds = "ctl/src/jail/listeners.rs";
    only_in("UdpSocket::bind", &[out, back, binds], anywhere);
    // It connects a datagram socket to ask about a route, and sends nothing.
    let asks = [
        "crates/engine/src/local_addresses.rs",
        // A listener, whose address counts as our own before it listens.
        "crates/engine/src/own.rs",
        // These set TCP keep-alive on dialled and on accepted connections.
        "crates/engine/src/upstream/connect.rs",
        "crates/engine/src/http/client_stream.rs",
        // A listener, whose options accepted connections inherit.
        "crates/engine/src/accept.rs",
        // It shuts a listener down.
        "crates/engine/src/accept/socket.rs",
        // These read from connections that are open.
        "crates/engine/src/arrived.rs",
        "crates/engine/src/server/session_sockets.rs",
        // It makes a socket to ask which network this process is in.
        "crates/engine/src/server/session_network/linux.rs",
        "crates/engine/src/policy_dns/udp.rs",
        "crates/engine/src/tunnel/sockets.rs",
        // It asks where a redirected connection was going.
        "crates/engine/src/original_destination/linux.rs",
    ];
    let in_engine = |source: &Source| source.path.starts_with("crates/engine/");
    only_in("socket2", &asks, in_engine);
}

#[test]
fn invariant_3_only_respond_writes_status_codes() {
    let in_engine = |source: &Source| source.path.starts_with("crates/engine/");
    only_in("status_mut()", &["crates/engine/src/respond.rs"], in_engine);
    only_in("HTTP/1.1 {}", &["crates/engine/src/respond.rs"], in_engine);
}

#[test]
fn invariant_4_unsafe_code_has_its_places() {
    let places = [
        "ctl/src/jail/stage/calls.rs",
        "daemon/src/loader/end_with_loader.rs",
        "daemon/src/memory.rs",
        "daemon/src/privsep/channel.rs",
        "daemon/src/worker/control/peer/groups.rs",
        "daemon/src/worker/open_descriptors.rs",
        "daemon/src/worker/sandbox/elsewhere.rs",
        "daemon/src/worker/sandbox/linux/calls.rs",
    ];
    only_in("unsafe ", &places, anywhere);
    only_in("unsafe_code", &places, anywhere);
}

#[test]
fn one_decision_function_is_asked_in_one_place() {
    // `enforce.rs` and its folder.
    let inside = |source: &Source| source.path.starts_with("crates/engine/src/enforce");
    let others = [
        // The embedder's own.
        "crates/engine/src/decider.rs",
        "crates/policy/src/decide.rs",
        "crates/policy/src/explain.rs",
        // Recorded decisions, judged again: no request waits for them.
        "crates/config/src/replay.rs",
        // An event for tests and benches.
        "daemon/src/logging/sample.rs",
    ];
    let functions: [(&str, &[&str]); 4] = [
        (".decide(", &others),
        // With the answer of the decider (SPEC P8).
        (".decide_answered(", &[]),
        (".decide_addresses(", &[]),
        (".decide_unix_socket(", &[]),
    ];
    for (function, others) in functions {
        only_in(function, others, |source| !inside(source));
        let is_used = |source: &Source| inside(source) && source.product().contains(function);
        assert!(rust().iter().any(is_used), "{function} is not used");
    }
}

/// Files that other users may influence are read with a limit (SPEC C5).
#[test]
fn files_are_read_in_one_place() {
    let reader = "crates/files/src/";
    let shipped = |source: &Source| {
        !source.path.starts_with("packaging/") && !source.path.starts_with(reader)
    };
    for word in ["fs::read(", "fs::read_to_string(", "read_to_string("] {
        only_in(word, &[], shipped);
    }
    // Files that open a file for another purpose than reading an outside one.
    let openers = [
        // Directories that are synced.
        "ctl/src/edit/replacement.rs",
        "daemon/src/ca/files/make.rs",
        "daemon/src/ca/publish.rs",
        // A file that this process wrote before.
        "daemon/src/monitor/sealed.rs",
        // A file of the kernel that the worker reads repeatedly.
        "daemon/src/worker/role_status.rs",
    ];
    only_in("File::open(", &openers, shipped);
    only_in(
        ".read(true)",
        &[
            // A socket that is inspected, not read.
            "crates/engine/src/socket_file.rs",
            // Terminals.
            "ctl/src/jail/stage/terminal.rs",
            "ctl/src/terminal/launcher.rs",
        ],
        shipped,
    );
    let streams = [
        // Standard input, up to the limit of a configuration.
        "daemon/src/check/standard_input.rs",
        // The output of another role.
        "daemon/src/loader.rs",
        // The output of a program.
        "daemon/src/loader/credentials.rs",
        "ctl/src/commands/approvals/exec.rs",
        "ctl/src/doctor/tool.rs",
        "ctl/src/presets/ask.rs",
    ];
    only_in(".read_to_end(", &streams, shipped);
}

/// Modes and owners are changed through opened files, and never by path (SPEC L4, M3).
#[test]
fn modes_and_owners_are_not_changed_by_path() {
    let node = ["crates/files/src/node.rs"];
    only_in("fs::set_permissions(", &node, anywhere);
    only_in("chownat(", &node, anywhere);
    for word in ["fs::chown(", "lchown(", "unistd::chown", "chmod("] {
        only_in(word, &[], |source| {
            !source.path.ends_with("files/src/node.rs")
        });
    }
    only_in("Flock::lock(", &["crates/files/src/lock.rs"], anywhere);
}
