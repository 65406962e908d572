//! CONNECT: dial first, then answer (SPEC H8). A 200 means that the other end is connected: for a client
//! that will be intercepted, a kept connection is enough. After another answer the client may send its next
//! request, if it has waited for that answer.

use std::sync::Arc;

use bytes::Bytes;
use codex_network_policy::{Authority, RequestKind};
use http::{Request, Response};

use super::target;
use super::{Next, Session, Shared};
use crate::attempt::Attempt;
use crate::client::Client;
use crate::early_leaf;
use crate::enforce::Permit;
use crate::incoming::Incoming;
use crate::live_policy::Generation;
use crate::respond::{self, RefusalFormat};
use crate::upstream::Reached;

/// Carries out a CONNECT.
pub(super) async fn answer(
    session: &Session,
    client: Client,
    request: &Request<Incoming>,
) -> Response<Bytes> {
    let shared = &session.shared;
    let generation = shared.live().current();
    let attempt = Attempt {
        client,
        kind: RequestKind::HttpConnect,
    };
    let authority =
        match target::connect(request.uri(), request.headers(), session.connection.local()) {
            Ok(authority) => authority,
            Err(error) => {
                let answer = session.refuse_target(&error, &generation, &attempt, request.uri());
                return respond::closing(answer);
            }
        };
    match open(shared, generation, attempt, authority).await {
        Ok((permit, upstream)) => {
            session.become_next(Next::Connected(permit, upstream));
            respond::connected()
        }
        Err(answer) => refused(session, answer),
    }
}

/// Judges a CONNECT and reaches its destination. Returns the answer if there is no connection.
pub(super) async fn open(
    shared: &Shared,
    generation: Arc<Generation>,
    attempt: Attempt,
    authority: Authority,
) -> Result<(Permit, Reached), Response<Bytes>> {
    let permit = shared
        .enforcer
        .authorize(generation, attempt, authority)
        .await
        .map_err(|refusal| respond::refusal(&refusal, RefusalFormat::Text))?;
    let reached = match early_leaf::secured(shared, &permit).await {
        Ok(()) => shared.upstream.reach(&permit).await,
        Err(failure) => Err(failure),
    };
    match reached {
        Ok(upstream) => Ok((permit, upstream)),
        Err(failure) => {
            permit.flow().end(failure.ending());
            let authority = permit.authority();
            Err(respond::failure(&failure, authority, RefusalFormat::Text))
        }
    }
}

/// The answer to a CONNECT that got no tunnel. It is the last one of its connection if the client has
/// sent bytes behind the CONNECT: they were meant for the tunnel, and their framing was not checked.
fn refused(session: &Session, answer: Response<Bytes>) -> Response<Bytes> {
    if session.request_state.refuse_connect() {
        answer
    } else {
        respond::closing(answer)
    }
}
