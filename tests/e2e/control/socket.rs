//! The socket itself: found, made, kept and removed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use e2e::daemon::{Config, Daemon, Exit, Launch, Signal};
use e2e::program::Program;
use e2e::proxyctl::proxyctl_at;
use e2e::{machine, shipped};

fn launch_at(socket: &Path) -> Launch {
    let path = serde_json::Value::from(socket.to_string_lossy());
    Daemon::launch()
        .config(&Config::example())
        .arg("-c")
        .arg(format!("daemon.control.socket={path}"))
}

fn refused_at(socket: &Path) -> Exit {
    let Err(exit) = launch_at(socket).try_start() else {
        panic!("it starts on {}", socket.display());
    };
    assert_eq!(exit.code, Some(1), "{}", exit.text());
    exit
}

#[test]
fn k2_the_variable_and_the_runtime_directory_lead_to_the_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("codex-network-proxy/control.sock");
    let daemon = launch_at(&place).start();
    assert_eq!(daemon.control_socket(), place);
    for (name, value) in [
        ("CODEX_NETWORK_PROXY_CONTROL", place.as_path()),
        ("XDG_RUNTIME_DIR", directory.path()),
    ] {
        let found = Program::new(shipped::proxyctl())
            .arg("mode")
            .env(name, value)
            .run();
        assert_eq!(found.succeeded().stdout, "full\n", "{name}");
    }
}

#[test]
fn k2_without_an_answer_proxyctl_prints_what_was_tried_and_how_to_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let stale = directory.path().join("stale.sock");
    drop(UnixListener::bind(&stale).expect("a socket"));
    for (path, why) in [
        (
            directory.path().join("none.sock"),
            "there is no such socket",
        ),
        (stale, "no process listens on it"),
    ] {
        let run = proxyctl_at(&path, &["status"]);
        assert_eq!(run.code, Some(3), "{run:?}");
        assert_eq!(run.stdout, "");
        run.says(&format!("{}: {why}", path.display()))
            .says("Start it with `codex-network-proxy`");
    }
}

#[test]
fn l4_the_sockets_directory_is_created_and_the_socket_is_removed_at_exit() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("made/control.sock");
    let daemon = launch_at(&place).start();
    let made = fs::metadata(place.parent().expect("a parent")).expect("it is made");
    let wanted = if machine::is_root() { 0o755 } else { 0o700 };
    assert_eq!(made.permissions().mode() & 0o777, wanted);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code, Some(0));
    assert!(!place.exists(), "the socket is left behind");
}

#[test]
fn l4_a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("control.sock");
    drop(UnixListener::bind(&place).expect("a socket"));
    let daemon = launch_at(&place).start();
    daemon.wait_for_log(|line| line.message() == Some("removed a stale control socket"));
    proxyctl_at(&place, &["mode"]).succeeded();
}

#[test]
fn l4_a_second_instance_is_refused_and_the_first_keeps_running() {
    let first = Daemon::start(&Config::example());
    let exit = refused_at(&first.control_socket());
    let wanted = format!(
        "another codex-network-proxy (process {}) listens on it",
        first.pid()
    );
    let named = if cfg!(target_os = "linux") {
        wanted.as_str()
    } else {
        "another codex-network-proxy"
    };
    assert!(exit.text().contains(named), "{}", exit.text());
    proxyctl_at(&first.control_socket(), &["mode"]).succeeded();
}

#[test]
fn l4_a_file_that_is_not_a_socket_is_never_touched() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("control.sock");
    fs::write(&place, "precious").expect("a file");
    let exit = refused_at(&place);
    assert!(
        exit.text().contains("a file that is not a socket"),
        "{}",
        exit.text()
    );
    assert_eq!(fs::read_to_string(&place).expect("it is there"), "precious");
    // Nor the target of a link.
    let link = directory.path().join("link.sock");
    std::os::unix::fs::symlink(&place, &link).expect("a link");
    refused_at(&link);
    assert_eq!(fs::read_to_string(&place).expect("it is there"), "precious");
}

#[test]
fn l4_a_socket_that_another_process_made_is_left_at_exit() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("control.sock");
    let daemon = launch_at(&place).start();
    fs::remove_file(&place).expect("the test takes it away");
    let _other = UnixListener::bind(&place).expect("a socket");
    let inode = fs::symlink_metadata(&place).expect("it is there").ino();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code, Some(0));
    let left = fs::symlink_metadata(&place).expect("it is still there");
    assert_eq!(left.ino(), inode);
}

#[test]
fn l4_a_configured_path_that_cannot_be_created_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("a/b/control.sock");
    let exit = refused_at(&place);
    assert!(
        exit.text().contains("cannot make the directory"),
        "{}",
        exit.text()
    );
    let long = directory.path().join("x".repeat(120));
    let reported = refused_at(&long).text();
    assert!(
        reported.contains("the path of the control socket is too long ("),
        "{reported}"
    );
    assert!(reported.contains("and the system takes 10"), "{reported}");
    assert!(
        reported.contains("set [daemon.control] socket to a shorter one"),
        "{reported}"
    );
    proxyctl_at(&long, &["status"]).says("the path is too long for a unix socket");
}

#[test]
fn l4_the_sockets_mode_follows_the_configured_access() {
    for (key, names, wanted) in [
        ("observers", r#"["root"]"#, 0o666),
        ("administrators", r#"["@root", "@daemon"]"#, 0o666),
        ("observers", "[]", 0o600),
    ] {
        let config = Config::example().set("daemon.control", key, names);
        let daemon = Daemon::start(&config);
        let mode = fs::metadata(daemon.control_socket())
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, wanted, "{names}");
    }
    // Giving the file to a group of ours needs no privilege.
    let group = nix::unistd::Group::from_gid(nix::unistd::Gid::effective());
    let group = group.expect("a group database").expect("our own group");
    let names = format!(r#"["@{}"]"#, group.name);
    let config = Config::example().set("daemon.control", "observers", &names);
    let daemon = Daemon::start(&config);
    let file = fs::metadata(daemon.control_socket()).expect("it is there");
    assert_eq!(file.permissions().mode() & 0o777, 0o660);
    assert_eq!(file.gid(), group.gid.as_raw());
}
