//! Paths that other users may change: root refuses them, and other users are warned (SPEC C1).

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use e2e::daemon::{Config, Daemon, Exit, Launch};
use e2e::machine::{self, Need};
use e2e::program::Program;
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

/// Another user, who need not exist.
const OTHER: u32 = 12345;

/// A directory, and one in it that another user may write to: its owner if root runs the test.
fn theirs() -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a temporary directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("ours");
    let theirs = directory.path().join("theirs");
    fs::create_dir(&theirs).expect("a directory");
    if machine::is_root() {
        chown(&theirs, Some(OTHER), None).expect("root gives it away");
    } else {
        fs::set_permissions(&theirs, Permissions::from_mode(0o777)).expect("ours");
    }
    (directory, theirs)
}

fn launch(key: &str, value: &Path) -> Launch {
    let value = serde_json::Value::from(value.to_string_lossy());
    Daemon::launch()
        .config(&Config::example())
        .arg("-c")
        .arg(format!("{key}={value}"))
}

#[track_caller]
fn refused(launch: Launch) -> Exit {
    match launch.try_start() {
        Ok(daemon) => panic!("it starts: {:#?}", daemon.logs()),
        Err(exit) => exit,
    }
}

/// A warning at the start that contains all of these.
fn warned(daemon: &Daemon, words: &[&str]) {
    daemon.wait_for_log(|line| {
        line.level() == Some("WARN")
            && line
                .message()
                .is_some_and(|message| words.iter().all(|word| message.contains(word)))
    });
}

#[test]
fn l4_root_puts_no_socket_or_state_below_another_users_directory() {
    let (_directory, theirs) = theirs();
    let theirs_named = theirs.display().to_string();
    for (key, path) in [
        ("daemon.control.socket", theirs.join("ours/control.sock")),
        ("daemon.state_dir", theirs.join("state")),
    ] {
        // Our files are in it: the permissions of the directory above decide who may move them.
        fs::create_dir_all(path.parent().expect("a parent")).expect("it may be made");
        if machine::is_root() {
            let exit = refused(launch(key, &path));
            assert_eq!(exit.code, Some(78), "{}", exit.text());
            let wanted = format!(
                "{theirs_named} belongs to user {OTHER}, who may change it; to repair: chown root {theirs_named}"
            );
            assert!(exit.text().contains(&wanted), "{}", exit.text());
        } else {
            let daemon = launch(key, &path).start();
            warned(&daemon, &[&theirs_named, "every user", "chmod go-w"]);
        }
    }
}

#[test]
fn l4_a_reload_changes_only_the_mode_of_the_socket() {
    if !machine::has(Need::Root) {
        return;
    }
    let directory = TempDir::new().expect("a temporary directory");
    let precious = directory.path().join("precious");
    fs::write(&precious, "").expect("a file");
    fs::set_permissions(&precious, Permissions::from_mode(0o600)).expect("ours");
    let place = directory.path().join("control.sock");
    let daemon = launch("daemon.control.socket", &place).start();
    // A user with write permission there could do this.
    let moved = directory.path().join("moved.sock");
    fs::rename(&place, moved).expect("it is there");
    std::os::unix::fs::symlink(&precious, &place).expect("a link");
    for names in [r#"["nobody"]"#, "[]", r#"["daemon"]"#] {
        daemon.reload_with(&Config::example().set("daemon.control", "observers", names));
        let mode = fs::metadata(&precious).expect("it is there").mode();
        assert_eq!(mode & 0o7777, 0o600, "{names}");
    }
}

#[test]
fn c1_root_reads_no_configuration_that_another_user_may_change() {
    let (_directory, theirs) = theirs();
    let file = theirs.join("policy.toml");
    fs::write(&file, "[network]\nallowed_domains = []\n").expect("a file");
    let check = Program::new(e2e::shipped::proxy())
        .arg("check")
        .arg(&file)
        .run();
    if machine::is_root() {
        check
            .failed()
            .says("is refused")
            .says(&format!("{} belongs to user {OTHER}", theirs.display()))
            .says(&format!("chown root {}", theirs.display()));
    } else {
        check
            .succeeded()
            .says("warning: others may change a configuration file")
            .says(&format!("chmod go-w {}", theirs.display()));
    }
}

#[test]
fn c1_root_does_not_take_the_layer_of_another_users_home() {
    if !machine::has(Need::Root) {
        return;
    }
    let (_directory, home) = theirs();
    let check = || {
        Program::new(e2e::shipped::proxy())
            .env("CODEX_HOME", &home)
            .arg("check")
            .run()
    };
    check().succeeded();
    fs::write(home.join("config.toml"), "").expect("a file");
    check()
        .failed()
        .says(&format!("{} belongs to user {OTHER}", home.display()))
        .says("HOME or CODEX_HOME leads to it")
        .says("sudo -H");
}

#[test]
fn m9_root_injects_no_secret_that_another_user_may_change() {
    let (_directory, theirs) = theirs();
    let secret = theirs.join("token");
    fs::write(&secret, "hunter2").expect("a file");
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("ours");
    let text = format!(
        "[network.mitm.hooks.a]\nhost = \"a.test\"\nmethods = [\"GET\"]\npath_prefixes = [\"/\"]\naction = [\"b\"]\n\
         [[network.mitm.actions.b.inject_request_headers]]\nname = \"authorization\"\nsecret_file = \"{}\"\n",
        secret.display()
    );
    let run = super::check(&text);
    if machine::is_root() {
        run.failed()
            .says(&format!("{} belongs to user {OTHER}", theirs.display()));
    } else {
        run.succeeded().says("others may change a secret file");
    }
    assert!(!run.stderr.contains("hunter2"));
}

#[test]
fn c7_a_reload_refuses_a_path_that_others_may_change_and_keeps_the_policy() {
    if !machine::has(Need::Root) {
        return;
    }
    let daemon = Daemon::start(&Config::example());
    let config = daemon.config_path().to_owned();
    fs::set_permissions(&config, Permissions::from_mode(0o646)).expect("ours");
    let answer = daemon.reload();
    assert_eq!(answer.status, 500, "{answer:?}");
    fs::set_permissions(&config, Permissions::from_mode(0o644)).expect("ours");
    assert_eq!(daemon.reload().status, 200);
}

#[test]
fn c5_a_hosts_file_that_never_ends_is_refused_at_once() {
    let exit = refused(launch("daemon.resolver.hosts_file", Path::new("/dev/zero")));
    assert_eq!(exit.code, Some(78), "{}", exit.text());
    let wanted = "hosts_file: cannot read /dev/zero: it is not a regular file";
    assert!(exit.text().contains(wanted), "{}", exit.text());
}

#[test]
fn l4_a_lock_on_the_sockets_directory_does_not_block_a_start() {
    let directory = TempDir::new().expect("a temporary directory");
    let held = File::open(directory.path()).expect("a directory");
    let _held = Flock::lock(held, FlockArg::LockExclusive).expect("a lock");
    let place = directory.path().join("control.sock");
    let _daemon = launch("daemon.control.socket", &place).start();
    let left: Vec<_> = fs::read_dir(directory.path())
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(left, ["control.sock"], "the lock's file is gone");
}

#[test]
fn c5_a_worker_that_runs_as_nobody_is_logged() {
    if !machine::has(Need::Root) || !machine::has(Need::NoServiceAccount) {
        return;
    }
    let daemon = Daemon::start(&Config::example());
    warned(&daemon, &["the worker runs as nobody", "useradd --system"]);
}
