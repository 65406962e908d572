//! The admin API and the other listeners do not block each other.

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};

use super::through;

/// The number of connections that the API serves at once.
const MANY: usize = 320;

#[test]
fn a1_the_admin_api_answers_while_the_other_listeners_are_full() {
    let daemon = Daemon::start(&Config::example().set("daemon.limits", "max_connections", "1"));
    let _held = Connection::open(daemon.socks_addr());
    daemon.wait_for_log(|line| line.message_starts_with("at the limit of connections"));
    for _ in 0..3 {
        assert_eq!(daemon.admin("GET", "/health", None).text(), "ok");
    }
    assert_eq!(daemon.reload().status, 200);
}

#[test]
fn a1_idle_admin_connections_block_no_other_listener_and_time_out() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let mut idle: Vec<_> = (0..MANY)
        .map(|_| Connection::open(daemon.admin_addr()))
        .collect();
    let mut half = idle.swap_remove(0);
    half.send("GET /health HTTP/1.1\r\nHo");
    let mut kept = idle.swap_remove(1);
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(kept.exchange(request).text(), "ok");
    let mut bodiless = idle.swap_remove(2);
    bodiless.send("POST /mode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n{");
    let answer = through(&daemon, "GET", "allowed.test", origin.addr().port());
    assert_eq!(answer.text(), "hello");
    // It waits behind the idle ones and is served.
    assert_eq!(daemon.admin("GET", "/health", None).text(), "ok");
    assert_eq!(bodiless.read_final_response().status, 408);
    for mut connection in idle.into_iter().chain([kept]) {
        connection.read_to_end();
    }
    half.read_to_end();
}
