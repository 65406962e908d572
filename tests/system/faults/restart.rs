//! Processes that die at each step of a restart, beside a tunnel of the previous worker (SPEC L15).

use std::thread;
use std::time::{Duration, Instant};

use super::{Traffic, leaves_nothing_behind};
use crate::service::{SERVICE, Service, use_tunnel};

/// How long after the request for a restart a process is killed: the monitor hands its worker over and
/// ends, the next one starts, loads, starts its worker, which takes the sockets. A restart takes some
/// 300 ms.
const STEPS_MS: [u64; 7] = [0, 25, 50, 100, 150, 250, 400];

/// Which process dies.
#[derive(Clone, Copy)]
enum Victim {
    /// The worker that serves when the restart begins, and drains.
    FirstWorker,
    /// The current monitor's worker, if it has one already.
    WorkerOfTheMoment,
    /// The current monitor.
    MonitorOfTheMoment,
}

fn kill_at_each_step(victim: Victim) {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    let traffic = Traffic::start(&service, &origin);
    for delay in STEPS_MS {
        let first = service.wait_for_worker(None);
        traffic.recovers(&service, Instant::now());
        let mut tunnel = service.tunnel("allowed.test", &origin);
        thread::scope(|scope| {
            let restart = scope.spawn(|| service.systemctl(&["restart", SERVICE]));
            // The test is about time: the fault comes at this moment of the restart.
            thread::sleep(Duration::from_millis(delay));
            let pid = match victim {
                Victim::FirstWorker => Some(first),
                Victim::WorkerOfTheMoment => service.worker(),
                Victim::MonitorOfTheMoment => Some(service.monitor()).filter(|pid| *pid != 0),
            };
            if let Some(pid) = pid {
                // It may have ended by itself.
                service
                    .machine()
                    .run(["kill", "-s", "KILL", &pid.to_string()]);
            }
            // A monitor that is killed while it starts fails the job; systemd starts it again.
            restart.join().expect("systemctl ends");
        });
        let gone = Instant::now();
        traffic.recovers(&service, gone);
        service.wait_for("ActiveState", |state| state == "active");
        // The tunnel ends with its worker, and not before.
        if service.is_alive(first) {
            use_tunnel(&mut tunnel);
        } else {
            tunnel.expect_closed();
        }
        drop(tunnel);
        leaves_nothing_behind(&service);
    }
    traffic.continues();
    traffic.finish(&service);
    service.proxyctl("root", &["status"]).succeeded();
}

#[test]
fn l15_the_death_of_a_draining_worker_affects_no_new_client() {
    kill_at_each_step(Victim::FirstWorker);
}

#[test]
fn l15_a_worker_that_dies_during_a_restart_is_replaced() {
    kill_at_each_step(Victim::WorkerOfTheMoment);
}

#[test]
fn l15_a_monitor_that_dies_during_a_restart_is_started_again() {
    kill_at_each_step(Victim::MonitorOfTheMoment);
}
