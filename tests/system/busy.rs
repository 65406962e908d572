//! Addresses that another program listens on: the service runs without those listeners, reports
//! that everywhere, and takes the addresses when it can (SPEC L9, C7).

use std::net::TcpListener;

use e2e::daemon::Config;

use crate::service::{HTTP, SERVICE, SOCKETS, Service};

/// The line of `proxyctl status` about the HTTP listener.
const MISSING: &str = "there is no http listener, since something else listens on 127.0.0.1:3128";

/// A service in which this process, in the machine's network, has the HTTP listener's address.
fn taken() -> (Service, TcpListener) {
    let service = Service::new();
    let holder = TcpListener::bind(HTTP).expect("the port is free");
    service.systemctl(&["start", SOCKETS[0]]).failed();
    service.edit(SERVICE, "[Service]\nWatchdogSec=3\n");
    service.start();
    (service, holder)
}

fn status(service: &Service) -> String {
    service
        .proxyctl("root", &["status"])
        .succeeded()
        .stdout
        .clone()
}

#[test]
fn l9_a_port_in_use_disables_only_its_listener() {
    let (service, _holder) = taken();
    let entry = service.wait_for_message("cannot listen on 127.0.0.1:3128 for http");
    assert!(
        entry.message().contains("running without it"),
        "{}",
        entry.message()
    );
    assert_eq!(entry.field("PRIORITY"), Some("3"));
    service.wait_for("StatusText", |text| {
        text.ends_with(", http missing (127.0.0.1:3128 is in use)")
    });
    let reported = status(&service);
    assert!(reported.contains(MISSING), "{reported}");
    assert!(
        reported.contains("set proxy_url to another port"),
        "{reported}"
    );

    // The other listeners are served.
    let curl = service.machine().run([
        "curl",
        "-s",
        "-x",
        "socks5h://127.0.0.1:8081",
        "http://blocked.test/",
    ]);
    assert_eq!(curl.code, Some(97), "{curl:#?}");
    let health = service
        .machine()
        .run(["curl", "-s", "http://127.0.0.1:8080/health"]);
    assert!(health.stdout.starts_with("ok"), "{health:#?}");
}

#[test]
fn c7_a_port_in_use_since_the_start_does_not_fail_a_reload() {
    let (service, holder) = taken();
    service.configure(&Config::example().allow("*.other.test"));
    service.systemctl(&["reload", SERVICE]).succeeded();
    let reported = status(&service);
    assert!(reported.contains("2 allow rules"), "{reported}");
    assert!(reported.contains(MISSING), "{reported}");

    // It takes the address when it is free.
    drop(holder);
    service.systemctl(&["reload", SERVICE]).succeeded();
    assert_eq!(service.get("http://blocked.test/").0, 403);
    let reported = status(&service);
    assert!(!reported.contains(MISSING), "{reported}");
    service.wait_for("StatusText", |text| text.ends_with(" connections"));
}

#[test]
fn l9_a_replacement_worker_reports_the_missing_listeners() {
    let (service, _holder) = taken();
    let before = service.wait_for_worker(None);
    service.kill("KILL", before);
    service.wait_for_worker(Some(before));
    service.wait_for("StatusText", |text| {
        text.contains("worker restarted") && text.contains(", http missing (")
    });
    let reported = status(&service);
    assert!(reported.contains(MISSING), "{reported}");
}

#[test]
fn c7_a_reload_that_moves_a_listener_to_a_port_in_use_changes_nothing() {
    let service = Service::new();
    service.mask(&SOCKETS[..1]);
    service.start();
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = holder.local_addr().expect("a bound listener");
    let mut text = std::fs::read_to_string(
        service
            .machine()
            .path("/etc/codex-network-proxy/config.toml"),
    )
    .expect("the configuration");
    text = text.replacen(
        "[network]\n",
        &format!("[network]\nproxy_url = \"{address}\"\n"),
        1,
    );
    service.configure_text(&text);
    let reload = service.proxyctl("root", &["reload"]);
    reload.failed();
    assert!(
        reload
            .stderr
            .contains(&format!("cannot listen on {address}")),
        "{reload:#?}"
    );
    assert_eq!(service.get("http://blocked.test/").0, 403);
}

#[test]
fn l9_without_socket_units_a_port_in_use_fails_the_start() {
    let service = Service::new();
    service.mask(&SOCKETS);
    let _holder = TcpListener::bind(HTTP).expect("the port is free");
    service.start_in_vain();
    service.wait_for_message("cannot listen on 127.0.0.1:3128 for http");
}
