//! CONNECT: dial first, answer then (SPEC H8). A 200 means that the other end is there.

use codex_network_policy::Protocol;
use http::{Request, Response};
use hyper::body::Incoming;

use super::Session;
use super::body::Answer;
use super::target::{self, TargetError};
use crate::client::Client;
use crate::enforce::{self, Attempt};
use crate::respond::{self, Door};
use crate::tunnel::Tunnel;

pub(super) async fn answer(
    session: &Session,
    client: Client,
    request: &Request<Incoming>,
) -> Response<Answer> {
    let shared = &session.shared;
    let generation = shared.live.current();
    let attempt = Attempt {
        client,
        protocol: Protocol::HttpConnect,
        method: Some("CONNECT".to_owned()),
        upgrade: None,
    };
    let authority = match target::connect(request.uri(), request.headers()) {
        Ok(authority) => authority,
        Err(TargetError::Host { text, .. }) => {
            let port = request.uri().port_u16().unwrap_or(0);
            let host = request.uri().host().unwrap_or(&text);
            let refusal = enforce::refuse_invalid_host(
                &shared.recorder,
                &generation,
                &attempt,
                host.as_bytes(),
                port,
            );
            return last(respond::refusal(&refusal, Door::Connect));
        }
        Err(error) => {
            session.say_malformed(&error);
            return last(respond::bad_request(&error.to_string()));
        }
    };
    let permit = match enforce::authorize(&shared.recorder, generation, attempt, authority) {
        Ok(permit) => permit,
        Err(refusal) => return last(respond::refusal(&refusal, Door::Connect)),
    };
    match shared.upstream.open(&permit).await {
        Ok(upstream) => {
            session.become_tunnel(Tunnel::new(permit, upstream));
            respond::connected()
        }
        Err(failure) => last(respond::failure(
            &failure,
            permit.authority(),
            Door::Connect,
        )),
    }
}

/// After a CONNECT the stream is opaque: what the client sent behind it was meant for the tunnel,
/// so the connection cannot carry another request.
fn last(mut response: Response<Answer>) -> Response<Answer> {
    let close = http::HeaderValue::from_static("close");
    response
        .headers_mut()
        .insert(http::header::CONNECTION, close);
    response
}
