//! Moves bytes between a client and an upstream, in both directions, until both are done or one breaks.
//!
//! An idle tunnel has no buffer: it waits for a socket to become readable, allocates a buffer, moves the
//! bytes and frees the buffer. It also watches the policy, and ends when a change no longer permits its
//! destination (SPEC P11).

mod sockets;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use codex_network_policy::{Handling, Reason};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

pub(crate) use self::sockets::SocketRelay;
use crate::activity::Activity;
use crate::connected::ConnectedClient;
use crate::enforce::{self, Flow, LeadsTo, Permit};
use crate::live_policy::LivePolicy;
use crate::outcome::{Ending, Fault, FlowOutcome};
use crate::owner::ConnectionHandle;
use crate::pipes::PipePool;
use crate::upstream::Stream;

/// Most bytes of a TLS stream that are moved at once: the size of a TLS record.
const STREAM_BUFFER: usize = 16 * 1024;

/// Why a relay of bytes ended. A relay belongs to a tunnel or to an upgraded connection.
#[derive(Debug)]
pub(crate) enum RelayEnd {
    /// Both ends are done, or one broke.
    Closed(Result<(), RelayError>),
    /// Nothing flowed for too long.
    Idle(Duration),
    /// The policy no longer permits it.
    Forbidden(Reason),
    /// Another client needs its slot.
    GivesWay,
}

/// The end of a relay that broke.
#[derive(Debug)]
pub(crate) enum RelayError {
    Client(io::Error),
    Upstream(io::Error),
}

/// The parts of the engine that a tunnel uses.
pub(crate) struct TunnelParts<'a> {
    pub(crate) live: &'a LivePolicy,
    pub(crate) pipes: &'a PipePool,
}

/// Moves bytes until the end. The future holds only the things that an idle tunnel needs.
/// `shared` holds the `parts` that it uses.
pub(crate) fn run<S: Send + Sync + 'static>(
    shared: Arc<S>,
    parts: fn(&S) -> TunnelParts<'_>,
    connected: ConnectedClient,
) -> BoxFuture<'static, ()> {
    let ConnectedClient {
        permit,
        client,
        early,
        upstream,
    } = connected;
    let leads_to = upstream.leads_to().clone();
    let (behind, upstream) = upstream.into_parts();
    match upstream {
        Stream::Tcp(upstream) => {
            let mut relay = SocketRelay::new(client, upstream, early, behind);
            // An `async fn` would hold its arguments twice.
            Box::pin(async move {
                let TunnelParts { live, pipes } = parts(&shared);
                let flow = permit.flow();
                let connection = &permit.attempt().client.connection;
                let activity = connection.activity();
                activity.note();
                let end = {
                    let moved = pin!(poll_fn(|cx| relay.poll(cx, pipes, activity, flow)));
                    let forbidden = pin!(forbidden(live, &permit, &leads_to));
                    RelayEnd::of(moved, connection, idle_limit(&permit), forbidden).await
                };
                if end.must_reset() {
                    relay.reset();
                }
                flow.end(end.ending());
            })
        }
        Stream::Tls(upstream) => {
            let ends = (client, early, *upstream, behind);
            Box::pin(async move { through_tls(parts(&shared).live, permit, leads_to, ends).await })
        }
    }
}

/// Moves bytes through TLS with an upstream proxy.
async fn through_tls(
    live: &LivePolicy,
    permit: Permit,
    leads_to: LeadsTo,
    (mut client, early, mut upstream, behind): (TcpStream, Bytes, TlsStream<TcpStream>, Bytes),
) {
    let flow = permit.flow();
    let connection = &permit.attempt().client.connection;
    let activity = connection.activity();
    activity.note();
    let end = {
        let (from_client, to_client) = client.split();
        let (from_upstream, to_upstream) = tokio::io::split(&mut upstream);
        let (way, back) = (
            RelayDirection::ToUpstream(flow),
            RelayDirection::ToClient(flow),
        );
        let there = relay_stream(from_client, to_upstream, early, activity, way);
        let back = relay_stream(from_upstream, to_client, behind, activity, back);
        let moved = pin!(async { tokio::try_join!(there, back).map(|_| ()) });
        let forbidden = pin!(forbidden(live, &permit, &leads_to));
        RelayEnd::of(moved, connection, idle_limit(&permit), forbidden).await
    };
    if end.must_reset() {
        let _ = (
            client.set_zero_linger(),
            upstream.get_ref().0.set_zero_linger(),
        );
    }
    flow.end(end.ending());
}

fn idle_limit(permit: &Permit) -> Duration {
    permit.generation().settings().daemon.limits.idle_timeout
}

impl RelayEnd {
    /// Moves bytes until the relay ends for any reason. It ends when it is idle for `limit`.
    pub(crate) async fn of(
        mut moved: Pin<&mut impl Future<Output = Result<(), RelayError>>>,
        connection: &ConnectionHandle,
        limit: Duration,
        mut forbidden: Pin<&mut impl Future<Output = Reason>>,
    ) -> Self {
        // `select!` would hold these futures twice.
        let mut silence = pin!(connection.activity().silence(limit));
        let mut gives_way = pin!(connection.gives_way());
        poll_fn(|cx| {
            if let Poll::Ready(moved) = moved.as_mut().poll(cx) {
                return Poll::Ready(Self::Closed(moved));
            }
            if silence.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Self::Idle(limit));
            }
            if gives_way.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Self::GivesWay);
            }
            forbidden.as_mut().poll(cx).map(Self::Forbidden)
        })
        .await
    }

    /// Whether the connections must be reset. To a peer, an orderly close would mean that it has received
    /// everything.
    pub(crate) fn must_reset(&self) -> bool {
        matches!(
            self,
            Self::Closed(Err(_)) | Self::GivesWay | Self::Forbidden(_)
        )
    }

    /// The end of the attempt that the relay belonged to.
    pub(crate) fn ending(self) -> Ending {
        match self {
            Self::Closed(Ok(())) => Ending::plain(FlowOutcome::Completed),
            Self::Closed(Err(RelayError::Client(error))) => Ending {
                detail: Some(error.to_string()),
                ..Ending::because(FlowOutcome::ClientGone, "the client's connection broke")
            },
            Self::Closed(Err(RelayError::Upstream(error))) => Ending {
                fault: Some(Fault::Upstream),
                detail: Some(error.to_string()),
                ..Ending::because(FlowOutcome::UpstreamFailed, "the host's connection broke")
            },
            Self::GivesWay => Ending::gives_way(),
            Self::Idle(limit) => Ending::idle(limit),
            Self::Forbidden(reason) => Ending::forbidden(reason),
        }
    }
}

/// The direction of a relay. It counts the moved bytes.
#[derive(Clone, Copy)]
pub(crate) enum RelayDirection<'a> {
    /// From the client.
    ToUpstream(&'a Flow),
    /// To the client.
    ToClient(&'a Flow),
}

impl RelayDirection<'_> {
    /// Counts bytes that have been passed on.
    fn moved(self, bytes: usize) {
        match self {
            Self::ToUpstream(flow) => flow.sent(bytes),
            Self::ToClient(flow) => flow.received(bytes),
        }
    }

    /// The error when reading failed.
    fn source(self, error: io::Error) -> RelayError {
        match self {
            Self::ToUpstream(_) => RelayError::Client(error),
            Self::ToClient(_) => RelayError::Upstream(error),
        }
    }

    /// The error when writing failed.
    fn target(self, error: io::Error) -> RelayError {
        match self {
            Self::ToUpstream(_) => RelayError::Upstream(error),
            Self::ToClient(_) => RelayError::Client(error),
        }
    }
}

/// Moves one direction to its end, and then closes it on the other side. The other direction may go on.
/// It is for streams that are more than a socket, and keeps its buffer while it is idle.
pub(crate) async fn relay_stream(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    early: Bytes,
    activity: &Activity,
    way: RelayDirection<'_>,
) -> Result<(), RelayError> {
    let (source, target) = (|error| way.source(error), |error| way.target(error));
    to.write_all(&early).await.map_err(target)?;
    to.flush().await.map_err(target)?;
    way.moved(early.len());
    drop(early);
    let mut buffer = vec![0; STREAM_BUFFER];
    loop {
        let read = from.read(&mut buffer).await.map_err(source)?;
        if read == 0 {
            return to.shutdown().await.map_err(target);
        }
        activity.note();
        to.write_all(&buffer[..read]).await.map_err(target)?;
        to.flush().await.map_err(target)?;
        way.moved(read);
        activity.note();
    }
}

/// Resolves when a change of the settings no longer permits the tunnel. The tunnel is judged
/// without its contents.
pub(crate) fn forbidden(
    live: &LivePolicy,
    permit: &Permit,
    leads_to: &LeadsTo,
) -> impl Future<Output = Reason> + Send {
    enforce::rejudged(live, permit, leads_to, |decision| {
        match (decision.is_allow(), decision.handling()) {
            (false, _) => Some(decision.reason()),
            (true, Handling::Intercept) => Some(Reason::MitmRequired),
            (true, Handling::Carry) => None,
        }
    })
}

#[cfg(test)]
mod tests;
