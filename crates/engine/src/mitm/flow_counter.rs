//! Counts the bytes of an intercepted client for the record of its flow (SPEC R5).

use std::io;

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::enforce::Flow;
use crate::http::ClientEnd;
use crate::observed::{Observed, Observer};
use crate::prefixed::Prefixed;

/// The client's socket, with the bytes that were already read from it, and with counted bytes.
pub(super) type CountedClient = Observed<Prefixed<TcpStream>, FlowCounter>;

/// Adds the bytes that pass to a flow.
#[derive(Debug)]
pub(super) struct FlowCounter(Flow);

/// Counts `early`, the bytes that were already read, again when they are read from the result.
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
