//! Processes that die, and restarts under load: clients wait, and no client is refused
//! (`ARCHITECTURE.md`, "Three roles, one program").

use std::time::Instant;

use e2e::wait::{TIMEOUT, poll};

use crate::load::{Load, failures, refused, served_again};
use crate::service::{HTTP, ONE_SECOND, SERVICE, SOCKETS, Service};

#[test]
fn l9_a_killed_worker_is_replaced_within_a_second_and_no_client_is_refused() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    let (monitor, worker) = (service.monitor(), service.wait_for_worker(None));
    let load = Load::start(4, HTTP, &origin.url("allowed.test", "/"));
    load.wait_for(50);
    let killed = Instant::now();
    service.kill("KILL", worker);
    let other = service.wait_for_worker(Some(worker));
    load.wait_for(50);
    let attempts = load.finish();
    assert_eq!(refused(&attempts), 0);
    let again = served_again(&attempts, killed).expect("it is served again");
    assert!(again - killed < ONE_SECOND, "{:?}", again - killed);
    // Only the worker's open requests were lost.
    let lost = failures(&attempts);
    assert!(lost.len() <= 4, "{lost:#?}");
    assert_ne!(other, worker);
    assert_eq!(service.monitor(), monitor);
    let entry = service.wait_for_message("the worker is gone");
    assert_eq!(entry.field("RESTARTS"), Some("1"), "{}", entry.message());
}

#[test]
fn l9_the_status_shows_that_a_worker_was_replaced() {
    let service = Service::new();
    service.start();
    let worker = service.wait_for_worker(None);
    service.kill("KILL", worker);
    service.wait_for_worker(Some(worker));
    // Permanently, not only while it starts.
    service.wait_for_message("ready");
    service.wait_for("StatusText", |status| status.contains("connections"));
    let status = service.show("StatusText");
    assert!(status.contains("worker restarted 1 times"), "{status}");
}

#[test]
fn l9_a_killed_monitor_ends_its_worker_and_no_client_is_refused() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    let (monitor, worker) = (service.monitor(), service.wait_for_worker(None));
    let load = Load::start(4, HTTP, &origin.url("allowed.test", "/"));
    load.wait_for(50);
    let killed = Instant::now();
    service.kill("KILL", monitor);
    poll(TIMEOUT, || (!service.is_alive(worker)).then_some(())).expect("the worker dies");
    service.wait_for("NRestarts", |restarts| restarts == "1");
    service.wait_for("ActiveState", |state| state == "active");
    load.wait_for(50);
    let attempts = load.finish();
    assert_eq!(refused(&attempts), 0);
    assert!(served_again(&attempts, killed).is_some());
    let lost = failures(&attempts);
    assert!(lost.len() <= 4, "{lost:#?}");
    assert_ne!(service.monitor(), monitor);
    assert_eq!(service.show("Result"), "success");
}

#[test]
fn l9_a_worker_ends_with_its_monitor_without_systemds_help() {
    let service = Service::new();
    // The service manager ends only the main process.
    service.edit(SERVICE, "[Service]\nKillMode=process\nRestart=no\n");
    service.start();
    let (monitor, worker) = (service.monitor(), service.wait_for_worker(None));
    // A worker that could not notice that the channel has closed.
    service.kill("STOP", worker);
    service.kill("KILL", monitor);
    poll(TIMEOUT, || (!service.is_alive(worker)).then_some(())).expect("the kernel ends it");
}

#[test]
fn l9_a_restart_under_load_refuses_no_client_with_socket_units() {
    let service = Service::new();
    restart_under_load(&service);
    assert_eq!(service.show("NFileDescriptorStore"), "0");
}

#[test]
fn l9_a_restart_under_load_refuses_no_client_with_stored_sockets() {
    let service = Service::new();
    service.mask(&SOCKETS);
    restart_under_load(&service);
    assert_eq!(service.show("NFileDescriptorStore"), "3");
    for socket in SOCKETS {
        service.systemctl(&["is-active", socket]).failed();
    }
}

#[test]
fn l9_stored_sockets_survive_a_killed_monitor() {
    let service = Service::new();
    service.mask(&SOCKETS);
    let origin = service.origin();
    service.start();
    let load = Load::start(4, HTTP, &origin.url("allowed.test", "/"));
    load.wait_for(50);
    service.kill("KILL", service.monitor());
    service.wait_for("NRestarts", |restarts| restarts == "1");
    load.wait_for(50);
    assert_eq!(refused(&load.finish()), 0);
}

#[test]
fn l9_a_stored_socket_is_closed_when_the_address_moves() {
    let service = Service::new();
    service.mask(&SOCKETS);
    service.start();
    let moved = e2e::daemon::Config::example();
    service.configure(&moved);
    let path = service
        .machine()
        .path("/etc/codex-network-proxy/config.toml");
    let text = std::fs::read_to_string(&path).expect("it is there");
    let text = text.replace(
        "[network]\n",
        "[network]\nproxy_url = \"http://127.0.0.1:3333\"\n",
    );
    service.configure_text(&text);
    service.systemctl(&["reload", SERVICE]).succeeded();
    poll(TIMEOUT, || {
        let open = service.machine().run(["ss", "-H", "-tln"]).stdout;
        (open.contains("127.0.0.1:3333") && !open.contains(HTTP)).then_some(())
    })
    .unwrap_or_else(|| panic!("{}", service.machine().run(["ss", "-tlnp"]).stdout));
    service.systemctl(&["restart", SERVICE]).succeeded();
    let open = service.machine().run(["ss", "-H", "-tln"]).stdout;
    assert!(
        open.contains("127.0.0.1:3333") && !open.contains(HTTP),
        "{open}"
    );
}

fn restart_under_load(service: &Service) {
    let origin = service.origin();
    service.start();
    let load = Load::start(4, HTTP, &origin.url("allowed.test", "/"));
    for _ in 0..3 {
        load.wait_for(50);
        let before = service.monitor();
        service.systemctl(&["restart", SERVICE]).succeeded();
        assert_ne!(service.monitor(), before);
    }
    load.wait_for(50);
    let attempts = load.finish();
    assert_eq!(refused(&attempts), 0);
    // Open requests were completed. At most a client that had connected and sent nothing is lost.
    let lost = failures(&attempts);
    assert!(lost.len() <= 4, "{lost:#?}");
}
