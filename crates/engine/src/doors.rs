//! The doors of the proxy: how an accepted connection is served to its end.
//!
//! A door ends when its client is connected to a permitted destination. Here the connection then
//! becomes a tunnel, or its TLS is intercepted. The decision tells which (SPEC M1).

use std::net::SocketAddr;
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
use crate::upstream::Reached;
use crate::{http, mitm, policy_dns, socks5, transparent, tunnel};

/// Serves a connection to the HTTP door.
pub(crate) async fn serve_http(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    connection: ConnectionHandle,
) {
    // Boxed, so that the connection does not keep this memory while it is a tunnel.
    let served = Box::pin(http::serve(&shared, stream, address, connection));
    if let Some(connected) = served.await {
        carry(&shared, connected).await;
    }
}

/// Serves a connection to the SOCKS5 door.
pub(crate) async fn serve_socks5(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    connection: ConnectionHandle,
) {
    let served = Box::pin(socks5::serve(&shared, stream, address, connection));
    if let Some(connected) = served.await {
        carry(&shared, connected).await;
    }
}

/// Serves a connection that a jail redirected.
pub(crate) async fn serve_transparent(
    shared: Arc<Shared>,
    door: Arc<TransparentDoor>,
    stream: TcpStream,
    client: Client,
) {
    let served = Box::pin(transparent::serve(&shared, &door, stream, client));
    if let Some(connected) = served.await {
        carry(&shared, connected).await;
    }
}

/// Serves a connection to a port that leads to one destination.
pub(crate) async fn serve_forward(
    shared: Arc<Shared>,
    destination: Authority,
    stream: TcpStream,
    client: Client,
) {
    let served = Box::pin(transparent::connect(&shared, stream, client, destination));
    if let Some(connected) = served.await {
        carry(&shared, connected).await;
    }
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
    policy_dns::serve_tcp(&shared, &names, stream, client).await;
}

fn carry(shared: &Arc<Shared>, connected: ConnectedClient<Reached>) -> BoxFuture<'_, ()> {
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
            tunnel::run(shared.live(), &shared.pipes, connected)
        }
        // Only the CONNECT of an intercepted client is answered over a kept connection.
        (Handling::Carry | Handling::Intercept, upstream) => {
            let connected = ConnectedClient {
                permit,
                client,
                early,
                upstream,
            };
            Box::pin(mitm::run(shared, connected))
        }
    }
}
