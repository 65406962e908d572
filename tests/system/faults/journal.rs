//! The journal ends, and starts again with other sockets.

use std::time::Instant;

use e2e::wait::{TIMEOUT, poll};

use super::{Traffic, Undo, run};
use crate::load::failures;
use crate::service::{SERVICE, Service};

const STOP: &str = "systemctl stop systemd-journald.socket systemd-journald-dev-log.socket \
    systemd-journald-audit.socket systemd-journald.service";
const START: &str = "systemctl start systemd-journald.socket systemd-journald-dev-log.socket \
    systemd-journald.service";

#[test]
fn r4_a_stopped_journal_blocks_no_request() {
    let service = Service::new();
    let undo = Undo(&service, START);
    let origin = service.origin();
    service.start();
    let traffic = Traffic::start(&service, &origin);
    run(&service, STOP);
    traffic.continues();
    service.systemctl(&["reload", SERVICE]).succeeded();
    traffic.continues();
    let gone = Instant::now();
    drop(undo);
    traffic.recovers(&service, gone);
    let attempts = traffic.finish(&service);
    assert!(failures(&attempts).is_empty(), "{:#?}", failures(&attempts));
    // The monitor connects to the journal's new sockets. A confined worker may not, but the next
    // worker gets a connection.
    service.systemctl(&["reload", SERVICE]).succeeded();
    service.wait_for_message("reloaded");
    service.systemctl(&["restart", SERVICE]).succeeded();
    assert_eq!(service.get("http://denied.test/").0, 403);
    service.wait_for_message("deny http denied.test:80");
}

/// Its socket stays open: the service manager owns it.
#[test]
fn r4_a_killed_journal_blocks_no_request_and_gets_the_entries() {
    let service = Service::new();
    service.edit(SERVICE, "[Service]\nLogRateLimitIntervalSec=0\n");
    let origin = service.origin();
    service.start();
    let traffic = Traffic::start(&service, &origin);
    for _ in 0..3 {
        let run = service.systemctl(&["kill", "--signal=KILL", "systemd-journald.service"]);
        run.succeeded();
        traffic.continues();
    }
    let attempts = traffic.finish(&service);
    assert!(failures(&attempts).is_empty(), "{:#?}", failures(&attempts));
    // Nine in ten suffice: the log reports some as lost, and the journal accepted some and never
    // wrote them.
    let reported = || {
        let entries = service.journal().into_iter();
        let allowed = entries.filter(|entry| entry.message().starts_with("allow http"));
        (allowed.count() * 10 >= attempts.len() * 9).then_some(())
    };
    poll(TIMEOUT, reported)
        .unwrap_or_else(|| panic!("{} requests\n{}", attempts.len(), service.log()));
}
