//! Where no jail can be made: in a container that forbids user namespaces, in a chroot, or by a setting of the
//! kernel (SPEC J1, J5, J7). These tests run everywhere.

use e2e::daemon::Config;
use e2e::machine::{Need, can};

use super::Installed;

#[test]
fn j1_j7_without_user_namespaces_run_fails_with_the_remedy_in_one_line() {
    let installed = Installed::new();
    let config = Config::example();
    let run = if can(Need::UserNamespaces) {
        // Forbids them for one program alone.
        let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"";
        let unshare = ["--user", "--map-root-user", "sh", "-c", script, "sh"];
        installed.confined("unshare", &unshare, &config)
    } else {
        installed.private(&config)
    };
    let run = run.args(["--", "echo", "started"]).run();
    assert_eq!(run.failed().code, Some(125));
    assert!(!run.stdout.contains("started"), "{run:#?}");
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{run:#?}");
    run.says("user namespaces").says_one_of(&[
        "sysctl user.max_user_namespaces=",
        "a container or a chroot forbids user namespaces",
    ]);
    assert_eq!(installed.left_over(), [""; 0]);
}

#[test]
fn j5_j7_isolation_by_the_environment_needs_no_user_namespaces_and_says_what_it_is() {
    let installed = Installed::new();
    let run = installed
        .private(&Config::example())
        .args(["--isolation", "env", "--summary=always"])
        .args(["--", "curl", "-sS", "http://blocked.test/"])
        .run();
    run.succeeded()
        .says("proxyctl: unconfined: a program that ignores the proxy variables")
        .says("blocked.test is not on the allow list")
        .says(", unconfined");
}
