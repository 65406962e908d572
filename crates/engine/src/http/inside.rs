//! Requests inside intercepted TLS: each judged by itself (SPEC M7), at the same enforcement point as
//! everywhere.
//!
//! The client takes us for the origin, so targets are in origin-form and every answer of ours is
//! one that an origin could give. The authority is the one that CONNECT named: a request for
//! another one is misdirected, whatever else stands in it.

use codex_network_policy::{
    Authority, HookRequest, HookVerdict, Hooked, Protocol, Scrutiny, is_same_field,
};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::body::{self, Answer};
use super::exchange::{self, Sent, Upgrade};
use super::first::First;
use super::passage::Passage;
use super::upgrade::{self, Wanted};
use super::{Session, headers};
use crate::client::Client;
use crate::enforce::{self, Attempt};
use crate::respond::{self, Door};
use crate::upstream::tls::Wire;

/// What the requests of one intercepted connection share.
pub(crate) struct Inside {
    /// Who asked for the connection.
    pub(crate) client: Client,
    /// What CONNECT or SOCKS5 named.
    pub(crate) authority: Authority,
    /// How the origin is spoken to: as the client speaks to us.
    pub(crate) wire: Wire,
    /// The connection that was opened before the client was answered.
    pub(crate) first: First,
    /// Asks for the end, after the requests in hand.
    pub(crate) end: CancellationToken,
}

pub(super) async fn answer(
    session: &Session,
    inside: &Inside,
    request: Request<Incoming>,
) -> Response<Answer> {
    if request.method() == Method::CONNECT {
        return connect(inside.wire);
    }
    let shared = &session.shared;
    let generation = shared.live.current();
    let scrutiny = generation.policy().scrutiny(&inside.authority.host);
    let wanted = upgrade::wanted(request.headers(), request.version());
    let content = body::content(request.body());
    let hooks = &generation.settings().mitm.hooks;
    let fields = if hooks.has(&inside.authority.host) {
        fields_of_origin(request.headers(), wanted, &inside.authority, scrutiny)
    } else {
        HeaderMap::new()
    };
    let verdict = hooks.judge(&HookRequest {
        host: &inside.authority.host,
        method: request.method().as_str(),
        target: request
            .uri()
            .path_and_query()
            .map_or("", PathAndQuery::as_str),
        fields: &Fields(&fields),
    });
    let attempt = Attempt {
        client: inside.client.clone(),
        protocol: Protocol::Https,
        method: Some(request.method().as_str().to_owned()),
        upgrade: wanted.token().map(str::to_owned),
        content,
        hooked: match verdict {
            HookVerdict::NotHooked => Hooked::Unasked,
            HookVerdict::Matched(_) => Hooked::Matched,
            HookVerdict::NoMatch => Hooked::Unmatched,
            HookVerdict::Ambiguous(ambiguity) => Hooked::Ambiguous(ambiguity),
        },
    };
    let authority = inside.authority.clone();
    let Some(path) = path(request.uri(), request.headers(), &authority) else {
        let recorder = &shared.recorder;
        let refusal = enforce::refuse_misdirected(recorder, &generation, &attempt, &authority);
        return respond::misdirected(&refusal);
    };
    let permit = match enforce::authorize(shared, generation, attempt, authority).await {
        Ok(permit) => permit,
        Err(refusal) => {
            if inside.wire == Wire::TlsHttp2 {
                tokio::spawn(body::discard(request.into_body()));
            }
            return respond::refusal(&refusal, Door::Connect);
        }
    };
    if let Some(flaw) = upgrade::flaw(wanted, request.method(), content) {
        return respond::bad_request(flaw);
    }
    let upgrade = match wanted {
        Wanted::WebSocket => Upgrade::WebSocket,
        Wanted::Nothing | Wanted::Other(_) => Upgrade::Unasked,
    };
    let (mut parts, body) = request.into_parts();
    headers::to_upstream(
        &mut parts.headers,
        permit.authority(),
        inside.wire,
        scrutiny,
    );
    if upgrade == Upgrade::WebSocket {
        upgrade::mark(&mut parts.headers);
    }
    let mut sent = Sent::new(scrutiny, inside.wire, parts.version, upgrade);
    if let HookVerdict::Matched(hook) = verdict {
        let actions = permit.generation().settings().mitm.actions.of(hook);
        sent.actions.extend(actions.cloned());
    }
    for action in &sent.actions {
        if headers::act(&mut parts.headers, action).is_err() {
            return respond::bad_request("a header that the policy injects cannot be written");
        }
    }
    (parts.uri, parts.version) = match inside.wire {
        Wire::TlsHttp2 => match whole_uri(permit.authority(), path) {
            Some(uri) => (uri, Version::HTTP_2),
            None => return respond::bad_request("the request-target cannot be sent on"),
        },
        Wire::Plain | Wire::TlsHttp1 => (Uri::from(path), Version::HTTP_11),
    };
    let passage = Passage::Host(permit);
    exchange::send(session, passage, &sent, parts, body, Some(&inside.first))
        .await
        .unwrap_or_else(|(failure, passage)| respond::failure(&failure, &passage, Door::Connect))
}

/// Refuses a CONNECT. In HTTP/1 it is the last request of its connection: what the client sent behind
/// it was meant for a tunnel, and its framing has not been checked.
fn connect(wire: Wire) -> Response<Answer> {
    let refused = respond::connect_inside();
    match wire {
        Wire::Plain | Wire::TlsHttp1 => respond::closing(refused),
        Wire::TlsHttp2 => refused,
    }
}

/// The fields that the origin would get: what ends here, such as a field that `Connection` names,
/// must not make a hook match (RFC 9110 section 7.6.1).
fn fields_of_origin(
    fields: &HeaderMap,
    wanted: Wanted<'_>,
    authority: &Authority,
    scrutiny: Scrutiny,
) -> HeaderMap {
    let mut fields = fields.clone();
    // In this form `Host` is a field, as hooks know it.
    headers::to_upstream(&mut fields, authority, Wire::TlsHttp1, scrutiny);
    if wanted == Wanted::WebSocket {
        upgrade::mark(&mut fields);
    }
    fields
}

/// Header fields as hooks look at them. A field counts under its own name alone; but where it is
/// there, one that CGI makes the same variable of counts too, since some origins read them as one.
struct Fields<'a>(&'a HeaderMap);

impl codex_network_policy::Fields for Fields<'_> {
    fn for_each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        if !self.0.contains_key(name) {
            return;
        }
        for (spelt, value) in self.0 {
            if is_same_field(spelt.as_str(), name) {
                each(value.as_bytes().trim_ascii());
            }
        }
    }
}

/// The path that is asked for, if the request is for this authority and no other: in whatever form
/// its target is (RFC 9112 section 3.2, RFC 9113 section 8.3.1), and in every `Host` field.
fn path(uri: &Uri, headers: &HeaderMap, authority: &Authority) -> Option<PathAndQuery> {
    let names_it = |text: &str| Authority::parse(text, Some(443)).as_ref() == Ok(authority);
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTPS) {
        return None;
    }
    if uri
        .authority()
        .is_some_and(|named| !names_it(named.as_str()))
    {
        return None;
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() || host.is_some_and(|host| !host.to_str().is_ok_and(names_it)) {
        return None;
    }
    let path = uri.path_and_query().cloned();
    Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
}

/// The target of an HTTP/2 request: hyper takes the pseudo-header fields from it.
fn whole_uri(authority: &Authority, path: PathAndQuery) -> Option<Uri> {
    let host = headers::host_field(authority, ":443");
    Uri::builder()
        .scheme(Scheme::HTTPS)
        .authority(host.as_bytes())
        .path_and_query(path)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn m7_a_request_has_to_be_for_the_authority_that_connect_named() {
        let authority = Authority::parse("origin.test:443", None).expect("an authority");
        for (uri, hosts, wanted) in [
            ("/a?b", &["origin.test"][..], Some("/a?b")),
            ("/", &["ORIGIN.test.:443"], Some("/")),
            ("/", &[], Some("/")),
            ("*", &["origin.test"], Some("*")),
            ("https://origin.test/a", &["origin.test"], Some("/a")),
            ("https://origin.test:443/a", &[], Some("/a")),
            ("https://origin.test", &[], Some("/")),
            ("/", &["other.test"], None),
            ("/", &["origin.test:8443"], None),
            ("/", &["origin.test", "origin.test"], None),
            ("/", &["origin.test, other.test"], None),
            ("/", &["user@origin.test"], None),
            ("/", &[""], None),
            ("https://other.test/", &["origin.test"], None),
            ("https://origin.test:8443/", &[], None),
            ("https://user@origin.test/", &[], None),
            ("http://origin.test/", &[], None),
            ("http://origin.test:443/", &["origin.test"], None),
        ] {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            let uri: Uri = uri.parse().expect("a URI");
            let path = path(&uri, &headers, &authority);
            assert_eq!(
                path.as_ref().map(PathAndQuery::as_str),
                wanted,
                "{uri} {hosts:?}"
            );
        }
    }
}
