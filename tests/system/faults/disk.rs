//! No room is left on the disk: for the state directory, and for the journal.

use std::time::Instant;

use e2e::daemon::Config;
use e2e::origin::Origin;
use e2e::wait::{TIMEOUT, poll};

use super::{Traffic, Undo, run};
use crate::scene::{SERVICE, Scene};

const STATE: &str = "/var/lib/codex-network-proxy";
/// A file system of a few pages, which are all taken.
const FILL: &str = "mkdir -p /var/lib/codex-network-proxy
    mount -t tmpfs -o size=16k,mode=0755 full /var/lib/codex-network-proxy
    dd if=/dev/zero of=/var/lib/codex-network-proxy/all bs=4k count=16 2>/dev/null || :";
const EMPTY: &str = "rm -f /var/lib/codex-network-proxy/all
    mount -o remount,size=16m /var/lib/codex-network-proxy";
/// The service first: its view of the file system has the mount too.
const UNMOUNT: &str = "systemctl stop --no-block codex-network-proxy.service
    systemctl kill --signal=KILL codex-network-proxy.service
    umount --lazy /var/lib/codex-network-proxy";

/// Fills the disk of the state directory, and starts the service and its clients.
fn start_on_a_full_disk(scene: &Scene) -> (Origin, Traffic) {
    run(scene, FILL);
    let origin = scene.origin();
    scene.start();
    let traffic = Traffic::start(scene, &origin);
    (origin, traffic)
}

#[test]
fn l16_without_room_for_its_state_the_service_starts_reloads_and_restarts() {
    let scene = Scene::new();
    let _undo = Undo(&scene, UNMOUNT);
    let (_origin, traffic) = start_on_a_full_disk(&scene);
    scene.configure(&Config::example().deny("other.test"));
    scene.systemctl(&["reload", SERVICE]).succeeded();
    let explained = scene.proxyctl("root", &["explain", "http://other.test/"]);
    explained.says("denied");
    scene.systemctl(&["restart", SERVICE]).succeeded();
    traffic.continues();
    let gone = Instant::now();
    run(&scene, EMPTY);
    traffic.recovers(&scene, gone);
    // The copy of the configuration is written with the next load.
    scene.systemctl(&["reload", SERVICE]).succeeded();
    let copy = scene.machine().path(&format!("{STATE}/last-good"));
    poll(TIMEOUT, || copy.exists().then_some(()))
        .unwrap_or_else(|| panic!("no copy\n{}", scene.log()));
    traffic.finish(&scene);
}

#[test]
fn l16_a_copy_for_which_there_was_no_room_is_not_used() {
    let scene = Scene::new();
    let _undo = Undo(&scene, UNMOUNT);
    let (origin, traffic) = start_on_a_full_disk(&scene);
    scene.systemctl(&["stop", SERVICE]).succeeded();
    scene.configure_text("[network]\nnonsense = true\n");
    scene.start();
    let (status, body) = scene.get(&origin.url("allowed.test", "/"));
    assert_eq!(status, 503, "{body}");
    traffic.continues();
    scene.configure(&Config::example());
    let gone = Instant::now();
    scene.proxyctl("root", &["reload"]).succeeded();
    traffic.recovers(&scene, gone);
    traffic.finish(&scene);
}

/// The journal keeps its files on a file system that is full.
#[test]
fn r4_a_journal_without_room_holds_up_no_request() {
    let scene = Scene::new();
    let restart = "systemctl reset-failed systemd-journald.service; systemctl restart systemd-journald.service";
    let _undo = Undo(
        &scene,
        "umount --lazy /run/log/journal; umount --lazy /var/log/journal
         systemctl reset-failed systemd-journald.service; systemctl restart systemd-journald.service",
    );
    let origin = scene.origin();
    scene.start();
    let traffic = Traffic::start(&scene, &origin);
    for place in ["/run/log/journal", "/var/log/journal"] {
        run(
            &scene,
            &format!(
                "mkdir -p {place}; mount -t tmpfs -o size=16k full {place}
                 dd if=/dev/zero of={place}/all bs=4k count=16 2>/dev/null || :"
            ),
        );
    }
    // The journal may fail without room, or go on without files.
    scene.machine().run(["sh", "-c", restart]);
    traffic.continues();
    scene.systemctl(&["reload", SERVICE]).succeeded();
    traffic.continues();
    let gone = Instant::now();
    run(
        &scene,
        &format!("umount --lazy /run/log/journal; umount --lazy /var/log/journal; {restart}"),
    );
    traffic.recovers(&scene, gone);
    let attempts = traffic.finish(&scene);
    let lost = crate::load::failures(&attempts);
    assert!(lost.is_empty(), "{lost:#?}");
    // New entries arrive.
    scene.systemctl(&["reload", SERVICE]).succeeded();
    scene.wait_for_message("reloaded");
}
