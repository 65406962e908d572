//! Moves bytes between a client and an upstream, in both directions, until both are done or one breaks.
//!
//! An idle tunnel has no buffer: it waits for a socket to become readable, allocates a buffer, moves the
//! bytes and frees the buffer. It also watches the policy, and ends when a change no longer permits its
//! destination (SPEC P11).

use std::io;
use std::time::Duration;

use bytes::Bytes;
use codex_network_policy::{Handling, Reason};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::activity::Activity;
use crate::connected::ConnectedClient;
use crate::enforce::{self, Flow, LeadsTo, Permit};
use crate::live_policy::LivePolicy;
use crate::outcome::{Ending, Fault, FlowOutcome};
use crate::owner::ConnectionHandle;
use crate::upstream::Stream;

/// Most bytes that are moved at once. Larger pieces gain little, since a piece of this size usually empties
/// the socket's buffer.
const BUFFER: usize = 32 * 1024;
/// The same for TLS streams: the size of a TLS record.
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

/// Moves bytes until the end.
pub(crate) async fn run(live: &LivePolicy, connected: ConnectedClient) {
    let ConnectedClient {
        permit,
        mut client,
        early,
        upstream,
    } = connected;
    let leads_to = upstream.leads_to().clone();
    let (behind, mut upstream) = upstream.into_parts();
    let limit = permit.generation().settings().daemon.limits.idle_timeout;
    let connection = &permit.attempt().client.connection;
    let activity = connection.activity();
    activity.note();
    let flow = permit.flow();
    let end = {
        let moved = relay_both(&mut client, &mut upstream, early, behind, activity, flow);
        let forbidden = forbidden(live, &permit, &leads_to);
        RelayEnd::of(moved, connection, limit, forbidden).await
    };
    if end.must_reset() {
        let _ = (
            client.set_zero_linger(),
            upstream.socket().set_zero_linger(),
        );
    }
    flow.end(end.ending());
}

impl RelayEnd {
    /// Moves bytes until the relay ends for any reason. It ends when it is idle for `limit`.
    pub(crate) async fn of(
        moved: impl Future<Output = Result<(), RelayError>>,
        connection: &ConnectionHandle,
        limit: Duration,
        forbidden: impl Future<Output = Reason>,
    ) -> Self {
        tokio::select! {
            moved = moved => Self::Closed(moved),
            () = connection.activity().silence(limit) => Self::Idle(limit),
            reason = forbidden => Self::Forbidden(reason),
            () = connection.gives_way() => Self::GivesWay,
        }
    }

    /// Whether the connections must be reset. To a peer, an orderly close would mean that it has received
    /// everything.
    pub(crate) fn must_reset(&self) -> bool {
        matches!(self, Self::Closed(Err(_)) | Self::GivesWay)
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

/// Moves both directions. `early` goes to the upstream first, and `behind` to the client.
async fn relay_both(
    client: &mut TcpStream,
    upstream: &mut Stream,
    early: Bytes,
    behind: Bytes,
    activity: &Activity,
    flow: &Flow,
) -> Result<(), RelayError> {
    let (from_client, to_client) = client.split();
    match upstream {
        Stream::Tcp(upstream) => {
            let (from_upstream, to_upstream) = upstream.split();
            let there = relay(
                from_client,
                to_upstream,
                early,
                activity,
                RelayDirection::ToUpstream(flow),
            );
            let back = relay(
                from_upstream,
                to_client,
                behind,
                activity,
                RelayDirection::ToClient(flow),
            );
            tokio::try_join!(there, back).map(|_| ())
        }
        Stream::Tls(upstream) => {
            let (from_upstream, to_upstream) = tokio::io::split(upstream);
            let there = relay_stream(
                from_client,
                to_upstream,
                early,
                activity,
                RelayDirection::ToUpstream(flow),
            );
            let back = relay_stream(
                from_upstream,
                to_client,
                behind,
                activity,
                RelayDirection::ToClient(flow),
            );
            tokio::try_join!(there, back).map(|_| ())
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
async fn relay(
    from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    early: Bytes,
    activity: &Activity,
    way: RelayDirection<'_>,
) -> Result<(), RelayError> {
    let (source, target) = (|error| way.source(error), |error| way.target(error));
    if !early.is_empty() {
        to.write_all(&early).await.map_err(target)?;
        way.moved(early.len());
    }
    drop(early);
    loop {
        from.readable().await.map_err(source)?;
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            match from.try_read_buf(&mut buffer) {
                Ok(0) => {
                    return to.shutdown().await.map_err(target);
                }
                Ok(read) => {
                    activity.note();
                    to.write_all(&buffer).await.map_err(target)?;
                    way.moved(read);
                    activity.note();
                    buffer.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(source(error)),
            }
        }
    }
}

/// As [`relay`], for streams that are more than a socket. Each direction keeps its buffer while it is idle.
pub(crate) async fn relay_stream(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    early: Bytes,
    activity: &Activity,
    way: RelayDirection<'_>,
) -> Result<(), RelayError> {
    let (source, target) = (|error| way.source(error), |error| way.target(error));
    to.write_all(&early).await.map_err(target)?;
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
pub(crate) async fn forbidden(live: &LivePolicy, permit: &Permit, leads_to: &LeadsTo) -> Reason {
    enforce::rejudged(live, permit, leads_to, |decision| {
        match (decision.is_allow(), decision.handling()) {
            (false, _) => Some(decision.reason()),
            (true, Handling::Intercept) => Some(Reason::MitmRequired),
            (true, Handling::Carry) => None,
        }
    })
    .await
}
