//! `proxyctl doctor` on an installed service: healthy, and with each fault that may occur on a
//! machine (SPEC K1).

use e2e::daemon::Config;
use e2e::program::Run;
use e2e::wait::{TIMEOUT, poll};
use serde_json::Value;

use crate::service::{CONTROL, HTTP, SERVICE, SOCKETS, Service};

/// The output of `proxyctl doctor … --json` for a user, and its exit code.
fn examine(service: &Service, user: &str, checks: &[&str]) -> (Option<i32>, Vec<Value>) {
    let arguments = [&["doctor", "--json"], checks].concat();
    let run: Run = service.proxyctl(user, &arguments);
    let lines = serde_json::from_str(&run.stdout);
    (
        run.code,
        lines.unwrap_or_else(|error| panic!("{error}: {run:#?}")),
    )
}

/// Checks that a check has a line with this verdict and text.
#[track_caller]
fn says(lines: &[Value], check: &str, verdict: &str, text: &str) {
    let is_it = |line: &&Value| {
        let found = line["found"]
            .as_str()
            .is_some_and(|found| found.contains(text));
        line["check"] == check && line["verdict"] == verdict && found
    };
    assert!(
        lines.iter().any(|line| is_it(&line)),
        "no {verdict} of {check} says {text:?}: {lines:#?}"
    );
}

/// All advice.
fn advice(lines: &[Value]) -> String {
    let advice = lines.iter().filter_map(|line| line["advice"].as_str());
    advice.collect::<Vec<_>>().join("\n")
}

#[test]
fn k1_doctor_finds_nothing_wrong_with_a_healthy_service() {
    let service = Service::new();
    service.systemctl(&["preset", SERVICE]).succeeded();
    service.start();
    let (code, lines) = examine(&service, "root", &[]);
    assert_eq!(code, Some(0), "{lines:#?}");
    says(
        &lines,
        "service",
        "ok",
        &format!("{SERVICE} runs, process {}", service.monitor()),
    );
    says(&lines, "sockets", "ok", HTTP);
    says(
        &lines,
        "control",
        "ok",
        &format!("{CONTROL} answers; of root, group codex-network-proxy, mode 0660"),
    );
    says(
        &lines,
        "listeners",
        "ok",
        &format!("http {HTTP} answers (service manager)"),
    );
    says(
        &lines,
        "ports",
        "ok",
        &format!("http {HTTP} is in use by the proxy"),
    );
    says(
        &lines,
        "user",
        "ok",
        "the worker runs as codex-network-proxy",
    );
    says(&lines, "permissions", "ok", "only root may change");
    says(&lines, "version", "ok", env!("CARGO_PKG_VERSION"));
    // A user that the proxy does not serve gets only a note about it, and no problem.
    let (code, lines) = examine(&service, "nobody", &[]);
    assert_eq!(code, Some(0), "{lines:#?}");
    says(&lines, "control", "note", "this user may not connect to it");
    says(&lines, "service", "ok", "runs");
}

#[test]
fn k1_doctor_distinguishes_masked_sockets_from_stopped_ones() {
    let service = Service::new();
    service.mask(&[SOCKETS[1]]);
    service.start();
    let (code, lines) = examine(&service, "root", &["sockets", "listeners", "ports"]);
    assert_eq!(code, Some(0), "{lines:#?}");
    says(
        &lines,
        "sockets",
        "note",
        &format!("{} is masked", SOCKETS[1]),
    );
    says(
        &lines,
        "listeners",
        "ok",
        "socks5 127.0.0.1:8081 answers (bound)",
    );
    service.systemctl(&["stop", SOCKETS[2]]);
    let (code, lines) = examine(&service, "root", &["sockets"]);
    assert_eq!(code, Some(1), "{lines:#?}");
    says(
        &lines,
        "sockets",
        "problem",
        &format!("{} is inactive", SOCKETS[2]),
    );
    // The advice starts it, while the service runs.
    let anew = "systemctl stop codex-network-proxy; systemctl start codex-network-proxy";
    assert_eq!(
        advice(&lines),
        format!("systemctl enable {}; {anew}", SOCKETS[2])
    );
    // The same if the proxy has meanwhile bound the address itself.
    service.proxyctl("root", &["reload"]).succeeded();
    service.machine().run(["sh", "-c", anew]).succeeded();
    assert_eq!(examine(&service, "root", &["sockets"]).0, Some(0));
}

#[test]
fn k1_doctor_names_the_process_that_holds_a_port_before_the_first_start() {
    let service = Service::new();
    let (code, lines) = examine(&service, "root", &["ports"]);
    assert_eq!(code, Some(0), "{lines:#?}");
    says(&lines, "ports", "ok", &format!("http {HTTP} is free"));
    let hold =
        format!("systemd-run --quiet --unit=holder systemd-socket-activate --listen={HTTP} cat");
    service.machine().run(["sh", "-c", &hold]).succeeded();
    let pid = poll(TIMEOUT, || {
        let listening = service
            .machine()
            .run(["ss", "-H", "-tlnp", "sport = :3128"])
            .stdout;
        let (_, pid) = listening.split_once("pid=")?;
        pid.split(',').next().map(str::to_owned)
    });
    let pid = pid.expect("the port is held");
    service.systemctl(&["start", SOCKETS[0]]).failed();
    let (code, lines) = examine(&service, "root", &["sockets", "ports"]);
    assert_eq!(code, Some(1), "{lines:#?}");
    says(
        &lines,
        "ports",
        "problem",
        &format!("http {HTTP} is in use by process {pid} (systemd-socket-"),
    );
    says(
        &lines,
        "sockets",
        "problem",
        &format!("{} has failed", SOCKETS[0]),
    );
    assert!(
        advice(&lines).contains(&format!("systemctl edit {}", SOCKETS[0])),
        "{lines:#?}"
    );
    // No other user may inspect root's processes.
    let (code, lines) = examine(&service, "nobody", &["ports"]);
    assert_eq!(code, Some(1), "{lines:#?}");
    says(
        &lines,
        "ports",
        "problem",
        "in use by a process of root that only root can name",
    );
    assert_eq!(advice(&lines), "sudo proxyctl doctor ports");
    service.systemctl(&["stop", "holder.service"]).succeeded();
    service.systemctl(&["reset-failed"]).succeeded();
}

#[test]
fn k1_doctor_starts_no_service_to_look_at_its_ports() {
    let service = Service::new();
    let start: Vec<&str> = ["start"].into_iter().chain(SOCKETS).collect();
    service.systemctl(&start).succeeded();
    let (code, lines) = examine(&service, "root", &["ports", "sockets", "service"]);
    assert_eq!(code, Some(0), "{lines:#?}");
    says(
        &lines,
        "ports",
        "ok",
        &format!("http {HTTP} is in use by systemd for the proxy"),
    );
    says(
        &lines,
        "service",
        "note",
        "the first client of its sockets starts it",
    );
    assert_eq!(service.show("ActiveState"), "inactive");
}

#[test]
fn k1_doctor_names_the_command_that_starts_the_service() {
    let service = Service::new();
    let (code, lines) = examine(&service, "root", &[]);
    assert_eq!(code, Some(1), "{lines:#?}");
    says(&lines, "service", "problem", "does not run");
    says(&lines, "control", "problem", "no proxy answers");
    says(&lines, "sockets", "problem", "is inactive");
    says(&lines, "user", "ok", "codex-network-proxy exists");
    assert!(
        advice(&lines).contains("systemctl start codex-network-proxy"),
        "{lines:#?}"
    );
}

#[test]
fn l16_doctor_reports_a_service_that_refuses_everything() {
    let service = Service::new();
    service.configure_text("[network]\nmode = 3\n");
    service.start();
    let (code, lines) = examine(&service, "root", &["settings"]);
    assert_eq!(code, Some(1), "{lines:#?}");
    says(&lines, "settings", "problem", "config.toml:2:8");
    says(&lines, "settings", "note", "everything is refused");
    assert!(
        advice(&lines).contains("codex-network-proxy check"),
        "{lines:#?}"
    );
}

#[test]
fn k1_doctor_warns_of_files_that_would_fail_the_next_start() {
    let service = Service::new();
    service.start();
    assert_eq!(examine(&service, "root", &["settings"]).0, Some(0));
    service.configure_text("[network]\nmode = 3\n");
    let (code, lines) = examine(&service, "root", &["settings"]);
    assert_eq!(code, Some(1), "{lines:#?}");
    says(&lines, "settings", "ok", "generation 1 is in force");
    says(&lines, "settings", "problem", "config.toml:2:8");
    let problems: Vec<_> = lines
        .into_iter()
        .filter(|line| line["verdict"] == "problem")
        .collect();
    assert!(advice(&problems).starts_with("codex-network-proxy check"));
}

#[test]
fn c6_doctor_finds_files_that_root_does_not_own() {
    let service = Service::new();
    let write = |path: &str| service.machine().write(path, "[experimental_network]\n");
    write("/etc/codex-network-proxy/requirements.toml");
    service.start();
    assert_eq!(examine(&service, "root", &["permissions"]).0, Some(0));
    for file in ["config.toml", "requirements.toml"] {
        let path = format!("/etc/codex-network-proxy/{file}");
        service
            .machine()
            .run(["chown", "nobody", &path])
            .succeeded();
        let (code, lines) = examine(&service, "root", &["permissions"]);
        assert_eq!(code, Some(1), "{lines:#?}");
        says(
            &lines,
            "permissions",
            "problem",
            &format!("{path} belongs to nobody"),
        );
        let advised = advice(&lines);
        assert_eq!(advised, format!("sudo chown root {path}"));
        service
            .machine()
            .run(["sh", "-c", advised.trim_start_matches("sudo ")])
            .succeeded();
    }
    assert_eq!(examine(&service, "root", &["permissions"]).0, Some(0));
}

#[test]
fn c5_doctor_finds_a_user_who_can_log_in() {
    let service = Service::new();
    service.start();
    let shell = |shell: &str| {
        let usermod = ["usermod", "--shell", shell, "codex-network-proxy"];
        service.machine().run(usermod).succeeded();
    };
    shell("/bin/bash");
    let (code, lines) = examine(&service, "root", &["user"]);
    shell("/usr/sbin/nologin");
    assert_eq!(code, Some(1), "{lines:#?}");
    says(&lines, "user", "problem", "can log in (shell /bin/bash)");
    assert_eq!(examine(&service, "root", &["user"]).0, Some(0));
}

#[test]
fn k1_doctor_asks_for_a_restart_after_an_upgrade() {
    let service = Service::new();
    service.start();
    // As dpkg does it, with the same content.
    let replace = "cp -p /usr/bin/codex-network-proxy /usr/bin/new && mv /usr/bin/new /usr/bin/codex-network-proxy";
    service.machine().run(["sh", "-c", replace]).succeeded();
    let (code, lines) = examine(&service, "root", &["version"]);
    assert_eq!(code, Some(1), "{lines:#?}");
    says(
        &lines,
        "version",
        "problem",
        "has been replaced since it started",
    );
    assert_eq!(advice(&lines), "systemctl restart codex-network-proxy");
    service.systemctl(&["restart", SERVICE]).succeeded();
    assert_eq!(examine(&service, "root", &["version"]).0, Some(0));
}

#[test]
fn m1_doctors_advice_leads_to_a_trusted_ca() {
    let service = Service::new();
    service.configure(&Config::example().set("network", "mode", "\"limited\""));
    service.start();
    let (code, lines) = examine(&service, "root", &["ca"]);
    assert_eq!(code, Some(1), "{lines:#?}");
    says(&lines, "ca", "problem", "is lost when the proxy stops");
    service
        .machine()
        .run(["codex-network-proxy", "init"])
        .succeeded();
    service.proxyctl("root", &["reload"]).succeeded();
    let (_, lines) = examine(&service, "root", &["ca"]);
    says(&lines, "ca", "problem", "this system does not trust the CA");
    assert_eq!(advice(&lines), "sudo proxyctl ca install");
    service.proxyctl("root", &["ca", "install"]).succeeded();
    let (code, lines) = examine(&service, "root", &["ca", "permissions"]);
    assert_eq!(code, Some(0), "{lines:#?}");
    says(&lines, "ca", "ok", "this system trusts the CA");
    service
        .machine()
        .run(["chmod", "0640", "/var/lib/codex-network-proxy/ca.key"])
        .succeeded();
    let (_, lines) = examine(&service, "root", &["permissions"]);
    says(
        &lines,
        "permissions",
        "problem",
        "the CA's key, has mode 0640",
    );
    service.systemctl(&["stop", SERVICE]).succeeded();
    service.proxyctl("root", &["ca", "uninstall"]).succeeded();
}
