//! CONNECT: dial first, then answer (SPEC H8). A 200 means that the other end is connected.

use bytes::Bytes;
use codex_network_policy::RequestKind;
use http::{Request, Response};

use super::target;
use super::{Next, Session};
use crate::attempt::Attempt;
use crate::client::Client;
use crate::incoming::Incoming;
use crate::respond::{self, RefusalFormat};

/// Carries out a CONNECT. A failed one is the last request of its connection: what the client sent
/// behind it was meant for the tunnel, and its framing was not checked.
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
                let refused = session.refuse_target(&error, &generation, &attempt, request.uri());
                return respond::closing(refused);
            }
        };
    let permit = match shared
        .enforcer
        .authorize(generation, attempt, authority)
        .await
    {
        Ok(permit) => permit,
        Err(refusal) => return respond::closing(respond::refusal(&refusal, RefusalFormat::Text)),
    };
    match shared.upstream.open(&permit).await {
        Ok(upstream) => {
            session.become_next(Next::Connected(permit, upstream));
            respond::connected()
        }
        Err(failure) => {
            let authority = permit.authority();
            permit.flow().end(failure.ending());
            respond::closing(respond::failure(&failure, authority, RefusalFormat::Text))
        }
    }
}
