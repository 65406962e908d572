//! Reloading by `systemctl reload` and by signal: all of the new policy or none of it (SPEC C7, P11).

use std::time::Instant;

use e2e::daemon::Config;
use e2e::origin::Origin;

use crate::load::{Load, Outcome};
use crate::scene::{HTTP, ONE_SECOND, SERVICE, Scene};

const BROKEN: &str = "[network]\nallowed_domains = []\nmode = \"limited\"\nnonsense = true\n";

#[test]
fn c7_systemctl_reload_puts_a_good_file_in_force() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    let (monitor, worker) = (scene.monitor(), scene.wait_for_worker(None));
    assert_eq!(scene.get(&origin.url("blocked.test", "/")).0, 403);
    scene.configure(&Config::example().allow("blocked.test"));
    scene.systemctl(&["reload", SERVICE]).succeeded();
    // It waited for the result, and the worker was not replaced.
    assert_eq!(scene.get(&origin.url("blocked.test", "/")).0, 200);
    assert_eq!((scene.monitor(), scene.worker()), (monitor, Some(worker)));
    scene.wait_for_message("reloaded");
    assert_eq!(scene.show("ActiveState"), "active");
}

#[test]
fn c7_systemctl_reload_fails_with_a_broken_file_and_the_old_policy_stays() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    scene.configure_text(BROKEN);
    scene.systemctl(&["reload", SERVICE]).failed();
    scene.wait_for_message("/etc/codex-network-proxy/config.toml:4:1: unknown key `nonsense`");
    old_policy_is_in_force(&scene, &origin);
}

#[test]
fn c7_sighup_with_a_broken_file_leaves_the_old_policy_and_says_where() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    scene.configure_text(BROKEN);
    scene.kill("HUP", scene.monitor());
    scene.wait_for_message("/etc/codex-network-proxy/config.toml:4:1: unknown key `nonsense`");
    scene.wait_for_message("the old settings stay in force");
    old_policy_is_in_force(&scene, &origin);
    // The next valid file is accepted.
    scene.configure(&Config::example().allow("blocked.test"));
    scene.kill("HUP", scene.monitor());
    scene.wait_for_message("reloaded");
    assert_eq!(scene.get(&origin.url("blocked.test", "/")).0, 200);
}

/// SPEC C6: the service reads requirements before anything is confined, and nothing avoids them.
#[test]
fn c6_the_service_is_held_to_the_requirements_of_the_machine() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    let requirements = "/etc/codex-network-proxy/requirements.toml";
    let require = |table: &str| {
        let text = format!("[experimental_network]\n{table}\n");
        scene.machine().write(requirements, text);
    };
    require("mode = \"limited\"");
    scene.systemctl(&["reload", SERVICE]).succeeded();
    scene.wait_for_message("reloaded");
    let why = format!(
        "invalid value for network.mode: full (allowed limited); {requirements}:2 requires it"
    );
    let refused = scene.proxyctl("root", &["mode", "full"]);
    assert_eq!(refused.failed().code, Some(4));
    refused.says(&why);
    scene.configure(&Config::example().set("network", "mode", r#""full""#));
    scene.systemctl(&["reload", SERVICE]).failed();
    scene.wait_for_message("invalid value for network.mode: full (allowed limited)");
    assert_eq!(scene.get(&origin.url("allowed.test", "/")).0, 200);
    // After a restart it is not in force either (SPEC L16).
    scene.systemctl(&["restart", SERVICE]).succeeded();
    scene.wait_for_message("the last good one is in force");
    let mode = scene.proxyctl("root", &["mode"]);
    assert_eq!(mode.succeeded().stdout.trim(), "limited");
}

/// One policy allows the host, the other denies it. A mixture of the two lists would find it on
/// neither, and report `not_allowed`.
#[test]
fn c7_a_thousand_requests_across_twenty_reloads_are_each_judged_by_one_policy() {
    let scene = Scene::new();
    let origin = scene.origin();
    let resolving = || {
        let here = std::net::Ipv4Addr::LOCALHOST;
        Config::new().host("a.test", here).host("b.test", here)
    };
    let policies = [
        resolving().allow("a.test").deny("b.test"),
        resolving().allow("b.test").deny("a.test"),
    ];
    scene.configure(&policies[0]);
    scene.start();
    let load = Load::start(4, HTTP, &origin.url("a.test", "/"));
    for reload in 1..=20 {
        scene.configure(&policies[reload % 2]);
        scene.systemctl(&["reload", SERVICE]).succeeded();
        load.wait_for(50);
    }
    let attempts = load.finish();
    let (mut allowed, mut denied) = (0, 0);
    for attempt in &attempts {
        match &attempt.outcome {
            Outcome::Answered(200, _) => allowed += 1,
            Outcome::Answered(403, answer) if answer.contains("\"reason\":\"denied\"") => {
                denied += 1;
            }
            other => panic!("{other:#?}"),
        }
    }
    assert!(allowed + denied >= 1000, "{allowed} + {denied}");
    assert!(allowed > 0 && denied > 0, "{allowed} and {denied}");
}

#[test]
fn p11_an_open_tunnel_to_a_host_that_a_reload_denies_ends_within_a_second() {
    let scene = Scene::new();
    let origin = scene.origin();
    scene.start();
    let mut tunnel = scene.tunnel("allowed.test", &origin);
    let denied = Config::example().deny("allowed.test");
    scene.configure(&denied);
    scene.systemctl(&["reload", SERVICE]).succeeded();
    let reloaded = Instant::now();
    tunnel.expect_closed();
    assert!(reloaded.elapsed() < ONE_SECOND, "{:?}", reloaded.elapsed());
    scene.wait_for_message("allowed.test");
}

fn old_policy_is_in_force(scene: &Scene, origin: &Origin) {
    assert_eq!(scene.get(&origin.url("allowed.test", "/")).0, 200);
    assert_eq!(scene.get(&origin.url("denied.test", "/")).0, 403);
    assert_eq!(scene.show("ActiveState"), "active");
}
