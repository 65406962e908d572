//! Requests inside a tunnel that the proxy inspects, in intercepted TLS or plain. The usual enforcement
//! point judges each of them (SPEC M7, M2). A plain request is judged as at the HTTP listener: no hook
//! matches it, and nothing is injected.
//!
//! The client takes us for the origin, so targets are in origin-form and our answers are ones that an
//! origin could give. CONNECT named the authority. A request for another authority is
//! misdirected.

use std::sync::Arc;

use bytes::Bytes;
use codex_network_config::DestinationScheme;
use codex_network_policy::{
    Authority, Content, HookRequest, HookVerdict, HttpHead, Protocol, RequestKind, Scrutiny,
    is_same_field,
};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri, Version, header};
use tokio_util::sync::CancellationToken;

use super::body::{self, AnswerBody};
use super::brokering::Brokering;
use super::exchange::{self, OutgoingRequest};
use super::interim::InterimTarget;
use super::origin_connections::OriginConnections;
use super::response_stream::ResponseStream;
use super::route::Route;
use super::upgrade::UpgradeOffer;
use super::{EmptyPath, Session, headers, method_name};
use crate::attempt::{Attempt, Refusal};
use crate::client::Client;
use crate::incoming::Incoming;
use crate::live_policy::Generation;
use crate::respond::{self, RefusalFormat};
use crate::tls::Wire;
use crate::upstream::UpstreamError;

/// The state that the requests of one intercepted connection share.
pub(crate) struct Inside {
    /// The client that opened the connection.
    pub(crate) client: Client,
    /// The authority that CONNECT or SOCKS5 named.
    pub(crate) authority: Authority,
    /// The protocol that we speak to the origin: the client's, unless client and origin have no protocol
    /// in common.
    pub(crate) wire: Wire,
    /// The upstream connection that was opened before the proxy answered the client.
    pub(crate) origin: OriginConnections,
    /// Ends the connection after the requests in hand.
    pub(crate) end: CancellationToken,
}

/// Marks an answer of ours to a request that no origin has processed. Over HTTP/2 a reset with
/// `REFUSED_STREAM` tells the client (RFC 9113 section 8.7).
#[derive(Clone, Copy, Debug)]
pub(super) struct NotProcessed;

pub(super) async fn answer(
    session: &Session,
    inside: &Inside,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let version = request.version();
    if request.method() == Method::CONNECT {
        return connect(version).map(AnswerBody::own);
    }
    if version == Version::HTTP_11 && !request.headers().contains_key(header::HOST) {
        let why = "a request over HTTP/1.1 needs a Host field (RFC 9112 section 3.2)";
        session.log_malformed(&why);
        return respond::bad_request(why).map(AnswerBody::own);
    }
    let (protocol, format) = if inside.wire == Wire::Plain {
        (Protocol::Http, RefusalFormat::Json)
    } else {
        (Protocol::Https, RefusalFormat::Text)
    };
    let shared = &session.shared;
    let generation = shared.live().current();
    let head = Head {
        method: request.method(),
        target: request
            .uri()
            .path_and_query()
            .map_or("", PathAndQuery::as_str),
        headers: request.headers(),
        version,
        content: body::content(request.body()),
    };
    let InsideRequest {
        attempt,
        verdict,
        upgrade,
        scrutiny,
        ..
    } = head.request(&generation, &inside.client, &inside.authority, protocol);
    let authority = inside.authority.clone();
    let Some(path) = target_of(&request, &authority, protocol) else {
        let enforcer = &shared.enforcer;
        let refusal = enforcer.refuse_misdirected(&generation, &attempt, &authority);
        return respond::misdirected(&refusal).map(AnswerBody::own);
    };
    let permit = match shared
        .enforcer
        .authorize(generation, attempt, authority)
        .await
    {
        Ok(permit) => permit,
        Err(refusal) => return refused(&refusal, format, request.into_body(), version),
    };
    let (mut parts, body) = request.into_parts();
    headers::to_upstream(
        &mut parts.headers,
        permit.authority(),
        inside.wire,
        scrutiny,
    );
    if version == Version::HTTP_2 && inside.wire != Wire::TlsHttp2 {
        headers::join_cookies(&mut parts.headers);
    }
    upgrade.make(&mut parts.headers, inside.wire);
    let mut outgoing = OutgoingRequest::new(session, scrutiny, inside.wire, parts.version, upgrade);
    if let Some(stream) = parts.extensions.remove::<ResponseStream>() {
        outgoing.interim = InterimTarget::Stream(stream);
    }
    if let HookVerdict::Matched(hook) = verdict {
        let actions = permit.generation().settings().mitm.actions.of(hook);
        outgoing.actions.extend(actions.cloned());
    }
    for action in &outgoing.actions {
        if headers::act(&mut parts.headers, action).is_err() {
            let why = "a header that the policy injects cannot be written";
            return respond::bad_request(why).map(AnswerBody::own);
        }
    }
    match Brokering::of(session, &permit, inside.wire, &mut parts, &path) {
        Ok(brokering) => outgoing.brokering = Arc::new(brokering),
        Err(refusal) => return refused(&refusal, format, body, version),
    }
    (parts.uri, parts.version) = match inside.wire {
        Wire::TlsHttp2 => {
            let Some(uri) = whole_uri(permit.authority(), path) else {
                let why = "the request-target cannot be sent on";
                return respond::bad_request(why).map(AnswerBody::own);
            };
            (uri, Version::HTTP_2)
        }
        Wire::Plain | Wire::TlsHttp1 => (Uri::from(path), Version::HTTP_11),
    };
    let route = Route::Host(permit);
    exchange::send(session, route, &outgoing, parts, body, Some(&inside.origin))
        .await
        .unwrap_or_else(|(failure, route)| {
            let mut response = respond::failure(&failure, &route, format).map(AnswerBody::own);
            if let UpstreamError::NotProcessed(_) = failure {
                response.extensions_mut().insert(NotProcessed);
            }
            response
        })
}

/// The answer to a refused request with this body.
fn refused(
    refusal: &Refusal,
    format: RefusalFormat,
    body: Incoming,
    version: Version,
) -> Response<AnswerBody> {
    if version == Version::HTTP_2 {
        tokio::spawn(body::discard(body));
    }
    respond::refusal(refusal, format).map(AnswerBody::own)
}

/// Refuses a CONNECT. In HTTP/1 it is the last request of its connection: the bytes behind it were meant
/// for a tunnel, so their framing was not checked.
fn connect(version: Version) -> Response<Bytes> {
    let refused = respond::connect_inside();
    if version == Version::HTTP_2 {
        refused
    } else {
        respond::closing(refused)
    }
}

/// The part of a request that is judged.
pub(super) struct Head<'a> {
    pub(super) method: &'a Method,
    /// In origin-form.
    pub(super) target: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) version: Version,
    pub(super) content: Content,
}

/// A request inside a tunnel, as enforcement judges it.
pub(super) struct InsideRequest {
    pub(super) attempt: Attempt,
    pub(super) verdict: HookVerdict,
    /// The part of the offer to change protocols that is passed on.
    pub(super) upgrade: UpgradeOffer,
    pub(super) scrutiny: Scrutiny,
    /// The fields that hooks looked at; empty for a host without hooks.
    pub(super) fields: OriginFields,
}

impl Head<'_> {
    /// Reads the offer to change protocols, and evaluates the hooks of the host. A plain request has
    /// none.
    pub(super) fn request(
        &self,
        generation: &Generation,
        client: &Client,
        authority: &Authority,
        protocol: Protocol,
    ) -> InsideRequest {
        let scheme = if protocol == Protocol::Http {
            DestinationScheme::Http
        } else {
            DestinationScheme::Https
        };
        let scrutiny = generation.scrutiny(scheme, authority);
        let offer = UpgradeOffer::read(self.headers, self.version);
        let token = offer.token().map(str::to_owned);
        let upgrade = offer.carried(scrutiny, self.method, self.content);
        let hooks = &generation.settings().mitm.hooks;
        let (verdict, fields) = if protocol == Protocol::Http || !hooks.has(&authority.host) {
            (HookVerdict::NotHooked, OriginFields::default())
        } else {
            let fields = OriginFields(fields_of_origin(
                self.headers,
                &upgrade,
                authority,
                scrutiny,
            ));
            (hooks.judge(&self.for_hooks(authority, &fields)), fields)
        };
        let head = HttpHead {
            method: method_name(self.method),
            upgrade: token.map(Into::into),
            content: self.content,
        };
        let attempt = Attempt {
            client: client.clone(),
            kind: if protocol == Protocol::Http {
                RequestKind::Http(head)
            } else {
                RequestKind::Https(head, verdict.into())
            },
        };
        InsideRequest {
            attempt,
            verdict,
            upgrade,
            scrutiny,
            fields,
        }
    }

    /// The request as hooks look at it.
    pub(super) fn for_hooks<'a>(
        &'a self,
        authority: &'a Authority,
        fields: &'a OriginFields,
    ) -> HookRequest<'a> {
        HookRequest {
            host: &authority.host,
            method: self.method.as_str(),
            target: self.target,
            fields,
        }
    }
}

/// The fields that the origin would get. A field that ends at the proxy, such as one that `Connection`
/// names, must not make a hook match (RFC 9110 section 7.6.1).
fn fields_of_origin(
    fields: &HeaderMap,
    upgrade: &UpgradeOffer,
    authority: &Authority,
    scrutiny: Scrutiny,
) -> HeaderMap {
    let mut fields = fields.clone();
    // In HTTP/1 form `Host` is a field, and hooks expect it as one.
    headers::to_upstream(&mut fields, authority, Wire::TlsHttp1, scrutiny);
    upgrade.make(&mut fields, Wire::TlsHttp1);
    fields
}

/// Header fields as hooks look at them. A hook finds a field only if its exact name is present. Then
/// fields whose names become the same CGI variable count too, since some origins read them as one.
#[derive(Default)]
pub(super) struct OriginFields(HeaderMap);

impl codex_network_policy::Fields for OriginFields {
    fn for_each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        if !self.0.contains_key(name) {
            return;
        }
        for (spelt, value) in &self.0 {
            if is_same_field(spelt.as_str(), name) {
                each(value.as_bytes().trim_ascii());
            }
        }
    }
}

/// The target of a request for this authority: a path, or `*` as at the HTTP listener (RFC
/// 9112 section 3.2.4). A `*` reaches no hook, since no hook matches a plain request.
fn target_of(
    request: &Request<Incoming>,
    authority: &Authority,
    protocol: Protocol,
) -> Option<PathAndQuery> {
    let path = path(request.uri(), request.headers(), authority, protocol)?;
    let is_empty = request.extensions().get::<EmptyPath>().is_some();
    Some(if is_empty && protocol == Protocol::Http {
        PathAndQuery::from_static("*")
    } else {
        path
    })
}

/// The path of a request, if its target (in any form: RFC 9112 section 3.2, RFC 9113 section
/// 8.3.1) and every `Host` field name this authority.
pub(super) fn path(
    uri: &Uri,
    headers: &HeaderMap,
    authority: &Authority,
    protocol: Protocol,
) -> Option<PathAndQuery> {
    let (own_scheme, own_port) = if protocol == Protocol::Http {
        (Scheme::HTTP, 80)
    } else {
        (Scheme::HTTPS, 443)
    };
    let names_it = |text: &str| Authority::parse(text, Some(own_port)).as_ref() == Ok(authority);
    if uri.scheme().is_some_and(|scheme| *scheme != own_scheme) {
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

/// The target of an HTTP/2 request: h2 takes the pseudo-header fields from it.
fn whole_uri(authority: &Authority, path: PathAndQuery) -> Option<Uri> {
    let host = authority.host_field(Some(443));
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
    fn m2_a_plain_request_has_to_be_for_the_authority_that_connect_named() {
        for (authority, uri, host, wanted) in [
            ("origin.test:80", "/", Some("origin.test"), true),
            ("origin.test:80", "http://origin.test/", None, true),
            ("origin.test:443", "/", Some("origin.test:443"), true),
            ("origin.test:443", "/", Some("origin.test"), false),
            ("origin.test:80", "/", Some("other.test"), false),
            ("origin.test:80", "https://origin.test:80/", None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(header::HOST, HeaderValue::from_static(host));
            }
            let parsed: Uri = uri.parse().expect("a URI");
            let named = Authority::parse(authority, None).expect("an authority");
            let path = path(&parsed, &headers, &named, Protocol::Http);
            assert_eq!(path.is_some(), wanted, "{authority} {uri} {host:?}");
        }
    }

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
            let path = path(&uri, &headers, &authority, Protocol::Https);
            assert_eq!(
                path.as_ref().map(PathAndQuery::as_str),
                wanted,
                "{uri} {hosts:?}"
            );
        }
    }
}
