//! The decision tables of `tests/cases`: a row per behaviour, one `check` per kind of row.
//!
//! All rows of a table are checked before a test fails. Each failure is reported with the row's
//! name and the line of SPEC.md that it tests.

mod hooks;
mod unix_sockets;

use std::collections::HashSet;
use std::fmt::{Debug, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use codex_network_policy::{
    AddressClass, Authority, ConfigLine, Content, Decision, Enforcement, Facts, Handling,
    HookMatch, Host, HostCredentials, HttpHead, Interception, InterceptionSupport, ListKind,
    LocalAddresses, Mode, Narrowing, Pattern, Policy, PolicySpec, Protocol, ProxyListeners,
    Request, RequestKind, Transport, UnixSocketPath, Unlisted, listener_receives,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

const DOORS: [Protocol; 7] = [
    Protocol::Http,
    Protocol::HttpConnect,
    Protocol::Https,
    Protocol::Socks5Tcp,
    Protocol::Socks5Udp,
    Protocol::Transparent,
    Protocol::Dns,
];

/// A text, and its meaning or its error in the `Debug` form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spelling {
    name: String,
    spec: String,
    text: String,
    is: Option<String>,
    error: Option<String>,
    /// For hosts: a host that it must not become.
    not: Option<String>,
    /// For authorities: the default port.
    default: Option<u16>,
    /// For patterns: the list that has the pattern.
    #[serde(default)]
    list: List,
    /// Whether `{` in `text` is literal.
    #[serde(default)]
    verbatim: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum List {
    #[default]
    Allow,
    Deny,
    Managed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Classified {
    name: String,
    spec: String,
    address: IpAddr,
    class: String,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own")]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    name: String,
    spec: String,
    #[serde(default = "yes")]
    enabled: bool,
    mode: Option<String>,
    #[serde(default)]
    local: bool,
    allow: Option<Vec<String>>,
    /// The entries of `allow` that may spell out a local host; without it all of them.
    exceptions: Option<Vec<String>>,
    deny: Option<Vec<String>>,
    /// `refused`: a decider and a session may not allow hosts on neither list.
    unlisted: Option<String>,
    /// Whether enforcement = "report".
    #[serde(default)]
    report: bool,
    /// The rules of the client's session.
    session: Option<Session>,
    #[serde(default)]
    hooked: Vec<String>,
    /// The name in records. A row without it holds at every door.
    protocol: Option<String>,
    port: Option<u16>,
    method: Option<String>,
    upgrade: Option<String>,
    /// Whether the request has content.
    #[serde(default)]
    content: bool,
    /// Whether TLS may be intercepted; true if absent.
    mitm: Option<bool>,
    /// The verdict of the host's hooks: `matched` or `unmatched`.
    hooks: Option<String>,
    host: String,
    /// The addresses that the host resolves to, which are judged next.
    addresses: Option<Vec<IpAddr>>,
    /// The addresses of this machine.
    #[serde(default)]
    machine: Machine,
    /// The proxy's own listeners.
    #[serde(default)]
    listeners: Vec<SocketAddr>,
    /// The one of them that the explanation names.
    listener: Option<SocketAddr>,
    /// Whether the proxy can intercept TLS; true if absent.
    ca: Option<bool>,
    /// The credential that the session has for the host: `usable` or `required`; none if absent.
    credential: Option<String>,
    says: String,
    rule: Option<String>,
}

/// The rules of a session.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(crate) struct Session {
    limited: bool,
    deny: Vec<String>,
    only: Vec<String>,
    allow: Vec<String>,
    report: bool,
}

impl Session {
    pub(crate) fn narrow(&self, policy: &Policy) -> Policy {
        let list = |texts: &[String], kind| {
            let parsed = texts.iter().map(|text| Pattern::parse(text, kind));
            parsed
                .collect::<Result<_, _>>()
                .expect("the row has patterns")
        };
        let narrowing = Narrowing {
            limited: self.limited,
            denied: list(&self.deny, ListKind::Deny),
            only: list(&self.only, ListKind::Allow),
            allowed: list(&self.allow, ListKind::Allow),
            enforcement: enforcement(self.report),
        };
        policy.narrowed(&narrowing).expect("the lists are short")
    }
}

/// A machine with these addresses.
#[derive(Debug, Default, Deserialize)]
struct Machine(Vec<IpAddr>);

impl LocalAddresses for Machine {
    fn contains(&self, address: IpAddr) -> bool {
        assert_eq!(AddressClass::of(address), AddressClass::Public);
        self.0.contains(&address)
    }
}

/// The addresses of a machine, public or not.
#[derive(Debug)]
struct Interfaces<'a>(&'a [IpAddr]);

impl LocalAddresses for Interfaces<'_> {
    fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

/// A proxy on a machine with these addresses, with these listeners.
#[derive(Debug)]
struct Proxy<'a>(Interfaces<'a>, &'a [SocketAddr]);

impl ProxyListeners for Proxy<'_> {
    fn reached_by(&self, _: Transport, address: IpAddr, port: u16) -> Option<SocketAddr> {
        let Self(machine, listeners) = self;
        let reached =
            |own: &&SocketAddr| own.port() == port && listener_receives(own.ip(), address, machine);
        listeners.iter().find(reached).copied()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table<T> {
    /// The lists of rows without lists of their own.
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
    /// The hooks of rows without hooks of their own.
    #[serde(default)]
    hooks: Vec<hooks::Written>,
    cases: Vec<T>,
}

trait Row {
    fn title(&self) -> (&str, &str);
}

fn content(present: bool) -> Content {
    if present {
        Content::Present
    } else {
        Content::Absent
    }
}

fn enforcement(report: bool) -> Enforcement {
    if report {
        Enforcement::Report
    } else {
        Enforcement::Enforce
    }
}

fn yes() -> bool {
    true
}

#[test]
fn p1_a_host_has_one_reading() {
    run("hosts", |_, row: &Spelling| {
        let text = row.expand(&row.text);
        let host = Host::parse(&text);
        if let Ok(host) = &host {
            let canonical = host.to_string();
            same("parsed again", Host::parse(&canonical).as_ref(), Ok(host))?;
            let is_v4 = matches!(host, Host::V4(_));
            same(
                "an IPv4 address",
                is_v4,
                canonical.parse::<std::net::Ipv4Addr>().is_ok(),
            )?;
        }
        row.check(host)
    });
}

#[test]
fn p1_an_authority_has_one_reading() {
    run("authorities", |_, row: &Spelling| {
        row.check(Authority::parse(&row.text, row.default))
    });
}

#[test]
fn p2_a_pattern_has_one_meaning_or_is_refused() {
    run("patterns", |_, row: &Spelling| {
        let list = match row.list {
            List::Allow => ListKind::Allow,
            List::Deny => ListKind::Deny,
            List::Managed => ListKind::ManagedAllow,
        };
        let text = if row.verbatim {
            row.text.clone()
        } else {
            row.expand(&row.text)
        };
        let pattern = Pattern::parse(&text, list);
        if let Ok(pattern) = &pattern {
            let again = Pattern::parse(&pattern.to_string(), list);
            same("parsed again", again.as_ref(), Ok(pattern))?;
        }
        row.check(pattern)
    });
}

#[test]
fn p5_an_address_has_the_class_of_the_registry() {
    run("addresses", |_, row: &Classified| {
        let class = AddressClass::of(row.address);
        same("class", class.as_str(), row.class.as_str())?;
        same("public", class.is_public(), row.class == "public")
    });
}

#[test]
fn p3_the_lists_decide() {
    run("decisions", Asked::check);
}

#[test]
fn p4_the_resolved_addresses_decide() {
    run("resolved", Asked::check);
}

#[test]
fn p7_the_mode_decides() {
    run("modes", Asked::check);
}

#[test]
fn j4_the_session_narrows() {
    run("sessions", Asked::check);
}

#[test]
fn p12_unlisted_hosts_are_reported_and_everything_else_is_enforced() {
    run("report", Asked::check);
}

#[test]
fn p6_own_listeners_are_never_reached() {
    run("own-listeners", Asked::check);
}

#[test]
fn m10_the_hooks_decide() {
    run("hooks", hooks::Asked::check);
}

#[test]
fn m9_a_hooks_text_has_one_meaning_or_is_refused() {
    run("hook-texts", |_, row: &hooks::Text| row.check());
}

#[test]
fn h10_the_lists_of_unix_sockets_decide() {
    run("unix-sockets", |_, row: &unix_sockets::Asked| row.check());
}

#[test]
fn h10_the_path_of_a_unix_socket_has_one_meaning_or_is_refused() {
    run("unix-socket-paths", |_, row: &Spelling| {
        let path = UnixSocketPath::parse(row.text.as_bytes());
        if let Ok(path) = &path {
            let again = UnixSocketPath::parse(path.as_bytes());
            same("parsed again", again.as_ref(), Ok(path))?;
        }
        row.check(path.map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned()))
    });
}

/// Reads a table and checks all of its rows.
fn run<T: Row + DeserializeOwned>(
    table: &str,
    check: impl Fn(&Table<T>, &T) -> Result<(), String>,
) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/cases")
        .join(table)
        .with_extension("toml");
    let text = std::fs::read_to_string(&path).expect("the table is there");
    let table: Table<T> = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut wrong = String::new();
    let mut names = HashSet::new();
    for row in &table.cases {
        let (name, spec) = row.title();
        let result = check(&table, row).and_then(|()| {
            let known = spec.starts_with(|letter: char| letter.is_ascii_uppercase());
            same("a line of SPEC.md", known, true)?;
            same("a name of its own", names.insert(name.to_owned()), true)
        });
        if let Err(problem) = result {
            let _ = writeln!(wrong, "{name} ({spec}): {problem}");
        }
    }
    assert!(!table.cases.is_empty(), "an empty table");
    assert!(wrong.is_empty(), "{}:\n{wrong}", path.display());
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "most of what is compared is made for the comparison"
)]
fn same<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Result<(), String> {
    if got == expected {
        Ok(())
    } else {
        Err(format!("{what}: got {got:?}, expected {expected:?}"))
    }
}

/// Replaces each `{text*n}` with `text`, `n` times over.
fn expand(text: &str) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, (repeated, after))) = rest
        .split_once('{')
        .and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        let (unit, times) = repeated.rsplit_once('*').expect("{text*n}");
        expanded.push_str(before);
        expanded.push_str(&unit.repeat(times.parse().expect("a number")));
        rest = after;
    }
    expanded + rest
}

impl Spelling {
    fn expand(&self, text: &str) -> String {
        if self.verbatim {
            text.to_owned()
        } else {
            expand(text)
        }
    }

    fn check<T: ToString, E: Debug>(&self, parsed: Result<T, E>) -> Result<(), String> {
        let parsed = match parsed {
            Ok(meaning) => Ok(meaning.to_string()),
            Err(error) => Err(format!("{error:?}")),
        };
        let expected = match (&self.is, &self.error) {
            (Some(meaning), None) => Ok(self.expand(meaning)),
            (None, Some(error)) => Err(error.clone()),
            _ => return Err("the row needs either `is` or `error`".to_owned()),
        };
        if let (Ok(meaning), Some(other)) = (&parsed, &self.not)
            && meaning == other
        {
            return Err(format!("it became {other}"));
        }
        same("reading", parsed, expected)
    }
}

impl Asked {
    fn check(table: &Table<Self>, row: &Self) -> Result<(), String> {
        let policy = row.policy(table);
        let Ok(host) = Host::parse(&expand(&row.host)) else {
            return same("an invalid host", "invalid", row.says.as_str());
        };
        let doors = DOORS.into_iter().filter(|door| {
            row.protocol
                .as_deref()
                .is_none_or(|name| name == door.record_name())
        });
        let mut asked = 0;
        for protocol in doors {
            asked += 1;
            let request = Request {
                host: &host,
                port: row.port.unwrap_or(443),
                kind: &row.kind(protocol)?,
                facts: Facts {
                    machine: &row.machine,
                    listeners: &Proxy(Interfaces(&row.machine.0), &row.listeners),
                    interception: match row.ca {
                        Some(false) => InterceptionSupport::Unavailable,
                        Some(true) | None => InterceptionSupport::Available,
                    },
                    credentials: match row.credential.as_deref() {
                        None => HostCredentials::None,
                        Some("usable") => HostCredentials::Usable,
                        Some("required") => HostCredentials::Required,
                        Some(other) => return Err(format!("credential = {other:?}")),
                    },
                },
            };
            let mut decision = policy.decide(&request);
            let explanation = policy.explain(&request);
            same("explained", explanation.decision, decision)?;
            same("listener", explanation.listener, row.listener)?;
            if let Some(addresses) = &row.addresses {
                same("allowed before resolution", decision.is_allow(), true)?;
                decision = policy.decide_addresses(&request, decision, addresses);
            }
            same(protocol.record_name(), told(&decision), row.says.clone())?;
            let rule = decision.rule().and_then(|rule| policy.rule(rule));
            same(
                "rule",
                rule.map(|rule| rule.to_string()),
                row.rule.as_deref().map(expand),
            )?;
        }
        same("doors", asked > 0, true)
    }

    fn kind(&self, protocol: Protocol) -> Result<RequestKind<'_>, String> {
        let hooks = match self.hooks.as_deref() {
            None => HookMatch::NotHooked,
            Some("matched") => HookMatch::Matched,
            Some("unmatched") => HookMatch::Unmatched,
            Some(other) => return Err(format!("hooks = {other:?}")),
        };
        let head = HttpHead {
            method: self.method.as_deref().unwrap_or_default().into(),
            upgrade: self.upgrade.as_deref().map(Into::into),
            content: content(self.content),
        };
        Ok(match protocol {
            Protocol::Http => RequestKind::Http(head),
            Protocol::HttpConnect => RequestKind::HttpConnect,
            Protocol::Https => RequestKind::Https(head, hooks),
            Protocol::Socks5Tcp => RequestKind::Socks5Tcp,
            Protocol::Socks5Udp => RequestKind::Socks5Udp,
            Protocol::Transparent => RequestKind::Transparent,
            Protocol::Dns => RequestKind::Dns,
        })
    }

    fn policy(&self, table: &Table<Self>) -> Policy {
        let list = |name: &str, kind, texts: &[String]| {
            let file: Arc<str> = Arc::from(name);
            let numbered = texts.iter().zip(1..);
            let entry = |(text, line): (&String, u32)| {
                let pattern = Pattern::parse(&expand(text), kind).expect("the row has patterns");
                let file = Arc::clone(&file);
                (pattern, Some(ConfigLine { file, line }))
            };
            numbered.map(entry).collect()
        };
        let allow = self.allow.as_ref().unwrap_or(&table.allow);
        let exceptions = self.exceptions.as_ref();
        let deny = self.deny.as_ref().unwrap_or(&table.deny);
        let mode = self.mode.as_deref().map_or(Ok(Mode::Full), str::parse);
        let hooked = self.hooked.iter().map(|host| Host::parse(host));
        let policy = Policy::compile(&PolicySpec {
            enabled: self.enabled,
            mode: mode.expect("the row has a mode"),
            allow_local_binding: self.local,
            allowed: list("allow", ListKind::Allow, allow),
            local_exceptions: exceptions.map(|texts| list("allow", ListKind::Allow, texts)),
            denied: list("deny", ListKind::Deny, deny),
            intercepted: hooked.map(|host| host.expect("a host")).collect(),
            interception: match self.mitm {
                Some(false) => Interception::Forbidden,
                Some(true) | None => Interception::Automatic,
            },
            unlisted: match self.unlisted.as_deref() {
                None => Unlisted::LeftToDecider,
                Some("refused") => Unlisted::Refused,
                Some(other) => panic!("unlisted = {other:?}"),
            },
            enforcement: enforcement(self.report),
            must_enforce: false,
        })
        .expect("the lists are short");
        match &self.session {
            Some(session) => session.narrow(&policy),
            None => policy,
        }
    }
}

/// A decision as the tables write it.
pub(crate) fn told(decision: &Decision) -> String {
    let (verdict, source) = (decision.verdict(), decision.source());
    let through = match decision.handling() {
        Handling::Carry => "",
        Handling::Intercept => " intercepted",
    };
    format!("{verdict} {source} {}{through}", decision.reason())
}

impl Row for Spelling {
    fn title(&self) -> (&str, &str) {
        (&self.name, &self.spec)
    }
}

impl Row for Classified {
    fn title(&self) -> (&str, &str) {
        (&self.name, &self.spec)
    }
}

impl Row for Asked {
    fn title(&self) -> (&str, &str) {
        (&self.name, &self.spec)
    }
}
