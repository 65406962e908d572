//! Restarts with open connections: the next worker serves at once, and the previous one finishes the
//! connections it has (SPEC L15).

use std::time::Instant;

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::origin::Origin;
use e2e::wait::{TIMEOUT, poll};

use crate::load::{Load, failures, longest_wait};
use crate::service::{CONTROL, HTTP, NO_STALL, SERVICE, SOCKETS, Service, use_tunnel};

/// Starts the service, opens a tunnel, and restarts the service. Returns the origin, the tunnel, and the
/// worker that has it.
fn restart_beside_a_tunnel(service: &Service) -> (Origin, Connection, u32) {
    let origin = service.origin();
    service.start();
    let tunnel = service.tunnel("allowed.test", &origin);
    let worker = service.wait_for_worker(None);
    service.systemctl(&["restart", SERVICE]).succeeded();
    (origin, tunnel, worker)
}

/// Waits until a process has ended.
#[track_caller]
fn wait_for_end(service: &Service, pid: u32) {
    poll(TIMEOUT, || (!service.is_alive(pid)).then_some(()))
        .unwrap_or_else(|| panic!("process {pid} lives on\n{}", service.log()));
}

#[test]
fn l15_a_restart_with_an_open_tunnel_delays_no_client() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    let mut tunnel = service.tunnel("allowed.test", &origin);
    use_tunnel(&mut tunnel);
    let (monitor, worker) = (service.monitor(), service.wait_for_worker(None));
    let load = Load::start(4, HTTP, &origin.url("allowed.test", "/"));
    load.wait_for(50);
    service.systemctl(&["restart", SERVICE]).succeeded();
    load.wait_for(50);
    let attempts = load.finish();
    assert!(failures(&attempts).is_empty(), "{:#?}", failures(&attempts));
    let longest = longest_wait(&attempts);
    assert!(longest < NO_STALL, "{longest:?}");
    assert_ne!(service.monitor(), monitor);
    assert!(service.is_alive(worker), "{}", service.log());
    assert_ne!(service.wait_for_worker(None), worker);

    // It ends with its last connection, and no process is left.
    use_tunnel(&mut tunnel);
    drop(tunnel);
    wait_for_end(&service, worker);
    service.wait_for_message("the worker of the previous start has ended");
    assert_eq!(service.show("NFileDescriptorStore"), "0");
    service.proxyctl("root", &["status"]).succeeded();
}

#[test]
fn p11_a_restart_ends_the_tunnels_that_the_new_policy_forbids() {
    let service = Service::new();
    let origin = service.origin();
    let both = Config::example()
        .allow("other.test")
        .host("other.test", [127, 0, 0, 1]);
    service.configure(&both);
    service.start();
    let mut kept = service.tunnel("allowed.test", &origin);
    let mut ended = service.tunnel("other.test", &origin);
    use_tunnel(&mut kept);
    use_tunnel(&mut ended);
    let worker = service.wait_for_worker(None);
    service.configure(&Config::example());
    service.systemctl(&["restart", SERVICE]).succeeded();
    let restarted = Instant::now();
    ended.expect_closed();
    assert!(restarted.elapsed() < NO_STALL);
    use_tunnel(&mut kept);

    // So does a reload after the restart.
    service.configure(&Config::example().deny("allowed.test"));
    service.systemctl(&["reload", SERVICE]).succeeded();
    let reloaded = Instant::now();
    kept.expect_closed();
    assert!(reloaded.elapsed() < NO_STALL);
    wait_for_end(&service, worker);
}

#[test]
fn l15_a_stop_waits_for_open_connections_and_a_restart_before_it_changes_nothing() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    let mut first = service.tunnel("allowed.test", &origin);
    service.systemctl(&["restart", SERVICE]).succeeded();
    let mut second = service.tunnel("allowed.test", &origin);
    let worker = service.wait_for_worker(None);
    let stop = [
        "stop",
        "--no-block",
        SOCKETS[0],
        SOCKETS[1],
        SOCKETS[2],
        SOCKETS[3],
        SERVICE,
    ];
    service.systemctl(&stop).succeeded();
    service.wait_for("ActiveState", |state| state == "deactivating");
    use_tunnel(&mut first);
    use_tunnel(&mut second);
    drop(second);
    wait_for_end(&service, worker);
    assert_eq!(
        service.show("ActiveState"),
        "deactivating",
        "{}",
        service.log()
    );
    use_tunnel(&mut first);
    drop(first);
    service.wait_for("ActiveState", |state| state == "inactive");
}

#[test]
fn l15_at_most_one_worker_drains_beside_the_serving_one() {
    let service = Service::new();
    let (origin, mut first, oldest) = restart_beside_a_tunnel(&service);
    let mut second = service.tunnel("allowed.test", &origin);
    let older = service.wait_for_worker(None);
    service.systemctl(&["restart", SERVICE]).succeeded();
    wait_for_end(&service, oldest);
    first.expect_closed();
    assert!(service.is_alive(older), "{}", service.log());
    use_tunnel(&mut second);
}

#[test]
fn l15_a_worker_that_does_not_finish_in_time_is_ended() {
    let service = Service::new();
    let origin = service.origin();
    service.configure(&Config::example().set("daemon.limits", "drain_timeout", "\"1s\""));
    service.start();
    let mut tunnel = service.tunnel("allowed.test", &origin);
    let worker = service.wait_for_worker(None);
    service.systemctl(&["restart", SERVICE]).succeeded();
    tunnel.expect_closed();
    wait_for_end(&service, worker);
    // A stuck one is ended too.
    let mut tunnel = service.tunnel("allowed.test", &origin);
    let worker = service.wait_for_worker(None);
    service.systemctl(&["restart", SERVICE]).succeeded();
    service.kill("STOP", worker);
    service.wait_for_message("did not end in time and is killed");
    wait_for_end(&service, worker);
    tunnel.expect_closed();
}

#[test]
fn l15_a_draining_worker_does_not_outlive_a_killed_monitor() {
    let service = Service::new();
    let (_origin, mut tunnel, worker) = restart_beside_a_tunnel(&service);
    assert!(service.is_alive(worker), "{}", service.log());
    use_tunnel(&mut tunnel);
    service.kill("KILL", service.monitor());
    wait_for_end(&service, worker);
    tunnel.expect_closed();
    service.wait_for("ActiveState", |state| state == "active");
}

/// A compromised worker does not end with its channel. Here a stuck worker stands for it.
#[test]
fn l15_a_stuck_draining_worker_does_not_outlive_a_killed_monitor() {
    let service = Service::new();
    let (_origin, mut tunnel, worker) = restart_beside_a_tunnel(&service);
    service.kill("STOP", worker);
    service.kill("KILL", service.monitor());
    wait_for_end(&service, worker);
    tunnel.expect_closed();
    service.wait_for("ActiveState", |state| state == "active");
    assert_eq!(service.show("NFileDescriptorStore"), "0");
}

#[test]
fn l15_the_control_socket_belongs_to_the_serving_worker() {
    let service = Service::new();
    let _held = restart_beside_a_tunnel(&service);
    let worker = service.wait_for_worker(None);
    for _ in 0..20 {
        let run = service.proxyctl("root", &["--socket", CONTROL, "status", "--json"]);
        let status: serde_json::Value =
            serde_json::from_str(&run.succeeded().stdout).expect("JSON");
        assert_eq!(status["roles"][1]["pid"], worker, "{status:#}");
    }
}
