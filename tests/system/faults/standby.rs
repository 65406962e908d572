//! A configuration that cannot be used at the start, and processes that die on top of it.

use std::time::Instant;

use e2e::daemon::Config;
use e2e::wait::{TIMEOUT, poll};

use super::{Traffic, leaves_nothing_behind};
use crate::scene::{SERVICE, Scene};

const BROKEN: &str = "[network]\nallowed_domains = [\"https://x\"]\n";

/// What dies.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Worker,
    Monitor,
}

fn kill(scene: &Scene, victim: Victim) {
    let worker = scene.wait_for_worker(None);
    let pid = match victim {
        Victim::Worker => worker,
        Victim::Monitor => scene.monitor(),
    };
    scene.kill("KILL", pid);
    scene.wait_for_worker(Some(worker));
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
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    let traffic = Traffic::start(&scene, &origin);
    scene.configure_text(BROKEN);
    scene.systemctl(&["restart", SERVICE]).succeeded();
    scene.wait_for_message("the last good one is in force");
    for victim in VICTIMS {
        kill(&scene, victim);
        traffic.recovers(&scene, Instant::now());
        traffic.continues();
    }
    let status = scene.proxyctl("root", &["status"]);
    status
        .succeeded()
        .says("the last good configuration is in force");
    traffic.finish(&scene);
    leaves_nothing_behind(&scene);
}

#[test]
fn l16_everything_stays_refused_when_processes_die_and_the_repair_is_found() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.configure_text(BROKEN);
    scene.start();
    let traffic = Traffic::start(&scene, &origin);
    for victim in VICTIMS {
        kill(&scene, victim);
        let (status, body) = poll(TIMEOUT, || {
            let answer = scene.machine().run([
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
    scene.configure(&Config::example());
    let served = poll(TIMEOUT, || {
        (scene.get(&origin.url("allowed.test", "/")).0 == 200).then_some(())
    });
    served.unwrap_or_else(|| panic!("the repair is not found\n{}", scene.log()));
    let attempts = traffic.finish(&scene);
    assert!(attempts.iter().any(crate::load::Attempt::is_served));
}
