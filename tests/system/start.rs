//! Starting: sockets, users, status, and the reasons for a failed start.

use e2e::daemon::Config;
use e2e::program::Program;

use crate::load::{Load, failures};
use crate::service::{ADMIN, CONTROL, HTTP, SERVICE, SOCKETS, SOCKS5, Service};

#[test]
fn l9_systemd_owns_the_sockets_and_the_service_serves_them() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    assert_eq!(service.show("ActiveState"), "active");
    for socket in SOCKETS {
        service.systemctl(&["is-active", socket]).succeeded();
    }
    // The service manager has them too, so they outlive every process of the service.
    let held = service.machine().run(["ss", "-H", "-tlnp"]);
    let control = service.machine().run(["ss", "-H", "-xlp"]);
    let control = control.stdout.lines().find(|line| line.contains(CONTROL));
    assert!(
        control.is_some_and(|line| line.contains("(\"systemd\",pid=1,")),
        "{control:?}"
    );
    for address in [HTTP, SOCKS5, ADMIN] {
        let line = held.stdout.lines().find(|line| line.contains(address));
        let line = line.unwrap_or_else(|| panic!("no process listens on {address}: {held:#?}"));
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
        service.machine().run(command)
    };
    let http = ["-x", "http://127.0.0.1:3128"];
    assert_eq!(curl(&http, "allowed.test").stdout, "200");
    assert_eq!(curl(&http, "blocked.test").stdout, "403");
    let socks = ["-x", "socks5h://127.0.0.1:8081"];
    assert_eq!(curl(&socks, "allowed.test").stdout, "200");
    assert_eq!(curl(&socks, "blocked.test").failed().code, Some(97));
    let admin = service
        .machine()
        .run(["curl", "-s", "http://127.0.0.1:8080/health"]);
    assert!(admin.stdout.starts_with("ok"), "{admin:#?}");
}

#[test]
fn l9_a_client_starts_the_service() {
    let service = Service::new();
    let origin = service.origin();
    service.systemctl(&["start", SOCKETS[0]]).succeeded();
    assert_eq!(service.show("ActiveState"), "inactive");
    let (status, body) = service.get(&origin.url("allowed.test", "/"));
    assert_eq!((status, body.as_str()), (200, "here"));
    assert_eq!(service.show("ActiveState"), "active");
}

#[test]
fn l7_without_a_configuration_everything_is_refused() {
    let service = Service::new();
    let config = "/etc/codex-network-proxy/config.toml";
    std::fs::remove_file(service.machine().path(config)).expect("it is there");
    service.start();
    let (status, body) = service.get("http://example.com/");
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("allowed_domains"), "{body}");
}

#[test]
fn l9_the_status_line_shows_mode_rules_and_connections() {
    let service = Service::new();
    service.configure(&Config::example().allow("*.other.test"));
    // A short interval, to see a change soon.
    service.edit(SERVICE, "[Service]\nWatchdogSec=3\n");
    let origin = service.origin();
    service.start();
    service.wait_for("StatusText", |status| {
        status == "full mode, 2 allow and 1 deny rules, 0 connections"
    });
    let _tunnel = service.tunnel("allowed.test", &origin);
    service.wait_for("StatusText", |status| status.ends_with(" 1 connections"));
    let shown = service.systemctl(&["status", "--no-pager", SERVICE]);
    shown.succeeded().says("Status: \"full mode, 2 allow");
}

#[test]
fn l6_a_disabled_proxy_stays_active_and_binds_nothing() {
    let service = Service::new();
    service.mask(&SOCKETS);
    service.configure(&Config::example().set("network", "enabled", "false"));
    service.start();
    service.wait_for_message("the proxy is disabled");
    assert_eq!(service.show("ActiveState"), "active");
    let listening = service.machine().run(["ss", "-H", "-tln"]);
    assert_eq!(listening.succeeded().stdout.trim(), "");

    // A reload can switch the proxy on.
    service.configure(&Config::example());
    let monitor = service.monitor();
    service.kill("HUP", monitor);
    service.wait_for_message("reloaded");
    assert_eq!(service.get("http://blocked.test/").0, 403);
    assert_eq!(service.monitor(), monitor);
}

#[test]
fn c5_a_missing_user_is_one_clear_error() {
    let service = Service::new();
    service.configure(&Config::example().set("daemon", "user", "\"nobody-has-this\""));
    service.start();
    let output = service
        .wait_for_message("there is no user \"nobody-has-this\"")
        .message();
    assert!(output.contains("set [daemon] user"), "{output}");
}

#[test]
fn c5_the_worker_runs_as_the_configured_user() {
    let service = Service::new();
    let config = Config::example()
        .set("daemon", "user", "\"daemon\"")
        .set("daemon", "group", "\"mail\"");
    service.configure(&config);
    service.start();
    let worker = service.wait_for_worker(None);
    assert_eq!(service.status(worker, "Uid"), "1\t1\t1\t1");
    assert_eq!(service.status(worker, "Gid"), "8\t8\t8\t8");
}

#[test]
fn l5_a_broken_configuration_is_logged_with_file_and_line() {
    let service = Service::new();
    service.configure_text("[network]\nallowed_domains = [\"https://x\"]\n");
    service.start();
    service.wait_for_message("/etc/codex-network-proxy/config.toml:2:");
}

#[test]
fn l5_stopping_finishes_open_requests() {
    let service = Service::new();
    service.start();
    let origin = service.origin();
    let mut tunnel = service.tunnel("allowed.test", &origin);
    service
        .systemctl(&["stop", "--no-block", SERVICE])
        .succeeded();
    service.wait_for_message("waiting for open connections");
    // Despite the signals, the worker exists and the tunnel works.
    assert_eq!(service.show("ActiveState"), "deactivating");
    let answer = tunnel.exchange("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(answer.text(), "here");
    drop(tunnel);
    service.wait_for("ActiveState", |state| state == "inactive");
    assert_eq!(service.show("Result"), "success");
}

#[test]
fn l9_enabled_by_the_preset_it_starts_at_boot() {
    let service = Service::new();
    service.systemctl(&["preset", SERVICE]);
    for unit in SOCKETS.into_iter().chain([SERVICE]) {
        let run = service.systemctl(&["is-enabled", unit]);
        assert_eq!(run.stdout.trim(), "enabled", "{unit}: {run:#?}");
    }
}

#[test]
fn l9_requests_during_the_start_are_served() {
    let service = Service::new();
    let origin = service.origin();
    let sockets: Vec<&str> = ["start"].into_iter().chain(SOCKETS).collect();
    service.systemctl(&sockets).succeeded();
    let load = Load::start(8, HTTP, &origin.url("allowed.test", "/"));
    load.wait_for(50);
    let attempts = load.finish();
    assert!(failures(&attempts).is_empty(), "{:#?}", failures(&attempts));
}

/// Apart from the installation by `.ci/system`, the tests need nothing of this machine.
#[test]
fn l9_the_tools_for_these_tests_are_installed() {
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
fn r1_the_service_records_the_uptime_of_the_machine() {
    let service = Service::new();
    service.start();
    let file = service
        .machine()
        .path("/var/lib/codex-network-proxy/sequence");
    let text = std::fs::read_to_string(file).expect("each load writes it");
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    assert!(matches!(numbers[..], [_, uptime] if uptime > 0), "{text}");
}
