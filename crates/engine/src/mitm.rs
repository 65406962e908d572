//! TLS interception: decrypts a connection whose requests must be judged one by one. Every request
//! inside goes through the enforcement point by itself (SPEC section 6).
//!
//! The policy decides whether to intercept (SPEC M1); this file does not. Plain HTTP is served by the
//! rules of the HTTP door. Another protocol, or TLS for another host, is refused. The client is offered
//! the origin's protocol. If that is known, both sessions are made at the same time; otherwise the one with
//! the origin is made first. The certificate for the client is always for the host that the client requested
//! from the proxy, never for the name in its `ClientHello`.

mod flow_counter;
pub(crate) mod plain_http;
mod protocol;
mod silent_client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use codex_network_policy::{Handling, Host, Reason, TunnelContent};
use flow_counter::{CountedClient, counted};
use futures_util::future::{self, BoxFuture};
use rustls::HandshakeKind;
use silent_client::SilentClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::client_hello::{ClientHello, ClientHelloReader, FirstBytes};
use crate::connected::ConnectedClient;
use crate::enforce::{self, LeadsTo, Permit};
use crate::http::{self, ClientEnd, Inside, OriginConnections, RequestBody, Shared};
use crate::interceptor::{Interceptor, LeafError, OfferedAlpn};
use crate::linger::linger;
use crate::observed::Observed;
use crate::outcome::{Ending, Fault, FlowOutcome, Logged};
use crate::respond::{self, TlsAlert};
use crate::tls::{Offer, Wire};
use crate::upstream::{Connection, Lease, Reached, UpstreamError};

/// The client's session. Boxed, since it is moved through many futures.
type ClientTls = Observed<Box<TlsStream<CountedClient>>, SilentClient>;

/// The first bytes of a client that is served.
enum ClientOpening {
    /// TLS for the authority that it requested. The handshake reads the bytes again.
    Tls(ClientHello, Bytes),
    /// Plain HTTP.
    PlainHttp(Bytes),
}

/// Why a client gets no session.
#[derive(Debug, thiserror::Error)]
enum SessionRefusal {
    #[error("it sent no TLS ClientHello in time")]
    Slow,
    #[error("it closed the connection before its TLS ClientHello was complete")]
    Gone,
    #[error("it sent neither TLS nor HTTP")]
    NotTls,
    #[error("{0}")]
    ClientHello(#[from] crate::client_hello::ClientHelloError),
    #[error("its TLS ClientHello names another host")]
    OtherName,
    #[error("{0}")]
    Leaf(#[from] LeafError),
    #[error("TLS is not intercepted any more")]
    SwitchedOff,
}

impl SessionRefusal {
    /// The end of the attempt.
    fn ending(&self) -> Ending {
        let (outcome, logged) = match self {
            Self::Gone => (FlowOutcome::ClientGone, Logged::HereOnly),
            // These are recorded, or logged with level `error`, elsewhere.
            Self::Slow | Self::NotTls | Self::OtherName | Self::SwitchedOff => {
                (FlowOutcome::Forbidden, Logged::Already)
            }
            Self::Leaf(_) => (FlowOutcome::UpstreamFailed, Logged::Already),
            Self::ClientHello(_) => (FlowOutcome::Forbidden, Logged::HereOnly),
        };
        let cause = format!("the client cannot be intercepted: {self}");
        Ending {
            fault: Some(match self {
                Self::Leaf(_) | Self::SwitchedOff => Fault::Proxy,
                _ => Fault::Client,
            }),
            logged,
            ..Ending::because(outcome, cause)
        }
    }
}

/// Serves the client to its end, or until the policy no longer permits it (SPEC P11).
pub(crate) async fn run(shared: &Arc<Shared>, connected: ConnectedClient<Reached>) {
    let ConnectedClient {
        permit,
        mut client,
        early,
        upstream,
    } = connected;
    let leads_to = upstream.leads_to().clone();
    let opening = tokio::select! {
        opening = read_opening(&permit, &mut client, early) => opening,
        reason = forbidden(shared, &permit, &leads_to) => return end_forbidden(&permit, reason),
    };
    match opening {
        Ok(ClientOpening::Tls(hello, early)) => {
            intercept(shared, &permit, upstream, client, &hello, early).await;
        }
        Ok(ClientOpening::PlainHttp(early)) => {
            serve_plainly(shared, &permit, upstream, client, early).await;
        }
        Err(refused) => refuse(&permit, client, &refused).await,
    }
    permit.flow().complete_with_connection();
}

/// Serves a client that has sent an acceptable `ClientHello`.
async fn intercept(
    shared: &Arc<Shared>,
    permit: &Permit,
    upstream: Reached,
    client: TcpStream,
    hello: &ClientHello,
    early: Bytes,
) {
    let leads_to = upstream.leads_to().clone();
    let end = CancellationToken::new();
    let mut served: BoxFuture<'_, ()> =
        Box::pin(serve(shared, permit, upstream, client, hello, early, &end));
    let mut is_needed = true;
    loop {
        tokio::select! {
            () = &mut served => return,
            changed = changed(shared, permit, &leads_to, is_needed) => match changed {
                PolicyChange::Forbidden(reason) => return end_forbidden(permit, reason),
                // The requests in hand may finish while they are permitted.
                PolicyChange::Needless => {
                    log_needless(permit);
                    end.cancel();
                    is_needed = false;
                }
            }
        }
    }
}

/// Serves a client that speaks plain HTTP. When a change of the settings forbids the connection or
/// makes interception unnecessary, the request in hand is the last one. As at the HTTP door, its
/// answer is finished: a close in the middle could make a truncated answer look complete.
async fn serve_plainly(
    shared: &Arc<Shared>,
    permit: &Permit,
    upstream: Reached,
    client: TcpStream,
    early: Bytes,
) {
    let leads_to = upstream.leads_to().clone();
    let origin = match upstream {
        Reached::Connection(upstream) => {
            OriginConnections::new(shared.upstream.plainly(permit, upstream).await)
        }
        Reached::Kept(..) => OriginConnections::unopened(),
    };
    let end = CancellationToken::new();
    let inside = inside(permit, Wire::Plain, origin, end.clone());
    let address = permit.attempt().client.address;
    let stream = counted(early, client, permit.flow().clone());
    let mut served: BoxFuture<'_, ()> =
        Box::pin(http::serve_inside(shared, stream, address, inside));
    tokio::select! {
        () = &mut served => return,
        changed = changed(shared, permit, &leads_to, true) => match changed {
            PolicyChange::Forbidden(reason) => end_forbidden(permit, reason),
            PolicyChange::Needless => log_needless(permit),
        }
    }
    end.cancel();
    served.await;
}

/// Ends the connection, and the requests in hand with it.
fn end_forbidden(permit: &Permit, reason: Reason) {
    let connection = &permit.attempt().client.connection;
    connection.end(Ending::forbidden(reason));
}

fn log_needless(permit: &Permit) {
    let (client, authority) = (permit.attempt().client.address, permit.authority());
    tracing::debug!(%client, %authority, "ending an intercepted connection that needs no interception any more");
}

/// Reads the client's first bytes: a `ClientHello`, which must be for the authority that the client
/// named, or an HTTP request.
async fn read_opening(
    permit: &Permit,
    client: &mut TcpStream,
    early: Bytes,
) -> Result<ClientOpening, SessionRefusal> {
    let limit = permit.generation().settings().daemon.limits.header_timeout;
    let mut bytes = BytesMut::from(early);
    let mut reader = ClientHelloReader::new();
    let hello = async {
        loop {
            match reader.feed(&bytes) {
                FirstBytes::ClientHello(hello) => return Ok(Some(hello)),
                FirstBytes::NotTls => match plain_http::begins(&bytes) {
                    Some(true) => return Ok(None),
                    Some(false) => return Err(SessionRefusal::NotTls),
                    None => {}
                },
                FirstBytes::Malformed(error) => return Err(error.into()),
                FirstBytes::Undecided => {}
            }
            match client.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return Err(SessionRefusal::Gone),
                Ok(_) => {}
            }
        }
    };
    let hello = timeout(limit, hello)
        .await
        .map_err(|_| SessionRefusal::Slow)??;
    let Some(hello) = hello else {
        return Ok(ClientOpening::PlainHttp(bytes.freeze()));
    };
    match &hello.server_name {
        Some(name) if *name != permit.authority().host => Err(SessionRefusal::OtherName),
        _ => Ok(ClientOpening::Tls(hello, bytes.freeze())),
    }
}

/// Refuses a client: sends a TLS alert with the reason to a TLS client, and resets a client that
/// speaks neither TLS nor HTTP. Records a refusal by policy.
async fn refuse(permit: &Permit, mut client: TcpStream, refused: &SessionRefusal) {
    permit.flow().end(refused.ending());
    let alert = match refused {
        SessionRefusal::NotTls | SessionRefusal::Slow => {
            let _refusal = permit.withdraw(TunnelContent::Opaque, "not_tls");
            // To the client, an orderly close would look like one by the origin.
            let _ = client.set_zero_linger();
            return;
        }
        SessionRefusal::OtherName => {
            let _refusal = permit.withdraw(TunnelContent::OtherHost, "sni_mismatch");
            Some(TlsAlert::UnrecognizedName)
        }
        SessionRefusal::ClientHello(_) => Some(TlsAlert::DecodeError),
        SessionRefusal::Leaf(_) | SessionRefusal::SwitchedOff => Some(TlsAlert::InternalError),
        SessionRefusal::Gone => None,
    };
    if let Some(alert) = alert {
        let _ = client.write_all(&respond::tls_alert(alert)).await;
    }
    linger(client).await;
}

/// Makes both sessions and serves the requests inside.
async fn serve(
    shared: &Arc<Shared>,
    permit: &Permit,
    upstream: Reached,
    client: TcpStream,
    hello: &ClientHello,
    early: Bytes,
    end: &CancellationToken,
) {
    let address = permit.attempt().client.address;
    let sessions = sessions(shared, permit, upstream, client, hello, early);
    let Sessions {
        client,
        wire_to_client,
        origin,
        wire,
    } = match sessions.await {
        Ok(sessions) => sessions,
        Err(NoSession::Failed) => return,
        Err(NoSession::Refused(client, refused)) => {
            if may_log(shared, permit) {
                tracing::error!(client = %address, authority = %permit.authority(), "cannot intercept: {refused}");
            }
            return refuse(permit, client, &refused).await;
        }
    };
    let inside = inside(permit, wire, origin, end.clone());
    if wire_to_client == Wire::TlsHttp2 {
        // Boxed, so that clients of HTTP/1 hold no memory for this larger future.
        Box::pin(http::serve_inside_http2(shared, client, address, inside)).await;
    } else {
        http::serve_inside(shared, client, address, inside).await;
    }
}

/// The sessions of an intercepted client.
struct Sessions {
    client: ClientTls,
    wire_to_client: Wire,
    origin: OriginConnections,
    /// The protocol with the origin.
    wire: Wire,
}

/// Why there is no session with the client.
enum NoSession {
    /// The handshake failed. It was logged.
    Failed,
    /// The proxy refuses the client.
    Refused(TcpStream, SessionRefusal),
}

/// Makes the sessions with the client and the origin: at the same time if it is known which protocol the
/// client will get.
async fn sessions(
    shared: &Arc<Shared>,
    permit: &Permit,
    upstream: Reached,
    client: TcpStream,
    hello: &ClientHello,
    early: Bytes,
) -> Result<Sessions, NoSession> {
    let alpn = hello.alpn;
    let known = protocol::known(alpn, || shared.upstream.chosen_wire(permit));
    let origin = Box::pin(reach(
        shared,
        permit,
        upstream,
        protocol::offer(alpn),
        known,
    ));
    let accept = |wire| accept(shared, permit, client, early, protocol::offered(alpn, wire));
    let wire_to_client;
    let ((origin, wire), client) = if let Some(known) = known {
        wire_to_client = known;
        // A client that is refused ends the attempt to reach the origin.
        future::try_join(async { Ok(origin.await) }, accept(known)).await?
    } else {
        let (origin, wire) = origin.await;
        wire_to_client = protocol::for_client(alpn, wire);
        ((origin, wire), accept(wire_to_client).await?)
    };
    Ok(Sessions {
        client,
        wire_to_client,
        origin,
        wire,
    })
}

/// Makes the session with the origin, unless the requests use kept connections. `known` is the protocol
/// that the client will get, if it is known before the origin chooses one.
async fn reach(
    shared: &Arc<Shared>,
    permit: &Permit,
    upstream: Reached,
    offer: Offer,
    known: Option<Wire>,
) -> (OriginConnections, Wire) {
    let upstream = match (upstream, known) {
        (Reached::Connection(upstream), _) => Ok(upstream),
        (Reached::Kept(_, kept), Some(wire))
            if kept == wire || shared.upstream.keeps(permit, wire) =>
        {
            return (OriginConnections::unopened(), wire);
        }
        // The origin may not have the client's protocol, so its choice must be known first.
        (Reached::Kept(..), _) => shared.upstream.open(permit).await,
    };
    // WebSocket needs HTTP/1.1 on both sides.
    let offer = match known {
        Some(Wire::TlsHttp1) => Offer::Http1,
        _ => offer,
    };
    let secured = match upstream {
        Ok(upstream) => secure(shared, permit, upstream, offer).await,
        Err(failure) => Err(failure),
    };
    match secured {
        Ok((lease, wire)) => (OriginConnections::new(Ok(lease)), wire),
        // The client gets the failure as an HTTP answer, which needs a session.
        Err(failure) => {
            let wire = known.unwrap_or(protocol::preferred(offer));
            (OriginConnections::new(Err(failure)), wire)
        }
    }
}

/// Makes the session with the origin. Requests can be sent on in either protocol, so an origin without the
/// client's only protocol gets a second handshake. The first one does not offer both: some origins would
/// then choose HTTP/1.1, and gRPC needs HTTP/2; others would choose HTTP/2, and WebSocket needs HTTP/1.1.
async fn secure(
    shared: &Arc<Shared>,
    permit: &Permit,
    upstream: Connection,
    offer: Offer,
) -> Result<(Lease<RequestBody>, Wire), UpstreamError> {
    let secured = shared.upstream.secure(permit, upstream, offer).await;
    let other = match (&secured, offer) {
        (Err(UpstreamError::Tls(error)), _) if !error.is_no_common_protocol() => return secured,
        (Err(UpstreamError::Tls(_)), Offer::Http2) => Wire::TlsHttp1,
        (Err(UpstreamError::Tls(_)), Offer::Http1) => Wire::TlsHttp2,
        _ => return secured,
    };
    let lease = shared.upstream.connect_http(permit, other).await?;
    Ok((lease, other))
}

fn inside(
    permit: &Permit,
    wire: Wire,
    origin: OriginConnections,
    end: CancellationToken,
) -> Inside {
    Inside {
        client: permit.attempt().client.clone(),
        authority: permit.authority().clone(),
        wire,
        origin,
        end,
    }
}

/// The effect of changed settings on an intercepted connection.
enum PolicyChange {
    /// The policy no longer permits its destination (SPEC P11).
    Forbidden(Reason),
    /// It no longer needs interception (SPEC M1). Reported once.
    Needless,
}

/// Resolves when a change of the settings forbids the destination.
async fn forbidden(shared: &Shared, permit: &Permit, leads_to: &LeadsTo) -> Reason {
    enforce::rejudged(shared.live(), permit, leads_to, |decision| {
        (!decision.is_allow()).then(|| decision.reason())
    })
    .await
}

async fn changed(
    shared: &Shared,
    permit: &Permit,
    leads_to: &LeadsTo,
    is_needed: bool,
) -> PolicyChange {
    enforce::rejudged(shared.live(), permit, leads_to, |decision| {
        match (decision.is_allow(), decision.handling()) {
            (false, _) => Some(PolicyChange::Forbidden(decision.reason())),
            (true, Handling::Carry) if is_needed => Some(PolicyChange::Needless),
            (true, Handling::Carry | Handling::Intercept) => None,
        }
    })
    .await
}

/// Makes the client's session.
async fn accept(
    shared: &Shared,
    permit: &Permit,
    client: TcpStream,
    early: Bytes,
    offered_alpn: OfferedAlpn,
) -> Result<ClientTls, NoSession> {
    let generation = permit.generation();
    let Some(interceptor) = generation.interceptor() else {
        return Err(NoSession::Refused(client, SessionRefusal::SwitchedOff));
    };
    let host = &permit.authority().host;
    let connection = &permit.attempt().client.connection;
    let budget = &shared.leaf_budget;
    let leaf = match interceptor.leaves.leaf(host, connection, budget).await {
        Ok(leaf) => leaf,
        Err(error) => return Err(NoSession::Refused(client, error.into())),
    };
    let config = match leaf.server(offered_alpn) {
        Ok(config) => config,
        Err(error) => return Err(NoSession::Refused(client, error.into())),
    };
    let limit = generation.settings().daemon.limits.header_timeout;
    let accepted = TlsAcceptor::from(config).accept(counted(early, client, permit.flow().clone()));
    let address = permit.attempt().client.address;
    let measured = permit.flow().meters().client_handshake.measure(accepted);
    match timeout(limit, measured).await {
        Ok(Ok(stream)) => Ok(watch_for_silence(
            Box::new(stream),
            interceptor,
            address,
            host,
        )),
        Ok(Err(error)) => {
            if may_log(shared, permit) {
                interceptor.distrust.note(address, host, &error);
            }
            let cause = "the client ended the TLS handshake";
            permit
                .flow()
                .end(Ending::because(FlowOutcome::ClientGone, cause));
            Err(NoSession::Failed)
        }
        Err(_) => {
            if may_log(shared, permit) {
                tracing::info!(client = %address, authority = %permit.authority(), "a client did not finish its TLS handshake in time");
            }
            permit.flow().end(Ending::idle(limit));
            Err(NoSession::Failed)
        }
    }
}

/// Whether the client may cause another log line.
fn may_log(shared: &Shared, permit: &Permit) -> bool {
    let connection = &permit.attempt().client.connection;
    shared.recorder().may_log(connection, "interception")
}

/// Logs a client that hangs up when it sees the certificate. A resumed session shows no certificate.
fn watch_for_silence(
    stream: Box<TlsStream<CountedClient>>,
    interceptor: &Arc<Interceptor>,
    address: SocketAddr,
    host: &Host,
) -> ClientTls {
    let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    let (interceptor, host) = (Arc::clone(interceptor), host.clone());
    let begun = Instant::now();
    let observer = SilentClient::new(move || {
        if !is_resumed {
            interceptor
                .distrust
                .note_silence(address, &host, begun.elapsed());
        }
    });
    Observed::new(stream, observer)
}

impl ClientEnd for ClientTls {
    fn socket(&self) -> &TcpStream {
        self.get_ref().get_ref().0.socket()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, F>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// An idle client holds these futures. A session that is moved through many of them by value takes
    /// more memory than everything else.
    #[test]
    fn m6_an_idle_intercepted_client_holds_small_futures() {
        type Client = (Arc<Shared>, Permit, Reached, TcpStream, ClientHello, Bytes);
        let served = size(
            |(shared, permit, upstream, client, hello, early): Client| async move {
                let end = CancellationToken::new();
                serve(&shared, &permit, upstream, client, &hello, early, &end).await;
            },
        );
        assert!(served < 6 * 1024, "{served}");
        let all = size(|(shared, connected): (Arc<Shared>, _)| async move {
            run(&shared, connected).await;
        });
        assert!(all < 3 * 1024, "{all}");
    }
}
