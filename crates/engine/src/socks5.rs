//! The SOCKS5 door (SPEC section 5). The proxy resolves names, and the same enforcement point
//! decides as for HTTP. A connection becomes a tunnel, or the control connection of a UDP association
//! (`udp`). BIND is refused. A client of HTTP is served as at the HTTP door.

pub(crate) mod address;
pub(crate) mod handshake;
mod udp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use codex_network_policy::{Authority, RequestKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use self::handshake::{AuthMethod, Command, HandshakeError, ParsedMessage};
use crate::arrived;
use crate::attempt::Attempt;
use crate::client::{AttemptId, Client};
use crate::connected::ConnectedClient;
use crate::early_leaf;
use crate::enforce::Permit;
use crate::http::{self, Shared};
use crate::linger::linger;
use crate::new_clients;
use crate::owner::ConnectionHandle;
use crate::respond::{self, Reply};
use crate::upstream::{Connection, Reached};

/// The listener's name in records and messages.
pub(crate) const DOOR: &str = "socks5";

/// Size of the buffer for the client's messages, which are all shorter.
const BUFFER: usize = 512;

/// The bound address in a refusal.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Why a connection ends before its request is complete.
#[derive(Debug, thiserror::Error)]
enum NegotiationError {
    #[error("{0}")]
    Malformed(#[from] HandshakeError),
    #[error("the client accepts neither no authentication nor a user name")]
    NoMethod,
    #[error("the proxy stops, and the client has sent nothing")]
    Drained,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves one accepted connection to its end, or to the answer to a CONNECT request.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    mut stream: TcpStream,
    address: SocketAddr,
    connection: ConnectionHandle,
) -> Option<ConnectedClient<Reached>> {
    let limit = shared
        .live()
        .current()
        .settings()
        .daemon
        .limits
        .header_timeout;
    let mut buffer = BytesMut::zeroed(BUFFER);
    let greeting = arrived::read(&stream, &mut buffer);
    buffer.truncate(greeting.unwrap_or(0));
    let until = Instant::now() + limit;
    let negotiation = async {
        if buffer.is_empty() {
            first_bytes(shared, &mut stream, &mut buffer).await?;
        }
        negotiate(&mut stream, &mut buffer).await
    };
    let outcome = timeout_at(until, negotiation).await;
    let (request, attempt) = match outcome {
        Ok(Ok(negotiated)) => negotiated,
        // Some programs take the variable of every scheme for an HTTP proxy.
        Ok(Err(NegotiationError::Malformed(HandshakeError::Http))) => {
            let begun = buffer.freeze();
            let client = http::BegunClient {
                stream,
                begun,
                address,
                connection,
            };
            return Box::pin(http::serve_begun(shared, client, until)).await;
        }
        Ok(Err(NegotiationError::Drained)) => return None,
        Ok(Err(error)) => {
            if let NegotiationError::Malformed(error) = &error {
                answer_malformed(&mut stream, *error).await;
            }
            if matches!(error, NegotiationError::Io(_)) {
                tracing::debug!(client = %address, door = DOOR, "a client went away: {error}");
            } else if shared.recorder().may_log(&connection, "malformed requests") {
                tracing::info!(client = %address, door = DOOR, "refused a malformed request: {error}");
            }
            linger(stream).await;
            return None;
        }
        Err(_) => {
            if shared.recorder().may_log(&connection, "slow requests") {
                tracing::info!(client = %address, door = DOOR, "gave up on a request that did not arrive in time");
            }
            return None;
        }
    };
    let busy = connection.busy();
    let client = Client {
        address,
        attempt,
        connection,
    };
    if request.command == Command::UdpAssociate {
        drop(busy);
        Box::pin(udp::associate(shared, stream, client, request)).await;
        return None;
    }
    match open(shared, client, request).await {
        Ok((permit, upstream)) => {
            let bound = upstream.local_addr().unwrap_or(NOWHERE);
            let answer = handshake::reply(Reply::Succeeded, bound);
            stream.write_all(&answer).await.ok()?;
            new_clients::note();
            Some(ConnectedClient {
                permit,
                client: stream,
                early: buffer.freeze(),
                upstream: Reached::Connection(upstream),
            })
        }
        Err(reply) => {
            let _ = answer(&mut stream, reply).await;
            linger(stream).await;
            None
        }
    }
}

/// Reads the first bytes of a client. A client that has sent nothing does not hold a drain up, as at the HTTP door.
async fn first_bytes(
    shared: &Shared,
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Result<(), NegotiationError> {
    let drained = async {
        shared.drain.begun().await;
        // A client that has just connected may have sent its greeting.
        sleep(http::LAST_REQUEST_TIMEOUT).await;
    };
    tokio::select! {
        biased;
        read = stream.read_buf(buffer) => match read? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        },
        () = drained => Err(NegotiationError::Drained),
    }
}

/// Reads the greeting, the user name if there is one, and the request.
async fn negotiate(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Result<(handshake::SocksRequest, Option<AttemptId>), NegotiationError> {
    let method = read(stream, buffer, handshake::greeting).await?;
    stream
        .write_all(&[handshake::VERSION, method as u8])
        .await?;
    new_clients::note();
    let attempt = match method {
        AuthMethod::NoAuthentication => None,
        AuthMethod::NoneAcceptable => return Err(NegotiationError::NoMethod),
        AuthMethod::UserName => {
            let name = read(stream, buffer, handshake::user_name).await?;
            stream.write_all(&[handshake::AUTH_VERSION, 0]).await?;
            new_clients::note();
            AttemptId::from_user_name(&name)
        }
    };
    let request = read(stream, buffer, handshake::request).await?;
    Ok((request, attempt))
}

/// Reads one message. Later bytes stay in the buffer.
async fn read<T>(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    parse: fn(&[u8]) -> Result<ParsedMessage<T>, HandshakeError>,
) -> Result<T, NegotiationError> {
    loop {
        if let ParsedMessage::Complete(message, length) = parse(buffer)? {
            buffer.advance(length);
            return Ok(message);
        }
        // The buffer is longer than any message, so it does not grow.
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Judges the request and dials.
async fn open(
    shared: &Arc<Shared>,
    client: Client,
    request: handshake::SocksRequest,
) -> Result<(Permit, Connection), Reply> {
    if request.command != Command::Connect {
        if shared
            .recorder()
            .may_log(&client.connection, "refused commands")
        {
            tracing::info!(client = %client.address, door = DOOR, command = ?request.command, "refused a command");
        }
        return Err(Reply::CommandNotSupported);
    }
    let generation = shared.live().current();
    let attempt = Attempt {
        client,
        kind: RequestKind::Socks5Tcp,
    };
    let port = request.port;
    let host = request.host.map_err(|invalid| {
        let enforcer = &shared.enforcer;
        let _refusal = enforcer.refuse_invalid_host(&generation, &attempt, &invalid.text, port);
        Reply::NotAllowed
    })?;
    if port == 0 {
        return Err(Reply::GeneralFailure);
    }
    let authority = Authority { host, port };
    let permit = shared
        .enforcer
        .authorize(generation, attempt, authority)
        .await
        .map_err(|_refusal| Reply::NotAllowed)?;
    let reached = match early_leaf::secured(shared, &permit).await {
        Ok(()) => shared.upstream.open(&permit).await,
        Err(failure) => Err(failure),
    };
    match reached {
        Ok(upstream) => Ok((permit, upstream)),
        Err(failure) => {
            permit.flow().end(failure.ending());
            Err(respond::socks_failure(&failure))
        }
    }
}

/// Answers a malformed message in the protocol that the client speaks. TLS gets no answer: an alert
/// would suggest that this port speaks TLS.
async fn answer_malformed(stream: &mut TcpStream, error: HandshakeError) {
    let message = match error {
        HandshakeError::Socks4 => handshake::SOCKS4_REJECTED.to_vec(),
        error => match error.reply() {
            Some(reply) => handshake::reply(reply, NOWHERE),
            None => return,
        },
    };
    let _ = stream.write_all(&message).await;
}

async fn answer(stream: &mut TcpStream, reply: Reply) -> io::Result<()> {
    stream.write_all(&handshake::reply(reply, NOWHERE)).await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// The thread of the door yields to the client, which sends its request next.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "to a listener of this test")]
    async fn the_answer_to_a_greeting_counts_as_a_new_client() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let mut client = TcpStream::connect(address).await.expect("a connection");
        let (mut stream, _) = listener.accept().await.expect("a client");
        client.write_all(&[5, 1, 0]).await.expect("a connection");
        let request = [5, 1, 0, 1, 127, 0, 0, 1, 0, 80];
        client.write_all(&request).await.expect("a connection");
        assert!(!new_clients::take());
        let mut buffer = BytesMut::with_capacity(BUFFER);
        let negotiated = negotiate(&mut stream, &mut buffer).await;
        assert_eq!(negotiated.expect("a request").0.port, 80);
        assert!(new_clients::take());
    }
}
