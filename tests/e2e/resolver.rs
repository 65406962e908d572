//! The resolver against a real name server on loopback (SPEC P4, C5).
//!
//! Uses `codex_network_engine::{DnsResolver, Resolve, ResolveError, ResolverOptions}`. Behaviour
//! that needs no server (hosts file syntax, `localhost`, the system's configuration) is tested
//! beside the code.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use codex_network_engine::{DnsResolver, Resolve, ResolveError, ResolverOptions};
use e2e::resolver::{Family, StubResolver};
use e2e::wait::{TIMEOUT, poll};

/// Longer than any test needs: a test that waits this long fails.
const AMPLE: Duration = Duration::from_secs(60);

fn resolver(servers: &[&StubResolver]) -> DnsResolver {
    resolver_with(servers, AMPLE, "")
}

fn resolver_with(servers: &[&StubResolver], timeout: Duration, hosts: &str) -> DnsResolver {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), hosts).expect("a hosts file");
    let nameservers = servers.iter().map(|server| server.address()).collect();
    let hosts_file = Some(file.path().to_owned()); // read now, so it need not outlive this
    DnsResolver::new(&ResolverOptions {
        nameservers,
        timeout,
        hosts_file,
        files: codex_network_config::ResolverFiles::default(),
    })
    .expect("a resolver")
}

fn ips<const N: usize>(addresses: [&str; N]) -> Vec<IpAddr> {
    addresses
        .iter()
        .map(|address| address.parse().expect(address))
        .collect()
}

#[tokio::test]
async fn p4_both_families_are_merged_ipv6_first() {
    let dns = StubResolver::start();
    dns.answer(
        "api.test",
        ips(["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"]),
    );
    let answer = resolver(&[&dns]).resolve("api.test").await.unwrap();
    assert_eq!(answer.len(), 4);
    assert!(answer[0].is_ipv6() && answer[1].is_ipv6(), "{answer:?}");
    assert!(answer[2].is_ipv4() && answer[3].is_ipv4(), "{answer:?}");
    assert_eq!(dns.names_asked(), ["api.test"]);
}

#[tokio::test]
async fn p4_a_name_with_one_family_resolves_to_it() {
    let dns = StubResolver::start();
    dns.answer("four.test", ips(["192.0.2.1"]));
    dns.answer("six.test", ips(["2001:db8::1"]));
    let resolver = resolver(&[&dns]);
    assert_eq!(resolver.resolve("four.test").await, Ok(ips(["192.0.2.1"])));
    assert_eq!(resolver.resolve("six.test").await, Ok(ips(["2001:db8::1"])));
}

#[tokio::test]
async fn p4_answers_are_cached_for_their_ttl() {
    let dns = StubResolver::start();
    dns.answer("api.test", ips(["192.0.2.1", "2001:db8::1"]));
    let resolver = resolver(&[&dns]);
    let first = resolver.resolve("api.test").await;
    let queries = dns.queries("api.test");
    dns.answer("api.test", ips(["192.0.2.99"]));
    assert_eq!(resolver.resolve("api.test").await, first);
    assert_eq!(dns.queries("api.test"), queries);
}

/// DNS rebinding: the first answer is not cached, so the second lookup returns another address.
#[tokio::test]
async fn p4_answers_with_a_ttl_of_zero_are_not_cached() {
    let dns = StubResolver::start();
    dns.answer_sequence("rebind.test", vec![ips(["192.0.2.1"]), ips(["127.0.0.1"])]);
    let resolver = resolver(&[&dns]);
    assert_eq!(
        resolver.resolve("rebind.test").await,
        Ok(ips(["192.0.2.1"]))
    );
    assert_eq!(
        resolver.resolve("rebind.test").await,
        Ok(ips(["127.0.0.1"]))
    );
    assert_eq!(
        resolver.resolve("rebind.test").await,
        Ok(ips(["127.0.0.1"]))
    );
}

#[tokio::test]
async fn p4_cached_answers_expire_with_their_ttl() {
    let dns = StubResolver::start();
    dns.answer_with_ttl("short.test", ips(["192.0.2.1"]), 1);
    let resolver = resolver(&[&dns]);
    assert_eq!(resolver.resolve("short.test").await, Ok(ips(["192.0.2.1"])));
    dns.answer_with_ttl("short.test", ips(["192.0.2.2"]), 1);
    // The test is about time: the TTL is a second, and nothing signals its end.
    tokio::time::timeout(AMPLE, async {
        while resolver.resolve("short.test").await != Ok(ips(["192.0.2.2"])) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the new address is seen once the old one has expired");
}

#[tokio::test]
async fn p4_a_name_that_does_not_exist_is_not_found_and_cached() {
    let dns = StubResolver::start();
    let resolver = resolver(&[&dns]);
    assert_eq!(
        resolver.resolve("missing.test").await,
        Err(ResolveError::NotFound)
    );
    let queries = dns.queries("missing.test");
    assert_eq!(
        resolver.resolve("missing.test").await,
        Err(ResolveError::NotFound)
    );
    assert_eq!(dns.queries("missing.test"), queries);
}

#[tokio::test]
async fn p4_a_name_without_addresses_is_not_found() {
    let dns = StubResolver::start();
    dns.answer("empty.test", []);
    assert_eq!(
        resolver(&[&dns]).resolve("empty.test").await,
        Err(ResolveError::NotFound)
    );
}

#[tokio::test]
async fn p4_names_are_queried_without_search_domains() {
    let dns = StubResolver::start();
    let resolver = resolver(&[&dns]);
    let names = [
        "-odd-.test",
        "intranet",
        "under_score.test",
        "xn--bcher-kva.test",
    ];
    for name in names {
        assert_eq!(resolver.resolve(name).await, Err(ResolveError::NotFound));
    }
    assert_eq!(dns.names_asked(), names);
}

#[tokio::test]
async fn p4_aliases_are_followed() {
    let dns = StubResolver::start();
    dns.alias("www.test", "cdn.test");
    dns.alias("cdn.test", "edge.test");
    dns.answer("edge.test", ips(["192.0.2.1", "2001:db8::1"]));
    dns.alias("round.test", "round.test");
    let resolver = resolver(&[&dns]);
    let expected = ips(["2001:db8::1", "192.0.2.1"]);
    assert_eq!(resolver.resolve("www.test").await, Ok(expected));
    assert_eq!(
        resolver.resolve("round.test").await,
        Err(ResolveError::NotFound)
    );
}

#[tokio::test]
async fn p4_a_truncated_answer_is_fetched_over_tcp() {
    let dns = StubResolver::start();
    let many: Vec<IpAddr> = (0..200)
        .map(|last| IpAddr::from([192, 0, 2, last]))
        .collect();
    dns.answer("many.test", many.clone());
    let mut answer = resolver(&[&dns]).resolve("many.test").await.unwrap();
    answer.sort();
    assert_eq!(answer, many);
}

#[tokio::test]
async fn p4_an_unanswered_lookup_times_out() {
    let dns = StubResolver::start();
    dns.silent("silent.test");
    // Long enough to send the query on a loaded machine.
    let resolver = resolver_with(&[&dns], Duration::from_secs(2), "");
    let lookup = tokio::time::timeout(AMPLE, resolver.resolve("silent.test"));
    let answer = lookup.await.expect("the limit ends it");
    assert_eq!(answer, Err(ResolveError::Timeout));
    assert!(dns.queries("silent.test") > 0);
}

/// Some name servers drop AAAA queries. They must not cost every connection the whole limit.
#[tokio::test]
async fn p4_ipv4_addresses_do_not_wait_for_a_missing_ipv6_answer() {
    let dns = StubResolver::start();
    dns.answer("half.test", ips(["192.0.2.1", "2001:db8::1"]));
    dns.silent_family("half.test", Family::Ipv6);
    let resolver = resolver_with(&[&dns], 10 * AMPLE, "");
    let lookup = tokio::time::timeout(AMPLE, resolver.resolve("half.test"));
    let answer = lookup.await.expect("the limit is not waited for");
    assert_eq!(answer, Ok(ips(["192.0.2.1"])));
}

#[tokio::test]
async fn p4_ipv6_addresses_wait_for_ipv4_until_the_timeout() {
    let dns = StubResolver::start();
    dns.answer("half.test", ips(["192.0.2.1", "2001:db8::1"]));
    dns.silent_family("half.test", Family::Ipv4);
    let resolver = resolver_with(&[&dns], Duration::from_millis(500), "");
    assert_eq!(
        resolver.resolve("half.test").await,
        Ok(ips(["2001:db8::1"]))
    );
}

#[tokio::test]
async fn p4_a_failure_of_one_family_leaves_the_other() {
    let dns = StubResolver::start();
    for (name, family) in [
        ("no-six.test", Family::Ipv6),
        ("no-four.test", Family::Ipv4),
    ] {
        dns.answer(name, ips(["192.0.2.1", "2001:db8::1"]));
        dns.servfail_family(name, family);
    }
    dns.answer("nothing.test", []);
    dns.servfail_family("nothing.test", Family::Ipv6);
    let resolver = resolver(&[&dns]);
    assert_eq!(
        resolver.resolve("no-six.test").await,
        Ok(ips(["192.0.2.1"]))
    );
    assert_eq!(
        resolver.resolve("no-four.test").await,
        Ok(ips(["2001:db8::1"]))
    );
    // No IPv4 address and no answer about IPv6 do not mean "no such host".
    let answer = resolver.resolve("nothing.test").await;
    assert!(
        matches!(answer, Err(ResolveError::Unavailable(_))),
        "{answer:?}"
    );
}

#[tokio::test]
async fn p4_a_failing_server_is_named_and_its_failure_is_not_cached() {
    let dns = StubResolver::start();
    dns.servfail("broken.test");
    let resolver = resolver(&[&dns]);
    let answer = resolver.resolve("broken.test").await;
    let Err(ResolveError::Unavailable(detail)) = answer else {
        panic!("{answer:?}")
    };
    assert!(detail.contains("127.0.0.1"), "{detail}");
    dns.answer("broken.test", ips(["192.0.2.1"]));
    assert_eq!(
        resolver.resolve("broken.test").await,
        Ok(ips(["192.0.2.1"]))
    );
}

/// Split DNS: the first server's answer holds, even if it is negative, and no other server gets the
/// query.
#[tokio::test]
async fn p4_the_second_server_is_asked_only_if_the_first_fails() {
    let (first, second) = (StubResolver::start(), StubResolver::start());
    first.answer("intranet.test", ips(["192.0.2.1"]));
    first.servfail("broken.test");
    for name in ["intranet.test", "broken.test", "missing.test"] {
        second.answer(name, ips(["192.0.2.99"]));
    }
    let resolver = resolver(&[&first, &second]);
    assert_eq!(
        resolver.resolve("intranet.test").await,
        Ok(ips(["192.0.2.1"]))
    );
    assert_eq!(
        resolver.resolve("missing.test").await,
        Err(ResolveError::NotFound)
    );
    assert_eq!(second.names_asked(), [""; 0]);
    assert_eq!(
        resolver.resolve("broken.test").await,
        Ok(ips(["192.0.2.99"]))
    );
}

#[tokio::test]
async fn p4_a_silent_server_leaves_time_for_the_next_and_is_then_asked_last() {
    let (first, second) = (StubResolver::start(), StubResolver::start());
    first.fall_silent();
    second.answer("api.test", ips(["192.0.2.1"]));
    second.answer("www.test", ips(["192.0.2.2"]));
    let resolver = resolver_with(&[&first, &second], Duration::from_secs(2), "");
    assert_eq!(resolver.resolve("api.test").await, Ok(ips(["192.0.2.1"])));
    assert_eq!(resolver.resolve("www.test").await, Ok(ips(["192.0.2.2"])));
    assert_eq!(first.queries("www.test"), 0, "it is asked last");
}

/// A past bug: after a lookup of a name whose own servers are silent, the first name server
/// was asked last for all names, and with split DNS the second one knows other addresses.
#[tokio::test]
async fn p4_one_silent_name_does_not_reorder_the_servers_for_other_names() {
    let (first, second) = (StubResolver::start(), StubResolver::start());
    first.silent("silent.test");
    for (name, inside, outside) in [
        ("intranet.test", "192.0.2.1", "198.51.100.1"),
        ("other.test", "192.0.2.2", "198.51.100.2"),
    ] {
        first.answer(name, ips([inside]));
        second.answer(name, ips([outside]));
    }
    second.answer("silent.test", ips(["192.0.2.9"]));
    let resolver = resolver_with(&[&first, &second], Duration::from_secs(6), "");
    let silent = resolver.resolve("silent.test").await;
    assert_eq!(silent, Ok(ips(["192.0.2.9"])), "the next one is asked");
    for name in ["intranet.test", "other.test"] {
        let answer = resolver.resolve(name).await.expect(name);
        assert!(answer[0].to_string().starts_with("192.0.2."), "{answer:?}");
    }
    assert_eq!(second.names_asked(), ["silent.test"]);
}

/// The opposite case: a server that meanwhile answers another query is not silent.
#[tokio::test]
async fn p4_many_silent_names_at_once_do_not_reorder_the_servers() {
    let (first, second) = (StubResolver::start(), StubResolver::start());
    first.answer("intranet.test", ips(["192.0.2.1"]));
    second.answer("intranet.test", ips(["198.51.100.1"]));
    let names: Vec<String> = (0..30).map(|number| format!("s{number}.test")).collect();
    for name in &names {
        first.silent(name);
    }
    let resolver = resolver_with(&[&first, &second], AMPLE / 2, "");
    let resolver = std::sync::Arc::new(resolver);
    let mut lookups = tokio::task::JoinSet::new();
    for name in names {
        let resolver = resolver.clone();
        lookups.spawn(async move { resolver.resolve(&name).await });
    }
    while let Some(answer) = lookups.join_next().await {
        let answer = answer.expect("a lookup");
        assert_eq!(
            answer,
            Err(ResolveError::NotFound),
            "the second one says no"
        );
    }
    let answer = resolver.resolve("intranet.test").await;
    assert_eq!(answer, Ok(ips(["192.0.2.1"])));
}

#[tokio::test]
async fn p4_too_many_addresses_are_a_failure_and_the_largest_answer_is_cached() {
    let dns = StubResolver::start();
    let numbered = |count: u16| {
        (0..count).map(|number| {
            let [high, low] = number.to_be_bytes();
            IpAddr::from([10, 0, high, low])
        })
    };
    dns.answer("most.test", numbered(256));
    dns.answer("more.test", numbered(257));
    let resolver = resolver(&[&dns]);
    let most = resolver.resolve("most.test").await.expect("most.test");
    assert_eq!(most.len(), 256);
    let queries = dns.queries("most.test");
    assert_eq!(resolver.resolve("most.test").await, Ok(most));
    assert_eq!(dns.queries("most.test"), queries);
    let Err(ResolveError::Unavailable(detail)) = resolver.resolve("more.test").await else {
        panic!("it resolves");
    };
    assert!(detail.contains("more than 256 addresses"), "{detail}");
}

#[tokio::test]
async fn p4_an_unreachable_server_is_skipped() {
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap(); // bound, and never read
    let second = StubResolver::start();
    second.answer("api.test", ips(["192.0.2.1"]));
    let resolver = DnsResolver::new(&ResolverOptions {
        nameservers: vec![closed.local_addr().unwrap(), second.address()],
        timeout: Duration::from_secs(1),
        hosts_file: Some("/dev/null".into()),
        files: codex_network_config::ResolverFiles::default(),
    });
    assert_eq!(
        resolver.unwrap().resolve("api.test").await,
        Ok(ips(["192.0.2.1"]))
    );
}

#[tokio::test]
async fn p4_the_hosts_file_wins_for_both_families_and_causes_no_query() {
    let dns = StubResolver::start();
    dns.answer("api.test", ips(["192.0.2.99", "2001:db8::99"]));
    let resolver = resolver_with(&[&dns], AMPLE, "192.0.2.1 api.test");
    assert_eq!(resolver.resolve("api.test").await, Ok(ips(["192.0.2.1"])));
    assert_eq!(
        resolver.resolve("db.localhost").await,
        Ok(ips(["127.0.0.1", "::1"]))
    );
    assert_eq!(dns.names_asked(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_many_concurrent_lookups_succeed() {
    let dns = StubResolver::start();
    let resolver = std::sync::Arc::new(resolver(&[&dns]));
    let mut lookups = tokio::task::JoinSet::new();
    for number in 0..300_u16 {
        let name = format!("n{number}.test");
        // Some answers need TCP.
        let size = if number % 10 == 0 { 40 } else { 1 };
        let [high, low] = number.to_be_bytes();
        let addresses: Vec<IpAddr> = (0..size)
            .map(|n| IpAddr::from([10, high, low, n]))
            .collect();
        dns.answer(&name, addresses.clone());
        let resolver = resolver.clone();
        lookups.spawn(async move {
            let mut answer = resolver.resolve(&name).await.expect(&name);
            answer.sort();
            assert_eq!(answer, addresses);
        });
    }
    while let Some(lookup) = lookups.join_next().await {
        lookup.unwrap();
    }
}

#[test]
fn p4_the_stub_resolver_needs_no_runtime_and_frees_its_port() {
    let dns = StubResolver::start();
    let address: SocketAddr = dns.address();
    assert!(address.ip().is_loopback());
    drop(dns);
    // Another test may have the port for a while.
    poll(TIMEOUT, || std::net::TcpListener::bind(address).ok()).expect("TCP is free again");
    poll(TIMEOUT, || std::net::UdpSocket::bind(address).ok()).expect("UDP is free again");
}
