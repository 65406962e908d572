//! Real programs in real jails, as `proxyctl run` starts them: those that know a proxy and those that do
//! not (SPEC J1 to J11, T1 to T3).
//!
//! - `programs` is the table of programs that each reach one host and are refused another.
//! - `databases` and `shells` are `psql` and `ssh`, whose protocols are not HTTP.
//! - `learned` is a program that runs with the policy that it taught.
//! - `modes` is limited mode, hooks and interception for programs that ignore the proxy variables.
//! - `terminal` is a shell with job control under `tmux`.

mod databases;
mod learned;
mod modes;
mod programs;
mod shells;
mod terminal;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use e2e::daemon::{Config, Daemon};
use e2e::machine::{self, Need, has, ordinary_user};
use e2e::program::{Program, Run};
use e2e::shipped;
use nix::unistd::User;
use tempfile::TempDir;

/// Takes every proxy variable away, before the script.
const UNSET: &str = "for name in $(env | sed -n 's/^\\([A-Za-z_]*[Pp][Rr][Oo][Xx][Yy][A-Za-z_]*\\)=.*/\\1/p'); \
                     do unset $name; done\n";

/// A directory with both programs, as a package installs them, and the configuration of private proxies.
pub(crate) struct Installed {
    directory: TempDir,
}

/// The proxy of a session.
#[derive(Clone, Copy)]
enum Proxy<'a> {
    Private,
    Service(&'a Daemon),
}

/// Whether the program gets the proxy variables of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variables {
    Set,
    Unset,
}

/// How a script is run.
#[derive(Clone, Copy)]
struct Jail<'a> {
    installed: &'a Installed,
    /// `None` for the user of the tests.
    user: Option<&'a User>,
    proxy: Proxy<'a>,
    variables: Variables,
}

impl Installed {
    pub(crate) fn new(config: &Config) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).expect("the directory is ours");
        shipped::install(directory.path());
        let toml = config.write(directory.path());
        std::fs::write(directory.path().join("config.toml"), toml).expect("our own directory");
        Self { directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Jail<'_> {
    /// The words of `proxyctl run`, up to its options.
    fn words(&self) -> Vec<PathBuf> {
        let mut words = vec![self.installed.path().join("proxyctl")];
        match self.proxy {
            Proxy::Private => {
                words.extend(["run".into(), "--config".into()]);
                words.push(self.installed.path().join("config.toml"));
            }
            Proxy::Service(daemon) => {
                words.extend(["--socket".into(), daemon.control_socket(), "run".into()]);
            }
        }
        words
    }

    /// Runs a script in a jail, in an empty directory of its user.
    fn run(&self, options: &[&str], variables: &[(&str, &str)], script: &str) -> Run {
        let words = self.words();
        let script = match self.variables {
            Variables::Set => script.to_owned(),
            Variables::Unset => format!("{UNSET}{script}"),
        };
        let mut program = Program::new(&words[0])
            .args(&words[1..])
            .args(options)
            .args(["--", "sh", "-c", &script])
            .env("PATH", path());
        for (name, value) in variables {
            program = program.env(name, value);
        }
        if let Some(user) = self.user {
            program = program.user(user);
        }
        program.run()
    }
}

/// The configuration of a proxy whose sessions the ordinary user may open.
pub(crate) fn for_users(config: &Config) -> Config {
    let users = if machine::is_root() {
        format!("[{:?}]", ordinary_user().name)
    } else {
        "[]".to_owned()
    };
    config.clone().set("daemon.control", "users", &users)
}

/// The users that start jails: the tests' own, and an ordinary one besides root. Empty, with a line about it,
/// where no jail can be made.
fn users() -> Vec<Option<User>> {
    if !has(Need::UserNamespaces) {
        Vec::new()
    } else if machine::is_root() {
        vec![None, Some(ordinary_user())]
    } else {
        vec![None]
    }
}

/// The programs that are installed for all users, and cargo.
pub(crate) fn path() -> String {
    let cargo = std::env::var_os("CARGO").map(PathBuf::from);
    let cargo = cargo.as_deref().and_then(Path::parent);
    let cargo = cargo.map(|folder| format!("{}:", folder.display()));
    let all = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
    cargo.unwrap_or_default() + all
}
