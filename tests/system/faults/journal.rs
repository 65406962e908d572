//! The journal ends, and comes back with other sockets.

use std::time::Instant;

use e2e::wait::{TIMEOUT, poll};

use super::{Traffic, Undo, run};
use crate::load::failures;
use crate::scene::{SERVICE, Scene};

const STOP: &str = "systemctl stop systemd-journald.socket systemd-journald-dev-log.socket \
    systemd-journald-audit.socket systemd-journald.service";
const START: &str = "systemctl start systemd-journald.socket systemd-journald-dev-log.socket \
    systemd-journald.service";

#[test]
fn r4_a_journal_that_is_stopped_holds_up_no_request() {
    let scene = Scene::new();
    let undo = Undo(&scene, START);
    let origin = scene.origin();
    scene.start();
    let traffic = Traffic::start(&scene, &origin);
    run(&scene, STOP);
    traffic.continues();
    scene.systemctl(&["reload", SERVICE]).succeeded();
    traffic.continues();
    let gone = Instant::now();
    drop(undo);
    traffic.recovers(&scene, gone);
    let attempts = traffic.finish(&scene);
    assert!(failures(&attempts).is_empty(), "{:#?}", failures(&attempts));
    // The monitor finds the new sockets. A confined worker may not connect: the next one does.
    scene.systemctl(&["reload", SERVICE]).succeeded();
    scene.wait_for_message("reloaded");
    scene.systemctl(&["restart", SERVICE]).succeeded();
    assert_eq!(scene.get("http://denied.test/").0, 403);
    scene.wait_for_message("deny http denied.test:80");
}

/// Its socket stays: the service manager holds it.
#[test]
fn r4_a_journal_that_is_killed_holds_up_no_request_and_gets_the_entries() {
    let scene = Scene::new();
    scene.edit(SERVICE, "[Service]\nLogRateLimitIntervalSec=0\n");
    let origin = scene.origin();
    scene.start();
    let traffic = Traffic::start(&scene, &origin);
    for _ in 0..3 {
        let run = scene.systemctl(&["kill", "--signal=KILL", "systemd-journald.service"]);
        run.succeeded();
        traffic.continues();
    }
    let attempts = traffic.finish(&scene);
    assert!(failures(&attempts).is_empty(), "{:#?}", failures(&attempts));
    // All, without those that the log reports as lost, and those that the journal took and never wrote.
    let told = || {
        let entries = scene.journal().into_iter();
        let allowed = entries.filter(|entry| entry.message().starts_with("allow http"));
        (allowed.count() * 10 >= attempts.len() * 9).then_some(())
    };
    poll(TIMEOUT, told).unwrap_or_else(|| panic!("{} requests\n{}", attempts.len(), scene.log()));
}
