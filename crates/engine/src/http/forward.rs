//! Plain HTTP requests: judged one by one, sent on over a kept or new connection (SPEC H1 to H3), to a
//! host or to a unix socket (H10).

use std::sync::Arc;

use codex_network_policy::HttpHead;
use http::{Request, Response, Uri, Version};

use super::body::{self, AnswerBody};
use super::brokering::Brokering;
use super::exchange::{self, OutgoingRequest};
use super::route::Route;
use super::upgrade::UpgradeOffer;
use super::{EmptyPath, Session, headers, method_name, target, unix_socket};
use crate::attempt::{Attempt, UNIX_SOCKET};
use crate::client::Client;
use crate::incoming::Incoming;
use crate::respond::{self, RefusalFormat};
use crate::tls::Wire;

pub(super) async fn answer(
    session: &Session,
    client: Client,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let shared = &session.shared;
    let generation = shared.live().current();
    let upgrade = UpgradeOffer::read(request.headers(), request.version());
    let content = body::content(request.body());
    let head = HttpHead {
        method: method_name(request.method()),
        upgrade: upgrade.token().map(|token| token.to_owned().into()),
        content,
    };
    let mut target = match target::absolute(request.uri(), request.headers()) {
        // RFC 9112 section 3.2.4: it is about the server as a whole.
        Ok(target) if request.extensions().get::<EmptyPath>().is_some() => target.whole_server(),
        Ok(target) => target,
        Err(error) => {
            let attempt = Attempt::http(client, head);
            let refused = session.refuse_target(&error, &generation, &attempt, request.uri());
            return refused.map(AnswerBody::own);
        }
    };
    let socket = match unix_socket::path(request.headers()) {
        Ok(path) => path,
        Err(error) => {
            session.log_malformed(&error);
            return respond::bad_request(&error.to_string()).map(AnswerBody::own);
        }
    };
    // The rules of the host that is judged hold for the head too.
    target.authority.host = shared.enforcer.meant(target.authority.host);
    let scrutiny = generation.scrutiny(Wire::Plain.scheme(), &target.authority);
    let route = match socket {
        None => match shared
            .enforcer
            .authorize(generation, Attempt::http(client, head), target.authority)
            .await
        {
            Ok(permit) => Route::Host(permit),
            Err(refusal) => {
                return respond::refusal(&refusal, RefusalFormat::Json).map(AnswerBody::own);
            }
        },
        Some(path) => {
            let permit = Box::pin(unix_socket::authorize(
                &shared.enforcer,
                generation,
                client,
                head,
                path,
            ));
            match permit.await {
                Ok(permit) => Route::UnixSocket(permit, target.authority),
                Err(failure) => {
                    let format = RefusalFormat::Json;
                    return respond::failure(&failure, &UNIX_SOCKET, format).map(AnswerBody::own);
                }
            }
        }
    };
    let upgrade = upgrade.carried(scrutiny, request.method(), content);
    let (mut parts, body) = request.into_parts();
    headers::to_upstream(&mut parts.headers, route.named(), Wire::Plain, scrutiny);
    upgrade.make(&mut parts.headers, Wire::Plain);
    let mut outgoing = OutgoingRequest::new(session, scrutiny, Wire::Plain, parts.version, upgrade);
    if let Some(permit) = route.host() {
        match Brokering::of(session, permit, Wire::Plain, &mut parts, &target.path) {
            Ok(brokering) => outgoing.brokering = Arc::new(brokering),
            Err(refusal) => {
                return respond::refusal(&refusal, RefusalFormat::Json).map(AnswerBody::own);
            }
        }
    }
    parts.uri = Uri::from(target.path);
    parts.version = Version::HTTP_11;
    exchange::send(session, route, &outgoing, parts, body, None)
        .await
        .unwrap_or_else(|(failure, route)| {
            respond::failure(&failure, &route, RefusalFormat::Json).map(AnswerBody::own)
        })
}
