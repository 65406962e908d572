//! Which hosts may be intercepted under a configuration, in the form that the monitor reads.

use std::sync::Arc;

use codex_network_config::Settings;
use codex_network_policy::{Enforcement, Host, Interception};

use crate::privsep::interceptable::Interceptable;

/// The hosts that the policy allows, and those with hooks. The mode may be narrowed at run time,
/// and then every allowed host is intercepted (SPEC M1). The same for each profile that a session may
/// choose (SPEC J4).
pub(super) fn of(settings: &Settings) -> Interceptable {
    let selected = (&settings.policy, &settings.mitm.hooks);
    let profiles = settings.profiles.values();
    let profiles = profiles.map(|profile| (&profile.policy, &profile.hooks));
    let profiles = profiles.filter(|_| settings.daemon.sessions.max > 0);
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
        return Interceptable::Everything;
    }
    gather(may.into_iter().flat_map(|(policy, hooks)| {
        let allowed = policy.allowed().rules().map(|rule| rule.pattern);
        allowed.chain(hooks.iter().map(|(_, hook)| hook.host.to_string()))
    }))
}

/// The hosts that patterns cover (SPEC P2).
fn gather(patterns: impl Iterator<Item = String>) -> Interceptable {
    let (mut hosts, mut domains) = (Vec::new(), Vec::new());
    for pattern in patterns {
        if pattern == "*" {
            return Interceptable::Everything;
        }
        if let Some((_, rest)) = pattern.rsplit_once('*') {
            // `*.NAME`, `**.NAME`, or a `*` inside a label: then the name after that label.
            let Some((_, name)) = rest.split_once('.') else {
                continue;
            };
            if pattern.strip_prefix("**.") == Some(name) {
                hosts.push(name.to_owned());
            }
            domains.push(name.to_owned());
        } else {
            // A certificate has no field for a scope, and is never requested with one.
            let host = match Host::parse(&pattern) {
                Ok(Host::V6(host)) => host.address().to_string(),
                Ok(host) => host.to_string(),
                Err(_) => continue,
            };
            hosts.push(host);
        }
    }
    Interceptable::Listed {
        hosts: hosts.into_iter().collect(),
        domains: domains.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use codex_network_policy::{ListKind, Pattern};

    use super::*;

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
            let covered = ["a.test", "b.test", "c.test", "d.test"].map(|host| hosts.covers(host));
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
            assert_eq!(of(&loaded.settings).covers("b.test"), expected, "{more}");
        }
    }

    /// The canonical text, as a policy reports its rules.
    fn of_patterns(patterns: &[&str]) -> Interceptable {
        gather(patterns.iter().map(|pattern| {
            let pattern = Pattern::parse(pattern, ListKind::Allow).expect("a pattern");
            pattern.to_string()
        }))
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
                assert!(hosts.covers(host), "{pattern} and {host}");
            }
            for host in foreign {
                assert!(!hosts.covers(host), "{pattern} and {host}");
            }
        }
        assert_eq!(
            of_patterns(&["a.test", "*", "b.test"]),
            Interceptable::Everything
        );
        assert_eq!(of_patterns(&[]), Interceptable::default());
    }
}
