//! Only the proxy reaches its collector (SPEC O2, P6), and only that one.

use std::net::Ipv4Addr;

use e2e::client::{Connection, Socks5Target};
use e2e::daemon::{Config, Daemon};
use e2e::origin::Origin;
use e2e::proxyctl::proxyctl;

use super::{at, collector, config, count, exports, metric, refuse, until};

/// Everything that is not denied is allowed, this machine included.
fn open(url: &str) -> Config {
    config(url)
        .allow("*")
        .allow("127.0.0.1")
        .allow("127.0.0.2")
        .allow("localhost")
        .allow("[::1]")
        .host("collector.test", Ipv4Addr::LOCALHOST)
        .host("alias.test", Ipv4Addr::LOCALHOST)
}

fn is_closed_to_clients(daemon: &Daemon, collector: &Origin, hosts: &[&str]) {
    let (port, before) = (collector.addr().port(), collector.connections());
    for host in hosts {
        let mut client = Connection::open(daemon.http_addr());
        let answer = client.exchange(&format!(
            "POST http://{host}:{port}/v1/logs HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(answer.status, 403, "{host}: {}", answer.text());
        assert_eq!(answer.json()["reason"], "loop_detected", "{host}");
        let mut client = Connection::open(daemon.http_addr());
        let answer = client.connect(&format!("{host}:{port}"));
        assert_eq!(answer.status, 403, "{host}");
        let name = Socks5Target::name(host, port);
        let mut client = Connection::open(daemon.socks_addr());
        assert_eq!(client.socks5_connect(&name).reply, 2, "{host}");
    }
    assert_eq!(collector.connections(), before);
}

#[test]
fn p6_no_client_reaches_the_collector_by_any_of_its_addresses() {
    let collector = collector();
    let daemon = Daemon::start(&open(&at(collector.addr())));
    let hosts = ["127.0.0.1", "127.0.0.2", "localhost", "alias.test"];
    is_closed_to_clients(&daemon, &collector, &hosts);
    let target = format!("http://alias.test:{}/", collector.addr().port());
    let explained = proxyctl(&daemon, &["explain", "--resolve", &target]);
    let words = "the destination is the collector of the proxy's audit events";
    assert!(explained.stdout.contains(words), "{}", explained.stdout);
    // The refusals are events like all others.
    until("exports", || count(&exports(&collector)) == 3 * hosts.len());
}

#[test]
fn p6_no_client_reaches_a_collector_by_its_name_or_by_what_it_resolves_to() {
    let collector = collector();
    let url = format!("http://collector.test:{}", collector.addr().port());
    let daemon = Daemon::start(&open(&url));
    is_closed_to_clients(&daemon, &collector, &["collector.test"]);
    // The proxy's own resolver found it.
    until("an export", || count(&exports(&collector)) == 3);
    is_closed_to_clients(&daemon, &collector, &["127.0.0.1", "alias.test"]);
}

#[test]
fn p6_the_proxy_does_not_export_to_itself() {
    let port = e2e::port::Reserved::open();
    let config = config(&at(port.address())).set("network", "proxy_url", &port.url());
    let daemon = Daemon::start(&config);
    refuse(&daemon, 1);
    daemon.wait_for_message("it is this proxy itself");
}

#[test]
fn o2_a_reload_changes_the_collector() {
    let (first, second) = (collector(), collector());
    let daemon = Daemon::start(&config(&at(first.addr())));
    refuse(&daemon, 1);
    until("an export", || count(&exports(&first)) == 1);
    daemon.reload_with(&open(&at(second.addr())));
    is_closed_to_clients(&daemon, &second, &["127.0.0.1"]);
    until("an export", || count(&exports(&second)) == 3);
    assert_eq!(count(&exports(&first)), 1);
    // The former collector is a host like others.
    let port = first.addr().port();
    let mut client = Connection::open(daemon.http_addr());
    assert_eq!(client.connect(&format!("127.0.0.1:{port}")).status, 200);
    daemon.reload_with(&Config::example());
    refuse(&daemon, 1);
    daemon.reload_with(&config(&at(first.addr())));
    refuse(&daemon, 1);
    until("an export", || count(&exports(&first)) == 2);
    // That of the tunnel, which waited when the collector went away.
    assert_eq!(metric(&daemon, "lost_total"), 1);
}
