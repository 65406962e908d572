//! Policy DNS over UDP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::{LookedUpNames, answer};
use crate::client::Client;
use crate::dns_query::MAX_QUERY;
use crate::http::Shared;
use crate::respond::DnsTransport;

/// Most messages that are answered before other tasks of the thread get their turn.
const MAX_BATCH: usize = 32;
/// How long the socket rests after an error.
const BACK_OFF: Duration = Duration::from_millis(20);

/// Answers the messages that arrive at a socket. It never ends. `client` says whose they are.
pub(crate) async fn serve_udp(
    shared: &Shared,
    names: &LookedUpNames,
    socket: &UdpSocket,
    client: impl Fn(SocketAddr) -> Client + Send,
) {
    loop {
        let served = match socket.readable().await {
            Ok(()) => serve_waiting(shared, names, socket, &client),
            Err(error) => Err(error),
        };
        match served {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => {
                tracing::debug!(door = super::DOOR, %error, "cannot receive");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Answers the messages that are waiting, up to [`MAX_BATCH`].
#[expect(
    clippy::disallowed_methods,
    reason = "this answers the client; upstream::datagram sends datagrams to upstreams"
)]
fn serve_waiting(
    shared: &Shared,
    names: &LookedUpNames,
    socket: &UdpSocket,
    client: &impl Fn(SocketAddr) -> Client,
) -> io::Result<()> {
    // On the stack, so that a session at rest holds no buffer. One byte more than the longest message shows
    // that a message is longer.
    let mut buffer = [0; MAX_QUERY + 1];
    for _ in 0..MAX_BATCH {
        let (length, from) = match socket.try_recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let client = client(from);
        let answer = answer(shared, names, &client, &buffer[..length], DnsTransport::Udp);
        if let Some(answer) = answer {
            // A client that does not read its answers loses them.
            let _ = socket.try_send_to(&answer, from);
        }
    }
    Ok(())
}
