//! Starting: sockets, users, status, and the reasons for a failed start.

use e2e::daemon::Config;
use e2e::program::Program;

use crate::load::{Load, failures};
use crate::scene::{ADMIN, CONTROL, HTTP, SERVICE, SOCKETS, SOCKS5, Scene};

#[test]
fn l9_systemd_holds_the_sockets_and_the_service_serves_them() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    assert_eq!(scene.show("ActiveState"), "active");
    for socket in SOCKETS {
        scene.systemctl(&["is-active", socket]).succeeded();
    }
    // The service manager has them too, so they outlive every process of the service.
    let held = scene.machine().run(["ss", "-H", "-tlnp"]);
    let control = scene.machine().run(["ss", "-H", "-xlp"]);
    let control = control.stdout.lines().find(|line| line.contains(CONTROL));
    assert!(
        control.is_some_and(|line| line.contains("(\"systemd\",pid=1,")),
        "{control:?}"
    );
    for address in [HTTP, SOCKS5, ADMIN] {
        let line = held.stdout.lines().find(|line| line.contains(address));
        let line = line.unwrap_or_else(|| panic!("nobody listens on {address}: {held:#?}"));
        assert!(line.contains("(\"systemd\",pid=1,"), "{line}");
    }

    let port = origin.addr().port();
    let curl = |arguments: &[&str], host: &str| {
        let url = format!("http://{host}:{port}/");
        let options = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"];
        let command = options
            .iter()
            .chain(arguments)
            .copied()
            .chain([url.as_str()]);
        scene.machine().run(command)
    };
    let http = ["-x", "http://127.0.0.1:3128"];
    assert_eq!(curl(&http, "allowed.test").stdout, "200");
    assert_eq!(curl(&http, "blocked.test").stdout, "403");
    let socks = ["-x", "socks5h://127.0.0.1:8081"];
    assert_eq!(curl(&socks, "allowed.test").stdout, "200");
    assert_eq!(curl(&socks, "blocked.test").failed().code, Some(97));
    let admin = scene
        .machine()
        .run(["curl", "-s", "http://127.0.0.1:8080/health"]);
    assert!(admin.stdout.starts_with("ok"), "{admin:#?}");
}

#[test]
fn l9_a_client_starts_the_service() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.systemctl(&["start", SOCKETS[0]]).succeeded();
    assert_eq!(scene.show("ActiveState"), "inactive");
    let (status, body) = scene.get(&origin.url("allowed.test", "/"));
    assert_eq!((status, body.as_str()), (200, "here"));
    assert_eq!(scene.show("ActiveState"), "active");
}

#[test]
fn l7_without_a_configuration_everything_is_refused() {
    let scene = Scene::new();
    let config = "/etc/codex-network-proxy/config.toml";
    std::fs::remove_file(scene.machine().path(config)).expect("it is there");
    scene.start();
    let (status, body) = scene.get("http://example.com/");
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("allowed_domains"), "{body}");
}

#[test]
fn l9_the_status_line_says_mode_rules_and_connections() {
    let scene = Scene::new();
    scene.configure(&Config::example().allow("*.other.test"));
    // Often enough to see a change soon.
    scene.edit(SERVICE, "[Service]\nWatchdogSec=3\n");
    let origin = scene.origin();
    scene.start();
    scene.wait_for("StatusText", |status| {
        status == "full mode, 2 allow and 1 deny rules, 0 connections"
    });
    let _tunnel = scene.tunnel("allowed.test", &origin);
    scene.wait_for("StatusText", |status| status.ends_with(" 1 connections"));
    let shown = scene.systemctl(&["status", "--no-pager", SERVICE]);
    shown.succeeded().says("Status: \"full mode, 2 allow");
}

#[test]
fn l6_a_disabled_proxy_stays_active_and_binds_nothing() {
    let scene = Scene::new();
    scene.mask(&SOCKETS);
    scene.configure(&Config::example().set("network", "enabled", "false"));
    scene.start();
    scene.wait_for_message("the proxy is disabled");
    assert_eq!(scene.show("ActiveState"), "active");
    let listening = scene.machine().run(["ss", "-H", "-tln"]);
    assert_eq!(listening.succeeded().stdout.trim(), "");

    // A reload can switch it on.
    scene.configure(&Config::example());
    let monitor = scene.monitor();
    scene.kill("HUP", monitor);
    scene.wait_for_message("reloaded");
    assert_eq!(scene.get("http://blocked.test/").0, 403);
    assert_eq!(scene.monitor(), monitor);
}

#[test]
fn c5_a_missing_user_is_one_clear_sentence() {
    let scene = Scene::new();
    scene.configure(&Config::example().set("daemon", "user", "\"nobody-has-this\""));
    scene.start();
    let said = scene
        .wait_for_message("there is no user \"nobody-has-this\"")
        .message();
    assert!(said.contains("set [daemon] user"), "{said}");
}

#[test]
fn c5_the_configured_user_is_whom_the_worker_becomes() {
    let scene = Scene::new();
    let config = Config::example()
        .set("daemon", "user", "\"daemon\"")
        .set("daemon", "group", "\"mail\"");
    scene.configure(&config);
    scene.start();
    let worker = scene.wait_for_worker(None);
    assert_eq!(scene.status(worker, "Uid"), "1\t1\t1\t1");
    assert_eq!(scene.status(worker, "Gid"), "8\t8\t8\t8");
}

#[test]
fn l5_a_broken_configuration_is_told_with_file_and_line() {
    let scene = Scene::new();
    scene.configure_text("[network]\nallowed_domains = [\"https://x\"]\n");
    scene.start();
    scene.wait_for_message("/etc/codex-network-proxy/config.toml:2:");
}

#[test]
fn l5_stopping_finishes_what_is_in_hand() {
    let scene = Scene::new();
    scene.start();
    let origin = scene.origin();
    let mut tunnel = scene.tunnel("allowed.test", &origin);
    scene
        .systemctl(&["stop", "--no-block", SERVICE])
        .succeeded();
    scene.wait_for_message("waiting for open connections");
    // Despite the signals, the worker exists and the tunnel works.
    assert_eq!(scene.show("ActiveState"), "deactivating");
    let answer = tunnel.exchange("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(answer.text(), "here");
    drop(tunnel);
    scene.wait_for("ActiveState", |state| state == "inactive");
    assert_eq!(scene.show("Result"), "success");
}

#[test]
fn l9_enabled_by_the_preset_it_starts_at_boot() {
    let scene = Scene::new();
    scene.systemctl(&["preset", SERVICE]);
    for unit in SOCKETS.into_iter().chain([SERVICE]) {
        let run = scene.systemctl(&["is-enabled", unit]);
        assert_eq!(run.stdout.trim(), "enabled", "{unit}: {run:#?}");
    }
}

#[test]
fn l9_nothing_is_lost_while_the_service_starts() {
    let scene = Scene::new();
    let origin = scene.origin();
    let sockets: Vec<&str> = ["start"].into_iter().chain(SOCKETS).collect();
    scene.systemctl(&sockets).succeeded();
    let load = Load::start(8, HTTP, &origin.url("allowed.test", "/"));
    load.wait_for(50);
    let attempts = load.finish();
    assert!(failures(&attempts).is_empty(), "{:#?}", failures(&attempts));
}

/// Apart from the installation by `.ci/system`, the tests need nothing of this machine.
#[test]
fn the_tools_are_there() {
    for tool in [
        "nsenter",
        "systemd-nspawn",
        "systemd-socket-activate",
        "gdb",
    ] {
        Program::new("sh")
            .args([
                "-c",
                &format!("command -v {tool} || {{ echo run .ci/system; exit 1; }}"),
            ])
            .run()
            .succeeded();
    }
}

/// A past bug: the unit hides the file that the time of the boot was read from.
#[test]
fn r1_the_service_writes_down_how_long_the_machine_has_been_up() {
    let scene = Scene::new();
    scene.start();
    let file = scene
        .machine()
        .path("/var/lib/codex-network-proxy/sequence");
    let text = std::fs::read_to_string(file).expect("each load writes it");
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    assert!(matches!(numbers[..], [_, uptime] if uptime > 0), "{text}");
}
