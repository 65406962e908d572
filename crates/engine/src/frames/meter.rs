//! Counts the frames of an HTTP/2 connection against the credit of its peer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::scanner::Scanner;
use super::{Credit, Flood, HEADERS, carries_message};
use crate::activity::Activity;
use crate::observed::Observer;

/// Bytes of the preface that a client sends first (RFC 9113 section 3.4).
const PREFACE_LENGTH: usize = 24;

/// Which side of HTTP/2 this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Observes an HTTP/2 stream. Reading fails when the peer has used up its credit.
#[derive(Debug)]
pub(crate) struct FrameMeter {
    read: Scanner,
    written: Scanner,
    credit: Credit,
    /// The peer, for the log.
    peer: String,
    /// Notes the transfer of parts of messages, in either direction.
    messages: Arc<Activity>,
    /// The last stream that this side has begun.
    last_sent: Arc<AtomicU32>,
}

impl FrameMeter {
    pub(crate) fn new(side: Side, peer: String, messages: Arc<Activity>) -> Self {
        let (read, written) = match side {
            Side::Client => (0, PREFACE_LENGTH),
            Side::Server => (PREFACE_LENGTH, 0),
        };
        Self {
            read: Scanner::after(read),
            written: Scanner::after(written),
            credit: Credit::new(Instant::now()),
            peer,
            messages,
            last_sent: Arc::default(),
        }
    }

    /// The last stream whose header section has begun to leave this side.
    pub(crate) fn last_sent(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.last_sent)
    }

    fn has_read(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        let mut carried = false;
        while let Some(frame) = self.read.next(&mut bytes) {
            self.credit.read(frame, Instant::now)?;
            carried |= carries_message(frame);
        }
        if carried {
            self.messages.note();
        }
        Ok(())
    }
}

impl Observer for FrameMeter {
    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.has_read(bytes).map_err(|flood| {
            tracing::info!(peer = %self.peer, "closed an HTTP/2 connection: {flood}");
            io::Error::other(flood)
        })
    }

    fn written(&mut self, mut bytes: &[u8]) {
        let mut carried = false;
        while let Some(frame) = self.written.next(&mut bytes) {
            self.credit.written(frame);
            if frame.kind == HEADERS {
                self.last_sent.fetch_max(frame.stream, Ordering::Relaxed);
            }
            carried |= carries_message(frame);
        }
        if carried {
            self.messages.note();
        }
    }
}
