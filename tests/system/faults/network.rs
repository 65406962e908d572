//! The network goes down and comes back; name servers die, are replaced and come back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use e2e::daemon::Config;
use e2e::origin::{Answer, Body, Origin, Reply};
use e2e::resolver::StubResolver;
use e2e::wait::{TIMEOUT, poll};

use super::{Traffic, Undo, run};
use crate::scene::{Scene, use_tunnel};

/// A name server in the machine's network. Its answers are not kept.
fn name_server(last: u8) -> StubResolver {
    let dns = StubResolver::start_on(SocketAddr::from(([127, 0, 0, last], 53)));
    for name in ["allowed.test", "blocked.test"] {
        dns.answer_with_ttl(name, [IpAddr::from(Ipv4Addr::LOCALHOST)], 0);
    }
    dns
}

/// Waits until requests fail.
#[track_caller]
fn fails(scene: &Scene, url: &str) {
    poll(TIMEOUT, || {
        [502, 504].contains(&scene.get(url).0).then_some(())
    })
    .unwrap_or_else(|| panic!("{:?}", scene.get(url)));
}

#[test]
fn l14_a_name_server_dies_is_replaced_and_comes_back() {
    let scene = Scene::new();
    let _undo = Undo(&scene, "rm -f /etc/resolv.conf");
    let config = Config::new().allow("allowed.test").system_names();
    scene.configure(&config.set("daemon.resolver", "timeout", "\"500ms\""));
    run(
        &scene,
        "rm -f /etc/resolv.conf; echo nameserver 127.0.0.2 >/etc/resolv.conf",
    );
    let first = name_server(2);
    // No connection to it is kept, so that each request needs a name server.
    let origin = Origin::start(|_| {
        Answer::Reply(Reply::new(200, Body::Sized(b"here".to_vec())).header("Connection", "close"))
    });
    let of_tunnel = scene.origin();
    scene.start();
    let mut tunnel = scene.tunnel("allowed.test", &of_tunnel);
    let worker = scene.wait_for_worker(None);
    let traffic = Traffic::start(&scene, &origin);

    // It is silent, and then its port is closed.
    let url = origin.url("allowed.test", "/");
    first.fall_silent();
    fails(&scene, &url);
    drop(first);
    fails(&scene, &url);
    use_tunnel(&mut tunnel);

    let second = name_server(3);
    run(
        &scene,
        "echo nameserver 127.0.0.3 >/etc/new && mv /etc/new /etc/resolv.conf",
    );
    scene.wait_for_message("name servers 127.0.0.2:53 -> 127.0.0.3:53");
    let gone = Instant::now();
    traffic.recovers(&scene, gone);

    // It dies too, and the same one comes back.
    drop(second);
    fails(&scene, &url);
    let second = name_server(3);
    traffic.recovers(&scene, Instant::now());
    use_tunnel(&mut tunnel);
    traffic.finish(&scene);
    assert_eq!(second.queries("blocked.test"), 0, "P4");
    assert_eq!(scene.worker(), Some(worker));
}

#[test]
fn l9_the_network_goes_down_and_comes_back() {
    let scene = Scene::new();
    let _undo = Undo(&scene, "ip link set lo up");
    let origin = scene.origin();
    scene.start();
    let mut tunnel = scene.tunnel("allowed.test", &origin);
    let (monitor, worker) = (scene.monitor(), scene.wait_for_worker(None));
    let traffic = Traffic::start(&scene, &origin);
    for _ in 0..3 {
        run(&scene, "ip link set lo down");
        // Unix sockets do without a network.
        scene.proxyctl("root", &["status"]).succeeded();
        scene.proxyctl("root", &["reload"]).succeeded();
        run(&scene, "ip link set lo up");
        traffic.recovers(&scene, Instant::now());
        traffic.continues();
    }
    use_tunnel(&mut tunnel);
    traffic.finish(&scene);
    assert_eq!((scene.monitor(), scene.worker()), (monitor, Some(worker)));
}
