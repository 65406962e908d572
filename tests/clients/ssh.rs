//! OpenSSH on both sides, through the usual programs in `ProxyCommand`: netcat for both protocols,
//! and proxytunnel (SPEC H8, S1).

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use e2e::daemon::{Config, Daemon};
use e2e::program::{Program, Run, run};
use nix::unistd::{User, geteuid};
use tempfile::TempDir;

/// The length of a transfer that does not fit into the buffers on the way.
const LENGTH: usize = 3_000_000;

/// A server that serves each connection in a process of its own, like inetd.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    directory: TempDir,
}

/// The program that makes the connection for ssh.
#[derive(Clone, Copy, Debug)]
enum Way {
    NetcatConnect,
    NetcatSocks5,
    Proxytunnel,
}

const WAYS: [Way; 3] = [Way::NetcatConnect, Way::NetcatSocks5, Way::Proxytunnel];

impl Server {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        for key in ["host_key", "user_key"] {
            let made = run(
                "ssh-keygen",
                &["-q", "-t", "ed25519", "-N", "", "-f", &path(key)],
            );
            made.succeeded();
        }
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin yes\n",
            path("host_key"),
            path("user_key.pub"),
        );
        std::fs::write(path("config"), config).expect("a directory of ours");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let config = path("config");
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let socket = OwnedFd::from(stream);
                let copy = socket.try_clone().expect("a descriptor");
                // sshd requires that it is started by its full path.
                let mut server = Command::new("/usr/sbin/sshd")
                    .args(["-i", "-f", &config])
                    .stdin(Stdio::from(socket))
                    .stdout(Stdio::from(copy))
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("sshd, which .ci/clients installs");
                thread::spawn(move || server.wait());
            }
        });
        Self { address, directory }
    }

    /// A file of the server, or the private key of its user, `user_key`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Way {
    fn proxy_command(self, daemon: &Daemon) -> String {
        match self {
            Self::NetcatConnect => format!("nc -X connect -x {} %h %p", daemon.http_addr()),
            Self::NetcatSocks5 => format!("nc -X 5 -x {} %h %p", daemon.socks_addr()),
            Self::Proxytunnel => format!("proxytunnel -p {} -d %h:%p", daemon.http_addr()),
        }
    }

    /// The message to its user when it is refused.
    fn refusal(self) -> &'static str {
        match self {
            Self::NetcatSocks5 => "SOCKSv5 error: Connection not allowed by ruleset",
            Self::NetcatConnect | Self::Proxytunnel => "403 Forbidden",
        }
    }

    fn ssh(self, server: &Server, host: &str, daemon: &Daemon, sent: &[u8]) -> (Run, Vec<u8>) {
        let user = User::from_uid(geteuid()).expect("the user database");
        let user = user.expect("a user with a name").name;
        Program::new("ssh")
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "IdentitiesOnly=yes",
            ])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .arg("-i")
            .arg(server.path("user_key"))
            .arg("-o")
            .arg(format!("ProxyCommand={}", self.proxy_command(daemon)))
            .args(["-p", &server.address.port().to_string()])
            .arg(format!("{user}@{host}"))
            .arg("cat")
            .stdin(sent)
            .run_for_bytes()
    }
}

#[test]
fn h8_s1_ssh_works_by_connect_and_by_socks5() {
    let (server, daemon) = (Server::start(), start(&Config::example()));
    let sent: Vec<u8> = (0..251).cycle().take(LENGTH).collect();
    for way in WAYS {
        let (run, received) = way.ssh(&server, "allowed.test", &daemon, &sent);
        run.succeeded();
        assert!(received == sent, "{way:?}: {} bytes", received.len());
    }
    assert!(daemon.blocked().is_empty(), "{:?}", daemon.blocked());
}

#[test]
fn h5_h8_s2_ssh_to_a_blocked_host_fails_with_the_reason() {
    let (server, daemon) = (Server::start(), start(&Config::example()));
    for way in WAYS {
        let (run, _) = way.ssh(&server, "blocked.test", &daemon, b"");
        run.failed().says(way.refusal());
    }
    let blocked = daemon.blocked();
    assert_eq!(blocked.len(), WAYS.len(), "{blocked:#?}");
    assert!(blocked.iter().all(|entry| entry["reason"] == "not_allowed"));
}

/// P7, M1: limited mode only permits requests that it can see. The proxy sees no requests in SSH.
#[test]
fn p7_m1_ssh_is_refused_in_limited_mode() {
    let (server, daemon) = (Server::start(), start(&Config::limited()));
    for way in WAYS {
        let (run, _) = way.ssh(&server, "allowed.test", &daemon, b"");
        run.failed();
    }
    let blocked = daemon.blocked();
    assert_eq!(blocked.len(), WAYS.len(), "{blocked:#?}");
}

fn start(config: &Config) -> Daemon {
    Daemon::start(config)
}
