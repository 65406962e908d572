//! The certificate of an intercepted host that people allow, before its client is told that it is connected.
//!
//! The issuer bounds the number of such hosts (SPEC M4). A client gets the words for that only in the answer to its
//! request: inside the connection there is a TLS alert at most. Hosts of the configuration have no bound, and get
//! their certificates when the client has sent its `ClientHello`.

use codex_network_policy::{Handling, Source};

use crate::enforce::Permit;
use crate::shared::SharedParts;
use crate::upstream::UpstreamError;

/// Fails if there is no certificate for the destination, and people have allowed it: by a grant, or by the rules of
/// a session.
pub(crate) async fn secured<B>(
    shared: &SharedParts<B>,
    permit: &Permit,
) -> Result<(), UpstreamError> {
    let by_people = matches!(permit.source(), Source::Decider | Source::Session);
    if !by_people || permit.handling() != Handling::Intercept {
        return Ok(());
    }
    let Some(interceptor) = permit.generation().interceptor() else {
        return Err(UpstreamError::NoInterception);
    };
    let host = &permit.authority().host;
    let client = &permit.attempt().client.connection;
    // Boxed: most connections need no room for it.
    let leaf = Box::pin(interceptor.leaves.leaf(host, client, &shared.leaf_budget)).await;
    leaf.map_err(UpstreamError::Leaf)?;
    Ok(())
}
