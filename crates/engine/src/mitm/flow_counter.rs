//! Counts the bytes of an intercepted client for the record of its flow (SPEC R5).

use std::io;

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::enforce::Flow;
use crate::http::ClientEnd;
use crate::observed::{Observed, Observer};
use crate::prefixed::Prefixed;

/// The client's socket. Reading returns the bytes that were already read first; all bytes are counted.
pub(super) type CountedClient = Observed<Prefixed<TcpStream>, FlowCounter>;

/// Adds the bytes that are read and written to a flow.
#[derive(Debug)]
pub(super) struct FlowCounter(Flow);

/// Puts `early`, the bytes that were already read, back before the client's stream.
pub(super) fn counted(early: Bytes, client: TcpStream, flow: Flow) -> CountedClient {
    Observed::new(Prefixed::new(early, client), FlowCounter(flow))
}

impl Observer for FlowCounter {
    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.sent(bytes.len());
        Ok(())
    }

    fn written(&mut self, bytes: &[u8]) {
        self.0.received(bytes.len());
    }
}

impl ClientEnd for CountedClient {
    fn socket(&self) -> &TcpStream {
        self.get_ref().get_ref()
    }
}
