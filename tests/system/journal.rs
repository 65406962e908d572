//! The entries in the journal (SPEC R2, R4).

use e2e::client::Connection;
use e2e::port::RefusingPort;
use e2e::wait::{TIMEOUT, poll};

use crate::machine::tree;
use crate::service::{HTTP, SERVICE, Service};

/// The number of requests, with an entry each: more than the journal's socket and the queue before it hold.
const REQUESTS: usize = 8000;

#[test]
fn r4_the_journal_has_the_services_events_and_refusals() {
    let service = Service::new();
    service.start();
    // A reader of messages sees the fields too.
    service.wait_for_message("listening listener=http address=127.0.0.1:3128");
    service.wait_for_message("ready");
    assert_eq!(service.get("http://blocked.test/secret?q=1").0, 403);
    let entry = service.wait_for_message("CODEX_NETWORK_POLICY_VIOLATION");
    let message = entry.message();
    assert!(message.contains("\"host\":\"blocked.test\""), "{message}");
    assert!(!service.log().contains("secret?q=1"), "{}", service.log());
    // The worker wrote this entry.
    let worker = service.wait_for_worker(None).to_string();
    assert_eq!(entry.field("_PID"), Some(worker.as_str()));
}

/// As by `journalctl -u codex-network-proxy NETWORK_POLICY_DECISION=deny`.
#[test]
fn r4_a_refusal_is_found_by_its_fields() {
    let service = Service::new();
    service.start();
    assert_eq!(service.get("http://blocked.test/").0, 403);
    let entry = service.wait_for_message("deny http blocked.test:80 (not_allowed)");
    for (field, value) in [
        ("PRIORITY", "5"),
        ("TARGET", "codex_otel.network_proxy"),
        ("EVENT_NAME", "codex.network_proxy.policy_decision"),
        ("NETWORK_POLICY_DECISION", "deny"),
        ("NETWORK_POLICY_REASON", "not_allowed"),
        ("SERVER_ADDRESS", "blocked.test"),
        ("SYSLOG_IDENTIFIER", "codex-network-proxy"),
    ] {
        assert_eq!(entry.field(field), Some(value), "{field}");
    }
    let file = entry.field("CODE_FILE").unwrap_or_default();
    assert!(file.ends_with("logging/entry.rs"), "{file}");
    let once = service
        .log()
        .matches("deny http blocked.test:80 (not_allowed)")
        .count();
    assert_eq!(once, 1, "nothing is logged twice");
}

/// `journalctl -u codex-network-proxy NETWORK_FLOW_OUTCOME=upstream_failed` finds the hosts that fail.
#[test]
fn r4_r5_the_end_of_a_permitted_request_is_found_by_its_fields() {
    let service = Service::new();
    service.configure(&e2e::daemon::Config::example().set("daemon", "log_flows", "true"));
    service.start();
    let origin = service.origin();
    let port = origin.addr().port().to_string();
    assert_eq!(service.get(&format!("http://allowed.test:{port}/")).0, 200);
    let beginning = format!("completed http allowed.test:{port} (0 bytes sent, ");
    let entry = service.wait_for_message(&beginning);
    for (field, value) in [
        ("PRIORITY", "5"),
        ("TARGET", "codex_network_proxy.flow"),
        ("EVENT_NAME", "codex.network_proxy.flow"),
        ("NETWORK_POLICY_DECISION", "allow"),
        ("NETWORK_FLOW_OUTCOME", "completed"),
        ("NETWORK_FLOW_SENT_BYTES", "0"),
        ("NETWORK_PEER_ADDRESS", "127.0.0.1"),
        ("NETWORK_PEER_PORT", &port),
        ("SERVER_ADDRESS", "allowed.test"),
    ] {
        assert_eq!(entry.field(field), Some(value), "{field}");
    }
    let message = entry.message();
    assert!(!message.contains("network.flow"), "{message}");
    let refusing = RefusingPort::open();
    let port = refusing.addr().port();
    assert_eq!(service.get(&format!("http://allowed.test:{port}/")).0, 502);
    let failed = format!("upstream_failed http allowed.test:{port}: the connection was refused");
    let entry = service.wait_for_message(&failed);
    let cause = entry.field("NETWORK_FLOW_CAUSE");
    assert_eq!(cause, Some("the connection was refused"));
    assert_eq!(entry.field("NETWORK_FLOW_FAULT"), Some("host"));
}

/// The journal of the machine, which accepts nothing while this value lives.
struct Stuck<'a> {
    service: &'a Service,
    journal: u32,
}

impl<'a> Stuck<'a> {
    fn new(service: &'a Service) -> Self {
        let show = ["show", "--value", "--property=MainPID", "systemd-journald"];
        let run = service.systemctl(&show);
        let journal = run
            .succeeded()
            .stdout
            .trim()
            .parse()
            .expect("the journal runs");
        service.kill("STOP", journal);
        Self { service, journal }
    }
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        self.service.kill("CONT", self.journal);
    }
}

/// This many refused requests, each of which is answered.
fn refuse(requests: usize) {
    let mut client = Connection::open(HTTP.parse().expect("an address"));
    for _ in 0..requests {
        let answer =
            client.exchange("GET http://blocked.test/ HTTP/1.1\r\nHost: blocked.test\r\n\r\n");
        assert_eq!(answer.status, 403);
    }
}

/// This many allowed requests, each of which is answered. (Refusals beyond a rate share entries.)
fn allow(service: &Service, requests: usize) {
    let origin = service.origin();
    let authority = format!("allowed.test:{}", origin.addr().port());
    let mut client = Connection::open(HTTP.parse().expect("an address"));
    for _ in 0..requests {
        let request = format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        assert_eq!(client.exchange(&request).status, 200);
    }
}

#[test]
fn r4_a_stuck_journal_blocks_neither_requests_nor_shutdown() {
    let service = Service::new();
    service.start();
    let _stuck = Stuck::new(&service);
    allow(&service, REQUESTS);
    service.systemctl(&["stop", SERVICE]).succeeded();
    assert_eq!(service.show("Result"), "success");
}

#[test]
fn r4_entries_lost_to_a_stuck_journal_are_counted_in_it() {
    let service = Service::new();
    // The journal itself must not drop entries.
    service.edit(SERVICE, "[Service]\nLogRateLimitIntervalSec=0\n");
    service.start();
    let stuck = Stuck::new(&service);
    allow(&service, REQUESTS);
    drop(stuck);
    let written = all_but_the_lost(&service, REQUESTS);
    assert!(written > 1000, "{written}");
}

/// The journal's socket is connected once: moving its name does not matter.
#[test]
fn r4_entries_reach_the_journal_while_its_socket_is_renamed() {
    let service = Service::new();
    service.edit(SERVICE, "[Service]\nLogRateLimitIntervalSec=0\n");
    service.start();
    service.wait_for_message("ready");
    let rename = |from: &str, to: &str| {
        let path = |name: &str| format!("/run/systemd/journal/{name}");
        let run = service.machine().run(["mv", &path(from), &path(to)]);
        run.succeeded();
    };
    rename("socket", "away");
    refuse(100);
    rename("away", "socket");
    let written = || {
        let entries = service.journal().into_iter();
        let written = entries.filter(|entry| entry.message().contains("blocked.test"));
        (written.count() == 2 * 100).then_some(())
    };
    poll(TIMEOUT, written).unwrap_or_else(|| panic!("{}", service.log()));
}

/// The number of journal entries about allowed requests. It must be all of them without those that
/// the log reports as lost.
#[track_caller]
fn all_but_the_lost(service: &Service, all: usize) -> usize {
    let entry = service.wait_for_message("log lines were lost");
    let lost = entry.field("LOST").expect("a number");
    assert_eq!(entry.message(), format!("{lost} log lines were lost"));
    assert_eq!(entry.field("PRIORITY"), Some("4"));
    let lost: usize = lost.parse().expect("a number");
    assert!(lost > 0);
    // The rest may be on its way.
    let written = || {
        let entries = service.journal().into_iter();
        let written = entries.filter(|entry| entry.message().contains("allowed.test"));
        Some(written.count()).filter(|written| written + lost == all)
    };
    poll(TIMEOUT, written).unwrap_or_else(|| panic!("{lost} of {all}\n{}", service.log()))
}

/// With the two files of the fleet guide, and read with its commands (SPEC O6).
#[test]
fn o6_the_audit_has_a_journal_of_its_own() {
    let service = Service::new();
    let machine = service.machine();
    let example = |name: &str| {
        let path = tree().join("packaging/fleet/systemd").join(name);
        std::fs::read(path).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let limits = "/etc/systemd/journald@codex-network-proxy.conf";
    machine.write(limits, example("journald@codex-network-proxy.conf"));
    let drop_in = String::from_utf8(example("10-journal.conf")).expect("text");
    service.edit(SERVICE, &drop_in);
    service.systemctl(&["daemon-reload"]).succeeded();
    service.start();
    assert_eq!(service.get("http://blocked.test/").0, 403);
    // The paths are those of the unit, without its journal.
    let unit = std::fs::read_to_string(tree().join("systemd").join(SERVICE));
    let paths = |text: &str| {
        let lines = text.lines();
        let values = lines.filter_map(|line| line.strip_prefix("BindReadOnlyPaths="));
        let mut paths: Vec<_> = values
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect();
        paths.sort();
        paths
    };
    let mut of_unit = paths(&unit.expect("the unit"));
    of_unit.retain(|path| path != "/run/systemd/journal");
    assert_eq!(paths(&drop_in), of_unit);
    // The commands as the guide has them.
    let guide = std::fs::read_to_string(tree().join("packaging/fleet/README.md"));
    let guide = guide.expect("the guide");
    let commands: Vec<_> = guide
        .lines()
        .filter(|line| line.starts_with("journalctl --namespace="))
        .collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        let seen = poll(TIMEOUT, || {
            let run = machine.run(["sh", "-c", command]);
            let found = run
                .stdout
                .contains("deny http blocked.test:80 (not_allowed)");
            found.then_some(())
        });
        assert_eq!(seen, Some(()), "{command}\n{}", service.log());
    }
    // The machine's journal has what systemd says, and nothing of the proxy.
    assert!(!service.log().contains("blocked.test"), "{}", service.log());
    let journald = "systemd-journald@codex-network-proxy.service";
    let run = machine.run(["journalctl", "--namespace=codex-network-proxy", "--header"]);
    let file = "/var/log/journal/";
    assert!(
        run.stdout.contains(file) && run.stdout.contains(".codex-network-proxy/system.journal"),
        "{run:#?}"
    );
    // The sizes are those of its own file.
    let run = machine.run([
        "journalctl",
        "--unit",
        journald,
        "--namespace=codex-network-proxy",
        "--all",
    ]);
    let sizes = run
        .stdout
        .lines()
        .find(|line| line.contains("System Journal"));
    assert!(
        sizes.is_some_and(|line| line.contains("max 2.0G")),
        "{run:#?}"
    );
    std::fs::remove_file(machine.path(limits)).expect("a file of ours");
}
