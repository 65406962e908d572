//! The network goes down and comes back; name servers die, are replaced and come back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use e2e::daemon::Config;
use e2e::origin::{Answer, Body, Origin, Reply};
use e2e::resolver::StubResolver;
use e2e::wait::{TIMEOUT, poll};

use super::{Traffic, Undo, run};
use crate::service::{Service, use_tunnel};

/// A name server in the machine's network. Its answers are not cached.
fn name_server(last: u8) -> StubResolver {
    let dns = StubResolver::start_on(SocketAddr::from(([127, 0, 0, last], 53)));
    for name in ["allowed.test", "blocked.test"] {
        dns.answer_with_ttl(name, [IpAddr::from(Ipv4Addr::LOCALHOST)], 0);
    }
    dns
}

/// Waits until requests fail.
#[track_caller]
fn fails(service: &Service, url: &str) {
    poll(TIMEOUT, || {
        [502, 504].contains(&service.get(url).0).then_some(())
    })
    .unwrap_or_else(|| panic!("{:?}", service.get(url)));
}

#[test]
fn l14_requests_recover_when_a_name_server_is_replaced_or_comes_back() {
    let service = Service::new();
    let _undo = Undo(&service, "rm -f /etc/resolv.conf");
    let config = Config::new().allow("allowed.test").system_names();
    service.configure(&config.set("daemon.resolver", "timeout", "\"500ms\""));
    run(
        &service,
        "rm -f /etc/resolv.conf; echo nameserver 127.0.0.2 >/etc/resolv.conf",
    );
    let first = name_server(2);
    // No connection to it is kept, so that each request needs a name server.
    let origin = Origin::start(|_| {
        Answer::Reply(Reply::new(200, Body::Sized(b"here".to_vec())).header("Connection", "close"))
    });
    let of_tunnel = service.origin();
    service.start();
    let mut tunnel = service.tunnel("allowed.test", &of_tunnel);
    let worker = service.wait_for_worker(None);
    let traffic = Traffic::start(&service, &origin);

    // First it is silent, then its port is closed.
    let url = origin.url("allowed.test", "/");
    first.fall_silent();
    fails(&service, &url);
    drop(first);
    fails(&service, &url);
    use_tunnel(&mut tunnel);

    let second = name_server(3);
    run(
        &service,
        "echo nameserver 127.0.0.3 >/etc/new && mv /etc/new /etc/resolv.conf",
    );
    service.wait_for_message("name servers 127.0.0.2:53 -> 127.0.0.3:53");
    let gone = Instant::now();
    traffic.recovers(&service, gone);

    // It dies too, and the same one comes back.
    drop(second);
    fails(&service, &url);
    let second = name_server(3);
    traffic.recovers(&service, Instant::now());
    use_tunnel(&mut tunnel);
    traffic.finish(&service);
    assert_eq!(second.queries("blocked.test"), 0, "P4");
    assert_eq!(service.worker(), Some(worker));
}

#[test]
fn l9_requests_recover_when_the_network_comes_back() {
    let service = Service::new();
    let _undo = Undo(&service, "ip link set lo up");
    let origin = service.origin();
    service.start();
    let mut tunnel = service.tunnel("allowed.test", &origin);
    let (monitor, worker) = (service.monitor(), service.wait_for_worker(None));
    let traffic = Traffic::start(&service, &origin);
    for _ in 0..3 {
        run(&service, "ip link set lo down");
        // Unix sockets need no network.
        service.proxyctl("root", &["status"]).succeeded();
        service.proxyctl("root", &["reload"]).succeeded();
        run(&service, "ip link set lo up");
        traffic.recovers(&service, Instant::now());
        traffic.continues();
    }
    use_tunnel(&mut tunnel);
    traffic.finish(&service);
    assert_eq!(
        (service.monitor(), service.worker()),
        (monitor, Some(worker))
    );
}
