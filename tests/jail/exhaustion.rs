//! Programs in a jail that use up what they can (SPEC J6, J13, T1): the proxy, `proxyctl` and other sessions
//! go on.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use e2e::daemon::Config;
use e2e::machine::{Need, has};
use e2e::process::memory;
use e2e::resolver::StubResolver;
use nix::sys::resource::{Resource, getrlimit};
use tempfile::TempDir;

use crate::service::{PLAIN_STATUS, Service};

/// The processes of `exhaustion.c` that take what they can.
const CHILDREN: u64 = 4;
/// Most names of one session.
const MAX_NAMES: usize = 8192;

/// `exhaustion.c`, compiled.
static PROGRAM: LazyLock<(TempDir, String)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("exhaustion");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/jail/exhaustion.c");
    let compiled = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([program.as_path(), Path::new(source)])
        .status();
    assert!(compiled.expect("a C compiler").success());
    let program = program.into_os_string().into_string();
    (folder, program.expect("a plain path"))
});

fn program() -> &'static str {
    &PROGRAM.1
}

/// Lets a jail take all it gets of a resource, and looks whether everything else goes on: the doors of that
/// jail, other sessions, the proxy, and `proxyctl`. Returns how much there was, and the error at the end.
fn exhaust(resource: &str) -> Option<(u64, String)> {
    if !has(Need::UserNamespaces) {
        return None;
    }
    let service = Service::start(&Config::example());
    let url = service.url("allowed.test");
    let through_the_door = format!("curl -s -o /dev/null -w '%{{http_code}}\\n' {url}");
    let mut running = service.start_in_jail(&[program(), resource, "sh", "-c", &through_the_door]);
    let holding = running.line();
    assert_eq!(running.line(), "200", "{resource}");
    assert_eq!(
        (running.line(), running.line()),
        (String::new(), "status: 0".to_owned())
    );
    service.serves_others();
    let listed = e2e::proxyctl::proxyctl_json(&service.daemon, &["sessions"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(running.end(), Some(7));
    let mut parts = holding.split(": ").skip(1);
    let count = parts.next().and_then(|count| count.parse().ok());
    let error = parts.next().map(str::to_owned);
    Some((count.expect("a count"), error.expect("an error")))
}

/// The kernel's limit for each process protects the machine (`vm.max_map_count`). The jail adds none.
#[test]
fn j6_a_jail_that_exhausts_its_memory_maps_harms_nothing_else() {
    if let Some((count, error)) = exhaust("maps") {
        let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("a setting");
        let limit: u64 = limit.trim().parse().expect("a number");
        let of_all = CHILDREN * limit;
        assert!((of_all - of_all / 10..=of_all).contains(&count), "{count}");
        assert_eq!(error, "Cannot allocate memory");
    }
}

/// An address space is that of one process.
#[test]
fn j6_a_jail_that_exhausts_its_address_space_harms_nothing_else() {
    if let Some((_, error)) = exhaust("address-space") {
        assert_eq!(error, "Cannot allocate memory");
    }
}

/// The kernel's limit for each process protects the machine: the hard limit of the caller (`RLIMIT_NOFILE`), which
/// the jail passes on. The error is that of this limit, and not of the machine's (`ENFILE`).
#[test]
fn j6_a_jail_that_exhausts_its_descriptors_harms_nothing_else() {
    if let Some((count, error)) = exhaust("descriptors") {
        let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        let of_all = CHILDREN * limit;
        assert!((of_all - of_all / 10..=of_all).contains(&count), "{count}");
        assert_eq!(error, "Too many open files");
    }
}

/// The ports are those of the jail's own network. The proxy needs one of the machine's for a lookup.
#[test]
fn j6_a_jail_that_takes_every_port_takes_none_of_the_machine() {
    if !has(Need::UserNamespaces) || !has(Need::Descriptors(8_000)) {
        return;
    }
    let resolver = StubResolver::start();
    resolver.answer("looked-up.test", [std::net::Ipv4Addr::LOCALHOST.into()]);
    let config = Config::example()
        .allow("looked-up.test")
        .nameserver(resolver.address());
    let service = Service::start(&config);
    let url = service.url("looked-up.test");
    let through_the_door = format!("curl -s -o /dev/null -w '%{{http_code}}\\n' {url}");
    let mut running = service.start_in_jail(&[program(), "ports", "sh", "-c", &through_the_door]);
    let holding = running.line();
    assert!(holding.ends_with(": Address already in use"), "{holding}");
    assert_eq!(running.line(), "200");
    let port = std::net::UdpSocket::bind("127.0.0.1:0");
    assert!(port.is_ok(), "{port:?}");
    service.serves_others();
    assert_eq!(
        (running.line(), running.line()),
        (String::new(), "status: 0".to_owned())
    );
    assert_eq!(running.end(), Some(7));
}

#[test]
fn t1_a_session_that_looks_up_names_without_end_harms_nothing_else() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let service = Service::start(&Config::example().allow("other.test").allow("*.many.test"));
    service.serves_others();
    let worker = service.daemon.worker();
    let before = memory(worker).anonymous;
    let count = (MAX_NAMES + 500).to_string();
    let names = [program(), "names", "many.test", &count].join(" ");
    let plain = |host| format!("{PLAIN_STATUS} {}", service.url(host));
    let curl = format!(
        "curl -s -o /dev/null -w '%{{http_code}}\\n' {}",
        service.url("other.test")
    );
    let script = [
        // A name from before keeps its address, and a new one gets none. By a proxy door, names need no address.
        plain("allowed.test"),
        names,
        plain("allowed.test"),
        plain("other.test"),
        curl,
        "read -r line; exit 7".to_owned(),
    ]
    .join("; ");
    let mut running = service.start_in_jail(&["sh", "-c", &script]);
    assert_eq!(running.line(), "200");
    let addresses = MAX_NAMES - 1;
    assert_eq!(
        running.line(),
        format!("addresses {addresses}, repeated 0, failed 501, absent 0, other 0, first kept")
    );
    assert_eq!(running.line(), "200");
    assert_eq!(running.line(), "000");
    assert_eq!(running.line(), "200");
    let grown = memory(worker).anonymous.saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB");
    service.serves_others();
    service
        .daemon
        .wait_for_message("a session has looked up as many names as it may");
    let new = format!("{PLAIN_STATUS} {}", service.url("other.test"));
    assert_eq!(service.script(&new), "200\n");
    assert_eq!(running.end(), Some(7));
}

/// Names that policy refuses take no address. Their records are bounded too.
#[test]
fn t1_a_session_that_looks_up_refused_names_without_end_fills_neither_memory_nor_log() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let service = Service::start(&Config::example());
    service.serves_others();
    let worker = service.daemon.worker();
    let before = memory(worker).anonymous;
    let names = service.run(&[], &[program(), "names", "refused.test", "10000"]);
    assert_eq!(
        names.succeeded().stdout,
        "addresses 0, repeated 0, failed 0, absent 10000, other 0, first lost\n"
    );
    let grown = memory(worker).anonymous.saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB");
    let logged = service.daemon.logs().len();
    assert!(logged < 4000, "{logged} lines");
    assert!(service.daemon.blocked().len() <= 200);
    service.serves_others();
}

#[test]
fn j13_a_session_that_opens_tunnels_without_end_has_so_many_and_harms_nothing_else() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let config = Config::example().set("daemon.sessions", "max_connections", "50");
    let service = Service::start(&config);
    let authority = format!("allowed.test:{}", service.origin.addr().port());
    let mut running = service.start_in_jail(&[program(), "tunnels", "3128", "300", &authority]);
    assert_eq!(running.line(), "opened 50");
    service.serves_others();
    assert_eq!(running.end(), Some(7));
    service.serves_others();
}
