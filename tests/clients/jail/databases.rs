//! `psql`, which knows no proxy: by name through the transparent door, and through a forwarded port.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use e2e::daemon::{Config, Daemon};
use e2e::machine::{self, ordinary_user};
use e2e::port::{Reserved, accepts};
use e2e::program::Program;
use e2e::wait::{TIMEOUT, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown};
use tempfile::TempDir;

use super::{Installed, Jail, Proxy, Variables, for_users, users};

/// A database server with a database of its own. It ends with the value.
struct Server {
    child: Child,
    port: Reserved,
    _directory: TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        // The server refuses to run as root.
        let user = machine::is_root().then(ordinary_user);
        if let Some(user) = &user {
            chown(directory.path(), Some(user.uid), Some(user.gid)).expect("root gives it away");
        }
        let data = directory.path().join("data");
        let programs = programs();
        let mut made = Program::new(programs.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=tester", "--pgdata"])
            .arg(&data);
        if let Some(user) = &user {
            made = made.user(user);
        }
        made.run().succeeded();
        let port = Reserved::open();
        let child = serve(&programs, &data, user.as_ref(), port.address().port());
        poll(TIMEOUT, || accepts(port.address()).then_some(())).expect("a server");
        Self {
            child,
            port,
            _directory: directory,
        }
    }
}

/// Debian keeps the server's programs apart, by their version.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let versions = versions.expect("PostgreSQL, which .ci/clients installs");
    let mut programs = versions.flatten().map(|version| version.path().join("bin"));
    let found = programs.find(|programs| programs.join("initdb").exists());
    found.expect("PostgreSQL, which .ci/clients installs")
}

fn serve(programs: &Path, data: &Path, user: Option<&User>, port: u16) -> Child {
    let mut command = Command::new(programs.join("postgres"));
    command
        .arg("-D")
        .arg(data)
        .arg("-k")
        .arg(data)
        .args([
            "-p",
            &port.to_string(),
            "-h",
            &Ipv4Addr::LOCALHOST.to_string(),
            "-F",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.spawn().expect("PostgreSQL")
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // The quick end, without waiting for clients.
        let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        let _ = self.child.wait();
    }
}

#[test]
fn j10_t2_psql_reaches_an_allowed_database_by_name_and_through_a_forwarded_port() {
    let users = users();
    if users.is_empty() {
        return;
    }
    let config = for_users(&Config::example());
    let installed = Installed::new(&config);
    let server = Server::start();
    let daemon = Daemon::start(&config);
    let port = server.port.address().port();
    let script = "psql \"host=$NAME port=$PORT user=tester dbname=postgres\" --no-psqlrc --no-align --tuples-only \
                  --command \"select 'brought ' || 'home'\"";
    for user in &users {
        for proxy in [Proxy::Service(&daemon), Proxy::Private] {
            let jail = Jail {
                installed: &installed,
                user: user.as_ref(),
                proxy,
                variables: Variables::Unset,
            };
            let psql = |options: &[&str], host, port: u16| {
                let port = port.to_string();
                jail.run(options, &[("NAME", host), ("PORT", port.as_str())], script)
            };
            let run = psql(&[], "allowed.test", port);
            assert_eq!(run.succeeded().stdout, "brought home\n");
            psql(&[], "blocked.test", port)
                .failed()
                .says("could not translate host name \"blocked.test\" to address");
            // An address is judged too: the server speaks second, so its client learns nothing but the end.
            psql(&[], "192.0.2.7", port).failed().says_one_of(&[
                "server closed the connection unexpectedly",
                "Connection reset",
            ]);
            let forward = |host: &str| format!("--forward=6432={host}:{port}");
            let run = psql(&[&forward("allowed.test")], "127.0.0.1", 6432);
            assert_eq!(run.succeeded().stdout, "brought home\n");
            psql(&[&forward("blocked.test")], "127.0.0.1", 6432)
                .failed()
                .says_one_of(&[
                    "server closed the connection unexpectedly",
                    "Connection reset",
                ]);
        }
    }
    let entry = daemon.wait_for_blocked(|entry| entry["protocol"] == "transparent");
    assert_eq!(entry["port"], port, "{entry}");
}
