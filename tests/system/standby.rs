//! A start with a configuration that cannot be used, and starts that fail (SPEC L16).

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::wait::{TIMEOUT, poll};

use crate::service::{ADMIN, HTTP, SERVICE, SOCKETS, SOCKS5, Service};

const BROKEN: &str = "[network]\nallowed_domains = [\"https://x\"]\n";
const COPY: &str = "/var/lib/codex-network-proxy/last-good";

/// Stops only the service: its sockets stay open.
fn stop(service: &Service) {
    service.systemctl(&["stop", SERVICE]).succeeded();
}

fn health(service: &Service) -> String {
    let url = format!("http://{ADMIN}/health");
    let command = ["curl", "-s", "-w", " %{http_code}", url.as_str()];
    service.machine().run(command).stdout
}

#[track_caller]
fn sockets_are_open(service: &Service) {
    for socket in SOCKETS {
        let run = service.systemctl(&["is-active", socket]);
        assert_eq!(run.stdout.trim(), "active", "{socket}\n{}", service.log());
    }
}

#[test]
fn l16_the_last_good_configuration_stays_in_force_until_the_repair() {
    let service = Service::new();
    let origin = service.origin();
    service.start();
    stop(&service);
    service.configure_text(BROKEN);
    service.start();
    let (status, _) = service.get(&origin.url("allowed.test", "/"));
    assert_eq!(status, 200, "{}", service.log());
    assert_eq!(service.get("http://blocked.test/").0, 403);
    // Every report about the service contains it.
    service.wait_for_message("the configuration cannot be used: the last good one is in force");
    service.wait_for_message("config.toml:2:");
    service.wait_for("StatusText", |text| {
        text.contains("the last good configuration is in force")
    });
    let health = health(&service);
    assert!(
        health.starts_with("ok: the last good") && health.ends_with(" 200"),
        "{health}"
    );
    let status = service.proxyctl("root", &["status"]);
    status
        .succeeded()
        .says("the last good configuration is in force");
    let doctor = service.proxyctl("root", &["doctor", "settings"]);
    doctor.failed().says("config.toml:2:");
    // A restart in this state keeps it.
    service.systemctl(&["restart", SERVICE]).succeeded();
    assert_eq!(service.get(&origin.url("allowed.test", "/")).0, 200);

    // The service finds the repair by itself.
    service.configure(&Config::example().deny("allowed.test"));
    poll(2 * TIMEOUT, || {
        let (status, _) = service.get(&origin.url("allowed.test", "/"));
        (status == 403).then_some(())
    })
    .unwrap_or_else(|| panic!("it is not in force\n{}", service.log()));
    service.wait_for_message("the configuration can be used again, and is in force");
    service.wait_for("StatusText", |text| text.starts_with("full mode"));
}

#[test]
fn l16_without_a_last_good_configuration_every_listener_refuses_with_a_reason() {
    let service = Service::new();
    let origin = service.origin();
    service.configure_text(BROKEN);
    service.start();
    let url = origin.url("allowed.test", "/");
    let (status, body) = service.get(&url);
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("the configuration cannot be used"), "{body}");
    let mut connection = Connection::open(HTTP.parse().expect("an address"));
    let refused = connection.connect(&format!("allowed.test:{}", origin.addr().port()));
    assert_eq!(refused.status, 503, "{}", refused.text());
    let socks = format!("socks5h://{SOCKS5}");
    let curl = service.machine().run(["curl", "-s", "-x", &socks, &url]);
    assert_eq!(curl.failed().code, Some(97), "{curl:#?}");
    let health = health(&service);
    assert!(health.ends_with(" 503"), "{health}");
    service.wait_for_message("there is no earlier one, so everything is refused");
    let status = service.proxyctl("root", &["status"]);
    status.succeeded().says("everything is refused");
    let explained = service.proxyctl("root", &["explain", &url]);
    explained.says("configuration_unusable");
    sockets_are_open(&service);

    service.configure(&Config::example());
    poll(2 * TIMEOUT, || (service.get(&url).0 == 200).then_some(()))
        .unwrap_or_else(|| panic!("it is not in force\n{}", service.log()));
    // The copy is written after the settings are in force.
    let copied = || service.machine().path(COPY).exists().then_some(());
    poll(TIMEOUT, copied).expect("the copy");
}

/// The service binds its addresses itself, and systemd keeps the sockets over a restart.
#[test]
fn l16_without_socket_units_every_listener_refuses_too() {
    let service = Service::new();
    service.mask(&SOCKETS[..3]);
    let refuses = |address: &str| {
        let mut connection = Connection::open(address.parse().expect("an address"));
        let refused = connection.connect("allowed.test:443");
        assert_eq!(refused.status, 503, "{}", service.log());
    };
    let moved = "127.0.0.1:4128";
    service.configure_text(&format!("[network]\nproxy_url = \"{moved}\"\n"));
    service.systemctl(&["start", SERVICE]).succeeded();
    let copy = service.machine().path(COPY);
    poll(TIMEOUT, || copy.exists().then_some(())).expect("there is a copy");
    service.configure_text(BROKEN);
    service.machine().run(["rm", COPY]).succeeded();
    service.systemctl(&["restart", SERVICE]).succeeded();
    refuses(moved);
    service.wait_for_message("ready to refuse everything");
    // Without sockets, no address is known.
    stop(&service);
    service.systemctl(&["start", SERVICE]).succeeded();
    refuses(HTTP);
    assert!(health(&service).ends_with(" 503"));
}

#[test]
fn l16_proxyctl_reload_applies_the_repaired_configuration_at_once() {
    let service = Service::new();
    let origin = service.origin();
    service.configure_text(BROKEN);
    service.start();
    service
        .proxyctl("root", &["reload"])
        .failed()
        .says("config.toml:2:");
    service.configure(&Config::example());
    service.proxyctl("root", &["reload"]).succeeded();
    assert_eq!(service.get(&origin.url("allowed.test", "/")).0, 200);
}

#[test]
fn l16_a_copy_that_is_damaged_or_not_roots_is_not_used() {
    for spoil in [
        "truncate --size=-1 last-good",
        "chmod 0666 last-good",
        "chown daemon last-good",
        "mv last-good elsewhere && ln -s elsewhere last-good",
    ] {
        let service = Service::new();
        service.start();
        stop(&service);
        service.configure_text(BROKEN);
        let command = format!("cd /var/lib/codex-network-proxy && {spoil}");
        service.machine().run(["sh", "-c", &command]).succeeded();
        service.start();
        let (status, body) = service.get("http://allowed.test/");
        assert_eq!(status, 503, "{spoil}: {body}");
    }
}

#[test]
fn l16_a_configuration_that_could_not_be_copied_is_not_replaced_by_an_older_one() {
    let service = Service::new();
    service.start();
    let copy = service.machine().path(COPY);
    poll(TIMEOUT, || copy.exists().then_some(())).expect("there is a copy");
    // As on a full disk: the loader cannot write.
    let obstacle = format!("{COPY}.abc");
    service.machine().run(["mkdir", &obstacle]).succeeded();
    service.configure(&Config::example().deny("allowed.test"));
    service.proxyctl("root", &["reload"]).succeeded();
    service.wait_for_message("no copy of this configuration can be kept");
    stop(&service);
    service.configure_text(BROKEN);
    service.start();
    let (status, body) = service.get("http://allowed.test/");
    assert_eq!(status, 503, "{body}");
}

#[test]
fn l16_the_copy_contains_no_secret_and_only_root_may_read_it() {
    let service = Service::new();
    service.edit(
        SERVICE,
        "[Service]\nEnvironment=TOKEN_OF_THE_SERVICE=s3cret\n",
    );
    service.configure_text(
        "[network]\nallowed_domains = [\"api.test\"]\n\
         [network.mitm.hooks.read]\nhost = \"api.test\"\nmethods = [\"GET\"]\npath_prefixes = [\"/\"]\n\
         action = [\"sign\"]\n\
         [[network.mitm.actions.sign.inject_request_headers]]\nname = \"authorization\"\n\
         secret_env_var = \"TOKEN_OF_THE_SERVICE\"\n",
    );
    service.start();
    let copy = poll(TIMEOUT, || std::fs::read(service.machine().path(COPY)).ok());
    let copy = copy.expect("there is a copy");
    let text = String::from_utf8_lossy(&copy);
    assert!(
        text.contains("TOKEN_OF_THE_SERVICE") && !text.contains("s3cret"),
        "{text}"
    );
    let mode = service.machine().run(["stat", "--format=%a %U", COPY]);
    assert_eq!(mode.stdout.trim(), "600 root");
    // The hooks work from the copy too: the secret is read where the configuration names it.
    stop(&service);
    service.configure_text(BROKEN);
    service.start();
    service.wait_for_message("the last good one is in force");
}

/// Clients that wait at the sockets start the service again and again.
#[test]
fn l16_a_failing_start_keeps_the_sockets_and_is_retried() {
    let service = Service::new();
    let origin = service.origin();
    // A kernel without Landlock, from the service's point of view.
    service.edit(
        SERVICE,
        "[Service]\nSystemCallFilter=~landlock_create_ruleset\n",
    );
    service.configure(&Config::example().set("daemon", "sandbox", "\"require\""));
    let start: Vec<&str> = ["start"].into_iter().chain(SOCKETS).collect();
    service.systemctl(&start).succeeded();
    let mut waiting = Connection::open(HTTP.parse().expect("an address"));
    waiting.send(crate::service::request(&origin.url("allowed.test", "/")));
    for delay in ["ending in 1s", "ending in 2s", "ending in 4s"] {
        service.wait_for("StatusText", |text| text.contains(delay));
    }
    service.wait_for_message("sandbox = \"require\"");
    sockets_are_open(&service);
    service.configure(&Config::example());
    let answer = waiting.read_response();
    assert_eq!(answer.status, 200, "the client has waited for this");
    let count = service
        .machine()
        .path("/run/codex-network-proxy/failed-starts");
    poll(TIMEOUT, || (!count.exists()).then_some(()))
        .expect("the next failed start waits for a second");
    sockets_are_open(&service);
}
