//! The kernel's knowledge of the addresses of this machine (SPEC P3, P4), in a network of the
//! test's own that has addresses of the internet. Nothing leaves the network: no other machine is
//! in it.
//!
//! Each test runs in a process of its own, in a network namespace of its own.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use codex_network_engine::{Door, EngineParts, KernelAddresses, Resolve};
use codex_network_policy::LocalAddresses as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::kit::doors::Doors;
use crate::kit::network::Names;
use crate::kit::process::{is_alone, run_alone};
use crate::kit::settings;

/// The exit code when a network cannot be made.
const CANNOT: i32 = 77;

/// Addresses on an interface, the second of a family below the same prefix; ranges that are routed
/// here; and default routes that lead nowhere.
const NETWORK: &str = "
    ip link set lo up &&
    ip link add net0 type bridge && ip link set net0 up &&
    ip addr add 93.184.216.34/24 dev net0 &&
    ip addr add 93.184.216.35/24 dev net0 &&
    ip -6 addr add 2606:2800::1/64 dev net0 nodad &&
    ip -6 addr add 2606:2800::2/64 dev net0 nodad &&
    ip route add default via 93.184.216.1 &&
    ip -6 route add default via 2606:2800::fe &&
    ip route add local 50.1.0.0/16 dev lo &&
    ip route add local 51.1.0.0/16 dev lo src 93.184.216.34 &&
    ip -6 route add local 2a00:1::/64 dev lo &&
    until ip -6 route get 2606:2800::1 | grep -q ^local; do sleep 0.02; done &&
    until ip -6 route get 2606:2800::2 | grep -q ^local; do sleep 0.02; done";

/// Runs a test again in a network of its own. Returns whether this is that run. If no network can
/// be made, it says so and runs nothing.
fn is_inside(test: &str) -> bool {
    if is_alone() {
        return true;
    }
    let script = format!("{{ {NETWORK}; }} >&2 || exit {CANNOT}; exec \"$0\" \"$@\"");
    let mut launcher = vec!["unshare"];
    if !is_root() {
        launcher.push("--map-root-user");
    }
    launcher.extend(["--net", "sh", "-c", &script]);
    let test = format!("machine::{test}");
    if let Err(error) = run_alone(&test, &launcher) {
        let why = error.lines().next().unwrap_or_default();
        print_line(&format!(
            "cannot run here: {test}: needs a root that may make a network, or a user that may: {why}"
        ));
    }
    false
}

/// Writes a line past the test runner, which hides the output of passing tests.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether the files of this process belong to root.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn set(sysctl: &str) -> bool {
    let path = format!("/proc/sys/net/{sysctl}");
    std::fs::write(path, "1").is_ok()
}

fn this_machines(addresses: &[&str], expected: bool) {
    for address in addresses {
        let parsed: IpAddr = address.parse().expect(address);
        assert_eq!(KernelAddresses.contains(parsed), expected, "{address}");
    }
}

const OWN: [&str; 7] = [
    "93.184.216.34",
    "93.184.216.35",
    "2606:2800::1",
    "2606:2800::2",
    // Ranges that a `local` route gives to this machine.
    "50.1.2.3",
    "51.1.2.3",
    "2a00:1::5",
];
const NOT_OWN: [&str; 6] = [
    // Neighbours on the link, and the internet.
    "93.184.216.36",
    "2606:2800::3",
    "192.31.1.1",
    "2620:1::1",
    "50.2.0.1",
    "2a00:1:0:1::5",
];

#[test]
fn p4_the_kernel_distinguishes_addresses_of_this_machine_from_all_others() {
    if !is_inside("p4_the_kernel_distinguishes_addresses_of_this_machine_from_all_others") {
        return;
    }
    this_machines(&OWN, true);
    this_machines(&NOT_OWN, false);
    // A router answers to the anycast address of each of its networks (RFC 4291 section 2.6.1).
    if set("ipv6/conf/all/forwarding") {
        this_machines(&["2606:2800::"], true);
    }
    // With these every address can be bound.
    if set("ipv4/ip_nonlocal_bind") && set("ipv6/ip_nonlocal_bind") {
        this_machines(&OWN, true);
        this_machines(&NOT_OWN, false);
    }
}

/// An engine for which every name leads to an address of this machine.
fn doors(policy: &str) -> Doors {
    let names = Names::new(|name| {
        vec![match name {
            "six.test" => IpAddr::from([0x2606, 0x2800, 0, 0, 0, 0, 0, 1]),
            _ => IpAddr::from([93, 184, 216, 34]),
        }]
    });
    let parts = EngineParts {
        resolver: Some(names as Arc<dyn Resolve>),
        ..EngineParts::default()
    };
    Doors::open(settings(&format!("[network]\n{policy}")), parts)
}

async fn connect(doors: &Doors, authority: &str) -> String {
    let mut client = doors.client().await;
    let head = format!("CONNECT {authority} HTTP/1.1\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("a request");
    let mut status = [0; 12];
    client.read_exact(&mut status).await.expect("an answer");
    String::from_utf8_lossy(&status[9..]).into_owned()
}

#[tokio::test]
async fn p4_a_service_on_every_address_is_not_reached_by_a_global_address_of_this_machine() {
    let name = "p4_a_service_on_every_address_is_not_reached_by_a_global_address_of_this_machine";
    if !is_inside(name) {
        return;
    }
    let service = TcpListener::bind("[::]:0").await.expect("a listener");
    let port = service.local_addr().expect("an address").port();
    let doors = doors("allowed_domains = [\"*\"]");
    let targets = [
        "wild.test",
        "six.test",
        "93.184.216.34",
        "93.184.216.35",
        "[2606:2800::2]",
        "50.1.2.3",
        "[2a00:1::5]",
    ];
    for target in targets {
        let status = connect(&doors, &format!("{target}:{port}")).await;
        assert_eq!(status, "403", "{target}");
    }
    let entries = doors.engine.blocked().entries(0);
    assert_eq!(entries.len(), targets.len());
    for entry in entries {
        assert_eq!(entry.reason, "not_allowed_local", "{}", entry.host);
    }
    // A configuration that permits it gets there.
    let doors = self::doors("allowed_domains = [\"*\"]\nallow_local_binding = true");
    assert_eq!(connect(&doors, &format!("six.test:{port}")).await, "200");
    let doors = self::doors("allowed_domains = [\"93.184.216.34\"]");
    let literal = format!("93.184.216.34:{port}");
    assert_eq!(connect(&doors, &literal).await, "200");
}

/// A door on every address is reached by each of them.
#[tokio::test]
async fn p6_a_door_on_every_address_is_our_own_at_each_address_of_this_machine() {
    if !is_inside("p6_a_door_on_every_address_is_our_own_at_each_address_of_this_machine") {
        return;
    }
    let doors = doors("allowed_domains = [\"*\"]\nallow_local_binding = true");
    let everywhere = std::net::TcpListener::bind("[::]:0").expect("a listener");
    let socks = doors.engine.open(Door::Socks5, everywhere).expect("a door");
    let port = socks.address().port();
    for target in ["93.184.216.35", "[2606:2800::2]", "[2a00:1::5]", "six.test"] {
        let status = connect(&doors, &format!("{target}:{port}")).await;
        assert_eq!(status, "403", "{target}");
    }
    for entry in doors.engine.blocked().entries(0) {
        assert_eq!(entry.reason, "loop_detected", "{}", entry.host);
    }
}
