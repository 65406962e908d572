//! The launchd property list: well formed, complete, and consistent with the code and with
//! systemd's units. It cannot be loaded here.

use std::collections::BTreeSet;

use e2e::program::Program;
use serde_json::Value;

use crate::machine::tree;
use crate::units::asked_for;

const PLIST: &str = "launchd/com.openai.codex-network-proxy.plist";
const RESOLVER: &str = "launchd/com.openai.codex-network-proxy.resolver.plist";

fn plist() -> Value {
    read(PLIST)
}

/// A list as JSON, read by Python's own parser.
fn read(path: &str) -> Value {
    let script = "import json, plistlib, sys\n\
                  with open(sys.argv[1], 'rb') as file:\n    print(json.dumps(plistlib.load(file)))";
    let run = Program::new("python3")
        .args(["-c", script])
        .arg(tree().join(path))
        .run();
    serde_json::from_str(&run.succeeded().stdout).expect("JSON")
}

#[test]
fn l9_launchd_passes_the_sockets_that_the_code_requests() {
    let plist = plist();
    let sockets = plist["Sockets"].as_object().expect("a dictionary");
    let names: BTreeSet<String> = sockets.keys().cloned().collect();
    assert_eq!(names, asked_for());
    for (name, port) in [("http", "3128"), ("socks5", "8081"), ("admin", "8080")] {
        let socket = &sockets[name];
        // L8: loopback, which launchd binds before the program can object.
        assert_eq!(socket["SockNodeName"], "127.0.0.1", "{name}");
        assert_eq!(socket["SockServiceName"], port, "{name}");
        assert_eq!(socket["SockFamily"], "IPv4", "{name}");
        assert_eq!(socket["SockType"], "stream", "{name}");
        // The same as under systemd.
        let unit = tree().join(format!("systemd/codex-network-proxy-{name}.socket"));
        let unit = std::fs::read_to_string(unit).expect("the unit");
        assert!(
            unit.contains(&format!("\nListenStream=127.0.0.1:{port}\n")),
            "{name}"
        );
    }
    assert_eq!(sockets["control"]["SockPathMode"], 0o660);
}

#[test]
fn l9_launchd_restarts_the_service_with_limits_and_a_log() {
    let plist = plist();
    assert_eq!(
        format!("launchd/{}.plist", plist["Label"].as_str().expect("a text")),
        PLIST
    );
    assert_eq!(plist["KeepAlive"], true);
    assert_eq!(plist["RunAtLoad"], true);
    for limits in ["SoftResourceLimits", "HardResourceLimits"] {
        assert!(
            plist[limits]["NumberOfFiles"].as_u64() >= Some(65_536),
            "{limits}"
        );
    }
    let log = plist["StandardErrorPath"].as_str().expect("a path");
    assert!(log.starts_with("/var/log/"), "{log}");
    // C5: longer than a drain of 30 s and the 2 s after it.
    assert!(plist["ExitTimeOut"].as_u64() > Some(32));
    let program = plist["ProgramArguments"][0].as_str().expect("a path");
    assert!(program.ends_with("/codex-network-proxy"), "{program}");
}

#[test]
fn c7_the_proxy_reads_the_name_servers_again_when_a_mac_changes_networks() {
    let (plist, resolver) = (plist(), read(RESOLVER));
    assert_eq!(
        format!(
            "launchd/{}.plist",
            resolver["Label"].as_str().expect("a text")
        ),
        RESOLVER
    );
    // `/etc/resolv.conf`, which the loader reads, is a link to this file.
    assert_eq!(
        resolver["WatchPaths"],
        serde_json::json!(["/private/var/run/resolv.conf"])
    );
    let service = format!("system/{}", plist["Label"].as_str().expect("a text"));
    assert_eq!(
        resolver["ProgramArguments"],
        serde_json::json!(["/bin/launchctl", "kill", "SIGHUP", service])
    );
    assert_eq!(
        resolver["KeepAlive"],
        Value::Null,
        "it runs only on a change"
    );
}
