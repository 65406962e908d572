//! Machines where no jail, or not all of it, can be made (SPEC J7).

use e2e::machine::{Need, has};

use crate::fixture::{Ran, User, harness, users};

#[test]
fn j7_without_user_namespaces_the_error_names_the_remedy() {
    for user in users() {
        let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
        let output = user
            .command("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
            .arg(harness())
            .args(["--", "true"])
            .output()
            .expect("unshare");
        let ran = Ran(output);
        assert_eq!(ran.0.status.code(), Some(125));
        let text = ran.stderr();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("sysctl user.max_user_namespaces="), "{text}");
    }
}

#[test]
fn j7_a_jail_in_a_jail_is_refused() {
    for user in users() {
        let harness = harness();
        let harness = harness.to_str().expect("a plain path");
        let ran = user.jailed(&[], &[harness, "--", "true"]);
        assert_eq!(ran.0.status.code(), Some(125));
        assert!(
            ran.stderr().contains("Operation not permitted"),
            "{}",
            ran.stderr()
        );
    }
}

#[test]
fn j7_without_nft_there_is_no_transparent_door_and_the_reason_is_known() {
    if !has(Need::Mounts) || users().is_empty() {
        return;
    }
    let script = "for nft in /usr/sbin/nft /usr/bin/nft /sbin/nft /bin/nft; do \
                  [ ! -e $nft ] || mount --bind /dev/null $nft; done; exec \"$@\"";
    let output = User::Own
        .command("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(harness())
        .args(["--", "sh", "-c", "env | grep -c TRANSPARENT; exit 4"])
        .output()
        .expect("unshare");
    let ran = Ran(output);
    assert_eq!(ran.0.status.code(), Some(4), "{}", ran.stderr());
    assert_eq!(ran.stdout(), "0\n");
    assert!(
        ran.stderr().contains("no transparent door: "),
        "{}",
        ran.stderr()
    );
}
