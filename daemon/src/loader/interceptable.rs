//! Which hosts may be intercepted under a configuration, in the form that the monitor reads.

use std::sync::Arc;

use codex_network_config::Settings;
use codex_network_policy::{Enforcement, Host, Interception, Unlisted};

use crate::privsep::interceptable::{HostSet, Interceptable};

/// The hosts that the policy allows, and those with hooks. The mode may be narrowed at run time,
/// and then every allowed host is intercepted (SPEC M1). The same for each profile that a session may
/// choose (SPEC J4). Where sessions or questions are possible, people may allow further hosts: all but
/// those of the deny list.
pub(super) fn of(settings: &Settings) -> Interceptable {
    let has_sessions = settings.daemon.sessions.max > 0;
    let selected = (&settings.policy, &settings.mitm.hooks);
    let profiles = settings.profiles.values();
    let profiles = profiles.map(|profile| (&profile.policy, &profile.hooks));
    let profiles = profiles.filter(|_| has_sessions);
    // The selected profile is among the others too.
    let profiles = profiles.filter(|(policy, _)| !Arc::ptr_eq(policy, selected.0));
    let all = std::iter::once(selected).chain(profiles);
    let may = all.filter(|(policy, _)| policy.interception() == Interception::Automatic);
    let may: Vec<_> = may.collect();
    // Every host is let through, or is denied.
    if may
        .iter()
        .any(|(policy, _)| policy.enforcement() == Enforcement::Report)
    {
        return Interceptable {
            listed: HostSet::Everything,
            denied_to_people: Vec::new(),
        };
    }
    // A question may be about a client without a session, which the selected policy judges.
    let people_allow = has_sessions || settings.daemon.approvals.enabled;
    let left_to_people = may.iter().filter(|(policy, _)| {
        people_allow && policy.is_enabled() && policy.unlisted() == Unlisted::LeftToDecider
    });
    let denied = left_to_people.map(|(policy, _)| {
        let denied = policy.denied().rules().map(|rule| rule.pattern);
        gather(denied, Wildcards::LeaveOut)
    });
    Interceptable {
        denied_to_people: denied.collect(),
        listed: gather(
            may.iter().flat_map(|(policy, hooks)| {
                let allowed = policy.allowed().rules().map(|rule| rule.pattern);
                allowed.chain(hooks.iter().map(|(_, hook)| hook.host.to_string()))
            }),
            Wildcards::Widen,
        ),
    }
}

/// The treatment of patterns that a set cannot express: a `*` inside a label, and the scope of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wildcards {
    /// The set covers more than the pattern.
    Widen,
    /// The set covers nothing of it.
    LeaveOut,
}

/// The hosts that patterns cover (SPEC P2).
fn gather(patterns: impl Iterator<Item = String>, wildcards: Wildcards) -> HostSet {
    let (mut hosts, mut domains) = (Vec::new(), Vec::new());
    for pattern in patterns {
        if pattern == "*" {
            return HostSet::Everything;
        }
        if let Some((before, rest)) = pattern.rsplit_once('*') {
            // `*.NAME`, `**.NAME`, or a `*` inside a label: then the name after that label.
            let Some((inside, name)) = rest.split_once('.') else {
                continue;
            };
            let is_whole = inside.is_empty() && matches!(before, "" | "*");
            if !is_whole && wildcards == Wildcards::LeaveOut {
                continue;
            }
            if pattern.strip_prefix("**.") == Some(name) {
                hosts.push(name.to_owned());
            }
            domains.push(name.to_owned());
        } else {
            // A certificate has no field for a scope, and is never requested with one.
            let host = match Host::parse(&pattern) {
                Ok(Host::V6(host))
                    if host.scope().is_some() && wildcards == Wildcards::LeaveOut =>
                {
                    continue;
                }
                Ok(Host::V6(host)) => host.address().to_string(),
                Ok(host) => host.to_string(),
                Err(_) => continue,
            };
            hosts.push(host);
        }
    }
    HostSet::Listed {
        hosts: hosts.into_iter().collect(),
        domains: domains.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use codex_network_policy::{ListKind, Pattern};

    use super::*;
    use crate::privsep::interceptable::Permission;

    #[test]
    fn j4_m4_hosts_of_profiles_may_be_intercepted_while_there_may_be_sessions() {
        let text = "[network]
allowed_domains = [\"a.test\"]
[permissions.dev.network]
allowed_domains = [\"b.test\"]
[permissions.never.network]
allowed_domains = [\"c.test\"]
mitm = false
[permissions.hooked.network.mitm.hooks.api]
host = \"d.test\"
methods = [\"GET\"]
path_prefixes = [\"/\"]
";
        let without = format!("{text}[daemon.sessions]\nmax = 0\n");
        for (text, expected) in [
            (text, [true, true, false, true]),
            (&without, [true, false, false, false]),
        ] {
            let sources = codex_network_config::Sources::none().with_text("config.toml", text);
            let loaded = codex_network_config::load(&sources).expect("no error");
            let hosts = of(&loaded.settings);
            let covered = ["a.test", "b.test", "c.test", "d.test"]
                .map(|host| hosts.permission(host) == Permission::Listed);
            assert_eq!(covered, expected);
        }
    }

    #[test]
    fn p12_m4_every_host_may_be_intercepted_where_unlisted_ones_are_let_through() {
        let text = "[network]\nallowed_domains = [\"a.test\"]\n";
        for (more, expected) in [
            ("", false),
            ("enforcement = \"enforce\"\n", false),
            ("enforcement = \"report\"\n", true),
            ("enforcement = \"report\"\nmitm = false\n", false),
        ] {
            let text = format!("{text}{more}");
            let sources = codex_network_config::Sources::none().with_text("config.toml", &text);
            let loaded = codex_network_config::load(&sources).expect("no error");
            let permission = of(&loaded.settings).permission("b.test");
            assert_eq!(permission == Permission::Listed, expected, "{more}");
        }
    }

    #[test]
    fn m4_people_allow_further_hosts_only_where_the_settings_let_them_and_never_denied_ones() {
        let text = "[network]
allowed_domains = [\"a.test\"]
denied_domains = [\"evil.test\", \"**.worse.test\", \"x*.odd.test\"]
[permissions.dev.network]
denied_domains = [\"dev.test\", \"evil.test\"]
";
        let no_sessions = "[daemon.sessions]\nmax = 0\n";
        let questions = "[daemon.approvals]\nenabled = true\n";
        let (people, none) = (Permission::LeftToPeople, Permission::None);
        for (more, [new, of_dev, evil]) in [
            (String::new(), [people, people, none]),
            (no_sessions.to_owned(), [none, none, none]),
            // Only the selected policy counts.
            (format!("{no_sessions}{questions}"), [people, people, none]),
        ] {
            let text = format!("{text}{more}");
            let sources = codex_network_config::Sources::none().with_text("config.toml", &text);
            let loaded = codex_network_config::load(&sources).expect("no error");
            let hosts = of(&loaded.settings);
            assert_eq!(hosts.permission("new.test"), new, "{more}");
            assert_eq!(hosts.permission("dev.test"), of_dev, "{more}");
            assert_eq!(hosts.permission("evil.test"), evil, "{more}");
            assert_eq!(hosts.permission("a.test"), Permission::Listed, "{more}");
        }
        for (more, expected) in [
            ("", people),
            ("mitm = false\n", none),
            ("enabled = false\n", none),
        ] {
            let text = format!("[network]\nallowed_domains = [\"a.test\"]\n{more}");
            let sources = codex_network_config::Sources::none().with_text("config.toml", &text);
            let loaded = codex_network_config::load(&sources).expect("no error");
            assert_eq!(
                of(&loaded.settings).permission("new.test"),
                expected,
                "{more}"
            );
        }
    }

    #[test]
    fn m4_denied_hosts_are_never_more_than_those_of_the_deny_list() {
        for (pattern, denied, others) in [
            ("example.com", &["example.com"][..], &["a.example.com"][..]),
            ("*.example.com", &["a.example.com"], &["example.com"]),
            (
                "**.example.com",
                &["example.com", "a.example.com"],
                &["xample.com"],
            ),
            (
                "region*.v2.example.com",
                &[],
                &["region1.v2.example.com", "a.v2.example.com"],
            ),
            (
                "**.a*.example.com",
                &[],
                &["ab.example.com", "x.y.example.com"],
            ),
            (
                "*.a*.example.com",
                &[],
                &["x.ab.example.com", "x.y.example.com"],
            ),
            ("192.0.2.1", &["192.0.2.1"], &["192.0.2.2"]),
            ("fe80::1%eth0", &[], &["fe80::1"]),
            ("fe80::1", &["fe80::1"], &["fe80::2"]),
        ] {
            let pattern = Pattern::parse(pattern, ListKind::Deny)
                .expect("a pattern")
                .to_string();
            let hosts = Interceptable {
                listed: HostSet::default(),
                denied_to_people: vec![gather(
                    std::iter::once(pattern.clone()),
                    Wildcards::LeaveOut,
                )],
            };
            for host in denied {
                assert_eq!(
                    hosts.permission(host),
                    Permission::None,
                    "{pattern} and {host}"
                );
            }
            for host in others {
                assert_eq!(
                    hosts.permission(host),
                    Permission::LeftToPeople,
                    "{pattern} and {host}"
                );
            }
        }
    }

    /// The canonical text, as a policy reports its rules.
    fn of_patterns(patterns: &[&str]) -> Interceptable {
        let patterns = patterns.iter().map(|pattern| {
            let pattern = Pattern::parse(pattern, ListKind::Allow).expect("a pattern");
            pattern.to_string()
        });
        Interceptable {
            listed: gather(patterns, Wildcards::Widen),
            denied_to_people: Vec::new(),
        }
    }

    #[test]
    fn m4_hosts_that_a_pattern_allows_may_be_intercepted_and_no_others() {
        for (pattern, covered, foreign) in [
            (
                "Example.com",
                &["example.com"][..],
                &["a.example.com", "com"][..],
            ),
            (
                "*.example.com",
                &["a.example.com", "b.a.example.com"],
                &["example.com"],
            ),
            (
                "**.example.com",
                &["example.com", "a.example.com"],
                &["xample.com"],
            ),
            // Wildcards inside a label are widened.
            (
                "region*.v2.example.com",
                &["region1.v2.example.com"],
                &["v2.example.com", "a.example.com"],
            ),
            (
                "**.a*.example.com",
                &["ab.example.com", "x.ab.example.com"],
                &["example.com", "a.test"],
            ),
            (
                "*.a*.b*.example.com",
                &["x.a.b.example.com"],
                &["example.com"],
            ),
            (
                "b\u{fc}cher.test",
                &["xn--bcher-kva.test"],
                &["bucher.test"],
            ),
            ("192.0.2.1", &["192.0.2.1"], &["192.0.2.2"]),
            ("[2001:DB8:0::1]", &["2001:db8::1"], &["2001:db8::2"]),
            ("fe80::1%eth0", &["fe80::1"], &["fe80::2"]),
            ("localhost", &["localhost"], &["127.0.0.1"]),
        ] {
            let hosts = of_patterns(&[pattern]);
            for host in covered {
                assert_eq!(
                    hosts.permission(host),
                    Permission::Listed,
                    "{pattern} and {host}"
                );
            }
            for host in foreign {
                assert_eq!(
                    hosts.permission(host),
                    Permission::None,
                    "{pattern} and {host}"
                );
            }
        }
        assert_eq!(
            of_patterns(&["a.test", "*", "b.test"]).listed,
            HostSet::Everything
        );
        assert_eq!(of_patterns(&[]), Interceptable::default());
    }
}
