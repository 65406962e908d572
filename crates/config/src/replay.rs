//! Recorded decisions, judged again by a configuration (SPEC W5).
//!
//! A record has neither path nor addresses. So hooks judge nothing here, no name is looked up, and a record whose
//! decision rests on such a fact is only counted.

mod records;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use codex_network_policy::{
    Content, Decision, Facts, HookMatch, HostCredentials, HttpHead, InterceptionSupport,
    NoLocalAddresses, NoProxyListeners, Protocol, Reason, Request, RequestKind, Rule,
};
use serde::Serialize;

pub use self::records::RecordedAttempt;
use crate::settings::Settings;

/// Judges records by a configuration, and gathers the differences.
#[derive(Debug)]
pub struct Replay<'s> {
    settings: &'s Settings,
    records: u64,
    not_judged: u64,
    used: HashSet<Rule>,
    blocked: Changes,
    allowed: Changes,
}

/// Where judged attempts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JudgedAttempts {
    /// From records.
    Recorded,
    /// From a running proxy, as it decided about them.
    Seen,
}

/// The differences between a configuration's decisions and the recorded ones.
#[derive(Debug, Default, Serialize)]
pub struct ReplayReport {
    /// Attempts that the records have.
    pub records: u64,
    /// Attempts that were allowed, and would be refused. The most frequent first.
    pub newly_blocked: Vec<ChangedAttempts>,
    /// Attempts that were refused, and would be allowed. The most frequent first.
    pub newly_allowed: Vec<ChangedAttempts>,
    /// Rules that decide about no record.
    pub never_used: Vec<UnusedRule>,
    /// Attempts whose decision rests on more than a record has.
    pub not_judged: u64,
}

/// Attempts at a destination that would be decided in another way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedAttempts {
    /// The host, in canonical form.
    pub host: String,
    /// The port; 0 if it is not known.
    pub port: u16,
    /// The protocol, as in audit events.
    pub protocol: &'static str,
    /// The reason of the new decision.
    pub reason: &'static str,
    /// The rule of the new decision, with its file and line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How many there are.
    pub count: u64,
}

/// A rule that decides about no record.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct UnusedRule {
    /// `allow` or `deny`.
    pub list: &'static str,
    /// The rule, with its file and line.
    pub rule: String,
}

/// A difference that no earlier record showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewDifference {
    /// It was allowed, and would be refused.
    Blocked(ChangedAttempts),
    /// It was refused, and would be allowed.
    Allowed(ChangedAttempts),
}

/// Host, port, protocol and reason.
type Key = (String, u16, &'static str, &'static str);

type Changes = BTreeMap<Key, (Option<Rule>, u64)>;

/// How a record is decided now.
enum Judged {
    Decided(Decision),
    /// The record lacks a fact.
    Unknown,
}

impl<'s> Replay<'s> {
    /// A replay without records.
    pub fn new(settings: &'s Settings) -> Self {
        Self {
            settings,
            records: 0,
            not_judged: 0,
            used: HashSet::new(),
            blocked: Changes::new(),
            allowed: Changes::new(),
        }
    }

    /// Judges a record. Returns the difference, if it is new.
    pub fn add(&mut self, record: &RecordedAttempt) -> Option<NewDifference> {
        self.records += record.count;
        let Judged::Decided(decision) = decide(self.settings, record) else {
            self.not_judged += record.count;
            return None;
        };
        let rule = decision
            .rule()
            .and_then(|rule| self.settings.policy.rule(rule));
        self.used.extend(rule.clone());
        let (list, difference): (_, fn(ChangedAttempts) -> NewDifference) =
            match (record.is_allowed, decision.is_allow()) {
                (true, false) => (&mut self.blocked, NewDifference::Blocked),
                (false, true) => (&mut self.allowed, NewDifference::Allowed),
                _ => return None,
            };
        let key = (
            record.host.to_string(),
            record.port,
            record.protocol.audit_name(),
            decision.reason().as_str(),
        );
        if let Some((_, count)) = list.get_mut(&key) {
            *count += record.count;
            return None;
        }
        let change = (rule, record.count);
        let changed = ChangedAttempts::of(&key, &change);
        list.insert(key, change);
        Some(difference(changed))
    }

    /// The differences so far.
    pub fn report(&self) -> ReplayReport {
        let list = |changes: &Changes| {
            let all = changes
                .iter()
                .map(|(key, change)| ChangedAttempts::of(key, change));
            let mut all: Vec<ChangedAttempts> = all.collect();
            // Equal counts stay in the order of the hosts.
            all.sort_by_key(|one| std::cmp::Reverse(one.count));
            all
        };
        let policy = &self.settings.policy;
        let lists = [("allow", policy.allowed()), ("deny", policy.denied())];
        let never_used = lists.into_iter().flat_map(|(list, rules)| {
            let unused = rules.rules().filter(|rule| !self.used.contains(rule));
            unused.map(move |rule| UnusedRule {
                list,
                rule: rule.to_string(),
            })
        });
        ReplayReport {
            records: self.records,
            newly_blocked: list(&self.blocked),
            newly_allowed: list(&self.allowed),
            never_used: never_used.collect(),
            not_judged: self.not_judged,
        }
    }
}

impl ChangedAttempts {
    fn of((host, port, protocol, reason): &Key, (rule, count): &(Option<Rule>, u64)) -> Self {
        Self {
            host: host.clone(),
            port: *port,
            protocol,
            reason,
            rule: rule.as_ref().map(ToString::to_string),
            count: *count,
        }
    }

    /// `HOST port N PROTOCOL (REASON: RULE`, without the end.
    fn begin(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        if self.port != 0 {
            write!(f, " port {}", self.port)?;
        }
        write!(f, " {} ({}", self.protocol, self.reason)?;
        match &self.rule {
            Some(rule) => write!(f, ": {rule}"),
            None => Ok(()),
        }
    }
}

/// With the count.
impl fmt::Display for ChangedAttempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.begin(f)?;
        write!(f, ", {})", times(self.count))
    }
}

/// A line without a count, since more may follow.
impl fmt::Display for NewDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, changed) = match self {
            Self::Blocked(changed) => ('-', changed),
            Self::Allowed(changed) => ('+', changed),
        };
        write!(f, "{sign} ")?;
        changed.begin(f)?;
        write!(f, ")")
    }
}

impl JudgedAttempts {
    fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Seen => "seen",
        }
    }
}

impl ReplayReport {
    /// The differences for people, one on each line.
    pub fn lines(&self) -> Vec<String> {
        let blocked = self.newly_blocked.iter().map(|one| format!("- {one}"));
        let allowed = self.newly_allowed.iter().map(|one| format!("+ {one}"));
        let unused = self.never_used.iter();
        let unused = unused.map(|unused| format!("never used: {} {}", unused.list, unused.rule));
        blocked.chain(allowed).chain(unused).collect()
    }

    /// The sums for people, in one sentence.
    pub fn summary(&self, judged: JudgedAttempts) -> String {
        let sum = |changed: &[ChangedAttempts]| changed.iter().map(|one| one.count).sum::<u64>();
        format!(
            "of {} {} attempts {} newly blocked, {} newly allowed, {} not judged; {} never used",
            self.records,
            judged.as_str(),
            sum(&self.newly_blocked),
            sum(&self.newly_allowed),
            self.not_judged,
            rules(self.never_used.len())
        )
    }
}

/// The decision on a record, before a name is looked up.
fn decide(settings: &Settings, record: &RecordedAttempt) -> Judged {
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
            credentials: HostCredentials::None,
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
fn rests_on_the_policy(record: &RecordedAttempt) -> bool {
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
    use codex_network_policy::Host;

    use super::*;

    fn settings(text: &str) -> Settings {
        let sources = crate::Sources::none().with_text("next.toml", text);
        crate::load(&sources).expect("no error").settings
    }

    fn judge(settings: &Settings, records: &[RecordedAttempt]) -> ReplayReport {
        let mut replay = Replay::new(settings);
        let new: Vec<_> = records
            .iter()
            .filter_map(|record| replay.add(record))
            .collect();
        let report = replay.report();
        let all = report.newly_blocked.len() + report.newly_allowed.len();
        assert_eq!(new.len(), all, "each difference is told once: {new:?}");
        report
    }

    fn record(host: &str, is_allowed: bool, reason: &str) -> RecordedAttempt {
        RecordedAttempt {
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
        let of = |source: &str, record: RecordedAttempt| RecordedAttempt {
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
        let shown = |changed: &[ChangedAttempts]| -> Vec<String> {
            let one = |one: &ChangedAttempts| format!("{} {} {}", one.host, one.reason, one.count);
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
        let lines = replay.lines();
        let line = "+ x.b.test port 443 https_connect (allow: *.b.test (next.toml:2), 2 times)";
        assert!(lines.iter().any(|one| one == line), "{lines:#?}");
        assert_eq!(
            replay.summary(JudgedAttempts::Recorded),
            "of 12 recorded attempts 4 newly blocked, 2 newly allowed, 4 not judged; 2 rules never used"
        );
    }

    #[test]
    fn w5_the_mode_counts_and_requests_to_hosts_with_hooks_are_not_judged() {
        let limited = settings("[network]\nmode = \"limited\"\nallowed_domains = [\"a.test\"]\n");
        let request = |protocol, method: &str| RecordedAttempt {
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
