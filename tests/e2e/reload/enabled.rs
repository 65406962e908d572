//! `enabled = false`, at the start and at run time (SPEC L6).

use e2e::client::{Connection, Socks5Target};
use e2e::daemon::{Config, Daemon, Signal};
use e2e::origin::{Answer, Origin};
use e2e::port::accepts;
use e2e::wait::{TIMEOUT, poll};

use super::{Reserved, get};

#[test]
fn l6_a_proxy_that_starts_disabled_binds_nothing_and_a_reload_enables_it() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let [http, socks5, admin] = [(); 3].map(|()| Reserved::open());
    let config = Config::example()
        .set("network", "proxy_url", &http.url())
        .set("network", "socks_url", &socks5.url())
        .set("network", "admin_url", &admin.url());
    let daemon = Daemon::start(&config.clone().set("network", "enabled", "false"));
    let line = daemon.wait_for_message("disabled");
    assert!(
        line.raw.contains("SIGHUP"),
        "it says what to do: {}",
        line.raw
    );
    for place in [&http, &socks5, &admin] {
        assert!(!accepts(place.address()));
    }
    // Another reload that keeps it disabled changes nothing.
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_messages(1, "reloaded");
    assert!(!accepts(http.address()));
    daemon.rewrite_config(&config);
    daemon.signal(Signal::SIGHUP);
    poll(TIMEOUT, || accepts(http.address()).then_some(())).expect("the door opens");
    let answer = get(http.address(), "allowed.test", origin.addr().port());
    assert_eq!(answer.text(), "hello");
    daemon.wait_for_messages(2, "reloaded");
    let health = e2e::client::request(admin.address(), "GET", "/health", None);
    assert_eq!(health.text(), "ok");
}

#[test]
fn l6_a_reload_that_enables_logs_the_listeners() {
    let daemon = Daemon::start(&Config::example().set("network", "enabled", "false"));
    daemon.rewrite_config(&Config::example());
    daemon.signal(Signal::SIGHUP);
    for name in ["http", "socks5", "admin"] {
        daemon.wait_for_log(|line| {
            line.message() == Some("listening")
                && line
                    .field("listener")
                    .is_some_and(|reported| reported == name)
        });
    }
    assert_eq!(daemon.admin("GET", "/health", None).text(), "ok");
}

#[test]
fn l6_a_disabled_proxy_answers_so_on_every_listener() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let port = origin.addr().port();
    daemon.reload_with(&Config::example().set("network", "enabled", "false"));
    let plain = daemon.get(&format!("http://allowed.test:{port}/"));
    assert_eq!(
        (plain.status, &*plain.text()),
        (503, "network proxy is disabled")
    );
    assert_eq!(plain.header("content-type"), Some("text/plain"));
    let connect = Connection::open(daemon.http_addr()).connect(&format!("allowed.test:{port}"));
    assert_eq!(connect.status, 503);
    let mut socks5 = Connection::open(daemon.socks_addr());
    let target = Socks5Target::name("allowed.test", port);
    assert_eq!(socks5.socks5_connect(&target).reply, 2);
    let entries = daemon.blocked();
    assert_eq!(entries.len(), 3);
    for (entry, protocol) in entries.iter().zip(["http", "http-connect", "socks5"]) {
        assert_eq!(entry["reason"], "proxy_disabled");
        assert_eq!(entry["source"], "proxy_state");
        assert_eq!(entry["protocol"], protocol);
    }
    assert_eq!(origin.connections(), 0);
    daemon.reload_with(&Config::example());
    assert_eq!(
        daemon.get(&format!("http://allowed.test:{port}/")).text(),
        "hello"
    );
}

#[test]
fn l6_p11_disabling_ends_open_tunnels() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    let mut tunnel = Connection::open(daemon.socks_addr());
    assert_eq!(tunnel.socks5_connect(&target).reply, 0);
    daemon.reload_with(&Config::example().set("network", "enabled", "false"));
    tunnel.expect_closed();
    origin.wait_until_idle();
}
