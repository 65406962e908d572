//! The doors of the proxy: how an accepted connection is served to its end.
//!
//! A door ends when its client is connected to a permitted destination. Here the connection then
//! becomes a tunnel, or its TLS is intercepted. The decision tells which (SPEC M1).

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use codex_network_policy::Handling;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use crate::connected::ConnectedClient;
use crate::http::Shared;
use crate::owner::ConnectionHandle;
use crate::tunnel::TunnelParts;
use crate::upstream::Reached;
use crate::{http, mitm, socks5, tunnel};

/// The course of a connection after its door.
type Carried = BoxFuture<'static, ()>;

/// Serves a connection to the HTTP door.
pub(crate) fn serve_http(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    connection: ConnectionHandle,
) -> impl Future<Output = ()> + Send {
    in_stages(Box::pin(async move {
        let connected = {
            let served = pin!(http::serve(&shared, stream, address, connection.clone()));
            connection.until_it_gives_way(served).await
        };
        let connected = connected??;
        Some(carry(shared, connected, connection))
    }))
}

/// Serves a connection to the SOCKS5 door.
pub(crate) fn serve_socks5(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    connection: ConnectionHandle,
) -> impl Future<Output = ()> + Send {
    in_stages(Box::pin(async move {
        let connected = {
            let served = pin!(socks5::serve(&shared, stream, address, connection.clone()));
            connection.until_it_gives_way(served).await
        };
        let connected = connected??;
        Some(carry(shared, connected, connection))
    }))
}

/// Each stage is a box of its own, so that the connection does not keep the memory of its door while it is a
/// tunnel.
async fn in_stages(door: BoxFuture<'static, Option<Carried>>) {
    if let Some(carried) = door.await {
        carried.await;
    }
}

/// The parts that a tunnel uses.
pub(crate) fn tunnel_parts(shared: &Shared) -> TunnelParts<'_> {
    TunnelParts {
        live: shared.live(),
        pipes: &shared.pipes,
    }
}

fn carry(
    shared: Arc<Shared>,
    connected: ConnectedClient<Reached>,
    connection: ConnectionHandle,
) -> Carried {
    let ConnectedClient {
        permit,
        client,
        early,
        upstream,
    } = connected;
    match (permit.handling(), upstream) {
        (Handling::Carry, Reached::Connection(upstream)) => {
            let connected = ConnectedClient {
                permit,
                client,
                early,
                upstream,
            };
            tunnel::run(shared, tunnel_parts, connected)
        }
        // Only the CONNECT of an intercepted client is answered over a kept connection.
        (Handling::Carry | Handling::Intercept, upstream) => {
            let connected = ConnectedClient {
                permit,
                client,
                early,
                upstream,
            };
            Box::pin(async move {
                let intercepted = pin!(mitm::run(&shared, connected));
                connection.until_it_gives_way(intercepted).await;
            })
        }
    }
}
