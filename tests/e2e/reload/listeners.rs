//! Listeners that a reload moves, closes, opens, or fails to open.

use std::net::{SocketAddr, TcpListener};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use e2e::client::{Connection, Socks5Target};
use e2e::daemon::{Config, Daemon};
use e2e::machine::{self, Need};
use e2e::origin::{Answer, Origin};
use e2e::port::accepts;
use e2e::wait::{TIMEOUT, poll};

use super::{Reserved, get};

fn closes(address: SocketAddr) {
    poll(TIMEOUT, || (!accepts(address)).then_some(())).expect("the listener closes");
}

#[test]
fn c7_a_moved_listener_accepts_before_the_old_one_closes() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let places = [Reserved::open(), Reserved::open()];
    let [old, new] = [places[0].address(), places[1].address()];
    let at = |place: &Reserved| Config::example().set("network", "proxy_url", &place.url());
    let daemon = Daemon::start(&at(&places[0]));
    assert!(!accepts(new));
    daemon.rewrite_config(&at(&places[1]));
    let together = Barrier::new(2);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            together.wait();
            poll(TIMEOUT, || (!accepts(old)).then(|| accepts(new)))
        });
        together.wait();
        assert_eq!(daemon.reload().status, 200);
        let moved = watcher
            .join()
            .expect("the watcher")
            .expect("the old one closes");
        assert!(
            moved,
            "the new listener did not accept before the old one closed"
        );
    });
    let answer = get(new, "allowed.test", origin.addr().port());
    assert_eq!(answer.text(), "hello");
}

#[test]
fn c7_connections_to_a_moved_listener_stay_open() {
    let origin = Origin::echoing_bytes().start();
    let places = [Reserved::open(), Reserved::open(), Reserved::open()];
    let first = Config::example().set("network", "socks_url", &places[2].url());
    let daemon = Daemon::start(&first);
    let old = daemon.socks_addr();
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    let mut tunnel = Connection::open(old);
    assert_eq!(tunnel.socks5_connect(&target).reply, 0);
    let mut kept = Connection::open(daemon.http_addr());
    let moved = Config::example()
        .set("network", "socks_url", &places[0].url())
        .set("network", "proxy_url", &places[1].url());
    daemon.reload_with(&moved);
    closes(old);
    tunnel.send("still");
    assert_eq!(tunnel.read_exact(5), b"still");
    let refused = kept.exchange("GET http://blocked.test/ HTTP/1.1\r\nHost: blocked.test\r\n\r\n");
    assert_eq!(refused.json()["reason"], "not_allowed");
    let mut anew = Connection::open(places[0].address());
    assert_eq!(anew.socks5_connect(&target).reply, 0);
}

#[test]
fn c7_the_admin_api_can_move_and_answers_the_request_that_moved_it() {
    let (first, place) = (Reserved::open(), Reserved::open());
    let at = |place: &Reserved| Config::example().set("network", "admin_url", &place.url());
    let daemon = Daemon::start(&at(&first));
    let old = daemon.admin_addr();
    daemon.rewrite_config(&at(&place));
    assert_eq!(daemon.reload().text(), r#"{"status":"reloaded"}"#);
    closes(old);
    let answer = e2e::client::request(place.address(), "GET", "/health", None);
    assert_eq!(answer.text(), "ok");
}

#[test]
fn p6_a_moved_listener_is_own_at_its_new_address_only() {
    let (first, place) = (Reserved::open(), Reserved::open());
    let config = Config::example()
        .allow("127.0.0.1")
        .set("network", "admin_url", &first.url());
    let daemon = Daemon::start(&config);
    let (http, old) = (daemon.http_addr(), daemon.admin_addr());
    daemon.reload_with(&config.set("network", "admin_url", &place.url()));
    let refused = get(http, "127.0.0.1", place.address().port());
    assert_eq!(refused.json()["reason"], "loop_detected");
    closes(old);
    // The old address counts as the proxy's own until its last connection has ended.
    poll(TIMEOUT, || {
        (get(http, "127.0.0.1", old.port()).status == 502).then_some(())
    })
    .expect("the old place is forgotten");
}

/// A past bug: a request between the binding of a new listener and its opening waited in the
/// listener's queue, and was served as if it came from outside.
#[test]
fn p6_no_request_reaches_a_listener_that_a_reload_opens() {
    let config = Config::example().allow("127.0.0.1");
    let daemon = Daemon::start(&config);
    let http = daemon.http_addr();
    for _ in 0..5 {
        let place = Reserved::open();
        let (port, done) = (place.address().port(), AtomicBool::new(false));
        daemon.rewrite_config(&config.clone().set("network", "admin_url", &place.url()));
        let flood = || {
            let mut statuses = Vec::new();
            let head = format!(
                "GET http://127.0.0.1:{port}/health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
            );
            while !done.load(Ordering::Relaxed) {
                statuses.push(Connection::open(http).exchange(&head).status);
            }
            statuses
        };
        thread::scope(|scope| {
            let floods: Vec<_> = (0..8).map(|_| scope.spawn(flood)).collect();
            let reloaded = daemon.reload().status;
            poll(TIMEOUT, || {
                (get(http, "127.0.0.1", port).status == 403).then_some(())
            })
            .expect("it counts as the proxy's own");
            done.store(true, Ordering::Relaxed);
            assert_eq!(reloaded, 200);
            for flood in floods {
                let statuses = flood.join().expect("a flood");
                // Nothing listened there, or it was refused.
                assert!(
                    statuses.iter().all(|status| [502, 403].contains(status)),
                    "{statuses:?}"
                );
            }
        });
    }
}

#[test]
fn c7_a_reload_that_moves_listeners_logs_their_addresses() {
    let place = Reserved::open();
    let daemon = Daemon::start(&Config::example());
    daemon.reload_with(&Config::example().set("network", "proxy_url", &place.url()));
    let address = place.address().to_string();
    daemon.wait_for_log(|line| {
        line.message() == Some("listening")
            && line.field("listener").is_some_and(|name| name == "http")
            && line
                .field("address")
                .is_some_and(|reported| *reported == *address)
    });
}

#[test]
fn c7_an_address_in_use_fails_the_reload_without_changes() {
    // Without it the proxy cannot see which process with more capabilities holds a port.
    if !machine::has(Need::Ptrace) {
        return;
    }
    let origin = Origin::start(|_| Answer::text("hello"));
    let (free, taken) = (
        Reserved::open(),
        TcpListener::bind("127.0.0.1:0").expect("a free port"),
    );
    let address = taken.local_addr().expect("a bound listener");
    let daemon = Daemon::start(&Config::example());
    let wanted = Config::example()
        .allow("blocked.test")
        .set("network", "proxy_url", &free.url())
        .set("network", "socks_url", &format!("\"{address}\""));
    daemon.rewrite_config(&wanted);
    let answer = daemon.reload();
    assert_eq!(answer.status, 500);
    let text = answer.text();
    for part in [
        &address.to_string(),
        &format!("process {} ", std::process::id()),
        "socks_url",
        "the old settings stay in force",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let port = origin.addr().port();
    assert_eq!(
        daemon.get(&format!("http://allowed.test:{port}/")).text(),
        "hello"
    );
    assert_eq!(
        daemon.get(&format!("http://blocked.test:{port}/")).status,
        403
    );
    closes(free.address());
    // After the other program has freed the address, a reload of the same file succeeds.
    drop(taken);
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(get(free.address(), "blocked.test", port).text(), "hello");
}

#[test]
fn l2_socks5_can_be_switched_off_and_on() {
    let origin = Origin::echoing_bytes().start();
    let place = Reserved::open();
    let on = Config::example().set("network", "socks_url", &place.url());
    let off = on.clone().set("network", "enable_socks5", "false");
    let daemon = Daemon::start(&off);
    assert!(!accepts(place.address()));
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    daemon.reload_with(&on);
    let mut tunnel = Connection::open(place.address());
    assert_eq!(tunnel.socks5_connect(&target).reply, 0);
    daemon.reload_with(&off);
    closes(place.address());
}
