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
use crate::measurements::{DoorKind, OpenConnection};
use crate::owner::ConnectionHandle;
use crate::policy_dns::LookedUpNames;
use crate::transparent::TransparentDoor;
use crate::tunnel::TunnelParts;
use crate::upstream::Reached;
use crate::{http, mitm, policy_dns, socks5, transparent, tunnel};

/// The course of a connection after its door.
type Carried = BoxFuture<'static, ()>;

/// The course of a connection at its door. `None`: it has ended there.
type Stage = BoxFuture<'static, Option<Carried>>;

/// The service behind a door.
pub(crate) enum Service {
    Http,
    Socks5,
    /// Connections that a jail redirected.
    Transparent(Arc<TransparentDoor>),
    /// Every connection leads to this destination.
    Forward(Authority),
    /// Policy DNS over TCP.
    Dns(Arc<LookedUpNames>),
}

/// The stage of a door whose clients become connected. The box holds the future of the door alone, and not a
/// copy of it as an argument.
macro_rules! until_connected {
    ($shared:ident, $connection:ident, $served:expr) => {
        Box::pin(async move {
            let connected = {
                let served = pin!($served);
                $connection.until_it_gives_way(served).await
            };
            let connected = connected??;
            Some(carry($shared, connected, $connection))
        })
    };
}

/// Serves a connection to the HTTP door.
pub(crate) fn serve_http(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    connection: ConnectionHandle,
) -> impl Future<Output = ()> + Send {
    let open = opened(&shared, DoorKind::Http);
    in_stages(http_stage(shared, stream, address, connection), open)
}

/// Serves a connection to the SOCKS5 door.
pub(crate) fn serve_socks5(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    connection: ConnectionHandle,
) -> impl Future<Output = ()> + Send {
    let open = opened(&shared, DoorKind::Socks5);
    in_stages(socks5_stage(shared, stream, address, connection), open)
}

/// Serves a connection to a door of a session with this service.
pub(crate) fn serve(
    shared: Arc<Shared>,
    service: &Service,
    stream: TcpStream,
    address: SocketAddr,
    connection: ConnectionHandle,
) -> impl Future<Output = ()> + Send + use<> {
    let client = |connection| Client {
        address,
        attempt: None,
        connection,
    };
    let open = opened(&shared, DoorKind::Session);
    let stage: Stage = match service {
        Service::Http => http_stage(shared, stream, address, connection),
        Service::Socks5 => socks5_stage(shared, stream, address, connection),
        Service::Transparent(door) => {
            let (client, door) = (client(connection.clone()), Arc::clone(door));
            until_connected!(
                shared,
                connection,
                transparent::serve(&shared, &door, stream, client)
            )
        }
        Service::Forward(destination) => {
            let (client, destination) = (client(connection.clone()), destination.clone());
            until_connected!(
                shared,
                connection,
                transparent::connect(&shared, stream, client, destination)
            )
        }
        Service::Dns(names) => {
            let (client, names) = (client(connection.clone()), Arc::clone(names));
            Box::pin(async move {
                let served = pin!(policy_dns::serve_tcp(&shared, &names, stream, client));
                connection.until_it_gives_way(served).await;
                None
            })
        }
    };
    in_stages(stage, open)
}

/// Counts a connection to the door until it ends.
fn opened(shared: &Shared, door: DoorKind) -> OpenConnection {
    shared.recorder().meters.opened(door)
}

fn http_stage(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    connection: ConnectionHandle,
) -> Stage {
    until_connected!(
        shared,
        connection,
        http::serve(&shared, stream, address, connection.clone())
    )
}

fn socks5_stage(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    connection: ConnectionHandle,
) -> Stage {
    until_connected!(
        shared,
        connection,
        socks5::serve(&shared, stream, address, connection.clone())
    )
}

/// Each stage is a box of its own, so that the connection does not keep the memory of its door while it is a
/// tunnel.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` would hold its arguments twice for the life of the connection"
)]
fn in_stages(door: Stage, open: OpenConnection) -> impl Future<Output = ()> + Send {
    async move {
        if let Some(carried) = door.await {
            carried.await;
        }
        drop(open);
    }
}

/// Answers the datagrams of policy DNS until the socket is shut. `client` says whose they are.
pub(crate) async fn serve_dns_udp(
    shared: &Shared,
    names: &LookedUpNames,
    socket: &UdpSocket,
    client: &(impl Fn(SocketAddr) -> Client + Sync),
) {
    policy_dns::serve_udp(shared, names, socket, client).await;
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
