//! Bytes between a client and an upstream, both ways, until either has had enough.
//!
//! A tunnel holds no buffer while nothing flows: it waits for a socket to become readable, takes a
//! buffer, moves what is there and gives the buffer back. It also watches the policy: when a
//! change no longer permits its destination, it ends (SPEC P11). How the bytes are moved is this
//! file's own affair; nothing outside sees more than two sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use codex_network_policy::{Handling, Reason};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::Shared;
use crate::activity::Activity;
use crate::enforce::{self, Permit};

/// What is moved at once. Larger pieces win little once a socket's buffer is emptied by each.
const BUFFER: usize = 32 * 1024;

/// A permitted pair of ends, the upstream one connected.
#[derive(Debug)]
pub(crate) struct Tunnel {
    permit: Permit,
    upstream: TcpStream,
    /// Where the upstream end really is; unknown only if the socket is gone already.
    peer: Option<SocketAddr>,
}

/// Why a tunnel ended.
#[derive(Debug)]
enum End {
    /// Both ends are done, or one broke.
    Closed(io::Result<()>),
    /// Nothing flowed for too long.
    Idle(Duration),
    /// The policy no longer permits it.
    Forbidden(Reason),
}

impl Tunnel {
    pub(crate) fn new(permit: Permit, upstream: TcpStream) -> Self {
        let peer = upstream.peer_addr().ok();
        Self {
            permit,
            upstream,
            peer,
        }
    }

    /// Moves bytes until the end. `early` are bytes that the client sent before the tunnel stood.
    pub(crate) async fn run(self, shared: &Shared, mut client: TcpStream, early: Bytes) {
        let Self {
            permit,
            mut upstream,
            peer,
        } = self;
        let limit = permit.generation().settings().daemon.limits.idle_timeout;
        let activity = Activity::new();
        let end = {
            let (from_client, to_client) = client.split();
            let (from_upstream, to_upstream) = upstream.split();
            let there = relay(from_client, to_upstream, early, &activity);
            let back = relay(from_upstream, to_client, Bytes::new(), &activity);
            tokio::select! {
                moved = async { tokio::try_join!(there, back) } => End::Closed(moved.map(|_| ())),
                () = activity.silence(limit) => End::Idle(limit),
                reason = forbidden(shared, &permit, peer) => End::Forbidden(reason),
            }
        };
        if let End::Closed(Err(_)) = end {
            // One end broke; an orderly close would tell the other that it has everything.
            let _ = (client.set_zero_linger(), upstream.set_zero_linger());
        }
        let (client, authority) = (permit.attempt().client.address, permit.authority());
        match end {
            End::Closed(Ok(())) => {}
            End::Closed(Err(error)) => {
                tracing::debug!(%client, %authority, %error, "a tunnel broke");
            }
            End::Idle(limit) => {
                tracing::debug!(%client, %authority, ?limit, "closed an idle tunnel");
            }
            End::Forbidden(reason) => {
                tracing::info!(%client, %authority, %reason, "closed a tunnel that the policy no longer permits");
            }
        }
    }
}

/// Moves one direction to its end, then says so to the other side: half a connection may go on.
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

/// Resolves when a change of the settings no longer permits the tunnel; as it is, unseen.
pub(crate) async fn forbidden(
    shared: &Shared,
    permit: &Permit,
    peer: Option<SocketAddr>,
) -> Reason {
    enforce::rejudged(&shared.live, permit, peer, |decision| {
        match (decision.is_allow(), decision.handling()) {
            (false, _) => Some(decision.reason()),
            (true, Handling::Intercept) => Some(Reason::MitmRequired),
            (true, Handling::Carry) => None,
        }
    })
    .await
}
