//! `proxyctl` and its socket as the units set them up: users and groups decide who may call (SPEC
//! L4, K1 to K3).

use e2e::daemon::Config;

use crate::scene::{CONTROL, SERVICE, SOCKETS, Scene};

/// Users of the machine: one in the group that may use the socket, one outside of it.
fn with_users() -> Scene {
    let scene = Scene::new();
    let make = "id member 2>/dev/null || useradd --groups codex-network-proxy member; \
                id stranger 2>/dev/null || useradd stranger";
    scene.machine().run(["sh", "-c", make]).succeeded();
    scene
}

#[test]
fn l4_the_control_socket_has_its_mode_and_group_before_anybody_can_connect() {
    let scene = Scene::new();
    // Without the service: the service manager has made the socket.
    scene.systemctl(&["start", SOCKETS[3]]).succeeded();
    let run = scene
        .machine()
        .run(["stat", "--format=%F %a %U %G", CONTROL]);
    assert_eq!(run.stdout.trim(), "socket 660 root codex-network-proxy");
    // The first caller starts the service.
    scene.proxyctl("root", &["status"]).succeeded().says("full");
    assert_eq!(scene.show("ActiveState"), "active");
}

#[test]
fn k3_a_stranger_is_refused_and_a_member_of_the_group_is_not() {
    let scene = with_users();
    let members = "[\"@codex-network-proxy\"]";
    scene.configure(&Config::example().set("daemon.control", "administrators", members));
    scene.start();
    assert_eq!(
        scene.proxyctl("stranger", &["status"]).failed().code,
        Some(4)
    );
    scene.proxyctl("member", &["status"]).succeeded();
    scene.proxyctl("member", &["mode", "limited"]).succeeded();
    // The worker's own user may not change anything, but root may.
    scene.proxyctl("root", &["mode", "full"]).succeeded();
}

#[test]
fn k3_a_member_of_the_group_whom_the_configuration_does_not_admit_is_refused() {
    let scene = with_users();
    scene.start();
    assert_eq!(scene.proxyctl("member", &["status"]).failed().code, Some(4));
}

#[test]
fn k1_the_mode_changes_what_the_running_proxy_does() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    let post = || {
        let url = origin.url("allowed.test", "/");
        let options = [
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-d",
            "x",
        ];
        let proxy = ["-x", "http://127.0.0.1:3128", url.as_str()];
        scene.machine().run(options.into_iter().chain(proxy)).stdout
    };
    assert_eq!(post(), "200");
    scene.proxyctl("root", &["mode", "limited"]).succeeded();
    assert_eq!(post(), "403");
    scene.wait_for("StatusText", |status| status.starts_with("limited mode"));
}

#[test]
fn k1_nobody_to_talk_to_is_an_exit_code_of_its_own() {
    let scene = Scene::new();
    let run = scene.proxyctl("root", &["status"]);
    assert_eq!(run.failed().code, Some(3), "{run:#?}");
    run.says("systemctl");
}

#[test]
fn k1_status_tells_what_the_kernel_holds_against_each_role() {
    let scene = Scene::new();
    scene.start();
    let run = scene.proxyctl("root", &["status", "--json"]);
    let status: serde_json::Value =
        serde_json::from_str(&run.succeeded().stdout).expect("it is JSON");
    let text = status.to_string();
    for pid in [Some(scene.monitor()), scene.worker()] {
        let pid = pid.expect("both are there").to_string();
        assert!(text.contains(&pid), "{pid} in {status:#}");
    }
    // `ProtectProc=invisible` hides the monitor from the worker's user.
    for role in status["roles"].as_array().expect("a list") {
        assert!(role["capabilities"].is_string(), "{role}");
    }
    for listener in status["listeners"].as_array().expect("a list") {
        assert_eq!(listener["origin"], "service manager", "{listener}");
    }
}

#[test]
fn l4_the_service_manages_without_the_control_units_group() {
    let scene = Scene::new();
    let members = "[\"@codex-network-proxy\"]";
    scene.configure(&Config::example().set("daemon.control", "administrators", members));
    scene.mask(&[SOCKETS[3]]);
    // The proxy makes the socket itself, but may not change its owner (CAP_CHOWN).
    scene.start();
    scene.proxyctl("root", &["status"]).succeeded();
    scene.systemctl(&["restart", SERVICE]).succeeded();
    scene.proxyctl("root", &["status"]).succeeded();
}

#[test]
fn l9_the_control_socket_is_the_same_after_a_restart() {
    let scene = Scene::new();
    scene.start();
    let inode = || scene.machine().run(["stat", "--format=%i", CONTROL]).stdout;
    let before = inode();
    scene.systemctl(&["restart", SERVICE]).succeeded();
    scene.systemctl(&["stop", SERVICE]).succeeded();
    assert_eq!(inode(), before);
    scene.proxyctl("root", &["reload"]).succeeded();
}
