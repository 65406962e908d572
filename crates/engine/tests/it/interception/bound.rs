//! An issuer that has issued for as many hosts of people as it permits (SPEC M4).

use std::sync::Arc;

use codex_network_engine::{
    EngineParts, IssueError, IssuedLeaf, LeafIssuer, NetworkDecision, NetworkPolicyRequest,
};
use codex_network_policy::Host;
use futures_util::future::{BoxFuture, ready};

use super::scene::Scene;

/// `listed.test` is on the list, and limited mode intercepts everything.
const LIMITED: &str = "[network]\nmode = \"limited\"\nallowed_domains = [\"listed.test\"]\n";

#[derive(Debug)]
struct Exhausted;

impl LeafIssuer for Exhausted {
    fn issue<'a>(
        &'a self,
        _host: &'a Host,
        _public_key: &'a [u8; 65],
    ) -> BoxFuture<'a, Result<IssuedLeaf, IssueError>> {
        Box::pin(ready(Err(IssueError::TooManyHosts)))
    }
}

#[tokio::test]
async fn m4_a_client_is_told_in_words_that_a_host_of_people_gets_no_certificate() {
    let decider = |_: NetworkPolicyRequest| async { NetworkDecision::Allow };
    let amend = |parts: &mut EngineParts| {
        parts.decider = Some(Arc::new(decider));
        parts.issuer = Some(Arc::new(Exhausted));
    };
    let scene = Scene::amended(LIMITED, &["http/1.1"], None, amend).await;
    let refused = scene.refused("origin.test:443").await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(
        refused.contains("add the hosts to the allow list"),
        "{refused}"
    );
    let (_, reply) = scene.doors.socks5_tunnel("origin.test", 443).await;
    assert_eq!(reply, 1, "general failure");
    assert_eq!(scene.dials(), 0);
    // A host of the configuration has no such bound: its client is connected first.
    scene.connect("listed.test:443").await;
}
