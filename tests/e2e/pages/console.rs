//! Runs the commands of a page, one after the other, like a reader.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;

use e2e::daemon::{Daemon, StartScript};
use e2e::origin::{Answer, Origin};
use e2e::program::Program;
use e2e::shipped;
use serde_json::json;
use tempfile::TempDir;

use super::text;

/// A reader's directory, the proxy that was started last, and an origin under the name `example.com`.
pub(super) struct Console {
    /// The page, for messages.
    page: String,
    daemon: Option<Daemon>,
    origin: Origin,
    directory: TempDir,
    /// A name server that never answers, so no lookup leaves this machine.
    mute: UdpSocket,
}

impl Console {
    /// A console in a directory with this policy as `policy.toml` and a changed one as `next.toml`, and with
    /// `keys.toml`.
    pub(super) fn new(page: &str, policy: &str, keys: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).expect("the directory is ours");
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).expect("a new directory");
        };
        write("policy.toml", policy);
        write("keys.toml", keys);
        let next = policy.replace("\"localhost\"", "\"docs.example\"");
        assert_ne!(next, policy, "the quick start has another policy");
        write("next.toml", &next);
        write("hosts", "127.0.0.1 example.com\n");
        Self {
            page: page.to_owned(),
            daemon: None,
            origin: Origin::start(|_| Answer::text("hello")),
            directory,
            mute: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"),
        }
    }

    /// Runs a command and compares its output with the shown text.
    pub(super) fn run(&mut self, command: &str, shown: &[String]) {
        let words: Vec<&str> = command.split(' ').collect();
        let said = match words[..] {
            // This command runs the tests.
            ["cargo", "test", "--workspace"] => return,
            ["codex-network-proxy", "check", ..] => {
                self.shell(&command.replacen("codex-network-proxy", shipped::proxy(), 1))
            }
            ["codex-network-proxy", "init"] => {
                let state = json!(self.directory.path().join("state"));
                let program = shipped::proxy();
                self.shell(&format!("{program} init -c 'daemon.state_dir={state}'"))
            }
            [
                "cargo",
                "run",
                "-p",
                "codex-network-proxy",
                "--",
                ref arguments @ ..,
            ]
            | ["codex-network-proxy", ref arguments @ ..] => {
                self.start(arguments);
                String::new()
            }
            ["proxyctl", "run", ..] => self.run_session(command),
            [assignment, "proxyctl", "run", ..] if assignment.contains('=') => {
                self.run_session(command)
            }
            [assignment, "proxyctl", ..] if assignment.contains('=') => {
                self.shell(&command.replacen("proxyctl", shipped::proxyctl(), 1))
            }
            ["proxyctl", ..] => self.shell(&command.replacen("proxyctl", shipped::proxyctl(), 1)),
            // Off a terminal it shows no progress.
            ["curl", ..] if !words.contains(&"-s") => self.shell(&format!("{command} 2>/dev/null")),
            ["curl", ..] => self.shell(command),
            _ => panic!(
                "{} has a command that this test does not run: {command}",
                self.page
            ),
        };
        let lines: Vec<&str> = said.lines().map(str::trim_end).collect();
        assert!(
            text::lines_match(shown, &lines),
            "$ {command}\nsays\n{said}\nand {} shows\n{}",
            self.page,
            shown.join("\n")
        );
    }

    /// The output of a script on both streams, with the proxy's real ports in it.
    pub(super) fn shell(&self, script: &str) -> String {
        let port = self.origin.addr().port();
        let mut script = script.replace("//example.com/", &format!("//example.com:{port}/"));
        let mut program = Program::new("sh").current_dir(self.directory.path());
        if let Some(daemon) = &self.daemon {
            for (shown, real) in [
                ("127.0.0.1:3128", daemon.http_addr()),
                ("127.0.0.1:8081", daemon.socks_addr()),
                ("127.0.0.1:8080", daemon.admin_addr()),
            ] {
                script = script.replace(shown, &real.to_string());
            }
            let socket = daemon.directory().join("control.sock");
            program = program.env("CODEX_NETWORK_PROXY_CONTROL", socket);
        }
        program
            .args(["-c", &format!("exec 2>&1\n{script}")])
            .run()
            .stdout
    }

    /// `proxyctl run` with a private proxy, which finds `example.com` here.
    fn run_session(&self, command: &str) -> String {
        let bin = self.directory.path().join("bin");
        std::fs::create_dir_all(&bin).expect("our own directory");
        for (program, name) in [
            (shipped::proxyctl(), "proxyctl"),
            (shipped::proxy(), "codex-network-proxy"),
        ] {
            let to = bin.join(name);
            if !to.exists() {
                std::fs::hard_link(program, &to)
                    .or_else(|_| std::fs::copy(program, &to).map(|_| ()))
                    .expect("our own directory");
            }
        }
        let hosts = json!(self.directory.path().join("hosts"));
        let mute = json!([self.mute.local_addr().expect("a bound socket").to_string()]);
        let run = format!(
            "{}/proxyctl run -c network.allow_local_binding=true -c 'daemon.resolver.hosts_file={hosts}' \
             -c 'daemon.resolver.nameservers={mute}'",
            bin.display()
        );
        self.shell(&command.replacen("proxyctl run", &run, 1))
    }

    /// Starts a proxy in place of the previous one, on free ports and with an `example.com` here.
    fn start(&mut self, arguments: &[&str]) {
        drop(self.daemon.take());
        let hosts = self.directory.path().join("hosts");
        let mute = self.mute.local_addr().expect("a bound socket");
        let wrapped = StartScript::without_config_in(self.directory.path());
        let mut launch = Daemon::launch().program(wrapped.path());
        for argument in arguments.iter().filter(|argument| !argument.is_empty()) {
            launch = launch.arg(argument);
        }
        for assignment in [
            "network.proxy_url=127.0.0.1:0".to_owned(),
            "network.socks_url=127.0.0.1:0".to_owned(),
            "network.admin_url=127.0.0.1:0".to_owned(),
            "network.allow_local_binding=true".to_owned(),
            "daemon.log_format=json".to_owned(),
            format!("daemon.resolver.nameservers={}", json!([mute.to_string()])),
            format!("daemon.resolver.hosts_file={}", json!(hosts)),
        ] {
            launch = launch.arg("-c").arg(assignment);
        }
        let empty = self.directory.path().join("no-user-layer");
        self.daemon = Some(launch.env("CODEX_HOME", empty).start());
    }
}
