//! Name servers that change under an installed service, as on a machine whose network comes after
//! the service (SPEC L14).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use e2e::daemon::Config;
use e2e::resolver::StubResolver;
use e2e::wait::{TIMEOUT, poll};
use serde_json::Value;

use crate::service::{SERVICE, Service};

/// A name server in the machine's network.
fn name_server(last: u8) -> StubResolver {
    let dns = StubResolver::start_on(SocketAddr::from(([127, 0, 0, last], 53)));
    dns.answer("a.test", [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    dns
}

/// The system resolves names, with these lines of a shell script to write its files.
fn service(script: &str) -> Service {
    let service = Service::new();
    service.configure(&Config::new().allow("*").system_names());
    run(&service, script);
    service
}

fn run(service: &Service, script: &str) {
    let script = format!("set -e; {script}");
    service.machine().run(["sh", "-c", &script]).succeeded();
}

#[track_caller]
fn wait_until_reached(service: &Service, url: &str) {
    let reached = poll(TIMEOUT, || (service.get(url).0 == 200).then_some(()));
    reached.unwrap_or_else(|| panic!("{:?}\n{}", service.get(url), service.log()));
}

fn doctor(service: &Service) -> Vec<Value> {
    let run = service.proxyctl("root", &["doctor", "--json", "names"]);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:#?}"))
}

#[test]
fn l14_the_service_follows_a_network_that_comes_after_it() {
    let service = service("rm -f /etc/resolv.conf && : >/etc/resolv.conf");
    let servers = [2, 3].map(name_server);
    let origin = service.origin();
    let url = origin.url("a.test", "/");
    service.start();
    let (status, body) = service.get(&url);
    assert_eq!(status, 502, "{body}");
    assert!(body.contains("knows no name server"), "{body}");
    assert_eq!(doctor(&service)[0]["verdict"], "note");
    run(&service, "echo nameserver 127.0.0.2 >/etc/resolv.conf");
    wait_until_reached(&service, &url);
    service.wait_for_message("name servers none -> 127.0.0.2:53");
    let mut tunnel = service.tunnel("a.test", &origin);
    run(
        &service,
        "echo nameserver 127.0.0.3 >/etc/new && mv /etc/new /etc/resolv.conf",
    );
    service.wait_for_message("name servers 127.0.0.2:53 -> 127.0.0.3:53");
    assert_eq!(servers[1].queries("a.test"), 0);
    wait_until_reached(&service, &url);
    assert!(servers[1].queries("a.test") > 0, "the new one is asked");
    let answer = tunnel.exchange("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(answer.status, 200, "the tunnel lives");
    assert_eq!(service.systemctl(&["is-active", SERVICE]).code, Some(0));
    assert!(
        !service.log().contains("does not report all changes"),
        "{}",
        service.log()
    );
}

/// Like systemd-resolved, whose directory is there when the proxy starts: its unit is ordered first.
#[test]
fn l14_a_link_into_run_is_followed_or_reported_by_doctor() {
    let link = "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf";
    let service = service(&format!("mkdir -p /run/systemd/resolve && {link}"));
    let _server = name_server(2);
    let origin = service.origin();
    let url = origin.url("a.test", "/");
    service.start();
    assert_eq!(service.get(&url).0, 502);
    let written = "mkdir -p /run/systemd/resolve && cd /run/systemd/resolve && \
                   echo nameserver 127.0.0.2 >new && mv new stub-resolv.conf";
    run(&service, written);
    wait_until_reached(&service, &url);

    // A directory that is made after the service's start is not in its view of the file system.
    service.systemctl(&["stop", SERVICE]).succeeded();
    run(&service, "rm -r /run/systemd/resolve");
    service.start();
    assert_eq!(service.get(&url).0, 502);
    // Date the change back, so that `doctor` does not treat it as a change in progress.
    run(
        &service,
        &format!("{written} && touch -h -d yesterday stub-resolv.conf /etc/resolv.conf"),
    );
    let found = doctor(&service);
    assert_eq!(found[0]["verdict"], "problem", "{found:#?}");
    let advice = found[0]["advice"].as_str().expect("advice");
    assert!(advice.contains("systemctl restart codex-network-proxy"));
    service.systemctl(&["restart", SERVICE]).succeeded();
    wait_until_reached(&service, &url);
    assert_eq!(doctor(&service)[0]["verdict"], "ok");
    run(&service, "rm -rf /run/systemd/resolve /etc/resolv.conf");
}
