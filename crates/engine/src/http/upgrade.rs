//! Changing protocols: WebSocket and nothing else (SPEC H9, P7; RFC 9110 section 7.8, RFC 6455).
//!
//! The two handshake messages are requests and answers like any other, judged like any other; what
//! follows a `101` is moved unseen, extensions and all. `h2c` is never carried: a client that offers
//! it hears an ordinary answer in HTTP/1.1, as RFC 9110 lets a server choose.

use bytes::Bytes;
use codex_network_policy::Content;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Version};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::client_stream::ClientEnd;
use crate::Shared;
use crate::enforce::{LeadsTo, Permit};
use crate::tunnel::{self, relay_stream};

/// What a request asks to change to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// Nothing, or something that RFC 9110 lets us pass over.
    Nothing,
    /// WebSocket.
    WebSocket,
    /// Something that this proxy does not carry.
    Other(&'a str),
}

/// A connection that has changed protocols, the upstream end of it.
pub(crate) struct Switched {
    permit: Permit,
    upstream: Upgraded,
    leads_to: LeadsTo,
}

/// Reads what a request asks to change to. Without the connection option `upgrade` the field means
/// nothing (RFC 9110 section 7.8), and in HTTP/1.0 it never does.
pub(super) fn wanted(headers: &HeaderMap, version: Version) -> Wanted<'_> {
    if version != Version::HTTP_11
        || !lists(headers, &CONNECTION).any(|option| is(option, "upgrade"))
    {
        return Wanted::Nothing;
    }
    if lists(headers, &UPGRADE).any(|token| is(token, "websocket")) {
        return Wanted::WebSocket;
    }
    lists(headers, &UPGRADE)
        .find(|token| !is(token, "h2c"))
        .map_or(Wanted::Nothing, Wanted::Other)
}

impl<'a> Wanted<'a> {
    /// What policy is told.
    pub(super) fn token(self) -> Option<&'a str> {
        match self {
            Self::Nothing => None,
            Self::WebSocket => Some("websocket"),
            Self::Other(token) => Some(token),
        }
    }
}

/// Why an upgrade cannot be carried, apart from policy.
pub(super) fn flaw(wanted: Wanted<'_>, method: &Method, content: Content) -> Option<&'static str> {
    match wanted {
        Wanted::Other(_) => Some("this proxy carries no other protocol upgrade than websocket"),
        Wanted::WebSocket if method != Method::GET => {
            Some("a websocket upgrade has to be a GET request (RFC 6455 section 4.1)")
        }
        Wanted::WebSocket if content == Content::Present => {
            Some("a websocket upgrade request has no content")
        }
        Wanted::Nothing | Wanted::WebSocket => None,
    }
}

/// Says anew, for one connection, that it asks to change or has changed.
pub(super) fn mark(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Whether an answer says that the connection changes to WebSocket.
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let mut tokens = lists(headers, &UPGRADE);
    tokens.next().is_some_and(|token| is(token, "websocket")) && tokens.next().is_none()
}

/// The elements of a field that is a list of tokens.
fn lists<'a>(
    headers: &'a HeaderMap,
    name: &http::HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

fn is(token: &str, name: &str) -> bool {
    token.eq_ignore_ascii_case(name)
}

impl Switched {
    pub(super) fn new(permit: Permit, upstream: Upgraded, leads_to: LeadsTo) -> Self {
        Self {
            permit,
            upstream,
            leads_to,
        }
    }

    /// Moves bytes until the end. `early` are bytes that came behind the client's request.
    pub(crate) async fn run<S: ClientEnd>(self, shared: &Shared, client: S, early: Bytes) {
        let limit = self
            .permit
            .generation()
            .settings()
            .daemon
            .limits
            .idle_timeout;
        let activity = self.permit.attempt().client.connection.activity();
        activity.note();
        let upstream = TokioIo::new(self.upstream);
        let authority = self.permit.authority();
        let address = self.permit.attempt().client.address;
        let moved = async {
            let (from_client, to_client) = tokio::io::split(client);
            let (from_upstream, to_upstream) = tokio::io::split(upstream);
            let there = relay_stream(from_client, to_upstream, early, activity);
            let back = relay_stream(from_upstream, to_client, Bytes::new(), activity);
            tokio::try_join!(there, back).map(|_| ())
        };
        tokio::select! {
            moved = moved => {
                if let Err(error) = moved {
                    tracing::debug!(client = %address, %authority, %error, "an upgraded connection broke");
                }
            }
            () = activity.silence(limit) => {
                tracing::debug!(client = %address, %authority, ?limit, "closed an idle upgraded connection");
            }
            reason = tunnel::forbidden(shared, &self.permit, &self.leads_to) => {
                tracing::info!(client = %address, %authority, %reason, "closed a connection that the policy no longer permits");
            }
        }
    }
}
