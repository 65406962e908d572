//! The doors of the proxy: how an accepted connection is served to its end.
//!
//! A door ends when its client is connected to a permitted destination. Here the connection then
//! becomes a tunnel, or its TLS is intercepted. The decision tells which (SPEC M1).

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use codex_network_policy::{Authority, Handling};
use futures_util::future::BoxFuture;
use tokio::net::{TcpStream, UdpSocket};

use crate::client::Client;
use crate::connected::ConnectedClient;
use crate::http::Shared;
use crate::owner::ConnectionHandle;
use crate::policy_dns::LookedUpNames;
use crate::transparent::TransparentDoor;
use crate::tunnel::TunnelParts;
use crate::upstream::Reached;
use crate::{http, mitm, policy_dns, socks5, transparent, tunnel};

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

/// Serves a connection that a jail redirected.
pub(crate) fn serve_transparent(
    shared: Arc<Shared>,
    door: Arc<TransparentDoor>,
    stream: TcpStream,
    client: Client,
) -> impl Future<Output = ()> + Send {
    in_stages(Box::pin(async move {
        let connection = client.connection.clone();
        let connected = {
            let served = pin!(transparent::serve(&shared, &door, stream, client));
            connection.until_it_gives_way(served).await
        };
        let connected = connected??;
        Some(carry(shared, connected, connection))
    }))
}

/// Serves a connection to a port that leads to one destination.
pub(crate) fn serve_forward(
    shared: Arc<Shared>,
    destination: Authority,
    stream: TcpStream,
    client: Client,
) -> impl Future<Output = ()> + Send {
    in_stages(Box::pin(async move {
        let connection = client.connection.clone();
        let connected = {
            let served = pin!(transparent::connect(&shared, stream, client, destination));
            connection.until_it_gives_way(served).await
        };
        let connected = connected??;
        Some(carry(shared, connected, connection))
    }))
}

/// Answers the datagrams of policy DNS. It never ends. `client` says whose they are.
pub(crate) async fn serve_dns_udp(
    shared: Arc<Shared>,
    names: Arc<LookedUpNames>,
    socket: UdpSocket,
    client: impl Fn(SocketAddr) -> Client + Send,
) {
    policy_dns::serve_udp(&shared, &names, &socket, client).await;
}

/// Serves a connection to policy DNS.
pub(crate) async fn serve_dns_tcp(
    shared: Arc<Shared>,
    names: Arc<LookedUpNames>,
    stream: TcpStream,
    client: Client,
) {
    let connection = client.connection.clone();
    let served = pin!(policy_dns::serve_tcp(&shared, &names, stream, client));
    connection.until_it_gives_way(served).await;
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
