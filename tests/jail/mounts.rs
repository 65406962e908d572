//! Mounts that lead to the machine's processes and settings.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::machine::{Need, has};
use tempfile::TempDir;

use crate::fixture::{ORDINARY, Ran, User, attempts, harness, users};

/// A mount namespace with further mounts.
struct Machine {
    /// Makes the mounts in the directory `$1`, as root.
    setup: &'static str,
    folder: TempDir,
}

/// Which side of the jail a command runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Outside,
    Inside,
}

impl Machine {
    fn with(setup: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), all).expect("our own folder");
        Self { setup, folder }
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.into_os_string().into_string().expect("a plain path")
    }

    /// Runs a command after the setup, which may put words before it with `run`.
    fn run(&self, user: User, side: Side, command: &[&str]) -> Ran {
        let id = ORDINARY.to_string();
        let drop = match user {
            User::Own => vec!["env"],
            User::Ordinary => vec!["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"],
        };
        let harness = harness();
        let jail = match side {
            Side::Outside => vec![],
            Side::Inside => vec![harness.to_str().expect("a plain path"), "--"],
        };
        let script = format!(
            "run() {{ \"$@\"; }}; cd /; set -e; {}; set +e; shift; run \"$@\"; status=$?; \
             [ -z \"$group\" ] || rmdir $group; exit $status",
            self.setup
        );
        let output = User::Own
            .command("unshare")
            .args(["--mount", "--propagation", "private", "bash", "-c", &script])
            .arg("bash")
            .arg(self.folder.path())
            .args([&drop, &jail, command].concat())
            .output();
        Ran(output.expect("unshare"))
    }

    fn attempt(&self, user: User, side: Side, attempt: &[&str]) -> Ran {
        self.run(user, side, &[&[attempts().as_str()], attempt].concat())
    }
}

/// A process can be ended by a write to a file of its cgroup.
#[test]
fn j14_control_groups_cannot_be_changed_wherever_they_are_mounted() {
    if !has(Need::Mounts) {
        return;
    }
    let machine = Machine::with(
        "mkdir -p $1/groups; mount -t cgroup2 none $1/groups; group=$(mktemp -d $1/groups/jail-test-XXXXXX); \
         chmod 755 $group; chmod 666 $group/cgroup.procs; ln -sfn $group $1/own",
    );
    let procs = machine.path("own/cgroup.procs");
    for user in users() {
        machine
            .attempt(user, Side::Outside, &["write", &procs])
            .is_through();
        machine
            .attempt(user, Side::Inside, &["write", &procs])
            .is_refused("Read-only file system");
        machine
            .attempt(user, Side::Inside, &["open", &procs])
            .is_through();
    }
}

/// Root runs programs outside by writing to `uevent_helper`.
#[test]
fn j14_the_kernels_settings_cannot_be_changed() {
    if !has(Need::Mounts) || users().is_empty() {
        return;
    }
    let machine = Machine::with("mkdir -p $1/sys; mount -t sysfs none $1/sys");
    let settings = [
        "kernel/uevent_helper",
        "kernel/mm/transparent_hugepage/enabled",
        "kernel/profiling",
        "kernel/rcu_expedited",
    ];
    let settings = settings.map(|name| (format!("/sys/{name}"), machine.path("sys/") + name));
    let exists = |(path, _): &&(String, String)| Path::new(path).exists();
    let (path, elsewhere) = settings.iter().find(exists).expect("a setting");
    for setting in [path, elsewhere] {
        machine
            .attempt(User::Own, Side::Outside, &["write", setting])
            .is_through();
        machine
            .attempt(User::Own, Side::Inside, &["write", setting])
            .is_refused("Read-only file system");
    }
}

/// Interrupts, devices and file systems of the machine.
#[test]
fn j14_root_changes_nothing_of_the_machine_in_proc() {
    if !has(Need::Root) || users().is_empty() {
        return;
    }
    let find = "find /proc/irq /proc/bus /proc/fs /proc/acpi /proc/scsi /proc/mtrr -type f -perm /222 -print -quit \
                2>/dev/null; true";
    let found = User::Own.command("sh").args(["-c", find]).output();
    let found = String::from_utf8(found.expect("a shell").stdout).expect("plain paths");
    for file in found.lines() {
        // A file that accepts no empty write is open for writing nevertheless.
        let script = format!("exec 3>>{file} && echo open");
        let ran = User::Own.jailed(&[], &["sh", "-c", &script]);
        assert_eq!(ran.stdout(), "", "{file}");
        assert!(
            ran.stderr().contains("Read-only file system"),
            "{}",
            ran.stderr()
        );
    }
}

#[test]
fn j14_every_proc_shows_the_processes_of_the_jail_alone() {
    if !has(Need::Mounts) {
        return;
    }
    let machine = Machine::with(
        "mkdir -p $1/proc $1/part; touch $1/file; mount -t proc none $1/proc; \
         mount --bind /proc/$$/task $1/part; mount --bind /proc/$$/cmdline $1/file; \
         run() { cd $proc; \"$@\"; }; proc=$1/proc",
    );
    let test = std::process::id();
    for user in users() {
        let file = machine.path(&format!("proc/{test}/stat"));
        machine
            .attempt(user, Side::Outside, &["open", &file])
            .is_through();
        machine
            .attempt(user, Side::Inside, &["open", &file])
            .is_refused("No such file or directory");
        let list = ["sh", "-c", "pwd; echo *; cat self/comm"];
        let outside = machine.run(user, Side::Outside, &list).stdout();
        let inside = machine.run(user, Side::Inside, &list).stdout();
        let lists_us = |text: &str| {
            text.split_whitespace()
                .any(|entry| entry == test.to_string())
        };
        assert!(lists_us(&outside), "{outside}");
        assert!(!lists_us(&inside), "{inside}");
        let place = machine.path("proc");
        assert!(
            inside.starts_with(&format!("{place}\n1 ")) && inside.ends_with("cat\n"),
            "{inside}"
        );
        let parts = [machine.path("part"), machine.path("file")];
        let script = format!("ls {}; cat {}", parts[0], parts[1]);
        let outside = machine.run(user, Side::Outside, &["sh", "-c", &script]);
        assert!(outside.stdout().len() > 10, "{}", outside.stdout());
        let inside = machine.run(user, Side::Inside, &["sh", "-c", &script]);
        assert_eq!(inside.stdout(), "", "{}", inside.stderr());
        assert!(inside.0.status.success(), "{}", inside.stderr());
        // The settings of the jail's own are read-only there too.
        let setting = machine.path("proc/sys/kernel/core_pattern");
        let ran = machine.attempt(user, Side::Inside, &["write", &setting]);
        assert!(ran.stdout().starts_with("refused: "), "{}", ran.stdout());
    }
}

#[test]
fn j14_message_queues_are_those_of_the_jail() {
    if !has(Need::Mounts) {
        return;
    }
    let machine = Machine::with(
        "mkdir -p $1/queues; mount -t mqueue none $1/queues; [ -e $1/queues/jail-test ] || \
         (umask 0; : > $1/queues/jail-test)",
    );
    let queue = machine.path("queues/jail-test");
    for user in users() {
        machine
            .attempt(user, Side::Outside, &["write", &queue])
            .is_through();
        machine
            .attempt(user, Side::Inside, &["write", &queue])
            .is_refused("No such file or directory");
        let own = machine.path("queues/own");
        let script = format!(
            "ls /dev/mqueue 2>/dev/null; : > {own} && ls {}",
            machine.path("queues")
        );
        let ran = machine.run(user, Side::Inside, &["sh", "-c", &script]);
        assert_eq!(ran.stdout(), "own\n", "{}", ran.stderr());
    }
    let removed = std::fs::remove_file("/dev/mqueue/jail-test").is_ok()
        || Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-c",
                "mount -t mqueue none /mnt && rm /mnt/jail-test",
            ])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    assert!(removed, "the queue stays on this machine");
}

/// The automounter looks up names, on the machine's network. Its open requests are in the pipe.
#[test]
fn j14_the_automounter_gets_no_request() {
    if !has(Need::Mounts) {
        return;
    }
    let machine = Machine::with(
        "mkdir -p $1/net; [ -p $1/requests ] || mkfifo $1/requests; exec 3<>$1/requests; \
         mount -i -t autofs -o fd=3,pgrp=$(cut -d' ' -f5 /proc/$$/stat),minproto=5,maxproto=5,indirect none $1/net; \
         mkdir $1/net/there; mount -t tmpfs none $1/net/there; : > $1/net/there/file; \
         run() { setsid --wait timeout 5 \"$@\" 3>&-; local status=$?; \
         if read -t 0 <&3; then echo request; fi; return $status; }",
    );
    let script = format!(
        "cd {}; echo *; echo there/*; cat name.test/x",
        machine.path("net")
    );
    for user in users() {
        let ran = machine.run(user, Side::Outside, &["sh", "-c", &script]);
        assert!(
            ran.stdout().ends_with("request\n"),
            "{}{}",
            ran.stdout(),
            ran.stderr()
        );
        let ran = machine.run(user, Side::Inside, &["sh", "-c", &script]);
        assert_eq!(ran.stdout(), "there\nthere/file\n", "{}", ran.stderr());
        assert!(ran.stderr().contains("No such file"), "{}", ran.stderr());
    }
}

/// The machine's mounts are often shared with other namespaces.
#[test]
fn j14_a_mount_that_is_made_later_does_not_show_in_the_jail() {
    if !has(Need::Mounts) {
        return;
    }
    let machine = Machine::with(
        "mkdir -p $1/later; mount --make-rshared /; later=$1/later; \
         run() { coproc JAIL { \"$@\"; }; read line <&${JAIL[0]}; mount -t proc none $later; \
         echo >&${JAIL[1]}; cat <&${JAIL[0]}; umount $later; }",
    );
    let script = format!(
        "echo ready; read line; echo $(ls {}) end",
        machine.path("later")
    );
    for user in users() {
        let outside = machine.run(user, Side::Outside, &["sh", "-c", &script]);
        assert!(outside.stdout().contains("version"), "{}", outside.stderr());
        let inside = machine.run(user, Side::Inside, &["sh", "-c", &script]);
        assert_eq!(inside.stdout(), "end\n", "{}", inside.stderr());
    }
}

/// A name in the machine's file would lead past the policy DNS, and reach the door as an address.
#[test]
fn t1_names_in_the_hosts_file_of_the_machine_are_for_the_policy_dns() {
    if !has(Need::Mounts) {
        return;
    }
    let machine = Machine::with(
        "printf '10.77.0.1 in-the-file.test\\n127.0.0.9 of-the-loopback.test\\n' >$1/hosts; chmod 644 $1/hosts; \
         mount --bind $1/hosts /etc/hosts",
    );
    let outside = "10.77.0.1 in-the-file.test\n127.0.0.9 of-the-loopback.test\n";
    let inside = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.0.9 of-the-loopback.test\n";
    let write = ["sh", "-c", "echo 10.77.0.1 other.test >>/etc/hosts"];
    for user in users() {
        for (side, content) in [(Side::Outside, outside), (Side::Inside, inside)] {
            let ran = machine.run(user, side, &["cat", "/etc/hosts"]);
            assert_eq!(ran.stdout(), content, "{side:?}: {}", ran.stderr());
        }
        let ran = machine.run(user, Side::Inside, &write);
        assert!(!ran.0.status.success(), "{}", ran.stderr());
    }
}
