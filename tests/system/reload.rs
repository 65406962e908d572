//! Reloading by `systemctl reload` and by signal: all of the new policy or none of it (SPEC C7, P11).

use std::time::Instant;

use e2e::daemon::Config;
use e2e::origin::Origin;

use crate::load::{Load, Outcome};
use crate::service::{HTTP, ONE_SECOND, SERVICE, Service};

const BROKEN: &str = "[network]\nallowed_domains = []\nmode = \"limited\"\nnonsense = true\n";

#[test]
fn c7_systemctl_reload_puts_a_good_file_in_force() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    let (monitor, worker) = (service.monitor(), service.wait_for_worker(None));
    assert_eq!(service.get(&origin.url("blocked.test", "/")).0, 403);
    service.configure(&Config::example().allow("blocked.test"));
    service.systemctl(&["reload", SERVICE]).succeeded();
    // It waited for the result, and the worker was not replaced.
    assert_eq!(service.get(&origin.url("blocked.test", "/")).0, 200);
    assert_eq!(
        (service.monitor(), service.worker()),
        (monitor, Some(worker))
    );
    service.wait_for_message("reloaded");
    assert_eq!(service.show("ActiveState"), "active");
}

#[test]
fn c7_systemctl_reload_fails_with_a_broken_file_and_the_old_policy_stays() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    service.configure_text(BROKEN);
    service.systemctl(&["reload", SERVICE]).failed();
    service.wait_for_message("/etc/codex-network-proxy/config.toml:4:1: unknown key `nonsense`");
    old_policy_is_in_force(&service, &origin);
}

#[test]
fn c7_sighup_with_a_broken_file_keeps_the_old_policy_and_logs_the_position() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    service.configure_text(BROKEN);
    service.kill("HUP", service.monitor());
    service.wait_for_message("/etc/codex-network-proxy/config.toml:4:1: unknown key `nonsense`");
    service.wait_for_message("the old settings stay in force");
    old_policy_is_in_force(&service, &origin);
    // The next valid file is accepted.
    service.configure(&Config::example().allow("blocked.test"));
    service.kill("HUP", service.monitor());
    service.wait_for_message("reloaded");
    assert_eq!(service.get(&origin.url("blocked.test", "/")).0, 200);
}

/// SPEC C6: the service reads requirements before it is confined, and no setting overrides them.
#[test]
fn c6_the_machines_requirements_bind_the_service() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    let requirements = "/etc/codex-network-proxy/requirements.toml";
    let require = |table: &str| {
        let text = format!("[experimental_network]\n{table}\n");
        service.machine().write(requirements, text);
    };
    require("mode = \"limited\"");
    service.systemctl(&["reload", SERVICE]).succeeded();
    service.wait_for_message("reloaded");
    let why = format!(
        "invalid value for network.mode: full (allowed limited); {requirements}:2 requires it"
    );
    let refused = service.proxyctl("root", &["mode", "full"]);
    assert_eq!(refused.failed().code, Some(4));
    refused.says(&why);
    service.configure(&Config::example().set("network", "mode", r#""full""#));
    service.systemctl(&["reload", SERVICE]).failed();
    service.wait_for_message("invalid value for network.mode: full (allowed limited)");
    assert_eq!(service.get(&origin.url("allowed.test", "/")).0, 200);
    // After a restart it is not in force either (SPEC L16).
    service.systemctl(&["restart", SERVICE]).succeeded();
    service.wait_for_message("the last good one is in force");
    let mode = service.proxyctl("root", &["mode"]);
    assert_eq!(mode.succeeded().stdout.trim(), "limited");
}

/// One policy allows the host, the other denies it. A mixture of the two lists would find it on
/// neither, and report `not_allowed`.
#[test]
fn c7_each_request_during_reloads_is_decided_by_one_policy() {
    let service = Service::new();
    let origin = service.origin();
    let resolving = || {
        let here = std::net::Ipv4Addr::LOCALHOST;
        Config::new().host("a.test", here).host("b.test", here)
    };
    let policies = [
        resolving().allow("a.test").deny("b.test"),
        resolving().allow("b.test").deny("a.test"),
    ];
    service.configure(&policies[0]);
    service.start();
    let load = Load::start(4, HTTP, &origin.url("a.test", "/"));
    for reload in 1..=20 {
        service.configure(&policies[reload % 2]);
        service.systemctl(&["reload", SERVICE]).succeeded();
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
    let service = Service::new();
    let origin = service.origin();
    service.start();
    let mut tunnel = service.tunnel("allowed.test", &origin);
    let denied = Config::example().deny("allowed.test");
    service.configure(&denied);
    service.systemctl(&["reload", SERVICE]).succeeded();
    let reloaded = Instant::now();
    tunnel.expect_closed();
    assert!(reloaded.elapsed() < ONE_SECOND, "{:?}", reloaded.elapsed());
    service.wait_for_message("allowed.test");
}

fn old_policy_is_in_force(service: &Service, origin: &Origin) {
    assert_eq!(service.get(&origin.url("allowed.test", "/")).0, 200);
    assert_eq!(service.get(&origin.url("denied.test", "/")).0, 403);
    assert_eq!(service.show("ActiveState"), "active");
}
