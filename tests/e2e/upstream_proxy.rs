//! Upstream proxies of the daemon's own environment (SPEC H12), from the loader that reads the
//! variables to the worker that uses them. The engine's tests cover which traffic goes where.
//!
//! The proxied targets have an address of the former 6bone (RFC 3701). It counts as public and has
//! no route.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon, Launch};
use e2e::origin::{Answer, Origin};
use e2e::port::Reserved;
use e2e::proxyctl::proxyctl;
use e2e::tls::TestCa;
use e2e::upstream_proxy::UpstreamProxy;

const NOWHERE: Ipv6Addr = Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 1);

/// `far.test` is public, `allowed.test` is this machine.
fn config() -> Config {
    Config::example()
        .allow("far.test")
        .host("far.test", IpAddr::from(NOWHERE))
}

fn launch(config: &Config) -> Launch {
    Daemon::launch().config(config)
}

fn with_proxy(proxy: &UpstreamProxy) -> Daemon {
    let url = format!("http://agent:s3cret@{}", proxy.addr());
    launch(&config()).env("ALL_PROXY", url).start()
}

/// The output of `proxyctl`.
fn output(daemon: &Daemon, arguments: &[&str]) -> String {
    proxyctl(daemon, arguments).succeeded().stdout.clone()
}

#[test]
fn h12_allowed_requests_use_the_proxy_of_the_environment() {
    let origin = Origin::start(|_| Answer::text("far"));
    let proxy = UpstreamProxy::start(origin.addr());
    let daemon = with_proxy(&proxy);
    let mut client = Connection::open(daemon.http_addr());
    let answer = client.exchange("GET http://far.test/a HTTP/1.1\r\nHost: far.test\r\n\r\n");
    assert_eq!((answer.status, answer.text().as_str()), (200, "far"));
    let mut client = Connection::open(daemon.http_addr());
    assert_eq!(client.connect("far.test:80").status, 200);
    let answer = client.exchange("GET /b HTTP/1.1\r\nHost: far.test\r\n\r\n");
    assert_eq!((answer.status, answer.text().as_str()), (200, "far"));
    let heads = proxy.heads();
    assert!(heads[0].starts_with("GET http://far.test/a HTTP/1.1\r\n"));
    assert!(heads[1].starts_with("CONNECT far.test:80 HTTP/1.1\r\n"));
    for head in &heads {
        assert!(
            head.contains("Authorization: Basic YWdlbnQ6czNjcmV0\r\n")
                || head.contains("authorization: Basic YWdlbnQ6czNjcmV0\r\n"),
            "{head}"
        );
    }
    let status = output(&daemon, &["status"]);
    assert!(status.contains("0 direct"), "{status}");
    let shown = format!("http://***@{}: 1", proxy.addr());
    assert!(
        status.contains(&format!("plain HTTP through {shown}")),
        "{status}"
    );
    assert!(
        status.contains(&format!("tunnels through {shown}")),
        "{status}"
    );
}

#[test]
fn h12_refused_and_local_targets_do_not_reach_the_upstream_proxy() {
    let origin = Origin::start(|_| Answer::text("near"));
    let proxy = UpstreamProxy::start(origin.addr());
    let daemon = with_proxy(&proxy);
    let get = |host: &str| {
        let url = origin.url(host, "/");
        Connection::open(daemon.http_addr()).exchange(&format!("GET {url} HTTP/1.1\r\n\r\n"))
    };
    assert_eq!(get("blocked.test").status, 403);
    assert_eq!(get("denied.test").status, 403);
    assert_eq!(get("allowed.test").text(), "near");
    let port = origin.addr().port();
    let tunnel = Connection::open(daemon.http_addr()).connect(&format!("allowed.test:{port}"));
    assert_eq!(tunnel.status, 200);
    assert_eq!(proxy.heads(), [""; 0]);
    assert!(output(&daemon, &["status"]).contains("2 direct"));
}

#[test]
fn h12_the_proxys_credentials_are_shown_nowhere() {
    let origin = Origin::start(|_| Answer::text("far"));
    let proxy = UpstreamProxy::start(origin.addr());
    let url = format!("http://agent:s3cret@{}", proxy.addr());
    let config = config().set("daemon", "log", r#""trace""#);
    let daemon = launch(&config)
        .env("https_proxy", &url)
        .env("http_proxy", &url)
        .env("no_proxy", "a.test,*.b.test")
        .start();
    let mut client = Connection::open(daemon.http_addr());
    client.exchange("GET http://far.test/ HTTP/1.1\r\nHost: far.test\r\n\r\n");
    Connection::open(daemon.http_addr()).connect("far.test:443");
    let heads = proxy.heads();
    let secret = |head: &String| head.contains("YWdlbnQ6czNjcmV0");
    assert!(heads.len() == 2 && heads.iter().all(secret), "{heads:?}");
    assert_eq!(daemon.reload().status, 200);
    let config = daemon.admin("GET", "/config", None).json();
    let shown = format!("http://***@{}", proxy.addr());
    assert_eq!(config["upstream_proxy"]["http"], shown, "{config}");
    assert_eq!(config["upstream_proxy"]["tunnel"], shown);
    assert_eq!(config["upstream_proxy"]["no_proxy"][0], "a.test");
    daemon.wait_for_log(|line| {
        let message = line.message().unwrap_or_default();
        message.starts_with("NO_PROXY: \"*.b.test\" covers nothing")
    });
    let mut reported = config.to_string();
    for command in [&["config"][..], &["status"], &["status", "--json"]] {
        reported += &output(&daemon, command);
    }
    for line in daemon.logs().iter().chain(&daemon.stdout()) {
        reported += &line.raw;
    }
    for secret in ["s3cret", "agent", "YWdlbnQ6czNjcmV0"] {
        assert!(!reported.contains(secret), "{secret} in {reported}");
    }
}

#[test]
fn h12_a_proxy_that_cannot_be_used_is_an_error_at_the_start() {
    let socks = "socks5://agent:s3cret@127.0.0.1:1080";
    let exit = launch(&config()).env("ALL_PROXY", socks).try_start();
    let exit = exit.err().expect("no start");
    assert_eq!(exit.code, Some(78));
    let text = exit.text();
    assert!(
        text.contains("ALL_PROXY: socks5 proxies are not supported"),
        "{text}"
    );
    assert!(text.contains("allow_upstream_proxy = false"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");

    let without = config().set("network", "allow_upstream_proxy", "false");
    let daemon = launch(&without).env("ALL_PROXY", socks).start();
    let shown = daemon.admin("GET", "/config", None).json();
    assert!(shown["upstream_proxy"]["tunnel"].is_null(), "{shown}");
}

#[test]
fn h12_an_upstream_proxy_that_is_this_proxy_is_reported_and_not_used() {
    let place = Reserved::open();
    let own = place.address();
    let config = config().set("network", "proxy_url", &place.url());
    let daemon = launch(&config)
        .env("HTTP_PROXY", format!("http://{own}"))
        .env("HTTPS_PROXY", format!("http://{own}"))
        .start();
    daemon.wait_for_log(|line| {
        let message = line.message().unwrap_or_default();
        message.contains("is this proxy itself")
    });
    let mut client = Connection::open(own);
    let answer = client.exchange("GET http://far.test/ HTTP/1.1\r\nHost: far.test\r\n\r\n");
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["reason"], "loop_detected");
    assert_eq!(Connection::open(own).connect("far.test:443").status, 403);
    for url in ["http://far.test/", "https://far.test/"] {
        let explained = output(&daemon, &["explain", url, "--resolve", "--json"]);
        assert!(explained.contains("loop_detected"), "{url}: {explained}");
        assert!(explained.contains("HTTP_PROXY"), "{url}: {explained}");
    }
    let status = output(&daemon, &["status"]);
    assert!(status.contains("is this proxy itself"), "{status}");
}

#[test]
fn h12_the_certificate_of_an_upstream_proxy_is_always_verified() {
    let ca = TestCa::new();
    // For plain HTTP, an origin that reads whole URLs is a proxy.
    let far = Origin::answering(|_| Answer::text("far"))
        .tls(&ca, &["proxy.test"])
        .start();
    for interception in ["true", "false"] {
        let config = config().host("proxy.test", Ipv4Addr::LOCALHOST).set(
            "network.mitm",
            "enabled",
            interception,
        );
        let daemon = |roots: &TestCa| {
            let proxy = far.url("proxy.test", "");
            let launch = launch(&config).env("HTTP_PROXY", proxy);
            launch.trusting(roots).start()
        };
        let get = |daemon: &Daemon| {
            let request = "GET http://far.test/ HTTP/1.1\r\nHost: far.test\r\n\r\n";
            Connection::open(daemon.http_addr()).exchange(request)
        };
        assert_eq!(get(&daemon(&ca)).text(), "far", "{interception}");
        let answer = get(&daemon(&TestCa::new()));
        assert_eq!(answer.status, 502);
        let whose = "no TLS session with the upstream proxy: certificate_unknown_issuer";
        assert!(answer.text().contains(whose), "{}", answer.text());
    }
}
