//! Changing protocols (SPEC H9, P7; RFC 9110 section 7.8): WebSocket, SPDY/3.1, `tcp` and any other
//! protocol that a client and an origin agree on.
//!
//! An `Upgrade` field is an offer, which every server on the way may ignore. The two handshake
//! messages are judged like any request and answer. The bytes after a `101` are moved unseen. Where
//! requests are judged one by one, only an offer of WebSocket is passed on: other protocols could
//! carry requests. `h2c` is never carried: a client that offers it gets an ordinary answer in
//! HTTP/1.1.

use std::future::poll_fn;
use std::pin::{Pin, pin};

use bytes::Bytes;
use codex_network_policy::{Content, Reason, Scrutiny};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Version};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::client_stream::ClientEnd;
use super::headers::elements;
use super::route::Route;
use crate::enforce::LeadsTo;
use crate::live_policy::LivePolicy;
use crate::owner::ConnectionHandle;
use crate::pipes::PipePool;
use crate::prefixed::Prefixed;
use crate::tls::Wire;
use crate::tunnel::{self, RelayDirection, RelayEnd, RelayError, SocketRelay, relay_stream};
use crate::upstream::UpgradedStream;

const WEBSOCKET: &str = "websocket";

/// The protocols that a request offers to change to, in its order; empty where it offers nothing
/// that could be carried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UpgradeOffer(Vec<String>);

/// The upstream end of a connection that has changed protocols.
pub(crate) struct Switched {
    connection: ConnectionHandle,
    route: Route,
    upstream: Upgraded,
    leads_to: LeadsTo,
}

/// The facts by which a relay after a change of protocols is judged.
struct Watched<'a> {
    live: &'a LivePolicy,
    connection: ConnectionHandle,
    route: Route,
    leads_to: LeadsTo,
}

impl UpgradeOffer {
    /// Reads what a request offers, without `h2c`. Without the connection option `upgrade` the field
    /// means nothing, and in HTTP/1.0 it never does.
    pub(super) fn read(headers: &HeaderMap, version: Version) -> Self {
        if version != Version::HTTP_11
            || !elements(headers, &CONNECTION).any(|option| is(option, "upgrade"))
        {
            return Self::default();
        }
        let offered = protocols(headers)
            .filter(|protocol| protocol.is_ascii() && !is(protocol, "h2c"))
            .filter_map(|protocol| std::str::from_utf8(protocol).ok())
            .map(str::to_owned);
        Self(offered.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether WebSocket is among the protocols.
    pub(super) fn has_websocket(&self) -> bool {
        self.0
            .iter()
            .any(|offered| is(offered.as_bytes(), WEBSOCKET))
    }

    /// The protocol as policy sees it.
    pub(super) fn token(&self) -> Option<&str> {
        self.0.first().map(String::as_str)
    }

    /// The part of the offer that is passed on. Where more than the host is judged, that is
    /// only WebSocket, under the conditions of RFC 6455 section 4.1: over another protocol the
    /// client could send requests that are not judged.
    pub(super) fn carried(mut self, scrutiny: Scrutiny, method: &Method, content: Content) -> Self {
        match scrutiny {
            Scrutiny::Host => {}
            Scrutiny::Method | Scrutiny::Head
                if method == Method::GET && content == Content::Absent =>
            {
                self.0.retain(|protocol| is(protocol.as_bytes(), WEBSOCKET));
            }
            Scrutiny::Method | Scrutiny::Head => self.0.clear(),
        }
        self
    }

    /// Writes the offer anew, for one connection. HTTP/2 has no such offer (RFC 9113 section 8.6).
    pub(super) fn make(&self, headers: &mut HeaderMap, wire: Wire) {
        if self.is_empty() || wire == Wire::TlsHttp2 {
            return;
        }
        // The protocols were read from a field.
        if let Ok(offer) = HeaderValue::from_str(&self.0.join(", ")) {
            mark(headers, offer);
        }
    }

    /// The protocols that an answer changes the connection to, as they are passed to the client;
    /// `None` if one of them was not offered.
    pub(super) fn accepted(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let taken: Vec<_> = protocols(headers).collect();
        let is_offered = |taken: &&[u8]| self.0.iter().any(|offered| is(taken, offered));
        if taken.is_empty() || !taken.iter().all(is_offered) {
            return None;
        }
        HeaderValue::from_bytes(&taken.join(&b", "[..])).ok()
    }
}

/// Writes the fields that offer or announce a change of protocols, for one connection.
pub(super) fn mark(headers: &mut HeaderMap, protocols: HeaderValue) {
    // `TE` is an option of this connection too.
    let option = if headers.contains_key(http::header::TE) {
        "upgrade, te"
    } else {
        "upgrade"
    };
    headers.insert(CONNECTION, HeaderValue::from_static(option));
    headers.insert(UPGRADE, protocols);
}

/// The protocols in the `Upgrade` fields.
fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    elements(headers, &UPGRADE).filter(|protocol| !protocol.is_empty())
}

fn is(token: &[u8], name: &str) -> bool {
    token.eq_ignore_ascii_case(name.as_bytes())
}

impl Switched {
    pub(super) fn new(
        connection: ConnectionHandle,
        route: Route,
        upstream: Upgraded,
        leads_to: LeadsTo,
    ) -> Self {
        Self {
            connection,
            route,
            upstream,
            leads_to,
        }
    }

    /// Moves bytes until the end. `early` are bytes that came behind the client's request.
    pub(crate) async fn run<S: ClientEnd>(
        self,
        live: &LivePolicy,
        pipes: &PipePool,
        client: S,
        early: Bytes,
    ) {
        let Self {
            connection,
            route,
            upstream,
            leads_to,
        } = self;
        connection.activity().note();
        let watched = Watched {
            live,
            connection,
            route,
            leads_to,
        };
        match (client.into_socket(), UpgradedStream::new(upstream)) {
            (Ok(client), UpgradedStream::Socket(upstream, behind)) => {
                let relay = SocketRelay::new(client, upstream, early, behind);
                watched.run_sockets(pipes, relay).await;
            }
            (Ok(client), upstream) => watched.run_any(client, early, upstream).await,
            (Err(client), upstream) => watched.run_any(client, early, upstream).await,
        }
    }
}

impl Watched<'_> {
    /// Moves bytes between two sockets.
    async fn run_sockets(self, pipes: &PipePool, mut relay: SocketRelay) {
        let (flow, activity) = (self.route.flow(), self.connection.activity());
        let moved = pin!(poll_fn(|cx| relay.poll(cx, pipes, activity, flow)));
        let end = self.end(moved).await;
        if end.must_reset() {
            relay.reset();
        }
        flow.end(end.ending());
    }

    /// Moves bytes between streams of any kind.
    async fn run_any<S: ClientEnd>(self, client: S, early: Bytes, upstream: UpgradedStream) {
        match upstream {
            UpgradedStream::Socket(upstream, behind) => {
                let upstream = Prefixed::new(behind, upstream);
                self.run_streams(client, early, upstream).await;
            }
            UpgradedStream::Tls(upstream) => self.run_streams(client, early, upstream).await,
            UpgradedStream::Other(upstream) => {
                let upstream = TokioIo::new(upstream);
                self.run_streams(client, early, upstream).await;
            }
        }
    }

    async fn run_streams<S: ClientEnd>(
        self,
        mut client: S,
        early: Bytes,
        upstream: impl AsyncRead + AsyncWrite + Unpin,
    ) {
        let (flow, activity) = (self.route.flow(), self.connection.activity());
        let end = {
            let (from_client, to_client) = tokio::io::split(&mut client);
            let (from_upstream, to_upstream) = tokio::io::split(upstream);
            let (way, back) = (
                RelayDirection::ToUpstream(flow),
                RelayDirection::ToClient(flow),
            );
            let there = relay_stream(from_client, to_upstream, early, activity, way);
            let back = relay_stream(from_upstream, to_client, Bytes::new(), activity, back);
            let moved = pin!(async { tokio::try_join!(there, back).map(|_| ()) });
            self.end(moved).await
        };
        if end.must_reset() {
            let _ = client.socket().set_zero_linger();
        }
        flow.end(end.ending());
    }

    /// The end of the relay, for any reason.
    async fn end(&self, moved: Pin<&mut impl Future<Output = Result<(), RelayError>>>) -> RelayEnd {
        let limit = self
            .route
            .generation()
            .settings()
            .daemon
            .limits
            .idle_timeout;
        let forbidden = pin!(forbidden(self.live, &self.route, &self.leads_to));
        RelayEnd::of(moved, &self.connection, limit, forbidden).await
    }
}

/// Resolves when a change of the settings no longer permits the connection (SPEC P11).
async fn forbidden(live: &LivePolicy, route: &Route, leads_to: &LeadsTo) -> Reason {
    match route {
        Route::Host(permit) => tunnel::forbidden(live, permit, leads_to).await,
        Route::UnixSocket(permit, _) => permit.forbidden(live).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offering(upgrade: &str) -> UpgradeOffer {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_str(upgrade).expect("a value"));
        UpgradeOffer::read(&headers, Version::HTTP_11)
    }

    #[test]
    fn h9_the_offer_is_what_the_field_lists_without_h2c() {
        for (upgrade, wanted) in [
            ("SPDY/3.1", "SPDY/3.1"),
            ("h2c, tcp,,websocket", "tcp, websocket"),
            ("H2C", ""),
            ("", ""),
        ] {
            let mut headers = HeaderMap::new();
            offering(upgrade).make(&mut headers, Wire::Plain);
            let made = headers
                .get(UPGRADE)
                .map_or("", |made| made.to_str().expect("ASCII"));
            assert_eq!(made, wanted, "{upgrade}");
            assert_eq!(headers.contains_key(CONNECTION), !wanted.is_empty());
        }
    }

    #[test]
    fn h9_an_offer_needs_http_1_1_and_the_connection_option() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
        assert!(UpgradeOffer::read(&headers, Version::HTTP_11).is_empty());
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        assert!(UpgradeOffer::read(&headers, Version::HTTP_10).is_empty());
        assert!(UpgradeOffer::read(&headers, Version::HTTP_2).is_empty());
        assert!(!UpgradeOffer::read(&headers, Version::HTTP_11).is_empty());
    }

    #[test]
    fn h9_where_requests_are_judged_only_websocket_goes_on() {
        let all = "tcp, WebSocket, SPDY/3.1";
        for (scrutiny, method, content, wanted) in [
            (Scrutiny::Host, Method::POST, Content::Present, 3),
            (Scrutiny::Head, Method::GET, Content::Absent, 1),
            (Scrutiny::Head, Method::GET, Content::Present, 0),
            (Scrutiny::Head, Method::POST, Content::Absent, 0),
            (Scrutiny::Method, Method::GET, Content::Absent, 1),
        ] {
            let carried = offering(all).carried(scrutiny, &method, content);
            assert_eq!(carried.0.len(), wanted, "{scrutiny:?} {method}");
            assert!(wanted != 1 || carried.token() == Some("WebSocket"));
        }
    }

    #[test]
    fn h9_an_origin_changes_to_what_was_offered_alone() {
        for (offered, taken, wanted) in [
            ("SPDY/3.1", "spdy/3.1", true),
            ("tcp, websocket", "websocket", true),
            ("foo/2, bar", "bar, foo/2", true),
            ("tcp", "tcp, h2c", false),
            ("tcp, h2c", "h2c", false),
            ("SPDY/3.1", "SPDY", false),
            ("tcp", "", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static(taken));
            let accepted = offering(offered).accepted(&headers);
            assert_eq!(accepted.is_some(), wanted, "{offered}: {taken}");
        }
    }
}
