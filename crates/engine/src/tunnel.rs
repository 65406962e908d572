//! Moves bytes between a client and an upstream, both ways, until either is done.
//!
//! A tunnel holds no buffer while nothing flows: it waits for a socket to become readable, takes a
//! buffer, moves the bytes and frees the buffer. It also watches the policy: when a change no
//! longer permits its destination, it ends (SPEC P11). How the bytes are moved is private to this
//! file; callers pass two sockets.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use codex_network_config::duration_text;
use codex_network_policy::{Handling, Reason};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::Shared;
use crate::activity::Activity;
use crate::enforce::{self, LeadsTo, Permit};
use crate::owner::ConnectionHandle;
use crate::upstream::{Connection, Stream};

/// Bytes moved at once. Larger pieces gain little once each of them empties the socket's buffer.
const BUFFER: usize = 32 * 1024;
/// The same for streams that are not sockets; a TLS record holds no more.
const STREAM_BUFFER: usize = 16 * 1024;

/// A permitted connection. Its upstream end is connected.
#[derive(Debug)]
pub(crate) struct Tunnel {
    permit: Permit,
    upstream: Connection,
}

/// Why a relay of bytes ended: of a tunnel, or of a connection that has changed protocols.
#[derive(Debug)]
pub(crate) enum RelayEnd {
    /// Both ends are done, or one broke.
    Closed(io::Result<()>),
    /// Nothing flowed for too long.
    Idle(Duration),
    /// The policy no longer permits it.
    Forbidden(Reason),
    /// Another client needs its place.
    GivesWay,
}

impl Tunnel {
    pub(crate) fn new(permit: Permit, upstream: Connection) -> Self {
        Self { permit, upstream }
    }

    /// Moves bytes until the end. `early` are bytes that the client sent before the tunnel was
    /// ready.
    pub(crate) async fn run(self, shared: &Shared, mut client: TcpStream, early: Bytes) {
        let Self { permit, upstream } = self;
        let leads_to = upstream.leads_to().clone();
        let (mut upstream, behind) = upstream.into_parts();
        let limit = permit.generation().settings().daemon.limits.idle_timeout;
        let connection = &permit.attempt().client.connection;
        let activity = connection.activity();
        activity.note();
        let end = {
            let moved = relay_both(&mut client, &mut upstream, early, behind, activity);
            let forbidden = forbidden(shared, &permit, &leads_to);
            RelayEnd::of(moved, connection, limit, forbidden).await
        };
        if end.must_reset() {
            let _ = (
                client.set_zero_linger(),
                upstream.socket().set_zero_linger(),
            );
        }
        end.log(
            "a tunnel",
            permit.attempt().client.address,
            permit.authority(),
        );
    }
}

impl RelayEnd {
    /// Moves bytes until the end, whatever brings it. Nothing may be silent for longer than `limit`.
    pub(crate) async fn of(
        moved: impl Future<Output = io::Result<()>>,
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

    /// Whether the connections are reset: an orderly close would tell an end that it has received everything.
    pub(crate) fn must_reset(&self) -> bool {
        matches!(self, Self::Closed(Err(_)) | Self::GivesWay)
    }

    /// Logs the end of `relay`, which is a noun with its article.
    pub(crate) fn log(self, relay: &'static str, client: SocketAddr, authority: &dyn Display) {
        match self {
            Self::Closed(Ok(())) => {}
            Self::Closed(Err(error)) => {
                tracing::debug!(%client, %authority, %error, "{relay} broke");
            }
            Self::GivesWay => {
                tracing::debug!(%client, %authority, "closed {relay} to let another client in");
            }
            Self::Idle(limit) => {
                tracing::debug!(%client, %authority, limit = duration_text(limit), "closed {relay} that was idle");
            }
            Self::Forbidden(reason) => {
                tracing::info!(%client, %authority, %reason, "closed {relay} that the policy no longer permits");
            }
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
) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    match upstream {
        Stream::Tcp(upstream) => {
            let (from_upstream, to_upstream) = upstream.split();
            let there = relay(from_client, to_upstream, early, activity);
            let back = relay(from_upstream, to_client, behind, activity);
            tokio::try_join!(there, back).map(|_| ())
        }
        Stream::Tls(upstream) => {
            let (from_upstream, to_upstream) = tokio::io::split(upstream);
            let there = relay_stream(from_client, to_upstream, early, activity);
            let back = relay_stream(from_upstream, to_client, behind, activity);
            tokio::try_join!(there, back).map(|_| ())
        }
    }
}

/// Moves one direction to its end, then closes it on the other side: half a connection may go on.
async fn relay(
    from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    early: Bytes,
    activity: &Activity,
) -> io::Result<()> {
    if !early.is_empty() {
        to.write_all(&early).await?;
    }
    drop(early);
    loop {
        from.readable().await?;
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            match from.try_read_buf(&mut buffer) {
                Ok(0) => {
                    return to.shutdown().await;
                }
                Ok(_) => {
                    activity.note();
                    to.write_all(&buffer).await?;
                    activity.note();
                    buffer.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
}

/// As [`relay`], for ends that are more than a socket: their buffers are held while nothing flows.
pub(crate) async fn relay_stream(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    early: Bytes,
    activity: &Activity,
) -> io::Result<()> {
    to.write_all(&early).await?;
    drop(early);
    let mut buffer = vec![0; STREAM_BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        activity.note();
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        activity.note();
    }
}

/// Resolves when a change of the settings no longer permits the tunnel. The tunnel is judged
/// without its contents.
pub(crate) async fn forbidden(shared: &Shared, permit: &Permit, leads_to: &LeadsTo) -> Reason {
    enforce::rejudged(&shared.live, permit, leads_to, |decision| {
        match (decision.is_allow(), decision.handling()) {
            (false, _) => Some(decision.reason()),
            (true, Handling::Intercept) => Some(Reason::MitmRequired),
            (true, Handling::Carry) => None,
        }
    })
    .await
}
