//! The service on the machine, for one test at a time: never run before, with a configuration, and
//! with access to the service manager.

use std::time::Duration;

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::origin::{Answer, Origin};
use e2e::process::find_field;
use e2e::program::Run;
use e2e::wait::{TIMEOUT, poll};
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

use crate::machine::{Machine, machine};

pub(crate) const SERVICE: &str = "codex-network-proxy.service";
pub(crate) const SOCKETS: [&str; 4] = [
    "codex-network-proxy-http.socket",
    "codex-network-proxy-socks5.socket",
    "codex-network-proxy-admin.socket",
    "codex-network-proxy-control.socket",
];
/// The addresses of the units' listeners.
pub(crate) const HTTP: &str = "127.0.0.1:3128";
pub(crate) const SOCKS5: &str = "127.0.0.1:8081";
pub(crate) const ADMIN: &str = "127.0.0.1:8080";
pub(crate) const CONTROL: &str = "/run/codex-network-proxy/control.sock";

const CONFIG: &str = "/etc/codex-network-proxy/config.toml";
/// Removes the traces of the previous test and its service.
const CLEAN: &str = "
    systemctl stop --no-block codex-network-proxy-http.socket codex-network-proxy-socks5.socket \
        codex-network-proxy-admin.socket codex-network-proxy-control.socket codex-network-proxy.service
    systemctl kill --signal=KILL codex-network-proxy.service 2>/dev/null
    systemctl stop codex-network-proxy.service
    rm -f /etc/systemd/system/*.wants/codex-network-proxy*
    rm -rf /etc/systemd/system/codex-network-proxy* /etc/codex-network-proxy /var/lib/codex-network-proxy
    systemctl daemon-reload
    systemctl reset-failed
";

/// Locked by the test that uses the machine.
static IN_USE: Mutex<()> = Mutex::new(());

pub(crate) struct Service {
    machine: &'static Machine,
    /// The end of the journal when the test began.
    cursor: String,
    _in_use: MutexGuard<'static, ()>,
}

/// An entry of the journal.
#[derive(Clone, Debug)]
pub(crate) struct Entry(Value);

impl Service {
    /// Waits until no other test uses the machine, and prepares it and this thread. The policy is that of
    /// [`Config::example`].
    pub(crate) fn new() -> Self {
        let in_use = IN_USE.lock();
        let machine = machine();
        machine.enter_network();
        machine.run(["sh", "-c", CLEAN]);
        let run = machine.run(["journalctl", "--quiet", "--lines=0", "--show-cursor"]);
        let cursor = run
            .stdout
            .trim()
            .strip_prefix("-- cursor: ")
            .unwrap_or_else(|| panic!("the journal has no end: {run:#?}"))
            .to_owned();
        let service = Self {
            machine,
            cursor,
            _in_use: in_use,
        };
        service.configure(&Config::example());
        service
    }

    pub(crate) fn machine(&self) -> &'static Machine {
        self.machine
    }

    /// Writes the configuration file. The sockets' addresses and the log format keep their
    /// defaults.
    pub(crate) fn configure(&self, config: &Config) {
        let folder = self.machine.path("/etc/codex-network-proxy");
        std::fs::create_dir_all(&folder).expect("root makes any folder");
        let config = ["proxy_url", "socks_url", "admin_url"]
            .into_iter()
            .fold(config.clone(), |config, key| config.unset("network", key))
            .unset("daemon", "log_format");
        let toml = config.write(&folder);
        let outside = folder.to_str().expect("our own path");
        self.configure_text(&toml.replace(outside, "/etc/codex-network-proxy"));
    }

    /// Writes any text as the configuration file.
    pub(crate) fn configure_text(&self, text: &str) {
        self.machine.write(CONFIG, text);
    }

    /// Overrides parts of a unit, in addition to earlier overrides.
    pub(crate) fn edit(&self, unit: &str, text: &str) {
        let folder = format!("/etc/systemd/system/{unit}.d");
        let before = std::fs::read_dir(self.machine.path(&folder)).map_or(0, Iterator::count);
        self.machine.write(&format!("{folder}/{before}.conf"), text);
        self.systemctl(&["daemon-reload"]).succeeded();
    }

    /// Masks these socket units.
    pub(crate) fn mask(&self, sockets: &[&str]) {
        let command: Vec<&str> = ["mask"].iter().chain(sockets).copied().collect();
        self.systemctl(&command).succeeded();
    }

    pub(crate) fn systemctl(&self, arguments: &[&str]) -> Run {
        let command = ["systemctl"].iter().chain(arguments).copied();
        self.machine.run(command)
    }

    /// Starts the service, which must succeed.
    pub(crate) fn start(&self) {
        let run = self.systemctl(&["start", SERVICE]);
        assert_eq!(run.code, Some(0), "{run:#?}\n{}", self.log());
    }

    /// Starts the service, which must fail without a pending restart.
    #[track_caller]
    pub(crate) fn start_in_vain(&self) {
        self.edit(SERVICE, "[Service]\nRestart=no\n");
        self.systemctl(&["start", SERVICE]).failed();
        assert_eq!(self.show("ActiveState"), "failed");
    }

    /// Runs `proxyctl`, as root or as another user.
    pub(crate) fn proxyctl(&self, user: &str, arguments: &[&str]) -> Run {
        let command = ["runuser", "-u", user, "--", "proxyctl"];
        self.machine.run(command.iter().chain(arguments).copied())
    }

    /// A property of the service.
    pub(crate) fn show(&self, property: &str) -> String {
        let run = self.systemctl(&["show", "--value", "--property", property, SERVICE]);
        run.succeeded().stdout.trim().to_owned()
    }

    /// Waits until a property of the service has a value that `look` accepts.
    #[track_caller]
    pub(crate) fn wait_for(&self, property: &str, look: impl Fn(&str) -> bool) -> String {
        poll(TIMEOUT, || {
            let value = self.show(property);
            look(&value).then_some(value)
        })
        .unwrap_or_else(|| panic!("{property} stays {:?}\n{}", self.show(property), self.log()))
    }

    /// The monitor's process id in the machine.
    pub(crate) fn monitor(&self) -> u32 {
        let pid = self.show("MainPID");
        pid.parse().expect("a process id")
    }

    /// The worker's process id in the machine; `None` between two workers.
    pub(crate) fn worker(&self) -> Option<u32> {
        let monitor = self.monitor();
        let run = self.machine.run([
            "pgrep",
            "--parent",
            &monitor.to_string(),
            "--full",
            " work$",
        ]);
        run.stdout.lines().next()?.parse().ok()
    }

    /// Waits for a worker that is not this one.
    pub(crate) fn wait_for_worker(&self, other_than: Option<u32>) -> u32 {
        poll(TIMEOUT, || {
            self.worker().filter(|pid| Some(*pid) != other_than)
        })
        .unwrap_or_else(|| panic!("there is no other worker\n{}", self.log()))
    }

    pub(crate) fn kill(&self, signal: &str, pid: u32) {
        self.machine
            .run(["kill", "-s", signal, &pid.to_string()])
            .succeeded();
    }

    /// Whether a process exists and is not a zombie.
    pub(crate) fn is_alive(&self, pid: u32) -> bool {
        self.process(pid, "status")
            .is_some_and(|status| find_field(&status, "State").is_some_and(|s| !s.starts_with('Z')))
    }

    /// A file of a process's `/proc`.
    pub(crate) fn process(&self, pid: u32, file: &str) -> Option<String> {
        std::fs::read_to_string(self.machine.path(&format!("/proc/{pid}/{file}"))).ok()
    }

    /// A field of a process's status.
    pub(crate) fn status(&self, pid: u32, field: &str) -> String {
        let status = self.process(pid, "status").expect("the process is there");
        let found = find_field(&status, field);
        found
            .unwrap_or_else(|| panic!("no {field} in {status}"))
            .to_owned()
    }

    /// The journal entries of the service, and of the service manager about it, in this test.
    pub(crate) fn journal(&self) -> Vec<Entry> {
        let after = format!("--after-cursor={}", self.cursor);
        let unit = format!("--unit={SERVICE}");
        let run = self.machine.run([
            "journalctl",
            "--quiet",
            "--output=json",
            "--all",
            &after,
            &unit,
        ]);
        let entries = run
            .succeeded()
            .stdout
            .lines()
            .map(|line| Entry(serde_json::from_str(line).expect("the journal writes JSON")));
        entries.collect()
    }

    /// Waits until the journal has an entry with this text, and returns it.
    #[track_caller]
    pub(crate) fn wait_for_message(&self, text: &str) -> Entry {
        poll(TIMEOUT, || {
            let mut entries = self.journal().into_iter();
            entries.find(|entry| entry.message().contains(text))
        })
        .unwrap_or_else(|| panic!("the journal does not say {text:?}, only\n{}", self.log()))
    }

    /// Every message of this test, for messages of failed tests.
    pub(crate) fn log(&self) -> String {
        let messages: Vec<String> = self.journal().iter().map(Entry::message).collect();
        messages.join("\n")
    }
}

#[expect(
    clippy::unused_self,
    reason = "only a test that has the service is in the machine's network"
)]
impl Service {
    /// An origin in the machine's network.
    pub(crate) fn origin(&self) -> Origin {
        Origin::start(|_| Answer::text("here"))
    }

    /// The status code of the proxy's answer for this URL, and the body.
    pub(crate) fn get(&self, url: &str) -> (u16, String) {
        let mut connection = Connection::open(HTTP.parse().expect("an address"));
        let response = connection.exchange(&request(url));
        (response.status, response.text())
    }

    /// A tunnel to an origin through the proxy.
    pub(crate) fn tunnel(&self, host: &str, origin: &Origin) -> Connection {
        let mut connection = Connection::open(HTTP.parse().expect("an address"));
        let response = connection.connect(&format!("{host}:{}", origin.addr().port()));
        assert_eq!(response.status, 200, "{}", response.text());
        connection
    }
}

/// Sends a request through the tunnel and reads the origin's answer.
#[track_caller]
pub(crate) fn use_tunnel(tunnel: &mut Connection) {
    let answer = tunnel.exchange("GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n");
    assert_eq!(answer.status, 200);
}

/// A request for a proxy, on a connection of its own.
pub(crate) fn request(url: &str) -> String {
    let authority = url
        .split_once("://")
        .map_or(url, |(_, rest)| rest)
        .split('/')
        .next()
        .unwrap_or_default();
    format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")
}

/// How long clients may wait after a worker is killed (issue 3).
pub(crate) const ONE_SECOND: Duration = Duration::from_secs(1);

/// The longest wait of a client without a stall, on a slow and noisy machine too. The tests look
/// for stalls, which last 30 s (`drain_timeout`) or longer.
pub(crate) const NO_STALL: Duration = Duration::from_secs(10);

impl Entry {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    pub(crate) fn message(&self) -> String {
        match &self.0["MESSAGE"] {
            Value::String(text) => text.clone(),
            // Values that are not text are lists of numbers.
            Value::Array(bytes) => bytes
                .iter()
                .filter_map(|byte| u8::try_from(byte.as_u64()?).ok())
                .map(char::from)
                .collect(),
            _ => String::new(),
        }
    }
}
