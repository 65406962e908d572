//! A full disk: for the state directory, and for the journal.

use std::time::Instant;

use e2e::daemon::Config;
use e2e::origin::Origin;
use e2e::wait::{TIMEOUT, poll};

use super::{Traffic, Undo, run};
use crate::service::{SERVICE, Service};

const STATE: &str = "/var/lib/codex-network-proxy";
/// Mounts a file system of a few pages and fills it.
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
fn start_on_a_full_disk(service: &Service) -> (Origin, Traffic) {
    run(service, FILL);
    let origin = service.origin();
    service.start();
    let traffic = Traffic::start(service, &origin);
    (origin, traffic)
}

#[test]
fn l16_without_room_for_its_state_the_service_starts_reloads_and_restarts() {
    let service = Service::new();
    let _undo = Undo(&service, UNMOUNT);
    let (_origin, traffic) = start_on_a_full_disk(&service);
    service.configure(&Config::example().deny("other.test"));
    service.systemctl(&["reload", SERVICE]).succeeded();
    let explained = service.proxyctl("root", &["explain", "http://other.test/"]);
    explained.says("denied");
    service.systemctl(&["restart", SERVICE]).succeeded();
    traffic.continues();
    let gone = Instant::now();
    run(&service, EMPTY);
    traffic.recovers(&service, gone);
    // The copy of the configuration is written with the next load.
    service.systemctl(&["reload", SERVICE]).succeeded();
    let copy = service.machine().path(&format!("{STATE}/last-good"));
    poll(TIMEOUT, || copy.exists().then_some(()))
        .unwrap_or_else(|| panic!("no copy\n{}", service.log()));
    traffic.finish(&service);
}

#[test]
fn l16_an_incomplete_copy_is_not_used() {
    let service = Service::new();
    let _undo = Undo(&service, UNMOUNT);
    let (origin, traffic) = start_on_a_full_disk(&service);
    service.systemctl(&["stop", SERVICE]).succeeded();
    service.configure_text("[network]\nnonsense = true\n");
    service.start();
    let (status, body) = service.get(&origin.url("allowed.test", "/"));
    assert_eq!(status, 503, "{body}");
    traffic.continues();
    service.configure(&Config::example());
    let gone = Instant::now();
    service.proxyctl("root", &["reload"]).succeeded();
    traffic.recovers(&service, gone);
    traffic.finish(&service);
}

/// The journal keeps its files on a file system that is full.
#[test]
fn r4_a_full_journal_blocks_no_request() {
    let service = Service::new();
    let restart = "systemctl reset-failed systemd-journald.service; systemctl restart systemd-journald.service";
    let _undo = Undo(
        &service,
        "umount --lazy /run/log/journal; umount --lazy /var/log/journal
         systemctl reset-failed systemd-journald.service; systemctl restart systemd-journald.service",
    );
    let origin = service.origin();
    service.start();
    let traffic = Traffic::start(&service, &origin);
    for place in ["/run/log/journal", "/var/log/journal"] {
        run(
            &service,
            &format!(
                "mkdir -p {place}; mount -t tmpfs -o size=16k full {place}
                 dd if=/dev/zero of={place}/all bs=4k count=16 2>/dev/null || :"
            ),
        );
    }
    // The journal may fail without room, or go on without files.
    service.machine().run(["sh", "-c", restart]);
    traffic.continues();
    service.systemctl(&["reload", SERVICE]).succeeded();
    traffic.continues();
    let gone = Instant::now();
    run(
        &service,
        &format!("umount --lazy /run/log/journal; umount --lazy /var/log/journal; {restart}"),
    );
    traffic.recovers(&service, gone);
    let attempts = traffic.finish(&service);
    let lost = crate::load::failures(&attempts);
    assert!(lost.is_empty(), "{lost:#?}");
    // New entries arrive.
    service.systemctl(&["reload", SERVICE]).succeeded();
    service.wait_for_message("reloaded");
}
