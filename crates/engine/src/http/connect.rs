//! CONNECT: dial first, then answer (SPEC H8). A 200 means that the other end is connected: for a client
//! that will be intercepted, a kept connection is enough. After another answer the client may send its next
//! request, if it has waited for that answer.

use bytes::Bytes;
use codex_network_policy::RequestKind;
use http::{Request, Response};

use super::target;
use super::{Next, Session};
use crate::attempt::Attempt;
use crate::client::Client;
use crate::incoming::Incoming;
use crate::respond::{self, RefusalFormat};

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
    let permit = match shared
        .enforcer
        .authorize(generation, attempt, authority)
        .await
    {
        Ok(permit) => permit,
        Err(refusal) => {
            return refused(session, respond::refusal(&refusal, RefusalFormat::Text));
        }
    };
    match shared.upstream.reach(&permit).await {
        Ok(upstream) => {
            session.become_next(Next::Connected(permit, upstream));
            respond::connected()
        }
        Err(failure) => {
            let authority = permit.authority();
            permit.flow().end(failure.ending());
            let answer = respond::failure(&failure, authority, RefusalFormat::Text);
            refused(session, answer)
        }
    }
}

/// The answer to a CONNECT that got no tunnel. It is the last one of its connection if the client has
/// sent anything behind the CONNECT: that was meant for the tunnel, and its framing was not checked.
fn refused(session: &Session, answer: Response<Bytes>) -> Response<Bytes> {
    if session.request_state.refuse_connect() {
        answer
    } else {
        respond::closing(answer)
    }
}
