//! Equal shares among the users of this machine: the daemon asks the kernel for the user of a
//! connection.

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon, LogLine};
use e2e::machine::{self, Need};
use e2e::origin::Origin;
use e2e::wait::{TIMEOUT, poll};
use nix::unistd::Uid;
use serde_json::Value;

use super::limited;

/// A user without other processes.
const OTHER: u32 = 54_321;

/// Runs in a thread whose sockets belong to another user. Needs root.
#[cfg(target_os = "linux")]
fn as_other<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            nix::unistd::setfsuid(Uid::from_raw(OTHER));
            run()
        });
        other.join().expect("the other user succeeds")
    })
}

fn echoes(tunnel: &mut Connection) -> bool {
    tunnel.try_send("still").is_ok() && tunnel.read_some() == b"still"
}

/// The log line about connections that were ended to admit others.
fn ended(daemon: &Daemon) -> LogLine {
    daemon.wait_for_log(|line| line.message_starts_with("all places are taken: ended"))
}

fn cannot_ask(daemon: &Daemon) -> bool {
    let logs = daemon.logs();
    let says = |line: &LogLine| line.message_starts_with("the kernel's socket tables");
    logs.iter().any(says) || !cfg!(target_os = "linux")
}

/// The holder whose connections ended, as the log names it.
fn owner(daemon: &Daemon, uid: Uid) -> Value {
    if cannot_ask(daemon) {
        Value::from("127.0.0.1")
    } else {
        Value::from(format!("uid {uid}"))
    }
}

#[test]
fn c5_an_idle_tunnel_ends_for_a_waiting_client_and_the_log_names_its_user() {
    let origin = Origin::echoing_bytes().start();
    let config = limited(2).set("daemon.limits", "header_timeout", r#""300ms""#);
    let daemon = Daemon::start(&config);
    let authority = format!("allowed.test:{}", origin.addr().port());
    let mut held = [daemon.tunnel(&authority), daemon.tunnel(&authority)];
    let mut third = daemon.tunnel(&authority);
    assert!(echoes(&mut third));
    let line = ended(&daemon);
    let us = owner(&daemon, Uid::effective());
    assert_eq!(line.field("client"), Some(&us), "{}", line.raw);
    assert_eq!(line.field("count"), Some(&Value::from(1)));
    let alive = held
        .iter_mut()
        .filter_map(|held| echoes(held).then_some(()));
    assert_eq!(alive.count(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn c5_a_user_with_many_connections_does_not_block_other_users() {
    if !machine::has(Need::Root) {
        return;
    }
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&limited(4));
    let authority = format!("allowed.test:{}", origin.addr().port());
    assert!(!cannot_ask(&daemon), "root may ask the kernel");
    let mut held: Vec<_> = (0..4).map(|_| daemon.tunnel(&authority)).collect();
    let waiting: Vec<_> = (0..20)
        .map(|_| Connection::open(daemon.http_addr()))
        .collect();
    let mut others = as_other(|| [daemon.tunnel(&authority), daemon.tunnel(&authority)]);
    for other in &mut others {
        assert!(echoes(other));
    }
    let alive = held
        .iter_mut()
        .filter_map(|held| echoes(held).then_some(()));
    assert_eq!(alive.count(), 2);
    let line = ended(&daemon);
    assert_eq!(line.field("client"), Some(&Value::from("uid 0")));
    drop(waiting);
}

#[cfg(target_os = "linux")]
#[test]
fn c5_a_user_with_many_admin_connections_does_not_block_other_users() {
    if !machine::has(Need::Root) {
        return;
    }
    // The time limit is long, so a client is admitted only by the shares of users.
    let config = Config::example().set("daemon.limits", "header_timeout", r#""1h""#);
    let daemon = Daemon::start(&config);
    assert!(!cannot_ask(&daemon), "root may ask the kernel");
    let held = as_other(|| {
        let open = |_| {
            let mut client = Connection::open(daemon.admin_addr());
            client.send("GET /health HTTP/1.1\r\nHo");
            client
        };
        (0..340).map(open).collect::<Vec<_>>()
    });
    for _ in 0..10 {
        assert_eq!(daemon.admin("GET", "/health", None).text(), "ok");
    }
    let line = ended(&daemon);
    let whose = Value::from(format!("uid {OTHER}"));
    assert_eq!(line.field("client"), Some(&whose));
    assert_eq!(line.field("door"), Some(&Value::from("admin")));
    // One of the admitted connections has ended: the kernel waits for its client to close it too.
    let ports: Vec<String> = held
        .iter()
        .map(|client| format!(":{:04X}", client.local_addr().port()))
        .collect();
    let is_closed = || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
        table.lines().skip(1).any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[3] == "08" && ports.iter().any(|port| fields[1].ends_with(port))
        })
    };
    poll(TIMEOUT, || is_closed().then_some(())).expect("an ended connection");
}

#[test]
fn a1_a_slow_request_is_ended_by_the_header_timeout() {
    let config = Config::example().set("daemon.limits", "header_timeout", r#""200ms""#);
    let daemon = Daemon::start(&config);
    let mut slow: Vec<_> = (0..70)
        .map(|_| {
            let mut client = Connection::open(daemon.admin_addr());
            client.send("GET /health HTTP/1.1\r\nHo");
            client
        })
        .collect();
    assert_eq!(daemon.admin("GET", "/health", None).text(), "ok");
    for client in &mut slow {
        client.read_to_end();
    }
}
