//! Proposals, and what the proxy makes of them.

use codex_network_config::{Sources, load};
use codex_network_policy::{
    Facts, HostCredentials, InterceptionSupport, NoLocalAddresses, NoProxyListeners, Policy,
    Request, RequestKind,
};

use super::*;

fn needed(host: &str) -> NeededDestination {
    NeededDestination {
        host: host.to_owned(),
        port: 443,
        count: 1,
        is_local: false,
    }
}

#[test]
fn w1_no_wildcard_covers_a_host_that_was_refused() {
    let reached = ["a.example.com", "b.example.com", "c.example.com"];
    for (refused, wanted) in [
        ("bad.example.com", 3),
        ("deep.bad.example.com", 3),
        ("example.com", 1),
        ("badexample.com", 1),
    ] {
        let refused = BTreeSet::from([refused.to_owned()]);
        let proposal = Proposal::of(reached.iter().map(|host| needed(host)), &refused);
        assert_eq!(proposal.entries.len(), wanted, "{refused:?}");
    }
}

fn patterns(hosts: &[&str]) -> Vec<String> {
    let proposal = Proposal::of(hosts.iter().map(|host| needed(host)), &BTreeSet::new());
    let entries = proposal.entries.into_iter();
    entries.map(|entry| entry.pattern).collect()
}

/// The policy of a proposal, as the proxy reads it.
fn policy(proposal: &Proposal) -> Policy {
    let text = proposal.to_toml(false, &[]);
    let loaded = load(&Sources::none().with_text("learned.toml", &text));
    let loaded = loaded.unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    Policy::clone(&loaded.settings.policy)
}

fn allows(policy: &Policy, host: &str) -> bool {
    let host = Host::parse(host).expect("a host");
    let decision = policy.decide(&Request {
        host: &host,
        port: 443,
        kind: &RequestKind::HttpConnect,
        facts: Facts {
            machine: &NoLocalAddresses,
            listeners: &NoProxyListeners,
            interception: InterceptionSupport::Available,
            credentials: HostCredentials::None,
        },
    });
    decision.is_allow()
}

#[test]
fn w1_three_neighbours_share_a_wildcard_and_two_do_not() {
    assert_eq!(
        patterns(&["b.example.com", "a.example.com"]),
        ["a.example.com", "b.example.com"]
    );
    assert_eq!(
        patterns(&[
            "c.example.com",
            "a.example.com",
            "b.example.com",
            "a.example.com"
        ]),
        ["*.example.com"]
    );
    assert_eq!(
        patterns(&[
            "a.example.com",
            "a.example.com",
            "a.example.com",
            "b.example.com"
        ]),
        ["a.example.com", "b.example.com"]
    );
    // The domain itself is no neighbour, and has an entry of its own. A deeper name is covered.
    assert_eq!(
        patterns(&[
            "a.example.com",
            "b.example.com",
            "c.example.com",
            "example.com",
            "x.y.example.com"
        ]),
        ["*.example.com", "example.com"]
    );
    // A wildcard above takes the place of one below.
    assert_eq!(
        patterns(&[
            "a.x.example.com",
            "b.x.example.com",
            "c.x.example.com",
            "a.example.com",
            "b.example.com",
            "c.example.com",
        ]),
        ["*.example.com"]
    );
}

#[test]
fn w1_no_wildcard_is_above_a_registrable_domain() {
    for hosts in [
        ["a.com", "b.com", "c.com"],
        ["a.co.uk", "b.co.uk", "c.co.uk"],
        ["a.github.io", "b.github.io", "c.github.io"],
        ["a.test", "b.test", "c.test"],
        ["x.localhost", "y.localhost", "z.localhost"],
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
    ] {
        assert_eq!(patterns(&hosts), hosts);
    }
    let below = ["a.b.co.uk", "c.b.co.uk", "d.b.co.uk"];
    assert_eq!(patterns(&below), ["*.b.co.uk"]);
    let pages = ["a.user.github.io", "b.user.github.io", "c.user.github.io"];
    assert_eq!(patterns(&pages), ["*.user.github.io"]);
}

#[test]
fn w1_the_policy_is_in_toml_with_ports_and_counts() {
    let destinations = [
        NeededDestination {
            port: 80,
            count: 2,
            ..needed("b.test")
        },
        needed("b.test"),
        needed("2001:DB8::1"),
        needed("z.a.test"),
        needed("y.a.test"),
        needed("x.a.test"),
        needed("unix socket"),
        NeededDestination {
            is_local: true,
            ..needed("intranet.test")
        },
        NeededDestination {
            is_local: true,
            ..needed("localhost")
        },
    ];
    let proposal = Proposal::of(destinations, &BTreeSet::new());
    assert_eq!(
        proposal.to_toml(true, &["From\na test.".to_owned()]),
        "# From\\na test.\n\
         # An entry allows every port of its hosts.\n\
         default_permissions = \"learned\"\n\n\
         [permissions.learned.network]\n\
         mode = \"limited\"\n\
         # Local addresses: intranet.test.\n\
         # allow_local_binding lifts the protection of local and private addresses for every entry, not only for these \
         hosts.\n\
         allow_local_binding = true\n\n\
         [permissions.learned.network.domains]\n\
         \"*.a.test\" = \"allow\" # x.a.test, y.a.test, z.a.test; port 443; 3 times\n\
         \"2001:db8::1\" = \"allow\" # port 443; once\n\
         \"b.test\" = \"allow\" # ports 80, 443; 3 times\n\
         \"intranet.test\" = \"allow\" # port 443; once\n\
         \"localhost\" = \"allow\" # port 443; once\n"
    );
    assert!(policy(&proposal).allows_local_binding());
    assert!(!policy(&Proposal::default()).allows_local_binding());
}

/// Hosts from a small alphabet, so that many are neighbours. Pseudo-random, with a fixed start.
fn generated(seed: u64) -> Vec<String> {
    let mut state = seed;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let suffixes = [
        "com",
        "co.uk",
        "github.io",
        "example.com",
        "b.co.uk",
        "localhost",
        "test",
    ];
    let count = next(12);
    let mut hosts = Vec::new();
    for _ in 0..count {
        if next(10) == 0 {
            hosts.push(format!("198.41.0.{}", next(4)));
            continue;
        }
        let mut host = suffixes[next(suffixes.len())].to_owned();
        for _ in 0..next(3) {
            host = format!("{}.{host}", ["a", "b", "c", "d"][next(4)]);
        }
        hosts.push(host);
    }
    hosts
}

/// The recorded hosts are allowed, and besides them only what the wildcards cover, of which each stands for three
/// recorded neighbours.
#[test]
fn w1_a_proposal_allows_the_recorded_hosts_and_what_its_wildcards_say() {
    for seed in 0..400 {
        let recorded = generated(seed);
        let proposal = Proposal::of(recorded.iter().map(|host| needed(host)), &BTreeSet::new());
        let policy = policy(&proposal);
        for host in &recorded {
            assert!(allows(&policy, host), "{host} of {recorded:?}");
        }
        let mut wildcards = Vec::new();
        for entry in &proposal.entries {
            let Some(parent) = entry.pattern.strip_prefix("*.") else {
                assert!(recorded.contains(&entry.pattern), "{recorded:?}");
                continue;
            };
            let is_neighbour = |host: &&String| {
                let label = host.strip_suffix(&format!(".{parent}"));
                label.is_some_and(|label| !label.contains('.'))
            };
            let mut neighbours: Vec<&String> = recorded.iter().filter(is_neighbour).collect();
            neighbours.sort();
            neighbours.dedup();
            assert!(neighbours.len() >= 3, "{parent} of {recorded:?}");
            let suffix = psl::suffix_str(parent).expect("a suffix");
            assert_ne!(suffix, parent, "of {recorded:?}");
            wildcards.push(format!(".{parent}"));
        }
        for other in generated(seed + 1000) {
            let is_covered = wildcards.iter().any(|below| other.ends_with(below));
            let is_expected = recorded.contains(&other) || is_covered;
            assert_eq!(
                allows(&policy, &other),
                is_expected,
                "{other}, {recorded:?}"
            );
        }
    }
}
