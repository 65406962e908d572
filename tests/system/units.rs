//! The unit files by themselves: valid, restrictive, and consistent with the code.

use std::collections::BTreeSet;
use std::fs;

use crate::machine::tree;
use crate::service::{SERVICE, SOCKETS, Service};

#[test]
fn l9_systemd_finds_nothing_wrong_with_the_units() {
    let service = Service::new();
    let run = service.machine().run(
        ["systemd-analyze", "verify", "--man=no", SERVICE]
            .into_iter()
            .chain(SOCKETS),
    );
    run.succeeded();
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
}

#[test]
#[expect(clippy::print_stdout, reason = "the figure is for the closing note")]
fn l9_the_exposure_is_at_most_two() {
    let service = Service::new();
    let run = service
        .machine()
        .run(["systemd-analyze", "security", "--no-pager", SERVICE]);
    let line = run.stdout.lines().find(|line| line.contains("Overall"));
    let line = line.unwrap_or_else(|| panic!("no figure: {run:#?}"));
    println!("{line}");
    let figure: f64 = line
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .expect("a number");
    assert!(figure <= 2.0, "{}", run.stdout);
}

#[test]
fn l9_every_remaining_point_of_exposure_is_explained_in_the_unit() {
    let service = Service::new();
    let run = service
        .machine()
        .run(["systemd-analyze", "security", "--no-pager", SERVICE]);
    let unit = shipped(SERVICE);
    let comments: String = unit.lines().filter(|line| line.starts_with('#')).collect();
    let mut points = 0;
    for line in run.stdout.lines().filter(|line| line.contains('\u{2717}')) {
        points += 1;
        let name = line.split_whitespace().nth(1).expect("a name");
        let word = match name {
            "User=/DynamicUser=" => "User=",
            "CapabilityBoundingSet=~CAP_SET(UID|GID|PCAP)" => "CAP_SETPCAP",
            "RestrictAddressFamilies=~AF_(INET|INET6)" => "AF_INET6",
            name => name.rsplit('~').next().unwrap_or(name),
        };
        assert!(comments.contains(word), "{word}: {line}");
    }
    assert!(points > 5, "{}", run.stdout);
}

#[test]
fn l9_the_units_socket_names_are_those_of_the_code() {
    let mut named = BTreeSet::new();
    for file in fs::read_dir(tree().join("systemd"))
        .expect("the units")
        .flatten()
    {
        let name = file.file_name().into_string().expect("a plain name");
        let Some(socket) = name
            .strip_prefix("codex-network-proxy-")
            .and_then(|rest| rest.strip_suffix(".socket"))
        else {
            continue;
        };
        let unit = shipped(&name);
        assert_eq!(values(&unit, "FileDescriptorName"), [socket], "{name}");
        assert_eq!(values(&unit, "Service"), [SERVICE], "{name}");
        let service = shipped(SERVICE);
        assert!(
            values(&service, "Sockets").contains(&name.as_str()),
            "{name}"
        );
        assert!(values(&service, "Also").contains(&name.as_str()), "{name}");
        let preset = shipped("codex-network-proxy.preset");
        assert!(
            preset.lines().any(|line| line == format!("enable {name}")),
            "{name}"
        );
        for address in values(&unit, "ListenStream") {
            let own = "/run/codex-network-proxy/";
            assert!(
                address.starts_with("127.0.0.1:") || address.starts_with(own),
                "{address}"
            );
        }
        named.insert(socket.to_owned());
    }
    assert_eq!(named, asked_for());
}

#[test]
fn l9_the_units_stop_timeout_is_longer_than_a_drain() {
    let unit = shipped(SERVICE);
    let [stop] = values(&unit, "TimeoutStopSec")[..] else {
        panic!("one TimeoutStopSec=");
    };
    // C5: drain_timeout is 30 s, and the monitor waits for 2 s more.
    assert!(stop.parse::<u32>().expect("seconds") > 32);
    // Otherwise the service manager stops the worker too, and the worker neither drains nor outlives
    // a restart (L15).
    assert_eq!(values(&unit, "KillMode"), ["process"]);
}

#[test]
fn c5_sysusers_creates_the_user_that_the_loader_expects() {
    let sysusers = shipped("codex-network-proxy.sysusers");
    let loader = fs::read_to_string(tree().join("daemon/src/loader.rs")).expect("the loader");
    assert!(
        sysusers
            .lines()
            .any(|line| line.starts_with("u codex-network-proxy "))
    );
    assert!(loader.contains("DEFAULT_USER: &str = \"codex-network-proxy\""));
    let control = shipped("codex-network-proxy-control.socket");
    assert_eq!(values(&control, "SocketGroup"), ["codex-network-proxy"]);
    assert_eq!(values(&control, "SocketMode"), ["0660"]);
}

/// The names of sockets that the code asks the service manager for, and `control`.
pub(crate) fn asked_for() -> BTreeSet<String> {
    let messages = tree().join("daemon/src/privsep/message.rs");
    let code = fs::read_to_string(messages).expect("the messages");
    let (_, names) = code
        .split_once("pub(crate) fn as_str(self) -> &'static str {")
        .expect("Name::as_str");
    let names = names.split("}\n    }").next().expect("its body");
    let mut names: BTreeSet<String> = names
        .lines()
        .filter_map(|line| line.split('"').nth(1))
        .map(str::to_owned)
        .collect();
    assert!(names.len() >= 3, "{names:?}");
    names.insert("control".to_owned());
    names
}

fn shipped(name: &str) -> String {
    let path = tree().join("systemd").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The values of a setting of a unit, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .collect()
}
