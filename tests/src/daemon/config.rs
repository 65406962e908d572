//! A configuration for one test, written key by key.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

/// A configuration for one test. Keys and values are TOML as a person would write them, so a wrong
/// one reaches the daemon unchanged.
#[derive(Clone, Debug)]
pub struct Config {
    tables: Vec<Table>,
    allowed: Vec<String>,
    denied: Vec<String>,
    hosts: Vec<(String, IpAddr)>,
    appended: String,
    nameserver: Option<SocketAddr>,
    names: Names,
    /// The default name server. It never answers, so a name that is not in the hosts file is never
    /// looked up off this machine.
    mute: Arc<UdpSocket>,
}

/// How names are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// The test's hosts file and name server.
    OfTest,
    /// The system.
    OfSystem,
}

#[derive(Clone, Debug)]
struct Table {
    name: String,
    /// Keys and their values as TOML.
    keys: Vec<(String, String)>,
}

impl Config {
    /// Free ports, JSON logs, an empty policy, local addresses allowed, and no
    /// way to resolve any name.
    pub fn new() -> Self {
        let mute = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free UDP port");
        Self {
            tables: Vec::new(),
            allowed: Vec::new(),
            denied: Vec::new(),
            hosts: Vec::new(),
            appended: String::new(),
            nameserver: None,
            names: Names::OfTest,
            mute: Arc::new(mute),
        }
        .set("network", "proxy_url", r#""http://127.0.0.1:0""#)
        .set("network", "socks_url", r#""socks5h://127.0.0.1:0""#)
        .set("network", "admin_url", r#""http://127.0.0.1:0""#)
        .set("network", "allow_local_binding", "true")
        .set("daemon", "log_format", r#""json""#)
    }

    /// The configuration for most tests: `allowed.test` is allowed, `denied.test` denied, and
    /// `blocked.test` neither. All three are 127.0.0.1.
    pub fn example() -> Self {
        let here = Ipv4Addr::LOCALHOST;
        Self::new()
            .allow("allowed.test")
            .deny("denied.test")
            .host("allowed.test", here)
            .host("denied.test", here)
            .host("blocked.test", here)
    }

    /// The example in limited mode: `allowed.test` may be read, and nothing else is allowed.
    pub fn limited() -> Self {
        Self::example().set("network", "mode", r#""limited""#)
    }

    /// Adds a pattern to `allowed_domains`.
    #[must_use]
    pub fn allow(mut self, pattern: &str) -> Self {
        self.allowed.push(pattern.to_owned());
        self
    }

    /// Adds a pattern to `denied_domains`.
    #[must_use]
    pub fn deny(mut self, pattern: &str) -> Self {
        self.denied.push(pattern.to_owned());
        self
    }

    /// Adds a line to the hosts file, and so a name that resolves.
    #[must_use]
    pub fn host(mut self, name: &str, ip: impl Into<IpAddr>) -> Self {
        self.hosts.push((name.to_owned(), ip.into()));
        self
    }

    /// Asks this name server for names that the hosts file does not have.
    #[must_use]
    pub fn nameserver(mut self, addr: SocketAddr) -> Self {
        self.nameserver = Some(addr);
        self
    }

    /// Leaves resolving names to the system. For a test in a network of its own: elsewhere names would
    /// be looked up off this machine.
    #[must_use]
    pub fn system_names(mut self) -> Self {
        self.names = Names::OfSystem;
        self
    }

    /// Sets a key to a value in TOML (a string with its quotes), and replaces the old one:
    /// `set("network", "mode", r#""limited""#)`.
    #[must_use]
    pub fn set(mut self, table: &str, key: &str, value: &str) -> Self {
        let keys = self.keys(table);
        keys.retain(|(given, _)| given != key);
        keys.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Leaves a key to its default.
    #[must_use]
    pub fn unset(mut self, table: &str, key: &str) -> Self {
        self.keys(table).retain(|(given, _)| given != key);
        self
    }

    /// Adds a hook for requests to this host, with these methods and a path that begins like this.
    #[must_use]
    pub fn hook(self, name: &str, host: &str, methods: &[&str], path_prefix: &str) -> Self {
        let table = format!("network.mitm.hooks.{name}");
        self.set(&table, "host", &json!(host).to_string())
            .set(&table, "methods", &json!(methods).to_string())
            .set(&table, "path_prefixes", &json!([path_prefix]).to_string())
    }

    /// Adds TOML after everything else.
    #[must_use]
    pub fn append(mut self, toml: &str) -> Self {
        self.appended.push_str(toml);
        self
    }

    /// The configuration as TOML; writes the hosts file that it names into
    /// `directory`.
    pub fn write(&self, directory: &Path) -> String {
        let mut lines = String::from("# Written by a test.\n");
        for (name, ip) in &self.hosts {
            writeln!(lines, "{ip} {name}").expect("a string takes text");
        }
        let hosts = directory.join("hosts");
        std::fs::write(&hosts, lines).expect("the test's directory takes a hosts file");
        let nameserver = self.nameserver.unwrap_or_else(|| {
            let mute = self.mute.local_addr();
            mute.expect("a bound socket has an address")
        });
        let nameservers = list(&[nameserver.to_string()]);
        let mut config = self
            .clone()
            .set("network", "allowed_domains", &list(&self.allowed));
        if self.names == Names::OfTest {
            config = config
                .set("daemon.resolver", "nameservers", &nameservers)
                .set("daemon.resolver", "hosts_file", &json!(hosts).to_string());
        }
        if !self.denied.is_empty() {
            config = config.set("network", "denied_domains", &list(&self.denied));
        }
        let mut toml = String::new();
        for table in &config.tables {
            writeln!(toml, "[{}]", table.name).expect("a string takes text");
            for (key, value) in &table.keys {
                writeln!(toml, "{key} = {value}").expect("a string takes text");
            }
        }
        toml + &config.appended
    }

    fn keys(&mut self, table: &str) -> &mut Vec<(String, String)> {
        let at = self
            .tables
            .iter()
            .position(|known| known.name == table)
            .unwrap_or_else(|| {
                self.tables.push(Table {
                    name: table.to_owned(),
                    keys: Vec::new(),
                });
                self.tables.len() - 1
            });
        &mut self.tables[at].keys
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

/// A list of strings: JSON's is TOML's too.
fn list(strings: &[String]) -> String {
    json!(strings).to_string()
}
