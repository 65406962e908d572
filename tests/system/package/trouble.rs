//! Installing while something interferes.

use std::net::TcpListener;

use super::{Bare, PACKAGE};
use crate::service::{HTTP, SERVICE, SOCKETS};

#[test]
fn l9_ports_in_use_are_reported_with_their_processes() {
    let bare = Bare::new();
    // A process of the machine, so that the package can find it there.
    bare.shell(
        "systemd-run --unit=holder --quiet systemd-socket-activate --listen=127.0.0.1:3128 \
         --listen=127.0.0.1:8080 sleep infinity",
    )
    .succeeded();
    let ports = "ss -H -tln | grep -q 127.0.0.1:8080";
    bare.shell(&format!(
        "until {ports}; do systemctl is-active holder || exit 1; done"
    ))
    .succeeded();
    let holder = bare
        .shell("systemctl show --property=MainPID --value holder")
        .stdout;
    let holder = holder.trim();

    let run = bare.install(PACKAGE);
    assert_eq!(run.code, Some(0), "{run:#?}");
    run.says(&format!("not started: {} {};", SOCKETS[0], SOCKETS[2]));
    for (unit, door) in [
        (SOCKETS[0], "http 127.0.0.1:3128"),
        (SOCKETS[2], "admin 127.0.0.1:8080"),
    ] {
        assert!(!bare.is_active(unit), "{unit}");
        run.says(&format!("{door} is in use by process {holder} (systemd-"));
    }
    run.says("socks5 127.0.0.1:8081 is in use by");
    for unit in [SOCKETS[1], SOCKETS[3], SERVICE] {
        assert!(bare.is_active(unit), "{unit}: {run:#?}");
    }
    let status = bare.status();
    assert!(status.contains("there is no http listener"), "{status}");
    let curl = bare.shell("curl -s -x socks5h://127.0.0.1:8081 http://blocked.test/");
    assert_eq!(curl.code, Some(97), "{curl:#?}");

    // The advice works.
    bare.shell("systemctl stop holder").succeeded();
    bare.service.systemctl(&["restart", SERVICE]).succeeded();
    for unit in SOCKETS {
        assert!(bare.is_active(unit), "{unit}");
    }
    assert_eq!(bare.service.get("http://blocked.test/").0, 403);
}

#[test]
fn c5_an_existing_user_is_accepted_only_if_it_owns_nothing() {
    let bare = Bare::new();
    for (user, trouble) in [
        (
            "--system --shell /bin/bash",
            "can log in (its shell is /bin/bash)",
        ),
        (
            "--system --shell /usr/sbin/nologin --create-home",
            "has a home directory (/home/codex-network-proxy)",
        ),
        (
            "--uid 2000 --shell /usr/sbin/nologin",
            "is no system user (its uid is 2000)",
        ),
        (
            "--system --gid 0 --shell /usr/sbin/nologin",
            "is of the group root",
        ),
        (
            "--system --gid shadow --shell /usr/sbin/nologin",
            "is of the group shadow",
        ),
    ] {
        bare.shell(&format!("useradd {user} codex-network-proxy"))
            .succeeded();
        let run = bare.install(PACKAGE);
        assert_ne!(run.code, Some(0), "{user}: {run:#?}");
        run.says(&format!(
            "there is a user codex-network-proxy already, and it {trouble};"
        ));
        assert!(!bare.is_active(SERVICE));
        bare.shell("dpkg --purge codex-network-proxy; userdel --remove codex-network-proxy");
    }
    bare.shell("useradd --system --shell /usr/sbin/nologin codex-network-proxy")
        .succeeded();
    let run = bare.install(PACKAGE);
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert!(bare.is_active(SERVICE));
    // The package must not remove it.
    bare.shell("dpkg --purge codex-network-proxy").succeeded();
    bare.shell("getent passwd codex-network-proxy").succeeded();
}

#[test]
fn c4_a_broken_configuration_does_not_fail_the_installation() {
    let bare = Bare::new();
    bare.install(PACKAGE).succeeded();
    bare.shell("apt-get -qq remove -y codex-network-proxy 2>&1")
        .succeeded();
    bare.service
        .configure_text("[network]\nallowed_domains = [\"https://x\"]\n");
    let run = bare.install(PACKAGE);
    assert_eq!(run.code, Some(0), "{run:#?}");
    run.says("the configuration cannot be used, so the service runs on an earlier one");
    bare.service
        .wait_for("ActiveState", |state| state == "active");
    // The repair is enough.
    bare.service.configure_text("");
    bare.service
        .wait_for_message("the configuration can be used again");
    assert_eq!(bare.service.get("http://blocked.test/").0, 403);
}

#[test]
fn l9_a_listener_disabled_by_an_administrator_stays_disabled() {
    let bare = Bare::new();
    bare.install(PACKAGE).succeeded();
    bare.shell(&format!("systemctl disable --now {} 2>&1", SOCKETS[2]))
        .succeeded();
    let run = bare.upgrade();
    assert_eq!(run.code, Some(0), "{run:#?}");
    let enabled = bare.service.systemctl(&["is-enabled", SOCKETS[2]]);
    assert_eq!(enabled.stdout.trim(), "disabled");
    assert!(TcpListener::bind(HTTP).is_err(), "the others go on");
}
