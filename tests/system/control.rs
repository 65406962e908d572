//! `proxyctl` and its socket as the units set them up: users and groups decide who may call (SPEC
//! L4, K1 to K3).

use e2e::daemon::Config;

use crate::service::{CONTROL, SERVICE, SOCKETS, Service};

/// Users of the machine: one in the group that may use the socket, one outside of it.
fn with_users() -> Service {
    let service = Service::new();
    let make = "id member 2>/dev/null || useradd --groups codex-network-proxy member; \
                id stranger 2>/dev/null || useradd stranger";
    service.machine().run(["sh", "-c", make]).succeeded();
    service
}

#[test]
fn l4_the_control_socket_has_its_mode_and_group_from_the_start() {
    let service = Service::new();
    // Without the service: the service manager has made the socket.
    service.systemctl(&["start", SOCKETS[3]]).succeeded();
    let run = service
        .machine()
        .run(["stat", "--format=%F %a %U %G", CONTROL]);
    assert_eq!(run.stdout.trim(), "socket 660 root codex-network-proxy");
    // The first caller starts the service.
    service
        .proxyctl("root", &["status"])
        .succeeded()
        .says("full");
    assert_eq!(service.show("ActiveState"), "active");
}

#[test]
fn k3_a_stranger_is_refused_and_a_member_of_the_group_is_not() {
    let service = with_users();
    let members = "[\"@codex-network-proxy\"]";
    service.configure(&Config::example().set("daemon.control", "administrators", members));
    service.start();
    assert_eq!(
        service.proxyctl("stranger", &["status"]).failed().code,
        Some(4)
    );
    service.proxyctl("member", &["status"]).succeeded();
    service.proxyctl("member", &["mode", "limited"]).succeeded();
    // The worker's own user may not change anything, but root may.
    service.proxyctl("root", &["mode", "full"]).succeeded();
}

#[test]
fn k3_a_group_member_that_is_not_configured_is_refused() {
    let service = with_users();
    service.start();
    assert_eq!(
        service.proxyctl("member", &["status"]).failed().code,
        Some(4)
    );
}

#[test]
fn k1_a_change_of_mode_applies_to_the_running_proxy() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
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
        service
            .machine()
            .run(options.into_iter().chain(proxy))
            .stdout
    };
    assert_eq!(post(), "200");
    service.proxyctl("root", &["mode", "limited"]).succeeded();
    assert_eq!(post(), "403");
    service.wait_for("StatusText", |status| status.starts_with("limited mode"));
}

#[test]
fn k1_no_running_proxy_has_its_own_exit_code() {
    let service = Service::new();
    let run = service.proxyctl("root", &["status"]);
    assert_eq!(run.failed().code, Some(3), "{run:#?}");
    run.says("systemctl");
}

#[test]
fn k1_status_shows_the_confinement_of_each_role() {
    let service = Service::new();
    service.start();
    let run = service.proxyctl("root", &["status", "--json"]);
    let status: serde_json::Value =
        serde_json::from_str(&run.succeeded().stdout).expect("it is JSON");
    let text = status.to_string();
    for pid in [Some(service.monitor()), service.worker()] {
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
fn l4_the_service_works_without_the_control_units_group() {
    let service = Service::new();
    let members = "[\"@codex-network-proxy\"]";
    service.configure(&Config::example().set("daemon.control", "administrators", members));
    service.mask(&[SOCKETS[3]]);
    // The proxy makes the socket itself, but may not change its owner (CAP_CHOWN).
    service.start();
    service.proxyctl("root", &["status"]).succeeded();
    service.systemctl(&["restart", SERVICE]).succeeded();
    service.proxyctl("root", &["status"]).succeeded();
}

#[test]
fn l9_the_control_socket_is_the_same_after_a_restart() {
    let service = Service::new();
    service.start();
    let inode = || {
        service
            .machine()
            .run(["stat", "--format=%i", CONTROL])
            .stdout
    };
    let before = inode();
    service.systemctl(&["restart", SERVICE]).succeeded();
    service.systemctl(&["stop", SERVICE]).succeeded();
    assert_eq!(inode(), before);
    service.proxyctl("root", &["reload"]).succeeded();
}
