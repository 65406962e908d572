//! Plain HTTP requests: judged one by one, sent on over a kept or new connection (SPEC H1 to H3).

use codex_network_policy::{Hooked, Protocol};
use http::{Request, Response, Uri, Version};
use hyper::body::{Body as _, Incoming};

use super::body::Answer;
use super::exchange::{self, Sent, Upgrade};
use super::upgrade::{self, Wanted};
use super::{Session, headers, target};
use crate::client::Client;
use crate::enforce::{self, Attempt};
use crate::respond::{self, Door};
use crate::upstream::tls::Wire;

pub(super) async fn answer(
    session: &Session,
    client: Client,
    request: Request<Incoming>,
) -> Response<Answer> {
    let shared = &session.shared;
    let generation = shared.live.current();
    let wanted = upgrade::wanted(request.headers(), request.version());
    let attempt = Attempt {
        client,
        protocol: Protocol::Http,
        method: Some(request.method().as_str().to_owned()),
        upgrade: wanted.token().map(str::to_owned),
        hooked: Hooked::Unasked,
    };
    let target = match target::absolute(request.uri(), request.headers()) {
        Ok(target) => target,
        Err(error) => {
            return session.refuse_target(&error, &generation, &attempt, request.uri());
        }
    };
    let mode = generation.policy().mode();
    let permit = match enforce::authorize(shared, generation, attempt, target.authority).await {
        Ok(permit) => permit,
        Err(refusal) => return respond::refusal(&refusal, Door::Http),
    };
    let has_content = !request.body().is_end_stream();
    if let Some(flaw) = upgrade::flaw(wanted, request.method(), has_content) {
        return respond::bad_request(flaw);
    }
    let upgrade = match wanted {
        Wanted::WebSocket => Upgrade::WebSocket,
        Wanted::Nothing | Wanted::Other(_) => Upgrade::Unasked,
    };
    let (mut parts, body) = request.into_parts();
    headers::to_upstream(&mut parts.headers, permit.authority(), Wire::Plain, mode);
    if upgrade == Upgrade::WebSocket {
        upgrade::mark(&mut parts.headers);
    }
    parts.uri = Uri::from(target.path);
    let sent = Sent::new(mode, Wire::Plain, parts.version, upgrade);
    parts.version = Version::HTTP_11;
    exchange::send(session, permit, &sent, parts, body, None)
        .await
        .unwrap_or_else(|(failure, permit)| {
            respond::failure(&failure, permit.authority(), Door::Http)
        })
}
