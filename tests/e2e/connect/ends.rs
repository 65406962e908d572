//! How tunnels end: resets, silence, and policy that changes (SPEC H8, C5, P11).

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::origin::{Answer, Origin};
use e2e::setup::PlainSetup;
use e2e::wait::TIMEOUT;

fn echoing(config: &Config) -> PlainSetup {
    PlainSetup::with(config, Origin::echoing_bytes().start())
}

/// A tunnel that works: bytes were echoed.
fn tunnel(setup: &PlainSetup, host: &str) -> Connection {
    let mut client = setup.client();
    let answer = client.connect(&setup.authority(host));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_alive(&mut client);
    client
}

fn assert_alive(client: &mut Connection) {
    client.send("alive?");
    assert_eq!(client.read_exact(6), b"alive?");
}

#[test]
fn h8_a_client_that_disconnects_ends_the_upstream_connection() {
    let setup = echoing(&Config::example());
    drop(tunnel(&setup, "allowed.test"));
    setup.origin.wait_until_idle();
    tunnel(&setup, "allowed.test").reset();
    setup.origin.wait_until_idle();
}

/// An orderly close would tell the client that it has received everything.
#[test]
fn h8_a_reset_upstream_is_a_reset_for_the_client() {
    let setup = PlainSetup::new(Origin::start(|_| Answer::Reset));
    let mut client = setup.client();
    assert_eq!(client.connect(&setup.authority("allowed.test")).status, 200);
    client.send("GET / HTTP/1.1\r\n\r\n");
    client.expect_reset();
}

#[test]
fn c5_an_idle_tunnel_ends_after_idle_timeout() {
    let config = Config::example().set("daemon.limits", "idle_timeout", r#""500ms""#);
    let setup = echoing(&config);
    let begun = Instant::now();
    let mut client = tunnel(&setup, "allowed.test");
    client.expect_closed();
    assert!(begun.elapsed() >= Duration::from_millis(500));
    setup.origin.wait_until_idle();
}

#[test]
fn c5_a_tunnel_with_occasional_bytes_stays_open() {
    let config = Config::example().set("daemon.limits", "idle_timeout", r#""1s""#);
    let setup = echoing(&config);
    let mut client = tunnel(&setup, "allowed.test");
    // The test is about time: each pause is shorter than the limit, and all together are longer.
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(300));
        assert_alive(&mut client);
    }
}

#[test]
fn p11_a_tunnel_whose_host_a_reload_denies_ends_at_once_and_is_logged() {
    let config = Config::example()
        .allow("other.test")
        .host("other.test", std::net::Ipv4Addr::LOCALHOST);
    let setup = echoing(&config);
    let mut doomed = tunnel(&setup, "allowed.test");
    let mut spared = tunnel(&setup, "other.test");
    setup
        .daemon
        .reload_with(&config.clone().deny("allowed.test"));
    let begun = Instant::now();
    doomed.expect_closed();
    assert!(begun.elapsed() < Duration::from_secs(1));
    let authority = setup.authority("allowed.test");
    let line = setup.daemon.wait_for_message("no longer permits");
    assert_eq!(line.level(), Some("INFO"));
    assert_eq!(line.flow(), Some("forbidden"));
    assert_eq!(line.server(), Some(authority));
    let reason = line.field("network.flow.reason");
    assert_eq!(reason.and_then(|value| value.as_str()), Some("denied"));
    assert_alive(&mut spared);
}

#[test]
fn p11_every_way_to_tighten_the_policy_ends_tunnels() {
    let lists = |config: Config| config.host("allowed.test", std::net::Ipv4Addr::LOCALHOST);
    let limited = Config::limited();
    let inside_only = Config::example().unset("network", "allow_local_binding");
    let disabled = Config::example().set("network", "enabled", "false");
    for (what, tighter) in [
        ("no longer on the allow list", lists(Config::new())),
        ("limited mode", limited),
        ("local addresses no longer allowed", inside_only),
        ("its address denied", Config::example().deny("127.0.0.1")),
        ("disabled", disabled),
    ] {
        let setup = echoing(&Config::example());
        let mut client = tunnel(&setup, "allowed.test");
        setup.daemon.reload_with(&tighter);
        let begun = Instant::now();
        client.expect_closed();
        assert!(begun.elapsed() < Duration::from_secs(1), "{what}");
        setup.origin.wait_until_idle();
    }
}

#[test]
fn p11_a_change_of_mode_ends_tunnels_too() {
    let setup = echoing(&Config::example());
    let mut client = tunnel(&setup, "allowed.test");
    setup.daemon.set_mode("limited");
    client.expect_closed();
}

#[test]
fn p11_a_tunnel_whose_client_never_reads_ends_too() {
    let setup = echoing(&Config::example());
    let mut client = tunnel(&setup, "allowed.test");
    setup
        .daemon
        .rewrite_config(&Config::example().deny("allowed.test"));
    let sender = std::thread::spawn(move || {
        let part = vec![0; 256 * 1024];
        loop {
            if let Err(error) = client.try_send(&part) {
                return error.kind();
            }
        }
    });
    assert_eq!(setup.daemon.reload().status, 200);
    let begun = Instant::now();
    let ended = sender.join().expect("the sender");
    // The tunnel did not end by a timeout of one side.
    assert!(begun.elapsed() < TIMEOUT / 3);
    let closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
    assert!(closed.contains(&ended), "{ended}");
    setup.origin.wait_until_idle();
}

#[test]
fn p11_a_reload_that_still_allows_a_tunnel_keeps_it_open() {
    let setup = echoing(&Config::example());
    let mut client = tunnel(&setup, "allowed.test");
    for config in [
        Config::example(),
        Config::example().deny("something.else.test"),
        Config::example().allow("**.test"),
    ] {
        setup.daemon.reload_with(&config);
        assert_alive(&mut client);
    }
    // A reload that fails changes nothing.
    setup
        .daemon
        .rewrite_config_text("[network]\nallowed_domain = 1\n");
    assert_eq!(setup.daemon.reload().status, 500);
    assert_alive(&mut client);
}

#[test]
fn p11_a_running_request_ends_when_the_policy_forbids_it() {
    let (_gate, body) = e2e::origin::Gate::new();
    let body = std::sync::Mutex::new(Some(body));
    let origin = Origin::start(move |_| {
        let body = body.lock().expect("the lock").take().expect("one request");
        Answer::Reply(e2e::origin::Reply::new(200, body))
    });
    let setup = PlainSetup::new(origin);
    let mut client = setup.client();
    client.send(setup.get("allowed.test", "/"));
    assert_eq!(client.read_head().status, 200);
    setup
        .daemon
        .reload_with(&Config::example().deny("allowed.test"));
    client.expect_closed();
}
