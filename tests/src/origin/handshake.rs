//! The TLS handshake of an origin, which first reads the `ClientHello`.

use std::io;
use std::sync::Arc;

use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use rustls::{ServerConfig, ServerConnection};

use super::State;
use crate::tls::Session;
use crate::wait::Watched;
use crate::wire::SharedSocket;

/// One TLS handshake as the origin saw it.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// The index of the origin's connection, in the order of acceptance.
    pub connection: usize,
    /// The server name that the client sent.
    pub server_name: Option<String>,
    /// The application protocols that it offered, in its order.
    pub offered: Vec<String>,
    /// The negotiated session; `None` until the handshake has succeeded.
    pub session: Option<Session>,
}

/// A `ClientHello` that has arrived.
pub(super) struct ClientHello {
    accepted: Accepted,
    /// Its index among the handshakes.
    entry: usize,
}

impl ClientHello {
    /// Reads and records it.
    pub(super) fn read(
        stream: &mut SharedSocket,
        connection: usize,
        state: &Watched<State>,
    ) -> io::Result<Self> {
        let mut acceptor = Acceptor::default();
        let accepted = loop {
            match acceptor.accept() {
                Ok(Some(accepted)) => break accepted,
                Ok(None) if acceptor.read_tls(stream)? == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(None) => {}
                Err((error, alert)) => return Err(refuse(stream, error, alert)),
            }
        };
        let hello = accepted.client_hello();
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let handshake = Handshake {
            connection,
            server_name: hello.server_name().map(str::to_owned),
            offered: hello.alpn().into_iter().flatten().map(text).collect(),
            session: None,
        };
        let entry = state.update(|state| {
            state.handshakes.push(handshake);
            state.handshakes.len() - 1
        });
        Ok(Self { accepted, entry })
    }

    /// Whether the server will choose HTTP/2: the server's own order counts (RFC 7301 section 3.2).
    pub(super) fn chooses_http2(&self, config: &ServerConfig) -> bool {
        let hello = self.accepted.client_hello();
        let Some(offered) = hello.alpn() else {
            return false;
        };
        let offered: Vec<&[u8]> = offered.collect();
        let mut known = config.alpn_protocols.iter().map(Vec::as_slice);
        known.find(|name| offered.contains(name)) == Some(b"h2")
    }

    /// Continues with blocking I/O.
    pub(super) fn finish(
        self,
        stream: &mut SharedSocket,
        config: Arc<ServerConfig>,
        state: &Watched<State>,
    ) -> io::Result<ServerConnection> {
        let mut connection = self
            .accepted
            .into_connection(config)
            .map_err(|(error, alert)| refuse(stream, error, alert))?;
        while connection.is_handshaking() {
            connection.complete_io(stream)?;
        }
        finished(self.entry, &connection, state);
        Ok(connection)
    }

    /// The handshake for another driver, and the index to record its end.
    pub(super) fn into_parts(self) -> (Accepted, usize) {
        (self.accepted, self.entry)
    }
}

/// Records the end of a handshake.
pub(super) fn finished(entry: usize, connection: &ServerConnection, state: &Watched<State>) {
    let session = Session::of(connection);
    state.update(|state| state.handshakes[entry].session = Some(session));
}

fn refuse(stream: &mut SharedSocket, error: rustls::Error, mut alert: AcceptedAlert) -> io::Error {
    // The peer may be gone; the error below is what matters.
    let _: io::Result<()> = alert.write_all(stream);
    io::Error::new(io::ErrorKind::InvalidData, error)
}
