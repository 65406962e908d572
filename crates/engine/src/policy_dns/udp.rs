//! Policy DNS over UDP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::libc;
use rustix::net::{RecvFlags, recvfrom};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::turns::REST_INTERVAL;
use super::{LookedUpNames, answer};
use crate::client::Client;
use crate::dns_query::MAX_QUERY;
use crate::http::Shared;
use crate::respond::DnsTransport;

/// Most messages that are answered before other tasks of the thread get their turn.
const MAX_BATCH: usize = 32;
/// How long the socket rests after an error.
const BACK_OFF: Duration = Duration::from_millis(20);

/// Answers the messages that arrive at a socket. It ends when the opener of the session shuts the socket: the kernel
/// reports such a socket as readable for ever. `client` says whose the messages are.
pub(crate) async fn serve_udp(
    shared: &Shared,
    names: &LookedUpNames,
    socket: &UdpSocket,
    client: &(impl Fn(SocketAddr) -> Client + Sync),
) {
    loop {
        let served = match socket.ready(Interest::READABLE).await {
            Ok(ready) if ready.is_read_closed() => return,
            Ok(_) => serve_waiting(shared, names, socket, client),
            Err(error) => Err(error),
        };
        match served {
            Ok(Waiting::Served) => tokio::task::yield_now().await,
            Ok(Waiting::Left) => rest(REST_INTERVAL).await,
            Err(error) => {
                tracing::debug!(door = super::DOOR, %error, "cannot receive");
                rest(BACK_OFF).await;
            }
        }
    }
}

/// Boxed: a door at rest would keep the room for it.
async fn rest(time: Duration) {
    Box::pin(tokio::time::sleep(time)).await;
}

/// Receives without waiting, also if the opener of the session has made the socket blocking.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    let (length, _, from) = recvfrom(socket, buffer, RecvFlags::DONTWAIT)?;
    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
    Ok((length, from.ok_or(io::ErrorKind::AddrNotAvailable)?))
}

/// The messages that were waiting.
enum Waiting {
    /// They were answered, up to [`MAX_BATCH`].
    Served,
    /// Some are left: the session has had its turns. The kernel drops those that have no room there.
    Left,
}

/// Answers the messages that are waiting, up to [`MAX_BATCH`].
fn serve_waiting(
    shared: &Shared,
    names: &LookedUpNames,
    socket: &UdpSocket,
    client: &impl Fn(SocketAddr) -> Client,
) -> io::Result<Waiting> {
    // On the stack, so that a session at rest holds no buffer. One byte more than the longest message shows
    // that a message is longer.
    let mut buffer = [0; MAX_QUERY + 1];
    for _ in 0..MAX_BATCH {
        let received = socket.try_io(Interest::READABLE, || receive(socket, &mut buffer));
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Waiting::Served),
            Err(error) => return Err(error),
        };
        let client = client(from);
        let answer = answer(shared, names, &client, &buffer[..length], DnsTransport::Udp);
        if let Some(answer) = answer {
            // A client that does not read its answers loses them.
            let _ = socket.try_io(Interest::WRITABLE, || {
                SockRef::from(socket).send_to_with_flags(&answer, &from.into(), libc::MSG_DONTWAIT)
            });
        }
        if !names.may_answer(shared, &client.connection) {
            return Ok(Waiting::Left);
        }
    }
    Ok(Waiting::Served)
}
