//! Runs commands in jails, and attempts in them or outside.

use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread;

use e2e::machine::{self, Need, has};
use tempfile::TempDir;

/// An ordinary user's number, with or without an account.
pub(crate) const ORDINARY: u32 = 54_321;

/// Who starts the jail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// The user of the tests.
    Own,
    /// An ordinary user, if root runs the tests.
    Ordinary,
}

/// The programs, where every user may execute them.
struct Programs {
    folder: TempDir,
}

static PROGRAMS: LazyLock<Programs> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let all = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(folder.path(), all(0o755)).expect("our own folder");
    let harness = folder.path().join("jail");
    std::fs::copy(env!("CARGO_BIN_EXE_jail-under-test"), &harness).expect("the harness");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/jail/attempts.c");
    let compiled = Command::new("cc")
        .args(["-O1", "-Wall", "-Werror", "-o"])
        .args([folder.path().join("attempts").as_path(), Path::new(source)])
        .status();
    assert!(compiled.expect("a C compiler").success());
    Programs { folder }
});

/// The harness, which starts a jail.
pub(crate) fn harness() -> PathBuf {
    PROGRAMS.folder.path().join("jail")
}

/// The hostile program.
pub(crate) fn attempts() -> String {
    let path = PROGRAMS.folder.path().join("attempts");
    path.into_os_string().into_string().expect("a plain path")
}

/// The users that tests run as; empty, with a line about it, where no jail can be made.
pub(crate) fn users() -> Vec<User> {
    if !has(Need::UserNamespaces) {
        Vec::new()
    } else if machine::is_root() {
        vec![User::Own, User::Ordinary]
    } else {
        vec![User::Own]
    }
}

impl User {
    /// A command of this user.
    pub(crate) fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if self == Self::Ordinary {
            command.uid(ORDINARY).gid(ORDINARY);
        }
        // An ordinary user may not read all directories of root's.
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.stdin(Stdio::null()).current_dir("/");
        command
    }

    /// Runs a command in a jail.
    pub(crate) fn jailed(self, options: &[&str], command: &[&str]) -> Ran {
        let output = self
            .command(harness())
            .args(options)
            .arg("--")
            .args(command)
            .output();
        Ran(output.expect("the harness"))
    }

    /// Makes an attempt in a jail.
    pub(crate) fn attempt(self, attempt: &[&str]) -> Ran {
        let program = attempts();
        self.jailed(&[], &[&[program.as_str()], attempt].concat())
    }

    /// Makes attempts of one name in one jail, one for each list of arguments. Returns the line that each writes.
    pub(crate) fn attempts_in_one_jail(self, name: &str, attempts: &[Vec<String>]) -> Vec<String> {
        let script =
            "name=$1; while read -r arguments; do \"$0\" $name $arguments; done <<END\n$2\nEND";
        let lists: Vec<String> = attempts.iter().map(|list| list.join(" ")).collect();
        let program = self::attempts();
        let ran = self.jailed(
            &[],
            &["bash", "-c", script, &program, name, &lists.join("\n")],
        );
        ran.stdout().lines().map(str::to_owned).collect()
    }

    /// Makes an attempt outside any jail.
    pub(crate) fn attempt_outside(self, attempt: &[&str]) -> Ran {
        let output = self.command(attempts()).args(attempt).output();
        Ran(output.expect("the attempts"))
    }
}

/// A child that ends with the test, even with one that fails.
pub(crate) struct Ending(pub(crate) Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a command ended, and its output.
pub(crate) struct Ran(pub(crate) Output);

impl Ran {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// The attempt was refused, with this error.
    #[track_caller]
    pub(crate) fn is_refused(&self, error: &str) {
        let stdout = self.stdout();
        assert!(
            stdout.starts_with("refused: ") && stdout.trim_end().ends_with(error),
            "not {error:?}: {stdout}{}",
            self.stderr()
        );
    }

    /// The attempt got through.
    #[track_caller]
    pub(crate) fn is_through(&self) {
        let stdout = self.stdout();
        assert!(stdout.starts_with("through: "), "{stdout}{}", self.stderr());
    }
}

/// Services outside the jail. Each answers "outside".
pub(crate) struct Outside {
    pub(crate) tcp: u16,
    pub(crate) udp: UdpSocket,
    folder: TempDir,
    pub(crate) datagrams: UnixDatagram,
}

impl Outside {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let all = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(folder.path(), all(0o755)).expect("our own folder");
        let tcp = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = tcp.local_addr().expect("its address").port();
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let _ = (&stream).write_all(b"outside");
            }
        });
        let udp = UdpSocket::bind("0.0.0.0:0").expect("a port");
        let answering = udp.try_clone().expect("a copy");
        thread::spawn(move || {
            let mut bytes = [0; 16];
            while let Ok((1, from)) = answering.recv_from(&mut bytes) {
                let _ = answering.send_to(b"outside", from);
            }
        });
        let outside = Self {
            tcp: port,
            udp,
            datagrams: UnixDatagram::bind(folder.path().join("datagrams")).expect("a socket"),
            folder,
        };
        let stream = UnixListener::bind(outside.path("stream")).expect("a socket");
        for name in ["datagrams", "stream"] {
            std::fs::set_permissions(outside.path(name), all(0o777)).expect("our own socket");
        }
        thread::spawn(move || {
            for stream in stream.incoming().flatten() {
                let _ = (&stream).write_all(b"outside");
            }
        });
        outside
            .datagrams
            .set_nonblocking(true)
            .expect("our own socket");
        outside
    }

    /// The path of the unix socket `stream` or `datagrams`.
    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.into_os_string().into_string().expect("a plain path")
    }

    /// Whether a datagram has arrived at the unix socket.
    pub(crate) fn has_datagram(&self) -> bool {
        self.datagrams.recv(&mut [0; 16]).is_ok()
    }
}
