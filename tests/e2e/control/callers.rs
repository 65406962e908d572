//! Which callers are served, and what a misbehaving caller gets.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::{fs, io};

use e2e::daemon::{Config, Daemon};
use e2e::machine::{self, Need};
use e2e::program::{Program, Run};
use e2e::proxyctl::{proxyctl, proxyctl_at, proxyctl_json};
use e2e::shipped;
use e2e::wait::TIMEOUT;

/// An account that exists on every system and is not ours.
const NOBODY: &str = "nobody";

/// Runs `proxyctl` as `nobody`. Needs root.
pub(crate) fn as_nobody(daemon: &Daemon, arguments: &[&str]) -> Run {
    as_nobody_in(daemon, &["--clear-groups".to_owned()], arguments)
}

/// The same with these options of setpriv(1) for the supplementary groups.
fn as_nobody_in(daemon: &Daemon, groups: &[String], arguments: &[&str]) -> Run {
    let nobody = nix::unistd::User::from_name(NOBODY)
        .expect("a user database")
        .expect("every system has nobody");
    open_to_all(daemon.directory());
    // The build directory may be closed to others. Not copied by this process: another test's child
    // could inherit the file while it is open for writing, and it could not be run then.
    let program = daemon.directory().join("proxyctl");
    if !program.exists() {
        Program::new("cp")
            .args([Path::new(shipped::proxyctl()), &program])
            .run()
            .succeeded();
    }
    Program::new("setpriv")
        .args(groups)
        .arg("--reuid")
        .arg(nobody.uid.to_string())
        .arg("--regid")
        .arg(nobody.gid.to_string())
        .arg(program)
        .arg("--socket")
        .arg(daemon.control_socket())
        .args(arguments)
        .current_dir(Path::new("/"))
        .run()
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own directory");
}

fn with_control(key: &str, names: &str) -> Daemon {
    Daemon::start(&Config::example().set("daemon.control", key, names))
}

#[test]
fn k3_strangers_are_disconnected_and_told_how_to_get_access() {
    let daemon = with_control("observers", r#"["daemon"]"#);
    if !machine::has(Need::Root) {
        // Only root can become another user. Without root, the test checks the file's permissions.
        fs::set_permissions(daemon.control_socket(), fs::Permissions::from_mode(0o000))
            .expect("ours");
        let run = proxyctl(&daemon, &["status"]);
        assert_eq!(run.code, Some(4), "{run:?}");
        return;
    }
    let run = as_nobody(&daemon, &["status"]);
    assert_eq!(run.code, Some(4), "{run:?}");
    run.says("closed the connection without an answer")
        .says("add \"nobody\" to [daemon.control] users (for `proxyctl run`), observers or administrators");
    let line = daemon.wait_for_message("neither administrator nor observer");
    assert!(line.field("uid").is_some(), "{}", line.raw);
}

#[test]
fn k3_without_observers_only_the_owner_may_use_the_socket() {
    let daemon = Daemon::start(&Config::example());
    let mode = fs::metadata(daemon.control_socket()).expect("it is there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    if machine::has(Need::Root) {
        let run = as_nobody(&daemon, &["status"]);
        assert_eq!(run.code, Some(4), "{run:?}");
        run.says("this user may not connect to it");
    }
}

#[test]
fn k3_c7_a_reload_changes_who_may_use_the_socket() {
    let daemon = Daemon::start(&Config::example());
    let mode_with = |key: &str, names: &str, wanted: (u32, Option<u32>)| {
        daemon.reload_with(&Config::example().set("daemon.control", key, names));
        // Mode and owner change when the monitor knows that the settings are in force.
        let followed = e2e::wait::poll(TIMEOUT, || {
            let file = fs::metadata(daemon.control_socket()).expect("it is there");
            let mode = file.permissions().mode() & 0o777 == wanted.0;
            (mode && wanted.1.is_none_or(|group| file.gid() == group)).then_some(())
        });
        followed.unwrap_or_else(|| panic!("{key} = {names}: not {wanted:?}"));
    };
    let root = machine::has(Need::Root);
    mode_with("observers", r#"["nobody"]"#, (0o666, None));
    if root {
        as_nobody(&daemon, &["status"]).succeeded();
    }
    mode_with("observers", "[]", (0o600, None));
    let group = if root {
        let run = as_nobody(&daemon, &["status"]);
        run.says("this user may not connect to it");
        let nobody = nix::unistd::User::from_name(NOBODY).expect("a user database");
        nobody.expect("every system has nobody").gid
    } else {
        nix::unistd::Gid::effective()
    };
    let name = nix::unistd::Group::from_gid(group).expect("a group database");
    let one_group = format!(r#"["@{}"]"#, name.expect("the group").name);
    mode_with("administrators", &one_group, (0o660, Some(group.as_raw())));
    if root {
        as_nobody(&daemon, &["mode", "limited"]).succeeded();
    }
}

#[test]
fn k3_callers_of_one_user_wait_at_the_limit() {
    let daemon = Daemon::start(&Config::example());
    let path = daemon.control_socket();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..64)
            .map(|_| scope.spawn(|| proxyctl_at(&path, &["status"])))
            .collect();
        for call in calls {
            call.join().expect("no panic").succeeded();
        }
    });
    // A caller that had to wait is served too.
    let mut held: Vec<UnixStream> = (0..16).map(|_| raw(&path)).collect();
    for stream in &mut held {
        send(stream, 0, &hello(1)).expect("it reads");
        receive(stream);
    }
    let mut waiting = raw(&path);
    send(&mut waiting, 0, &hello(1)).expect("there is room in the kernel's buffer");
    drop(held.pop());
    let welcome = receive(&mut waiting);
    assert!(welcome.contains(r#""access""#), "{welcome}");
}

#[test]
fn k3_a_caller_beyond_the_limit_is_told_why() {
    let daemon = Daemon::start(&Config::example());
    let path = daemon.control_socket();
    let mut held: Vec<UnixStream> = (0..16).map(|_| raw(&path)).collect();
    for stream in &mut held {
        send(stream, 0, &hello(1)).expect("it reads");
        receive(stream);
    }
    let run = proxyctl_at(&path, &["status"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    run.says("16 calls of this user are open; try again");
    daemon.wait_for_message("refused a caller of the control socket");
    drop(held);
    let served = e2e::wait::poll(TIMEOUT, || {
        (proxyctl_at(&path, &["status"]).code == Some(0)).then_some(())
    });
    served.expect("there is room again");
}

#[test]
fn k3_observers_may_read_and_administrators_may_change() {
    if !machine::has(Need::Root) {
        // The daemon's own user may always administer.
        let daemon = with_control("observers", r#"["nobody"]"#);
        proxyctl(&daemon, &["mode", "limited"]).succeeded();
        return;
    }
    let daemon = with_control("observers", r#"["nobody"]"#);
    as_nobody(&daemon, &["status"]).succeeded();
    for arguments in [&["mode", "limited"][..], &["reload"]] {
        let run = as_nobody(&daemon, arguments);
        assert_eq!(run.code, Some(4), "{run:?}");
        run.says("needs the right to administer");
    }
    assert_eq!(proxyctl_json(&daemon, &["mode"])["mode"], "full");

    // Access by group, after a reload.
    let group = nix::unistd::User::from_name(NOBODY).expect("a user database");
    let group = nix::unistd::Group::from_gid(group.expect("nobody").gid);
    let group = group.expect("a group database").expect("its group").name;
    let administrators = format!(r#"["@{group}"]"#);
    daemon.rewrite_config(&Config::example().set(
        "daemon.control",
        "administrators",
        &administrators,
    ));
    proxyctl(&daemon, &["reload"]).succeeded();
    as_nobody(&daemon, &["mode", "limited"]).succeeded();
    let logged = daemon.wait_for_log(|line| {
        line.message() == Some("the mode was changed through the control socket")
    });
    assert_ne!(
        logged.field("uid").and_then(serde_json::Value::as_u64),
        Some(0)
    );
}

/// A group of the session alone: the user database does not know the member.
#[test]
#[cfg(target_os = "linux")]
fn k3_a_supplementary_group_of_the_process_admits_it() {
    if !machine::has(Need::Root) {
        return;
    }
    let group = nix::unistd::Group::from_name("daemon").expect("a group database");
    let group = group.expect("every system has it");
    assert!(
        !group.mem.iter().any(|member| member == NOBODY),
        "{group:?}"
    );
    let daemon = with_control("observers", r#"["@daemon", "root"]"#);
    let run = as_nobody(&daemon, &["status"]);
    assert_eq!(run.code, Some(4), "{run:?}");
    let in_it = |further: u32| {
        let further: Vec<_> = (0..further)
            .map(|group| (100_000 + group).to_string())
            .collect();
        let all = [&[group.gid.to_string()], &further[..]].concat();
        ["--groups".to_owned(), all.join(",")]
    };
    // The same with more groups than fit into the first answer of the kernel.
    for further in [0, 1, 63, 64, 500] {
        let groups = in_it(further);
        as_nobody_in(&daemon, &groups, &["status"]).succeeded();
        let run = as_nobody_in(&daemon, &groups, &["mode", "limited"]);
        assert_eq!(run.code, Some(4), "{run:?}");
        run.says("needs the right to administer");
    }
    let others = ["--groups".to_owned(), "100000,100001".to_owned()];
    let run = as_nobody_in(&daemon, &others, &["status"]);
    assert_eq!(run.code, Some(4), "{run:?}");
}

#[test]
fn k3_an_unknown_user_name_is_in_the_log_and_in_status() {
    let daemon = with_control("administrators", r#"["no-such-user"]"#);
    let reported = "[daemon.control] administrators has \"no-such-user\", which permits no caller: this system does not know that name";
    daemon.wait_for_log(|line| line.message() == Some(reported));
    proxyctl(&daemon, &["status"]).succeeded().says(reported);
}

/// A caller that sends raw bytes.
fn raw(socket: &PathBuf) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("it listens");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a socket");
    stream.set_write_timeout(Some(TIMEOUT)).expect("a socket");
    stream
}

fn send(stream: &mut UnixStream, id: u32, call: &str) -> io::Result<()> {
    let message = format!(
        r#"{{"Request":{{"context":{{"deadline":{{"secs":18446744073709551615,"nanos":0}}}},"id":{id},"message":{call}}}}}"#
    );
    let length = u32::try_from(message.len()).expect("short");
    stream.write_all(&[&length.to_be_bytes(), message.as_bytes()].concat())
}

fn hello(newest: u32) -> String {
    format!(r#"{{"Hello":{{"request":{{"oldest":{newest},"newest":{newest},"program":"raw"}}}}}}"#)
}

fn receive(stream: &mut UnixStream) -> String {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).expect("a length")];
    stream.read_exact(&mut answer).expect("all of it");
    String::from_utf8(answer).expect("text")
}

#[test]
fn k4_a_version_mismatch_is_reported_on_both_sides() {
    let daemon = Daemon::start(&Config::example());
    let mut caller = raw(&daemon.control_socket());
    send(&mut caller, 0, &hello(99)).expect("it reads");
    let answer = receive(&mut caller);
    assert!(answer.contains(r#""kind":"version_mismatch""#), "{answer}");
    daemon.wait_for_log(|line| {
        line.message().is_some_and(|message| {
            message.contains("the caller speaks version 99 of the control protocol")
                && message.contains("update and restart the proxy")
        })
    });
}

#[test]
fn k3_only_bad_callers_are_disconnected_with_a_reason_in_the_log() {
    let daemon = Daemon::start(&Config::example());
    let path = daemon.control_socket();
    let giant = [0x7f; 4];
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "longer than"),
        (&giant[..], "longer than"),
        (&b"\0\0\0\x04null"[..], "holds no message"),
    ] {
        let mut caller = raw(&path);
        caller.write_all(bytes).expect("it reads");
        let mut rest = Vec::new();
        // The end may be a reset, since not everything was read.
        let _ = caller.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{rest:?}");
        daemon.wait_for_message(reason);
    }
    proxyctl_at(&path, &["status"]).succeeded();
}

#[test]
fn k3_silent_callers_and_slow_readers_delay_no_one() {
    let daemon = Daemon::start(&Config::example());
    let path = daemon.control_socket();
    let silent: Vec<UnixStream> = (0..4).map(|_| raw(&path)).collect();
    let mut deaf = raw(&path);
    send(&mut deaf, 0, &hello(1)).expect("it reads");
    receive(&mut deaf);
    // Until it is disconnected, or the kernel accepts no more.
    deaf.set_write_timeout(Some(std::time::Duration::from_millis(200)))
        .expect("a socket");
    let config = r#"{"Config":{"request":{}}}"#;
    let asked = (1..10_000).take_while(|id| send(&mut deaf, *id, config).is_ok());
    assert!(asked.count() > 0);
    proxyctl_at(&path, &["status"]).succeeded();
    drop(silent);
}
