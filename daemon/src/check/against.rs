//! `check --against RECORDS`: recorded decisions, judged again by a configuration (SPEC W5).
//!
//! A record has neither path nor addresses. So hooks judge nothing here, no name is looked up, and a record whose
//! decision rests on such a fact is only counted.

mod records;

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

use codex_network_config::Settings;
use codex_network_control::ReloadProblem;
use codex_network_files::{Reading, Sources};
use codex_network_policy::{
    Content, Decision, Facts, HookMatch, HttpHead, InterceptionSupport, NoLocalAddresses,
    NoProxyListeners, Protocol, Reason, Request, RequestKind, Rule,
};
use serde::Serialize;

use self::records::Record;
use super::standard_input;

/// The longest text of records.
const MAX_RECORDS: u64 = 1 << 30;
/// The user named the file, so it may be a pipe.
const READING: Reading = Reading::up_to(MAX_RECORDS).from_sources(Sources::Any);

/// The differences between a configuration's decisions and the recorded ones.
#[derive(Debug, Default, Serialize)]
pub(super) struct Replay {
    /// Attempts that the records have.
    records: u64,
    newly_blocked: Vec<Changed>,
    newly_allowed: Vec<Changed>,
    never_used: Vec<UnusedRule>,
    /// Attempts whose decision rests on more than a record has.
    not_judged: u64,
    /// Lines without a record.
    other_lines: u64,
}

/// Attempts at a destination.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Changed {
    host: String,
    port: u16,
    protocol: &'static str,
    /// The reason of the new decision.
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    count: u64,
}

/// A rule that decides about no record.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct UnusedRule {
    list: &'static str,
    rule: String,
}

/// Host, port, protocol and reason.
type Key = (String, u16, &'static str, &'static str);

/// How a record is decided now.
enum Judged {
    Decided(Decision),
    /// The record lacks a fact.
    Unknown,
}

/// Reads the records, and judges them.
pub(super) fn replay(settings: &Settings, path: &Path) -> Result<Replay, ReloadProblem> {
    let text = if standard_input::is(path) {
        standard_input::read()?
    } else {
        let about = |why: &dyn std::fmt::Display| {
            ReloadProblem::placeless(&format!("--against {}: {why}", path.display()))
        };
        let bytes = READING.read(path).map_err(|error| about(&error))?;
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (records, other_lines) = records::read(&text);
    if records.is_empty() {
        return Err(ReloadProblem::placeless(&format!(
            "--against {}: it has no record of a decision; give a log in JSON ([daemon] log_format = \"json\"), or the \
             output of `proxyctl blocked --json`",
            path.display()
        )));
    }
    let mut replay = judge(settings, &records);
    replay.other_lines = other_lines;
    Ok(replay)
}

fn judge(settings: &Settings, records: &[Record]) -> Replay {
    let policy = &settings.policy;
    let mut replay = Replay::default();
    let mut used: HashSet<Rule> = HashSet::new();
    let (mut blocked, mut allowed) = (BTreeMap::new(), BTreeMap::new());
    for record in records {
        replay.records += record.count;
        let Judged::Decided(decision) = decide(settings, record) else {
            replay.not_judged += record.count;
            continue;
        };
        let rule = decision.rule().and_then(|rule| policy.rule(rule));
        used.extend(rule.clone());
        let changed: &mut BTreeMap<Key, (Option<Rule>, u64)> =
            match (record.is_allowed, decision.is_allow()) {
                (true, false) => &mut blocked,
                (false, true) => &mut allowed,
                _ => continue,
            };
        let key = (
            record.host.to_string(),
            record.port,
            record.protocol.audit_name(),
            decision.reason().as_str(),
        );
        changed.entry(key).or_insert((rule, 0)).1 += record.count;
    }
    let list = |changed: BTreeMap<Key, (Option<Rule>, u64)>| {
        let mut all: Vec<Changed> = changed
            .into_iter()
            .map(|((host, port, protocol, reason), (rule, count))| Changed {
                host,
                port,
                protocol,
                reason,
                rule: rule.map(|rule| rule.to_string()),
                count,
            })
            .collect();
        // Equal counts stay in the order of the hosts.
        all.sort_by_key(|one| std::cmp::Reverse(one.count));
        all
    };
    replay.newly_blocked = list(blocked);
    replay.newly_allowed = list(allowed);
    for (list, rules) in [("allow", policy.allowed()), ("deny", policy.denied())] {
        let unused = rules.rules().filter(|rule| !used.contains(rule));
        replay.never_used.extend(unused.map(|rule| UnusedRule {
            list,
            rule: rule.to_string(),
        }));
    }
    replay
}

/// The decision on a record, before a name is looked up.
fn decide(settings: &Settings, record: &Record) -> Judged {
    if !rests_on_the_policy(record) {
        return Judged::Unknown;
    }
    let head = || HttpHead {
        method: record.method.as_str().into(),
        upgrade: None,
        content: Content::Absent,
    };
    let kind = match record.protocol {
        Protocol::Http => RequestKind::Http(head()),
        Protocol::HttpConnect => RequestKind::HttpConnect,
        Protocol::Https if settings.mitm.hooks.has(&record.host) => return Judged::Unknown,
        Protocol::Https => RequestKind::Https(head(), HookMatch::NotHooked),
        Protocol::Socks5Tcp => RequestKind::Socks5Tcp,
        Protocol::Socks5Udp => RequestKind::Socks5Udp,
        Protocol::Transparent => RequestKind::Transparent,
        Protocol::Dns => RequestKind::Dns,
    };
    let decision = settings.policy.decide(&Request {
        host: &record.host,
        port: record.port,
        kind: &kind,
        facts: Facts {
            machine: &NoLocalAddresses,
            listeners: &NoProxyListeners,
            interception: InterceptionSupport::Available,
            has_credential: false,
        },
    });
    // The name was allowed, and its addresses were not. It may have others by now.
    let was_local_name =
        record.reason == Reason::NotAllowedLocal.as_str() && record.host.ip().is_none();
    if was_local_name && decision.is_allow() {
        return Judged::Unknown;
    }
    Judged::Decided(decision)
}

/// Whether lists and mode decided, and not a session, a person or the content of a connection.
fn rests_on_the_policy(record: &Record) -> bool {
    let reasons = [
        Reason::Allow,
        Reason::Denied,
        Reason::NotAllowed,
        Reason::NotAllowedLocal,
        Reason::MethodNotAllowed,
    ];
    let is_known = reasons.iter().any(|one| one.as_str() == record.reason);
    let is_learned = record.is_allowed && record.reason == Reason::NotAllowed.as_str();
    match record.source.as_str() {
        "session" => is_learned,
        "decider" | "proxy_state" => false,
        _ => is_known,
    }
}

impl Replay {
    /// The result for people.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (sign, changed) in [('-', &self.newly_blocked), ('+', &self.newly_allowed)] {
            for one in changed {
                let rule = one.rule.as_ref().map(|rule| format!(": {rule}"));
                let port = match one.port {
                    0 => String::new(),
                    port => format!(" port {port}"),
                };
                writeln!(
                    out,
                    "{sign} {}{port} {} ({}{}, {})",
                    one.host,
                    one.protocol,
                    one.reason,
                    rule.unwrap_or_default(),
                    times(one.count)
                )?;
            }
        }
        for unused in &self.never_used {
            writeln!(out, "never used: {} {}", unused.list, unused.rule)?;
        }
        let sum = |changed: &[Changed]| changed.iter().map(|one| one.count).sum::<u64>();
        writeln!(
            out,
            "ok: of {} recorded attempts {} newly blocked, {} newly allowed, {} not judged; {} never used",
            self.records,
            sum(&self.newly_blocked),
            sum(&self.newly_allowed),
            self.not_judged,
            rules(self.never_used.len())
        )
    }
}

fn rules(count: usize) -> String {
    match count {
        1 => "1 rule".to_owned(),
        count => format!("{count} rules"),
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

#[cfg(test)]
mod tests {
    use codex_network_config::load;
    use codex_network_policy::Host;

    use super::*;

    fn settings(text: &str) -> Settings {
        let sources = codex_network_config::Sources::none().with_text("next.toml", text);
        load(&sources).expect("no error").settings
    }

    fn record(host: &str, is_allowed: bool, reason: &str) -> Record {
        Record {
            host: Host::parse(host).expect("a host"),
            port: 443,
            protocol: Protocol::HttpConnect,
            method: "CONNECT".to_owned(),
            is_allowed,
            source: "baseline_policy".to_owned(),
            reason: reason.to_owned(),
            count: 1,
        }
    }

    #[test]
    fn w5_changes_are_grouped_and_counted_and_unused_rules_are_named() {
        let settings = settings(
            "[network]\nallowed_domains = [\"a.test\", \"*.b.test\", \"unused.test\"]\ndenied_domains = [\"d.test\", \"e.test\"]\n",
        );
        let of = |source: &str, record: Record| Record {
            source: source.to_owned(),
            ..record
        };
        let replay = judge(
            &settings,
            &[
                record("a.test", true, "allow"),
                record("x.b.test", false, "not_allowed"),
                record("x.b.test", false, "not_allowed"),
                record("c.test", true, "allow"),
                record("d.test", true, "allow"),
                record("d.test", false, "denied"),
                // Let through by report-only, and by a session that learned.
                record("r.test", true, "not_allowed"),
                of("session", record("s.test", true, "not_allowed")),
                // These rest on more than the policy, or on addresses.
                of("session", record("a.test", false, "denied")),
                of("decider", record("g.test", true, "not_allowed")),
                record("a.test", false, "not_allowed_local"),
                record("a.test", false, "mitm_hook_denied"),
            ],
        );
        let shown = |changed: &[Changed]| -> Vec<String> {
            let one = |one: &Changed| format!("{} {} {}", one.host, one.reason, one.count);
            changed.iter().map(one).collect()
        };
        assert_eq!(
            shown(&replay.newly_blocked),
            [
                "c.test not_allowed 1",
                "d.test denied 1",
                "r.test not_allowed 1",
                "s.test not_allowed 1"
            ]
        );
        assert_eq!(shown(&replay.newly_allowed), ["x.b.test allow 2"]);
        let unused: Vec<_> = replay.never_used.iter().map(|one| &*one.rule).collect();
        assert_eq!(
            unused,
            ["unused.test (next.toml:2)", "e.test (next.toml:3)"]
        );
        assert_eq!((replay.records, replay.not_judged), (12, 4));
        let mut text = Vec::new();
        replay.write(&mut text).expect("memory");
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(
            text.contains(
                "+ x.b.test port 443 https_connect (allow: *.b.test (next.toml:2), 2 times)\n"
            ),
            "{text}"
        );
        assert!(
            text.ends_with(
                "ok: of 12 recorded attempts 4 newly blocked, 2 newly allowed, 4 not judged; 2 rules never used\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn w5_the_mode_counts_and_requests_to_hosts_with_hooks_are_not_judged() {
        let limited = settings("[network]\nmode = \"limited\"\nallowed_domains = [\"a.test\"]\n");
        let request = |protocol, method: &str| Record {
            protocol,
            method: method.to_owned(),
            ..record("a.test", true, "allow")
        };
        let replay = judge(
            &limited,
            &[
                request(Protocol::Http, "GET"),
                request(Protocol::Http, "POST"),
                request(Protocol::Https, "PUT"),
                request(Protocol::Socks5Udp, "none"),
            ],
        );
        let protocols: Vec<_> = replay
            .newly_blocked
            .iter()
            .map(|one| one.protocol)
            .collect();
        assert_eq!(protocols, ["http", "https", "socks5_udp"]);
        let hooked = settings(
            "[network]\nallowed_domains = [\"a.test\"]\n[network.mitm.hooks.h]\nhost = \"a.test\"\nmethods = [\"GET\"]\npath_prefixes = [\"/\"]\n",
        );
        let replay = judge(&hooked, &[request(Protocol::Https, "PUT")]);
        assert_eq!((replay.not_judged, replay.newly_blocked.len()), (1, 0));
    }
}
