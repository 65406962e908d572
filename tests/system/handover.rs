//! Restarts beside open connections: the next worker serves at once, and the last one finishes what
//! it has (SPEC L15).

use std::time::Instant;

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::origin::Origin;
use e2e::wait::{TIMEOUT, poll};

use crate::load::{Load, failures, longest_wait};
use crate::scene::{CONTROL, HTTP, NO_STALL, SERVICE, SOCKETS, Scene, use_tunnel};

/// Starts the service, opens a tunnel, and restarts the service. Returns the origin, the tunnel, and the
/// worker that has it.
fn restart_beside_a_tunnel(scene: &Scene) -> (Origin, Connection, u32) {
    let origin = scene.origin();
    scene.start();
    let tunnel = scene.tunnel("allowed.test", &origin);
    let worker = scene.wait_for_worker(None);
    scene.systemctl(&["restart", SERVICE]).succeeded();
    (origin, tunnel, worker)
}

/// Waits until a process has ended.
#[track_caller]
fn wait_for_end(scene: &Scene, pid: u32) {
    poll(TIMEOUT, || (!scene.is_alive(pid)).then_some(()))
        .unwrap_or_else(|| panic!("process {pid} lives on\n{}", scene.log()));
}

#[test]
fn l15_a_restart_beside_a_held_tunnel_makes_no_client_wait() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    let mut tunnel = scene.tunnel("allowed.test", &origin);
    use_tunnel(&mut tunnel);
    let (monitor, worker) = (scene.monitor(), scene.wait_for_worker(None));
    let load = Load::start(4, HTTP, &origin.url("allowed.test", "/"));
    load.wait_for(50);
    scene.systemctl(&["restart", SERVICE]).succeeded();
    load.wait_for(50);
    let attempts = load.finish();
    assert!(failures(&attempts).is_empty(), "{:#?}", failures(&attempts));
    let longest = longest_wait(&attempts);
    assert!(longest < NO_STALL, "{longest:?}");
    assert_ne!(scene.monitor(), monitor);
    assert!(scene.is_alive(worker), "{}", scene.log());
    assert_ne!(scene.wait_for_worker(None), worker);

    // It ends with its last connection, and nothing stays behind.
    use_tunnel(&mut tunnel);
    drop(tunnel);
    wait_for_end(&scene, worker);
    scene.wait_for_message("the worker of the previous start has ended");
    assert_eq!(scene.show("NFileDescriptorStore"), "0");
    scene.proxyctl("root", &["status"]).succeeded();
}

#[test]
fn p11_a_restart_ends_the_tunnels_that_the_new_policy_forbids() {
    let scene = Scene::new();
    let origin = scene.origin();
    let both = Config::example()
        .allow("other.test")
        .host("other.test", [127, 0, 0, 1]);
    scene.configure(&both);
    scene.start();
    let mut kept = scene.tunnel("allowed.test", &origin);
    let mut ended = scene.tunnel("other.test", &origin);
    use_tunnel(&mut kept);
    use_tunnel(&mut ended);
    let worker = scene.wait_for_worker(None);
    scene.configure(&Config::example());
    scene.systemctl(&["restart", SERVICE]).succeeded();
    let restarted = Instant::now();
    ended.expect_closed();
    assert!(restarted.elapsed() < NO_STALL);
    use_tunnel(&mut kept);

    // So does a reload after the restart.
    scene.configure(&Config::example().deny("allowed.test"));
    scene.systemctl(&["reload", SERVICE]).succeeded();
    let reloaded = Instant::now();
    kept.expect_closed();
    assert!(reloaded.elapsed() < NO_STALL);
    wait_for_end(&scene, worker);
}

#[test]
fn l15_a_stop_waits_for_open_connections_and_a_restart_before_it_changes_nothing() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    let mut first = scene.tunnel("allowed.test", &origin);
    scene.systemctl(&["restart", SERVICE]).succeeded();
    let mut second = scene.tunnel("allowed.test", &origin);
    let worker = scene.wait_for_worker(None);
    let stop = [
        "stop",
        "--no-block",
        SOCKETS[0],
        SOCKETS[1],
        SOCKETS[2],
        SOCKETS[3],
        SERVICE,
    ];
    scene.systemctl(&stop).succeeded();
    scene.wait_for("ActiveState", |state| state == "deactivating");
    use_tunnel(&mut first);
    use_tunnel(&mut second);
    drop(second);
    wait_for_end(&scene, worker);
    assert_eq!(scene.show("ActiveState"), "deactivating", "{}", scene.log());
    use_tunnel(&mut first);
    drop(first);
    scene.wait_for("ActiveState", |state| state == "inactive");
}

#[test]
fn l15_at_most_one_worker_drains_beside_the_one_that_serves() {
    let scene = Scene::new();
    let (origin, mut first, oldest) = restart_beside_a_tunnel(&scene);
    let mut second = scene.tunnel("allowed.test", &origin);
    let older = scene.wait_for_worker(None);
    scene.systemctl(&["restart", SERVICE]).succeeded();
    wait_for_end(&scene, oldest);
    first.expect_closed();
    assert!(scene.is_alive(older), "{}", scene.log());
    use_tunnel(&mut second);
}

#[test]
fn l15_a_worker_that_does_not_finish_in_time_is_ended() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.configure(&Config::example().set("daemon.limits", "drain_timeout", "\"1s\""));
    scene.start();
    let mut tunnel = scene.tunnel("allowed.test", &origin);
    let worker = scene.wait_for_worker(None);
    scene.systemctl(&["restart", SERVICE]).succeeded();
    tunnel.expect_closed();
    wait_for_end(&scene, worker);
    // One that is stuck too.
    let mut tunnel = scene.tunnel("allowed.test", &origin);
    let worker = scene.wait_for_worker(None);
    scene.systemctl(&["restart", SERVICE]).succeeded();
    scene.kill("STOP", worker);
    scene.wait_for_message("did not end in time and is killed");
    wait_for_end(&scene, worker);
    tunnel.expect_closed();
}

#[test]
fn l15_a_draining_worker_does_not_outlive_a_killed_monitor() {
    let scene = Scene::new();
    let (_origin, mut tunnel, worker) = restart_beside_a_tunnel(&scene);
    assert!(scene.is_alive(worker), "{}", scene.log());
    use_tunnel(&mut tunnel);
    scene.kill("KILL", scene.monitor());
    wait_for_end(&scene, worker);
    tunnel.expect_closed();
    scene.wait_for("ActiveState", |state| state == "active");
}

/// A worker that has been taken over does not end with its channel. One that is stuck stands for it.
#[test]
fn l15_a_stuck_draining_worker_does_not_outlive_a_killed_monitor() {
    let scene = Scene::new();
    let (_origin, mut tunnel, worker) = restart_beside_a_tunnel(&scene);
    scene.kill("STOP", worker);
    scene.kill("KILL", scene.monitor());
    wait_for_end(&scene, worker);
    tunnel.expect_closed();
    scene.wait_for("ActiveState", |state| state == "active");
    assert_eq!(scene.show("NFileDescriptorStore"), "0");
}

#[test]
fn l15_the_control_socket_is_served_by_the_worker_that_serves() {
    let scene = Scene::new();
    let _held = restart_beside_a_tunnel(&scene);
    let worker = scene.wait_for_worker(None);
    for _ in 0..20 {
        let run = scene.proxyctl("root", &["--socket", CONTROL, "status", "--json"]);
        let status: serde_json::Value =
            serde_json::from_str(&run.succeeded().stdout).expect("JSON");
        assert_eq!(status["roles"][1]["pid"], worker, "{status:#}");
    }
}
