//! The client's side of TLS over a connection or a tunnel.

use std::io::{self, Read, Write};

use rustls::StreamOwned;

use super::Connection;
use crate::tls::{Client, Session, Writes};
use crate::wire::{Stream, Wire};

impl Connection {
    /// Starts TLS like `client` with `name`, and completes the handshake.
    pub fn secure(self, client: &Client, name: &str) -> (Self, Session) {
        self.try_secure(client, name).expect("a TLS handshake")
    }

    /// Starts TLS with a server; either side may refuse.
    ///
    /// # Errors
    /// The handshake failed; the text is rustls'.
    pub fn try_secure(self, client: &Client, name: &str) -> io::Result<(Self, Session)> {
        let (stream, ahead) = self.wire.into_parts();
        assert!(ahead.is_empty(), "the server spoke before the client hello");
        let mut stream: Box<dyn Stream> = match client.writes() {
            Writes::Whole => stream,
            Writes::Trickling => Box::new(Trickle(stream)),
        };
        let mut session = client.connection(name);
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        let negotiated = Session::of(&session);
        let secured = Self {
            wire: Wire::new(Box::new(StreamOwned::new(session, stream))),
            socket: self.socket,
        };
        Ok((secured, negotiated))
    }

    /// Sends bytes one by one, each in a packet of its own if the kernel permits it. Stops without
    /// an error if the peer closes meanwhile.
    pub fn trickle(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.try_send([*byte]).is_err() {
                return;
            }
        }
    }
}

/// Writes one byte at a time, whatever the buffer.
struct Trickle(Box<dyn Stream>);

impl Read for Trickle {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Trickle {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.write(&from[..from.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Stream for Trickle {
    fn finish(&mut self) -> io::Result<()> {
        self.0.finish()
    }
}
