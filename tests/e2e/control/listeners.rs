//! Which users' proxies `proxyctl` trusts: the kernel names the listener's owner, and a path proves
//! nothing (SPEC K2). Starting a proxy of another user needs root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use e2e::daemon::{Config, Daemon, StartScript};
use e2e::machine::{self, Need};
use e2e::program::{Program, Run};
use e2e::proxyctl::{proxyctl, proxyctl_json};
use e2e::shipped;
use nix::unistd::User;
use serde_json::Value;
use tempfile::TempDir;

const VARIABLE: &str = "CODEX_NETWORK_PROXY_CONTROL";

/// A proxy that runs as an ordinary user, with its files in that user's runtime directory.
struct UsersProxy {
    runtime: TempDir,
    _program: StartScript,
    daemon: Daemon,
    owner: User,
    socket: PathBuf,
}

/// The directory of the control socket of a [`UsersProxy`].
#[derive(Clone, Copy)]
enum SocketDirectory {
    /// Below the runtime directory, as the configuration says.
    Runtime,
    /// In the state directory, by default: there is no runtime directory.
    State,
}

fn account(name: &str) -> User {
    let found = User::from_name(name).expect("a user database");
    found.unwrap_or_else(|| panic!("every system has {name}"))
}

impl UsersProxy {
    /// `None` without root.
    fn start() -> Option<Self> {
        Self::start_at(SocketDirectory::Runtime)
    }

    fn start_at(place: SocketDirectory) -> Option<Self> {
        if !machine::has(Need::Root) {
            return None;
        }
        let owner = account("nobody");
        let runtime = TempDir::new().expect("a temporary directory");
        let own = Some(owner.uid.as_raw());
        chown(runtime.path(), own, None).expect("our own directory");
        // The build directory may be closed to others. Copied by another process: a child of another
        // test could inherit a file that this one has open for writing, and it could not be run then.
        let copies = [shipped::proxy(), shipped::proxyctl()].map(Path::new);
        Program::new("cp")
            .args(copies)
            .arg(runtime.path())
            .run()
            .succeeded();
        fs::set_permissions(runtime.path(), Permissions::from_mode(0o755)).expect("our own");
        let name = copies[0].file_name().expect("a program");
        let copy = runtime.path().join(name);
        let program = match place {
            SocketDirectory::Runtime => StartScript::as_account(&owner, &copy),
            SocketDirectory::State => StartScript::with_default_socket(&owner, &copy),
        };
        let launch = Daemon::launch().program(program.path());
        let config = Config::example().set("daemon.control", "observers", r#"["daemon"]"#);
        let launch = launch.config(&config);
        let (place, launch) = match place {
            SocketDirectory::Runtime => {
                let place = Self::place(runtime.path());
                let launch = launch.args_of(&place, runtime.path());
                (place, launch)
            }
            SocketDirectory::State => {
                let home = runtime.path();
                let place = home.join(".local/state/codex-network-proxy/control.sock");
                let state = home.join("elsewhere");
                let launch = launch.env("HOME", home).arg("-c").arg(format!(
                    "daemon.state_dir={}",
                    Value::from(state.to_string_lossy())
                ));
                (place, launch)
            }
        };
        let daemon = launch.start();
        // A user's own proxy is closed to others; one with observers is open.
        let directory = place.parent().expect("a parent");
        fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("root may");
        Some(Self {
            runtime,
            _program: program,
            daemon,
            owner,
            socket: place,
        })
    }

    fn place(runtime: &Path) -> PathBuf {
        runtime.join("codex-network-proxy/control.sock")
    }

    fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Runs `proxyctl` as another account.
    fn run_as(&self, user: &User, variables: &[(&str, &Path)], arguments: &[&str]) -> Run {
        let copy = Path::new(shipped::proxyctl())
            .file_name()
            .expect("a program");
        let program = Program::new("setpriv")
            .args(["--clear-groups", "--reuid"])
            .arg(user.uid.to_string())
            .arg("--regid")
            .arg(user.gid.to_string())
            .arg(self.runtime.path().join(copy))
            .args(arguments)
            .current_dir(Path::new("/"));
        let with = |program: Program, (name, value): &(&str, &Path)| program.env(name, value);
        variables.iter().fold(program, with).run()
    }
}

trait ArgsOf {
    fn args_of(self, socket: &Path, state: &Path) -> Self;
}

impl ArgsOf for e2e::daemon::Launch {
    /// A directory that this user may write to.
    fn args_of(self, socket: &Path, state: &Path) -> Self {
        let set = |key: &str, path: &Path| format!("{key}={}", Value::from(path.to_string_lossy()));
        self.arg("-c")
            .arg(set("daemon.control.socket", socket))
            .arg("-c")
            .arg(set("daemon.state_dir", &state.join("state")))
    }
}

/// Variables survive `su`; a user's proxy could give root a CA of its own.
#[test]
fn k2_root_talks_to_a_users_proxy_only_if_the_flag_names_it() {
    let Some(users) = UsersProxy::start() else {
        return;
    };
    let path = users.socket();
    let says = |run: &Run| {
        assert_eq!(run.code, Some(4), "{run:?}");
        assert_eq!(run.stdout, "");
        let process = format!("process {}) listens there", users.daemon.pid());
        run.says(&format!("{}: nobody (uid ", path.display()))
            .says(&process)
            .says("root talks only to a proxy of root")
            .says("Nothing was sent.");
    };
    for arguments in [
        &["status"][..],
        &["mode", "limited"],
        &["reload"],
        &["config", "--json"],
        &["ca", "export"],
        &["blocked", "--follow"],
    ] {
        let run = Program::new(shipped::proxyctl())
            .args(arguments)
            .env(VARIABLE, &path);
        let run = run.run();
        says(&run);
        run.says(&format!("--socket {}", path.display()));
    }
    let run = Program::new(shipped::proxyctl())
        .arg("status")
        .env("XDG_RUNTIME_DIR", users.runtime.path())
        .run();
    // The system's default path comes next.
    if !Path::new("/run/codex-network-proxy/control.sock").exists() {
        says(&run);
        run.says("/run/codex-network-proxy/control.sock: there is no such socket");
    }
    let reported = Program::new(shipped::proxyctl())
        .args(["doctor", "control", "--json"])
        .env(VARIABLE, &path)
        .run();
    reported.failed().says("nobody (uid ").says("\"problem\"");

    // The flag is explicit, and the answer names the owner.
    let status = proxyctl_json(&users.daemon, &["status"]);
    let by = &status["answered_by"];
    assert_eq!(by["uid"], users.owner.uid.as_raw());
    assert_eq!(by["user"], "nobody");
    assert_eq!(by["pid"], users.daemon.pid());
    assert_eq!(by["socket"], path.to_string_lossy().as_ref());
    assert_eq!(proxyctl_json(&users.daemon, &["mode"])["mode"], "full");
}

#[test]
fn k2_ca_install_trusts_only_roots_proxy() {
    let Some(users) = UsersProxy::start() else {
        return;
    };
    let path = users.socket();
    for flag in [&["--socket"][..], &[]] {
        let named = Program::new(shipped::proxyctl())
            .args(["ca", "install"])
            .args(flag);
        let named = if flag.is_empty() {
            named.env(VARIABLE, &path)
        } else {
            named.arg(&path)
        };
        let run = named.run();
        assert_eq!(run.code, Some(4), "{run:?}");
        run.says("nobody (uid ").says("even with --socket");
    }
}

#[test]
fn k2_users_talk_to_their_own_proxy_and_to_roots() {
    let roots = Daemon::start(&Config::example());
    let text = proxyctl(&roots, &["status"]);
    let process = format!(
        ", process {}) on {}",
        roots.pid(),
        roots.control_socket().display()
    );
    text.succeeded().says("answered by").says(&process);
    let Some(users) = UsersProxy::start() else {
        return;
    };
    let theirs: &[(&str, &Path)] = &[("XDG_RUNTIME_DIR", users.runtime.path())];
    users.run_as(&users.owner, theirs, &["status"]).succeeded();
    // An observer of that proxy may look at it, and must name it.
    let other = account("daemon");
    let path = users.socket();
    let run = users.run_as(&other, &[(VARIABLE, &path)], &["status"]);
    assert_eq!(run.code, Some(4), "{run:?}");
    run.says("this user talks only to a proxy of their own or of root");
    let named = ["--socket", &path.to_string_lossy(), "status"];
    users.run_as(&other, &[], &named).succeeded();
}

#[test]
fn k2_without_a_runtime_directory_the_socket_is_in_the_state_directory() {
    let Some(users) = UsersProxy::start_at(SocketDirectory::State) else {
        return;
    };
    assert_eq!(users.daemon.control_socket(), users.socket());
    let home: &[(&str, &Path)] = &[("HOME", users.runtime.path())];
    let run = users.run_as(&users.owner, home, &["status"]);
    run.succeeded()
        .says(&format!("on {}", users.socket().display()));
    let file = fs::metadata(users.socket()).expect("it is there");
    assert_eq!(file.permissions().mode() & 0o777, 0o666, "it has observers");
    // The directories are made for their owner alone.
    let run = users.run_as(&account("daemon"), home, &["status"]);
    assert_eq!(run.code, Some(4), "{run:?}");
    run.says(&format!(
        "{}: this user may not connect to it",
        users.socket().display()
    ));
}
