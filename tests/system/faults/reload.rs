//! Processes that die at each step of a reload.

use std::thread;
use std::time::{Duration, Instant};

use e2e::daemon::Config;
use e2e::wait::{TIMEOUT, poll};

use super::{Traffic, leaves_nothing_behind};
use crate::service::{SERVICE, Service};

/// The times between the request for a reload and the kill. A reload takes some 30 ms: the loader
/// starts, reads, writes and ends, and the worker takes the settings and confirms them. There are
/// only six times, because the monitor waits longer before each further worker in a row.
const STEPS_MS: [u64; 6] = [0, 4, 8, 16, 32, 64];

/// The configuration of a step: it denies a host of its own, and allows another.
fn of_step(step: usize) -> Config {
    Config::example()
        .deny(&format!("denied-{step}.test"))
        .allow(&format!("new-{step}.test"))
}

/// Kills one process at each step of reloads under load. Afterwards the old policy is in force or the
/// new one, as the answer to the reload said; the next reload puts the new one in force. `request`
/// returns whether the caller was told that the new policy is in force.
fn kill_at_each_step(
    victim: impl Fn(&Service) -> Option<u32>,
    request: impl Fn(&Service) -> bool + Sync,
) {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    let traffic = Traffic::start(&service, &origin);
    for (step, delay) in STEPS_MS.into_iter().enumerate() {
        service.wait_for_worker(None);
        traffic.recovers(&service, Instant::now());
        let before = victim(&service).expect("a process to kill");
        service.configure(&of_step(step));
        let was_told = thread::scope(|scope| {
            let reload = scope.spawn(|| request(&service));
            // The test is about time: the fault comes at this moment of the reload.
            thread::sleep(Duration::from_millis(20 + delay));
            service
                .machine()
                .run(["kill", "-s", "KILL", &before.to_string()]);
            reload.join().expect("systemctl ends")
        });
        let gone = Instant::now();
        poll(TIMEOUT, || victim(&service).filter(|pid| *pid != before))
            .unwrap_or_else(|| panic!("step {step}: it is not replaced\n{}", service.log()));
        traffic.recovers(&service, gone);
        let url = format!("http://denied-{step}.test/");
        let reason = || {
            let run = service.proxyctl("root", &["explain", "--json", &url]);
            run.stdout
        };
        if was_told {
            assert!(reason().contains("\"denied\""), "{step}: {}", reason());
        }
        service.systemctl(&["reload", SERVICE]).succeeded();
        assert!(reason().contains("\"denied\""), "{step}: {}", reason());
    }
    traffic.continues();
    traffic.finish(&service);
    leaves_nothing_behind(&service);
}

#[test]
fn c7_the_death_of_a_worker_during_a_reload_leaves_one_whole_policy() {
    kill_at_each_step(Service::worker, |service| {
        service.systemctl(&["reload", SERVICE]).code == Some(0)
    });
}

#[test]
fn c7_the_death_of_a_monitor_during_a_reload_leaves_one_whole_policy() {
    // By signal: systemd starts a killed monitor again only when the `proxyctl reload` of the unit has ended.
    let request = |service: &Service| {
        service.systemctl(&["kill", "--kill-who=main", "--signal=HUP", SERVICE]);
        false
    };
    kill_at_each_step(
        |service| Some(service.monitor()).filter(|pid| *pid != 0),
        request,
    );
}
