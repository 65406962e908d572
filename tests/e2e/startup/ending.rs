//! Shutdown: SIGTERM and SIGINT drain, and a second one ends at once.

use std::sync::Mutex;

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon, Signal};
use e2e::origin::{Answer, Gate, Origin, Reply};
use e2e::port::{Reserved, accepts};
use e2e::wait::{TIMEOUT, poll};
use serde_json::json;

const ENDS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// Waits until the daemon has noticed the signal.
fn is_stopping(daemon: &Daemon) {
    daemon.wait_for_log(|line| line.message_starts_with("stopping"));
}

#[test]
fn l5_without_connections_a_signal_ends_it_at_once_with_exit_code_0() {
    for signal in ENDS {
        let daemon = Daemon::start(&Config::example());
        daemon.signal(signal);
        let exit = daemon.wait_exit();
        assert_eq!((exit.code, exit.signal), (Some(0), None), "{signal}");
        assert!(exit.text().contains("stopped"), "{}", exit.text());
    }
}

#[test]
fn l5_a_draining_proxy_serves_open_tunnels_only_and_ends_with_the_last() {
    for signal in ENDS {
        let origin = Origin::echoing_bytes().start();
        let places = [(); 3].map(|()| Reserved::open());
        let config = Config::example()
            .set("network", "proxy_url", &places[0].url())
            .set("network", "socks_url", &places[1].url())
            .set("network", "admin_url", &places[2].url());
        let daemon = Daemon::start(&config);
        let mut tunnel = daemon.socks5_tunnel("allowed.test", origin.addr().port());
        let doors = places.each_ref().map(Reserved::address);
        daemon.signal(signal);
        is_stopping(&daemon);
        for door in doors {
            poll(TIMEOUT, || (!accepts(door)).then_some(())).expect("no new client is accepted");
        }
        tunnel.send("still");
        assert_eq!(tunnel.read_exact(5), b"still");
        drop(tunnel);
        let exit = daemon.wait_exit();
        assert_eq!((exit.code, exit.signal), (Some(0), None), "{signal}");
    }
}

#[test]
fn c5_connections_left_after_the_drain_timeout_are_closed() {
    let origin = Origin::echoing_bytes().start();
    let daemon =
        Daemon::start(&Config::example().set("daemon.limits", "drain_timeout", r#""300ms""#));
    let mut tunnel = daemon.socks5_tunnel("allowed.test", origin.addr().port());
    daemon.signal(Signal::SIGTERM);
    tunnel.expect_closed();
    let exit = daemon.wait_exit();
    assert_eq!(exit.code, Some(0));
    let stopped = exit
        .logs
        .iter()
        .find(|line| line.message() == Some("stopped"));
    assert_eq!(stopped.expect("it says so").field("cut"), Some(&json!(1)));
}

#[test]
fn l5_a_second_signal_ends_it_at_once() {
    for (first, second) in [
        (Signal::SIGTERM, Signal::SIGTERM),
        (Signal::SIGINT, Signal::SIGINT),
        (Signal::SIGTERM, Signal::SIGINT),
    ] {
        let origin = Origin::echoing_bytes().start();
        let daemon =
            Daemon::start(&Config::example().set("daemon.limits", "drain_timeout", r#""1h""#));
        let mut tunnel = daemon.socks5_tunnel("allowed.test", origin.addr().port());
        daemon.signal(first);
        is_stopping(&daemon);
        daemon.signal(second);
        tunnel.expect_closed();
        let exit = daemon.wait_exit();
        assert_eq!((exit.code, exit.signal), (Some(0), None));
    }
}

#[test]
fn l5_sighup_while_it_stops_does_not_kill_it() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    let mut tunnel = daemon.socks5_tunnel("allowed.test", origin.addr().port());
    daemon.signal(Signal::SIGTERM);
    is_stopping(&daemon);
    daemon.signal(Signal::SIGHUP);
    tunnel.send("still");
    assert_eq!(tunnel.read_exact(5), b"still");
    drop(tunnel);
    assert_eq!(daemon.wait_exit().code, Some(0));
}

#[test]
fn l5_a_response_on_its_way_is_finished_and_kept_connections_end() {
    let (gate, body) = Gate::new();
    let body = Mutex::new(Some(body));
    let origin = Origin::start(move |_| {
        let body = body.lock().expect("one request at a time").take();
        Answer::Reply(Reply::new(200, body.expect("one request")))
    });
    let daemon = Daemon::start(&Config::example());
    let _unused = Connection::open(daemon.http_addr());
    let mut kept = Connection::open(daemon.http_addr());
    let refused = kept.exchange("GET http://blocked.test/ HTTP/1.1\r\nHost: blocked.test\r\n\r\n");
    assert_eq!(refused.status, 403);
    let _idle_admin = Connection::open(daemon.admin_addr());
    let mut client = Connection::open(daemon.http_addr());
    let authority = format!("allowed.test:{}", origin.addr().port());
    client.send(format!(
        "GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    let head = client.read_head();
    daemon.signal(Signal::SIGTERM);
    kept.expect_closed();
    gate.release(b"the rest");
    drop(gate);
    assert_eq!(client.read_body_of(head).text(), "the rest");
    client.expect_closed();
    assert_eq!(daemon.wait_exit().code, Some(0));
}

#[test]
fn l5_a_killed_proxy_can_be_restarted_on_the_same_port_at_once() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let first = Daemon::start(&Config::example());
    let address = first.http_addr();
    // A connection in TIME_WAIT on the daemon's side, and an open one.
    let mut client = Connection::open(address);
    client.send("nonsense\r\n\r\n");
    client.read_to_end();
    let _open = Connection::open(address);
    first.signal(Signal::SIGKILL);
    assert_eq!(first.wait_exit().signal, Some(9));
    let config = Config::example().set("network", "proxy_url", &format!("\"{address}\""));
    let again = Daemon::start(&config);
    assert_eq!(again.http_addr(), address);
    let authority = format!("allowed.test:{}", origin.addr().port());
    let answer = Connection::open(address).exchange(&format!(
        "GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    assert_eq!(answer.text(), "hello");
}
