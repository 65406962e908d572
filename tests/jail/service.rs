//! A proxy with sessions in real jails.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::program::{Program, Run};
use e2e::shipped;

use crate::fixture::Ending;

/// A proxy, and an origin on the machine's loopback that its policy allows by name.
pub(crate) struct Service {
    pub(crate) origin: Origin,
    pub(crate) daemon: Daemon,
}

/// A command in a jail that goes on until the end of its input.
pub(crate) struct Running {
    child: Ending,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// curl without any variable of a proxy. It writes the status of the answer alone.
pub(crate) const PLAIN_STATUS: &str = "env -u http_proxy -u HTTP_PROXY -u https_proxy -u all_proxy -u ALL_PROXY \
     curl -s --max-time 20 -o /dev/null -w '%{http_code}\\n'";

impl Service {
    /// With this configuration. Without a hosts entry of the test's, `allowed.test` and `other.test` are
    /// 127.0.0.1.
    pub(crate) fn start(config: &Config) -> Self {
        let config = config.clone().host("other.test", Ipv4Addr::LOCALHOST);
        Self {
            origin: Origin::start(|_| Answer::text("hello")),
            daemon: Daemon::start(&config),
        }
    }

    /// A URL of the origin.
    pub(crate) fn url(&self, host: &str) -> String {
        self.origin.url(host, "/")
    }

    /// Runs a command in a jail with a session of its own.
    pub(crate) fn run(&self, options: &[&str], command: &[&str]) -> Run {
        Program::new(shipped::proxyctl())
            .arg("--socket")
            .arg(self.daemon.control_socket())
            .arg("run")
            .args(options)
            .arg("--")
            .args(command)
            .run()
    }

    /// Runs a shell script in a jail. The output is the script's.
    pub(crate) fn script(&self, script: &str) -> String {
        self.run(&[], &["sh", "-c", script]).stdout
    }

    /// Starts a command in a jail.
    pub(crate) fn start_in_jail(&self, command: &[&str]) -> Running {
        self.start_in_jail_with(&[], command)
    }

    /// Starts a command in a jail, with options of `proxyctl run`.
    pub(crate) fn start_in_jail_with(&self, options: &[&str], command: &[&str]) -> Running {
        let mut child = Command::new(shipped::proxyctl())
            .arg("--socket")
            .arg(self.daemon.control_socket())
            .arg("run")
            .args(options)
            .arg("--")
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("proxyctl starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        Running {
            child: Ending(child),
            stdin,
            stdout,
        }
    }

    /// The proxy and other sessions serve: through the proxy's own door, and through each door of a new
    /// session, with a lookup of the name.
    #[track_caller]
    pub(crate) fn serves_others(&self) {
        let url = self.url("allowed.test");
        assert_eq!(self.daemon.get(&url).status, 200);
        let script = format!(
            "curl -s --max-time 20 -o /dev/null -w '%{{http_code}}\\n' {url}; {PLAIN_STATUS} {url}"
        );
        assert_eq!(self.script(&script), "200\n200\n");
    }
}

impl Running {
    /// The next line of its output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    /// Ends its input, and returns the exit status.
    pub(crate) fn end(mut self) -> Option<i32> {
        drop(self.stdin.take());
        let status = self.child.0.wait().expect("our own child");
        status.code()
    }
}
