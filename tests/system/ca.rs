//! The CA of an installed service, and the system's trust in it (SPEC M3, M5, L5).

use crate::service::{SERVICE, Service};

const STATE: &str = "/var/lib/codex-network-proxy";

/// The fingerprint in the output of a command.
fn fingerprint(output: &str) -> &str {
    let (_, rest) = output.split_once("SHA-256 ").expect("a fingerprint");
    rest.lines().next().expect("a line").trim()
}

#[test]
fn m3_init_stores_a_ca_for_the_service_that_only_root_can_read() {
    let service = Service::new();
    service.start();
    let first = service.proxyctl("root", &["ca", "show"]);
    let made = service.machine().run(["codex-network-proxy", "init"]);
    made.succeeded().says(&format!("{STATE}/ca.key"));
    let kept = fingerprint(&made.stdout).to_owned();
    assert_ne!(fingerprint(&first.succeeded().stdout), kept);
    service.systemctl(&["reload", SERVICE]).succeeded();
    service
        .proxyctl("root", &["ca", "show"])
        .succeeded()
        .says(&kept);
    service.systemctl(&["restart", SERVICE]).succeeded();
    let shown = service.proxyctl("root", &["ca", "show"]);
    shown.succeeded().says(&kept);
    let read = |user: &str, file: &str| {
        let path = format!("{STATE}/{file}");
        service
            .machine()
            .run(["runuser", "-u", user, "--", "cat", &path])
    };
    read("codex-network-proxy", "ca.key").failed();
    read("nobody", "ca.key").failed();
    read("nobody", "ca.pem")
        .succeeded()
        .says("BEGIN CERTIFICATE");
    // The public files, which the service wrote under its own umask.
    let bundle = service.machine().run([
        "sh",
        "-c",
        &format!("runuser -u nobody -- sh -c 'cat {STATE}/ca-bundle-*.pem'"),
    ]);
    let count = bundle
        .succeeded()
        .stdout
        .matches("BEGIN CERTIFICATE")
        .count();
    assert!(count > 100, "the roots of Debian and ours: {count}");
}

#[test]
fn k1_ca_install_makes_debian_trust_it_and_uninstall_undoes_exactly_that() {
    let service = Service::new();
    service.start();
    service
        .proxyctl("root", &["ca", "install"])
        .failed()
        .says("worthless after a restart");
    service
        .proxyctl("nobody", &["ca", "uninstall"])
        .failed()
        .says("sudo proxyctl ca uninstall");
    service
        .machine()
        .run(["codex-network-proxy", "init"])
        .succeeded();
    service.systemctl(&["reload", SERVICE]).succeeded();
    let trusted = || {
        let list = "sha256sum /etc/ssl/certs/ca-certificates.crt; ls /etc/ssl/certs /usr/local/share/ca-certificates";
        service
            .machine()
            .run(["sh", "-c", list])
            .succeeded()
            .stdout
            .clone()
    };
    let before = trusted();
    let verify = || {
        let verify = format!("openssl verify {STATE}/ca.pem");
        service.machine().run(["sh", "-c", &verify])
    };
    verify().failed();
    for output in ["installed: ", "was there already: "] {
        let installed = service.proxyctl("root", &["ca", "install"]);
        installed
            .succeeded()
            .says(output)
            .says("/usr/local/share/ca-certificates/codex-network-proxy-ca-");
        verify().succeeded();
    }
    // The proxy itself still does not trust it (SPEC M6).
    let roots = || {
        let json = service.proxyctl("root", &["ca", "show", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json.succeeded().stdout).expect("JSON");
        json["roots"].as_u64().expect("a number")
    };
    let trusted_by_us = roots();
    service.systemctl(&["reload", SERVICE]).succeeded();
    assert_eq!(roots(), trusted_by_us);
    // Without the service.
    service.systemctl(&["stop", SERVICE]).succeeded();
    service
        .proxyctl("root", &["ca", "uninstall"])
        .succeeded()
        .says("removed: ");
    verify().failed();
    // The first line has everything except the links.
    assert!(trusted() == before, "not as it was:\n{}", trusted());
    service
        .proxyctl("root", &["ca", "uninstall"])
        .succeeded()
        .says("was not installed");
}
