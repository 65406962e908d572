//! Connections whose client names no destination: those that a jail redirects (SPEC T2), and those to a
//! port that is forwarded to one destination (J10).
//!
//! From the destination on, they take the path of a SOCKS5 CONNECT. Their client believes that it is
//! connected already, so a refusal is told in the protocol that its first bytes show (`refusal`).

mod refusal;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use codex_network_policy::{Authority, RequestKind};
use refusal::{fail, refuse};
use tokio::net::TcpStream;

use crate::attempt::Attempt;
use crate::client::Client;
use crate::connected::ConnectedClient;
use crate::early_leaf;
use crate::http::Shared;
use crate::original_destination::FindDestination;
use crate::policy_dns::LookedUpNames;
use crate::upstream::Reached;

/// The listener's name in messages.
pub(crate) const DOOR: &str = "transparent";

/// The listener of one session for redirected connections.
pub(crate) struct TransparentDoor {
    /// The names that the session's addresses stand for.
    pub(crate) names: Arc<LookedUpNames>,
    pub(crate) find_destination: FindDestination,
}

/// Connects a redirected connection to its destination.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    door: &TransparentDoor,
    stream: TcpStream,
    client: Client,
) -> Option<ConnectedClient<Reached>> {
    let destination = match (door.find_destination)(&stream) {
        Ok(destination) => destination,
        Err(error) => {
            let recorder = shared.recorder();
            if recorder.may_log(&client.connection, "connections without a destination") {
                tracing::warn!(client = %client.address, door = DOOR, %error, "refused a connection whose destination the kernel does not know");
            }
            let _ = stream.set_zero_linger();
            return None;
        }
    };
    // Without a redirect, the destination is the listener itself.
    if stream.local_addr().is_ok_and(|own| same(own, destination)) {
        let attempt = attempt(client);
        let generation = shared.live().current();
        let enforcer = &shared.enforcer;
        let refusal = enforcer.refuse_direct(&generation, &attempt, destination);
        refuse(stream, &refusal).await;
        return None;
    }
    let authority = Authority {
        host: door.names.synthetic.host_at(destination.ip()),
        port: destination.port(),
    };
    connect(shared, stream, client, authority).await
}

/// Connects a client to this destination, if the policy permits it.
pub(crate) async fn connect(
    shared: &Arc<Shared>,
    stream: TcpStream,
    client: Client,
    authority: Authority,
) -> Option<ConnectedClient<Reached>> {
    let _busy = client.connection.busy();
    let generation = shared.live().current();
    let authorized = shared
        .enforcer
        .authorize(generation, attempt(client), authority);
    let permit = match authorized.await {
        Ok(permit) => permit,
        Err(refusal) => {
            refuse(stream, &refusal).await;
            return None;
        }
    };
    let reached = match early_leaf::secured(shared, &permit).await {
        Ok(()) => shared.upstream.open(&permit).await,
        Err(failure) => Err(failure),
    };
    match reached {
        Ok(upstream) => Some(ConnectedClient {
            permit,
            client: stream,
            early: Bytes::new(),
            upstream: Reached::Connection(upstream),
        }),
        Err(failure) => {
            permit.flow().end(failure.ending());
            fail(stream, &failure, permit.authority()).await;
            None
        }
    }
}

fn attempt(client: Client) -> Attempt {
    Attempt {
        client,
        kind: RequestKind::Transparent,
    }
}

fn same(own: SocketAddr, destination: SocketAddr) -> bool {
    own.port() == destination.port() && own.ip().to_canonical() == destination.ip().to_canonical()
}

#[cfg(test)]
mod tests;
