//! Unix sockets in the jail (SPEC J6): programs in it reach each other, and nothing outside.
//!
//! `unix_sockets.c` has the programs.

use std::fs::Permissions;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;

use crate::fixture::{Ran, User, harness, users};

static PROGRAM: LazyLock<(TempDir, String)> = LazyLock::new(|| {
    let folder = folder();
    let program = folder.path().join("unix-sockets");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/jail/unix_sockets.c");
    let compiled = Command::new("cc")
        .args(["-O1", "-Wall", "-Werror", "-pthread", "-o"])
        .args([program.as_path(), Path::new(source)])
        .status();
    assert!(compiled.expect("a C compiler").success());
    let program = program.into_os_string().into_string();
    (folder, program.expect("a plain path"))
});

/// A folder that every user may write to.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    open_to_all(folder.path());
    folder
}

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, Permissions::from_mode(0o777)).expect("our own file");
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("a plain path")
}

/// Runs a program of `unix_sockets.c` in a jail.
fn jailed(user: User, arguments: &[&str]) -> Ran {
    user.jailed(&[], &[&[PROGRAM.1.as_str()], arguments].concat())
}

/// Runs it outside.
fn outside(user: User, arguments: &[&str]) -> Ran {
    let output = user.command(&PROGRAM.1).args(arguments).output();
    Ran(output.expect("the program"))
}

/// Runs it in a jail, and passes it a socket from outside over its standard input.
fn jailed_with(user: User, socket: &OwnedFd, arguments: &[&str]) -> Ran {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    let descriptors = [socket.as_fd()];
    assert!(rights.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(
        &ours,
        &[IoSlice::new(b"x")],
        &mut rights,
        SendFlags::empty(),
    )
    .expect("our own pair");
    let mut command = user.command(harness());
    command.arg("--").arg(&PROGRAM.1).args(arguments);
    let output = command.stdin(OwnedFd::from(theirs)).output();
    Ran(output.expect("the harness"))
}

#[track_caller]
fn is_ok(ran: &Ran) {
    assert_eq!(ran.stdout(), "ok\n", "{}", ran.stderr());
}

#[track_caller]
fn failed(ran: &Ran, message: &str) {
    let message = format!("failed: {message}\n");
    assert_eq!(ran.stdout(), message, "{}", ran.stderr());
}

/// A listener outside, which counts its connections.
struct Listener(UnixListener);

impl Listener {
    fn at(address: &SocketAddr) -> Self {
        let listener = UnixListener::bind_addr(address).expect("a new name");
        listener.set_nonblocking(true).expect("our own socket");
        Self(listener)
    }

    fn at_path(path: &str) -> Self {
        let listener = Self::at(&SocketAddr::from_pathname(path).expect("a short path"));
        open_to_all(Path::new(path));
        listener
    }

    /// The connections since the last call. A connection is in the queue when `connect` returns.
    fn connections(&self) -> usize {
        std::iter::from_fn(|| self.0.accept().ok()).count()
    }
}

#[test]
fn j6_programs_in_the_jail_talk_over_unix_sockets() {
    for user in users() {
        let folder = folder();
        let path = |name: &str| text(folder.path().join(name));
        std::os::unix::fs::symlink("plain", path("link")).expect("our own folder");
        let own = format!("/proc/self/cwd/{}", "own");
        for arguments in [
            &["talk", &path("plain")] as &[&str],
            &["talk-packets", &path("packets")],
            &["talk", "@jail-test-talk"],
            &["talk-packets", "@jail-test-talk"],
            &["talk", &path("relative"), "relative", &path("")],
            &["talk", &path("own"), &own, &path("")],
            &["talk-undumpable", &path("undumpable")],
            &["talk-renamed", &path("first"), &path("second")],
            &["talk-passed", &path("passed")],
            &["talk-autobind"],
            &["talk-open", &path("open")],
        ] {
            is_ok(&outside(user, arguments));
            for name in std::fs::read_dir(folder.path()).expect("our own folder") {
                let name = name.expect("our own folder");
                if name.file_name() != "link" {
                    std::fs::remove_file(name.path()).expect("our own folder");
                }
            }
            is_ok(&jailed(user, arguments));
        }
        // The listener is at another path than the one that it was bound to.
        std::fs::remove_file(path("plain")).expect_err("removed before");
        is_ok(&jailed(user, &["talk", &path("plain"), &path("link")]));
    }
}

#[test]
fn j6_unix_sockets_outside_see_no_connection() {
    for user in users() {
        let folder = folder();
        let path = |name: &str| text(folder.path().join(name));
        let listener = Listener::at_path(&path("listener"));
        std::fs::hard_link(path("listener"), path("hard")).expect("our own folder");
        std::os::unix::fs::symlink(path("listener"), path("link")).expect("our own folder");
        let inside_root = format!("/proc/self/root{}", path("listener"));
        for name in ["listener", "hard", "link"]
            .map(path)
            .iter()
            .chain([&inside_root])
        {
            is_ok(&outside(user, &["connect", name]));
            assert_eq!(listener.connections(), 1);
            failed(
                &jailed(user, &["connect", name]),
                "connect: Permission denied",
            );
            assert_eq!(listener.connections(), 0);
        }
        for form in ["0", "1", "2", "3"] {
            let connect = ["connect-open", &path("listener"), form];
            is_ok(&outside(user, &connect));
            assert_eq!(listener.connections(), 1);
            failed(&jailed(user, &connect), "connect: Permission denied");
        }
        is_ok(&jailed(user, &["addressed", &path("listener")]));
        is_ok(&jailed(
            user,
            &["replaced", &path("inside"), &path("listener")],
        ));
        assert_eq!(listener.connections(), 0);
        failed(&jailed(user, &["datagrams"]), "socket: Permission denied");
        let name = format!("jail-test-outside-{}-{user:?}", std::process::id());
        let hidden = Listener::at(&SocketAddr::from_abstract_name(&name).expect("a name"));
        let name = format!("@{name}");
        is_ok(&outside(user, &["connect", &name]));
        assert_eq!(hidden.connections(), 1);
        failed(
            &jailed(user, &["connect", &name]),
            "connect: Connection refused",
        );
        assert_eq!(hidden.connections(), 0);
    }
}

/// The socket keeps the network namespace that it was made in.
#[test]
fn j6_a_socket_from_outside_connects_to_nothing() {
    let new = |family, kind| socket(family, kind, SockFlag::empty(), None).expect("a socket");
    for user in users() {
        let folder = folder();
        let path = text(folder.path().join("listener"));
        let listener = Listener::at_path(&path);
        let name = format!("jail-test-inherited-{}-{user:?}", std::process::id());
        let hidden = Listener::at(&SocketAddr::from_abstract_name(&name).expect("a name"));
        let refused = "connect: Permission denied";
        for to in [path, format!("@{name}")] {
            for kind in [SockType::Stream, SockType::Datagram] {
                let ran = jailed_with(
                    user,
                    &new(AddressFamily::Unix, kind),
                    &["connect-passed", &to],
                );
                failed(&ran, refused);
            }
        }
        assert_eq!(listener.connections() + hidden.connections(), 0);
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = tcp.local_addr().expect("its address").port().to_string();
        for kind in [SockType::Stream, SockType::Datagram] {
            let ran = jailed_with(
                user,
                &new(AddressFamily::Inet, kind),
                &["connect-passed-tcp", &port],
            );
            failed(&ran, refused);
        }
        tcp.set_nonblocking(true).expect("our own socket");
        tcp.accept().expect_err("no connection");
    }
}

/// A thread changes the address, another one the descriptor, and a program the link.
#[test]
fn j6_a_race_gains_nothing() {
    for user in users() {
        let folder = folder();
        let path = |name: &str| text(folder.path().join(name));
        let listener = Listener::at_path(&path("b"));
        let outside = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::empty(),
            None,
        );
        let outside = outside.expect("a socket");
        is_ok(&jailed_with(
            user,
            &outside,
            &["race", &path("a"), &path("b")],
        ));
        is_ok(&jailed(
            user,
            &["race-links", &path("link"), &path("c"), &path("b")],
        ));
        assert_eq!(listener.connections(), 0);
    }
}

#[test]
fn j6_no_program_in_the_jail_listens_for_calls_itself() {
    for user in users() {
        failed(
            &jailed(user, &["own-listener"]),
            "seccomp: Device or resource busy",
        );
    }
}

#[test]
fn j6_errors_of_connect_are_the_kernels() {
    for user in users() {
        let folder = folder();
        for arguments in [
            &["errors"] as &[&str],
            &["left-behind", &text(folder.path().join("socket"))],
        ] {
            is_ok(&outside(user, arguments));
            is_ok(&jailed(user, arguments));
        }
    }
}

/// More callers are killed than calls may wait.
#[test]
fn j6_a_call_that_waits_holds_nothing_up_and_ends_with_its_caller() {
    for user in users() {
        for make in [outside, jailed] {
            let folder = folder();
            is_ok(&make(user, &["blocked", &text(folder.path().join("full"))]));
        }
    }
}

/// The flags of a socket change while its call is performed.
#[test]
fn j6_a_call_that_holds_the_receiver_up_holds_up_no_other() {
    for user in users() {
        is_ok(&jailed(user, &["holds-up"]));
    }
}

/// Process 1 keeps a handle of each of the last callers.
#[test]
fn j6_few_descriptors_suffice_for_many_callers() {
    for user in users() {
        let script = "ulimit -n 64; exec \"$@\"";
        let calls = format!(
            "for call in $(seq 80); do {} tcp 1 blocking || exit; done",
            PROGRAM.1
        );
        let mut command = user.command("bash");
        command.args(["-c", script, "bash"]).arg(harness());
        let output = command.args(["--", "bash", "-c", &calls]).output();
        let ran = Ran(output.expect("bash"));
        assert_eq!(ran.stdout(), "ok\n".repeat(80), "{}", ran.stderr());
    }
}

#[test]
fn j6_a_thousand_connections_are_made() {
    for user in users() {
        let folder = folder();
        let path = text(folder.path().join("socket"));
        is_ok(&jailed(user, &["many", &path, "1000"]));
        is_ok(&jailed(user, &["many", "@jail-test-many", "1000"]));
        is_ok(&jailed(user, &["tcp", "1000", "blocking"]));
        is_ok(&jailed(user, &["tcp", "1000", "non-blocking"]));
    }
}

/// More threads and processes than the supervisor has handles of, whose numbers come again.
#[test]
fn j6_many_threads_and_processes_connect() {
    for user in users() {
        is_ok(&jailed(
            user,
            &["many-threads", "@jail-test-threads", "100", "5"],
        ));
        let folder = folder();
        let path = text(folder.path().join("socket"));
        is_ok(&jailed(user, &["many-threads", &path, "100", "1"]));
    }
}

#[test]
fn j6_a_call_that_waits_ends_with_a_signal_or_another_program() {
    for user in users() {
        for make in [outside, jailed] {
            let folder = folder();
            let path = |name: &str| text(folder.path().join(name));
            is_ok(&make(user, &["interrupted", &path("interrupted")]));
            is_ok(&make(user, &["execute-meanwhile", &path("executed")]));
        }
    }
}
