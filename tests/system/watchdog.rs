//! Processes that hang: the monitor replaces a stuck worker, and systemd a stuck monitor.

use crate::scene::{SERVICE, Scene};

#[test]
fn l9_a_stuck_worker_is_replaced_by_the_monitor_before_systemd_loses_patience() {
    let scene = Scene::new();
    scene.edit(SERVICE, "[Service]\nWatchdogSec=4\n");
    scene.start();
    let (monitor, worker) = (scene.monitor(), scene.wait_for_worker(None));
    scene.wait_for_message("ready");
    scene.kill("STOP", worker);
    scene.wait_for_message("the worker does not answer and is replaced");
    scene.wait_for_worker(Some(worker));
    assert_eq!(scene.get("http://blocked.test/").0, 403);
    assert_eq!(scene.monitor(), monitor);
    assert_eq!(scene.show("NRestarts"), "0");
}

#[test]
fn l9_a_stuck_monitor_is_replaced_by_systemd() {
    let scene = Scene::new();
    scene.edit(SERVICE, "[Service]\nWatchdogSec=1\n");
    scene.start();
    let (monitor, worker) = (scene.monitor(), scene.wait_for_worker(None));
    scene.kill("STOP", monitor);
    scene.wait_for("NRestarts", |restarts| restarts == "1");
    scene.wait_for("ActiveState", |state| state == "active");
    assert_ne!(scene.monitor(), monitor);
    assert!(!scene.is_alive(worker));
    assert_eq!(scene.get("http://blocked.test/").0, 403);
}
