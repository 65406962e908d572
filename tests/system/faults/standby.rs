//! A configuration that cannot be used at the start, and processes that die on top of it.

use std::time::Instant;

use e2e::daemon::Config;
use e2e::wait::{TIMEOUT, poll};

use super::{Traffic, leaves_nothing_behind};
use crate::service::{SERVICE, Service};

const BROKEN: &str = "[network]\nallowed_domains = [\"https://x\"]\n";

/// The process that dies.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Worker,
    Monitor,
}

fn kill(service: &Service, victim: Victim) {
    let worker = service.wait_for_worker(None);
    let pid = match victim {
        Victim::Worker => worker,
        Victim::Monitor => service.monitor(),
    };
    service.kill("KILL", pid);
    service.wait_for_worker(Some(worker));
}

/// The processes that die, one after the other.
const VICTIMS: [Victim; 4] = [
    Victim::Worker,
    Victim::Monitor,
    Victim::Worker,
    Victim::Monitor,
];

#[test]
fn l16_the_last_good_configuration_stays_in_force_when_processes_die() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    let traffic = Traffic::start(&service, &origin);
    service.configure_text(BROKEN);
    service.systemctl(&["restart", SERVICE]).succeeded();
    service.wait_for_message("the last good one is in force");
    for victim in VICTIMS {
        kill(&service, victim);
        traffic.recovers(&service, Instant::now());
        traffic.continues();
    }
    let status = service.proxyctl("root", &["status"]);
    status
        .succeeded()
        .says("the last good configuration is in force");
    traffic.finish(&service);
    leaves_nothing_behind(&service);
}

#[test]
fn l16_everything_stays_refused_when_processes_die_until_the_repair() {
    let service = Service::new();
    let origin = service.origin();
    service.configure_text(BROKEN);
    service.start();
    let traffic = Traffic::start(&service, &origin);
    for victim in VICTIMS {
        kill(&service, victim);
        let (status, body) = poll(TIMEOUT, || {
            let answer = service.machine().run([
                "curl",
                "-s",
                "-w",
                " %{http_code}",
                "-x",
                "http://127.0.0.1:3128",
                &origin.url("allowed.test", "/"),
            ]);
            let (body, status) = answer.stdout.rsplit_once(' ')?;
            (answer.code == Some(0)).then(|| (status.to_owned(), body.to_owned()))
        })
        .expect("an answer");
        assert_eq!(status, "503", "{body}");
        traffic.continues();
    }
    service.configure(&Config::example());
    let served = poll(TIMEOUT, || {
        (service.get(&origin.url("allowed.test", "/")).0 == 200).then_some(())
    });
    served.unwrap_or_else(|| panic!("the repair is not found\n{}", service.log()));
    let attempts = traffic.finish(&service);
    assert!(attempts.iter().any(crate::load::Attempt::is_served));
}
