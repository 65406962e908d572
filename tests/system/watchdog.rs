//! Processes that hang: the monitor replaces a stuck worker, and systemd replaces a stuck monitor.

use crate::service::{SERVICE, Service};

#[test]
fn l9_the_monitor_replaces_a_stuck_worker_before_the_watchdog_expires() {
    let service = Service::new();
    service.edit(SERVICE, "[Service]\nWatchdogSec=4\n");
    service.start();
    let (monitor, worker) = (service.monitor(), service.wait_for_worker(None));
    service.wait_for_message("ready");
    service.kill("STOP", worker);
    service.wait_for_message("the worker does not answer and is replaced");
    service.wait_for_worker(Some(worker));
    assert_eq!(service.get("http://blocked.test/").0, 403);
    assert_eq!(service.monitor(), monitor);
    assert_eq!(service.show("NRestarts"), "0");
}

#[test]
fn l9_systemd_replaces_a_stuck_monitor() {
    let service = Service::new();
    service.edit(SERVICE, "[Service]\nWatchdogSec=1\n");
    service.start();
    let (monitor, worker) = (service.monitor(), service.wait_for_worker(None));
    service.kill("STOP", monitor);
    service.wait_for("NRestarts", |restarts| restarts == "1");
    service.wait_for("ActiveState", |state| state == "active");
    assert_ne!(service.monitor(), monitor);
    assert!(!service.is_alive(worker));
    assert_eq!(service.get("http://blocked.test/").0, 403);
}
