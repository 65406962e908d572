//! The command line, the output and the refusals of a start, and how the proxy ends (SPEC L1 to L8,
//! C1, C4).

mod check;
mod ending;
mod layers;
mod places;
mod starting;
mod unread;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use e2e::daemon::{Config, Daemon};
use e2e::program::{Program, Run};
use tempfile::TempDir;

fn start(config: &Config) -> Daemon {
    Daemon::start(e2e::binary!(), config)
}

/// Runs the binary to its end, with an empty home.
fn run(arguments: &[&str]) -> Run {
    Program::new(e2e::binary!()).args(arguments).run()
}

/// `check` on a file `policy.toml` with this text; messages use this name.
pub(crate) fn check(text: &str) -> Run {
    let program = Program::new(e2e::binary!());
    std::fs::write(program.home().join("policy.toml"), text).expect("a new directory");
    program.args(["check", "policy.toml"]).run()
}

/// Runs the binary in another way than [`Daemon`], which puts `--config FILE` before the arguments:
/// this script is run instead of the binary.
pub(crate) struct Wrapped {
    directory: TempDir,
}

impl Wrapped {
    /// Without `--config FILE`.
    pub(crate) fn without_config() -> Self {
        Self::script("shift 2")
    }

    /// Without `--config FILE`, in this directory.
    pub(crate) fn without_config_in(directory: &Path) -> Self {
        Self::script(&format!("shift 2\ncd '{}'", directory.display()))
    }

    /// With the contents of this directory mounted over `/etc`, for it alone. Needs root.
    pub(crate) fn with_etc(directory: &Path) -> Self {
        let own = directory.display();
        Self::script(&format!(
            "[ -n \"$MOUNTED\" ] || MOUNTED=yes exec unshare --mount \"$0\" \"$@\"\n\
             unset MOUNTED\n\
             mount -t tmpfs tmpfs /mnt && cp -a /etc/. /mnt && cp -a '{own}'/. /mnt &&\n\
             for made in '{own}'/*; do mount --bind \"$made\" \"/mnt/${{made##*/}}\"; done &&\n\
             mount --move /mnt /etc || exit 99"
        ))
    }

    /// As its unit runs it: with few capabilities, and with `ProtectProc=invisible` and
    /// `ProcSubset=pid`. Needs root.
    pub(crate) fn with_invisible_processes() -> Self {
        Self::script(&format!(
            "[ -n \"$MOUNTED\" ] || MOUNTED=yes exec unshare --mount \"$0\" \"$@\"\n\
             unset MOUNTED\n\
             mount -t proc -o hidepid=invisible,subset=pid proc /proc || exit 99\n\
             exec setpriv --bounding-set=-all,+setuid,+setgid,+setpcap,+kill '{}' \"$@\"",
            e2e::binary!()
        ))
    }

    /// As this account, from this copy, which the account can reach. Needs root.
    pub(crate) fn as_account(user: &nix::unistd::User, copy: &Path) -> Self {
        let (uid, gid, copy) = (user.uid, user.gid, copy.display());
        Self::script(&format!(
            "exec setpriv --clear-groups --reuid {uid} --regid {gid} '{copy}' \"$@\""
        ))
    }

    /// As this account, from this copy, at the default place of the control socket. Needs root.
    pub(crate) fn with_default_socket(user: &nix::unistd::User, copy: &Path) -> Self {
        let (uid, gid, copy) = (user.uid, user.gid, copy.display());
        Self::script(&format!(
            "config=$2\nshift 4\n\
             exec setpriv --clear-groups --reuid {uid} --regid {gid} '{copy}' --config \"$config\" \"$@\""
        ))
    }

    /// As an ordinary user: `nobody` if root runs the tests. `program` is a copy that all users may
    /// run.
    pub(crate) fn as_ordinary_user(program: &Path) -> Self {
        let program = program.display();
        if !e2e::machine::is_root() {
            return Self::script("");
        }
        // That user becomes the owner of the configuration's directory.
        Self::script(&format!(
            "chown -R 65534:65534 \"${{2%/*}}\" &&\n\
             exec setpriv --clear-groups --reuid 65534 --regid 65534 '{program}' \"$@\""
        ))
    }

    /// With no more than this many file descriptors.
    pub(crate) fn with_descriptors(most: u32) -> Self {
        Self::script(&format!("ulimit -n {most}"))
    }

    /// With this descriptor open for writing to this file, as a careless starter may leave it.
    pub(crate) fn with_open_file(descriptor: u32, file: &Path) -> Self {
        Self::script(&format!("exec {descriptor}>'{}'", file.display()))
    }

    fn script(first: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().join("proxy");
        let text = format!("#!/bin/sh\n{first}\nexec {} \"$@\"\n", e2e::binary!());
        // Another program writes it: a file that this process has open for writing can be
        // inherited by what another test starts at this moment, and could not be run then.
        Program::new("sh")
            .args(["-c", "cat > \"$0\" && chmod +x \"$0\""])
            .arg(&path)
            .stdin(text.as_bytes())
            .run()
            .succeeded();
        Self { directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("proxy")
    }
}

/// Whether a process accepts there.
#[expect(
    clippy::disallowed_methods,
    reason = "a test may knock on any door; the rule is for the product"
)]
pub(crate) fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// Arguments that make a proxy without a configuration listen on free ports, log JSON and resolve
/// nothing.
fn by_hand(nameserver: SocketAddr) -> Vec<String> {
    let assignments = [
        "network.proxy_url=http://127.0.0.1:0".to_owned(),
        "network.socks_url=socks5h://127.0.0.1:0".to_owned(),
        "network.admin_url=http://127.0.0.1:0".to_owned(),
        "daemon.log_format=json".to_owned(),
        format!("daemon.resolver.nameservers=[\"{nameserver}\"]"),
    ];
    assignments
        .into_iter()
        .flat_map(|assignment| ["-c".to_owned(), assignment])
        .collect()
}

/// No configuration of this machine may reach these tests.
fn assert_nothing_in_etc() {
    for path in ["/etc/codex", "/etc/codex-network-proxy"] {
        assert!(
            !Path::new(path).exists(),
            "{path} is in the way of this test"
        );
    }
}
