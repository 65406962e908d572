//! Installing, removing and purging without trouble.

use e2e::daemon::Config;

use super::{Bare, PACKAGE};
use crate::service::{ADMIN, CONTROL, HTTP, SERVICE, SOCKETS, SOCKS5};

#[test]
fn l9_a_fresh_install_serves_on_sockets_that_systemd_holds() {
    let bare = Bare::new();
    let run = bare.install(PACKAGE);
    assert_eq!(run.code, Some(0), "{run:#?}");
    for unit in SOCKETS.into_iter().chain([SERVICE]) {
        assert!(bare.is_active(unit), "{unit}: {run:#?}");
        let enabled = bare.service.systemctl(&["is-enabled", unit]);
        assert_eq!(enabled.stdout.trim(), "enabled", "{unit}");
    }
    let held = bare.shell("ss -H -tlnp; ss -H -xlp").stdout;
    for address in [HTTP, SOCKS5, ADMIN, CONTROL] {
        let line = held.lines().find(|line| line.contains(address));
        assert!(
            line.is_some_and(|line| line.contains("(\"systemd\",pid=1,")),
            "{address}: {held}"
        );
    }
    let status = bare.status();
    assert!(
        status.contains("from /etc/codex-network-proxy/config.toml"),
        "{status}"
    );
    assert!(status.contains("0 allow rules"), "{status}");
    let worker = bare.service.wait_for_worker(None);
    let user = bare.shell(&format!("ps -o user:32= -p {worker}")).stdout;
    assert_eq!(user.trim(), "codex-network-proxy");
    bare.shell("test -d /etc/codex-network-proxy/conf.d")
        .succeeded();
    let doctor = bare.shell("proxyctl doctor");
    doctor.succeeded().says("no problems");

    // The policy belongs to the administrator.
    let origin = bare.service.origin();
    let url = origin.url("allowed.test", "/");
    let curl = |url: &str| {
        let options = "-s -o /dev/null -w '%{http_code}' -x http://127.0.0.1:3128";
        bare.shell(&format!("curl {options} {url}")).stdout
    };
    assert_eq!(curl(&url), "403");
    bare.service.configure(&Config::example());
    bare.service.systemctl(&["reload", SERVICE]).succeeded();
    assert_eq!(curl(&url), "200");
    assert_eq!(curl("http://blocked.test/"), "403");
}

#[test]
fn d1_the_package_has_the_fleet_examples_and_the_fence() {
    let bare = Bare::new();
    bare.install(PACKAGE).succeeded();
    bare.shell(
        "cd /usr/share/doc/codex-network-proxy/examples/fleet && test -x nftables.conf && test -r README.md && \
         codex-network-proxy check --strict conf.d && codex-network-proxy check requirements.toml && \
         test -r cloud-init.yaml && test -r ansible/playbook.yml && test -r environment/profile.sh",
    )
    .succeeded();
}

#[test]
fn l5_k1_manuals_render_and_completions_complete() {
    let bare = Bare::new();
    bare.install(PACKAGE).succeeded();
    for (page, words) in [
        ("codex-network-proxy", "SIGHUP"),
        ("proxyctl", "EXIT STATUS"),
        ("proxyctl-explain", "METHOD"),
        ("codex-network-proxy.toml", "allowed_domains"),
    ] {
        let run = bare.shell(&format!("MANPAGER=cat man --warnings {page} 2>&1"));
        assert!(run.succeeded().stdout.contains(words), "{page}: {run:#?}");
        // In troff's form: the pages themselves contain the word "warning".
        assert!(!run.stdout.contains(": warning"), "{page}: {run:#?}");
    }
    let complete = |program: &str, word: &str| {
        let script = format!(
            "source /usr/share/bash-completion/bash_completion
             _completion_loader {program}
             COMP_WORDS=({program} {word}) COMP_CWORD=1 COMP_LINE='{program} {word}' COMP_POINT=${{#COMP_LINE}}
             $(complete -p {program} | sed 's/.* -F \\([^ ]*\\) .*/\\1/') {program} {word} {program}
             echo \"${{COMPREPLY[*]}}\""
        );
        let run = bare.service.machine().run(["bash", "-c", &script]);
        run.stdout.trim().to_owned()
    };
    assert_eq!(complete("codex-network-proxy", "ch"), "check");
    assert_eq!(complete("proxyctl", "expl"), "explain");
    assert_eq!(complete("codex-network-proxy", "--conf"), "--config");
}

#[test]
fn d1_removing_keeps_configuration_and_state_and_purging_leaves_nothing() {
    let bare = Bare::new();
    let before = bare.files();
    bare.install(PACKAGE).succeeded();
    bare.service.configure(&Config::example());
    bare.service
        .machine()
        .write("/etc/codex-network-proxy/conf.d/10-site.toml", "");
    bare.shell("codex-network-proxy init").succeeded();

    bare.shell("apt-get -qq remove -y codex-network-proxy 2>&1")
        .succeeded();
    assert!(!bare.is_active(SERVICE));
    let listening = bare.shell("ss -H -tln").stdout;
    assert_eq!(listening.trim(), "");
    bare.shell("test -s /etc/codex-network-proxy/config.toml && test -s /var/lib/codex-network-proxy/ca.key")
        .succeeded();

    // Installed again, it is as before.
    let run = bare.install(PACKAGE);
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert!(bare.is_active(SERVICE));
    assert!(bare.status().contains("1 allow rule"), "{}", bare.status());

    let run = bare.shell("apt-get -qq purge -y codex-network-proxy 2>&1");
    assert_eq!(run.code, Some(0), "{run:#?}");
    let left: Vec<String> = bare
        .files()
        .into_iter()
        .filter(|file| !before.contains(file))
        .collect();
    assert!(left.is_empty(), "{left:#?}");
    for record in [
        "getent passwd codex-network-proxy",
        "getent group codex-network-proxy",
    ] {
        bare.shell(record).failed();
    }
    let units = bare.shell("systemctl list-units --all --no-legend 'codex-network-proxy*'");
    assert_eq!(units.stdout.trim(), "");
    bare.shell("dpkg --status codex-network-proxy").failed();
}

#[test]
fn d1_without_systemd_the_package_installs_and_prints_how_to_start() {
    let bare = Bare::new();
    // /run/systemd/system shows that systemd runs (sd_booted(3)).
    let run = bare.shell(&format!(
        "unshare --mount sh -c 'mount -t tmpfs none /run && dpkg --install {PACKAGE} && \
         codex-network-proxy check && dpkg --purge codex-network-proxy' 2>&1"
    ));
    assert_eq!(run.code, Some(0), "{run:#?}");
    run.says("systemd does not run here, so nothing is started");
    run.says("to run the proxy in the foreground: codex-network-proxy");
    run.says("ok: enabled, full mode, 0 allow rules");
}

#[test]
fn d1_reinstalling_changes_nothing() {
    let bare = Bare::new();
    bare.install(PACKAGE).succeeded();
    // A temporary CA differs after each start.
    let files = || {
        let mut files = bare.files();
        files.retain(|file| !file.contains("/var/lib/codex-network-proxy/ca-"));
        files
    };
    let before = files();
    for _ in 0..2 {
        let run = bare.shell("dpkg-reconfigure codex-network-proxy 2>&1");
        assert_eq!(run.code, Some(0), "{run:#?}");
        assert!(bare.is_active(SERVICE), "{run:#?}");
    }
    let after = files();
    let changed: Vec<&String> = before.iter().filter(|file| !after.contains(file)).collect();
    assert!(
        changed.is_empty() && after.len() == before.len(),
        "{changed:#?}"
    );
}
