//! `inspect`: how large the bodies inside intercepted TLS are, in the log (SPEC M8).
//!
//! It logs sizes only: it keeps no byte of a body, and counts none beyond `max_body_bytes`.

use bytes::Bytes;
use codex_network_policy::Authority;

use super::Session;
use crate::enforce::Permit;

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// Counts one body. Logs its size when it has ended or was dropped.
#[derive(Debug)]
pub(super) struct Inspection {
    client: std::net::SocketAddr,
    authority: Authority,
    direction: Direction,
    size: Size,
}

/// Bytes counted up to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    counted: u64,
    most: u64,
    /// Whether the body was larger than the bound.
    is_more: bool,
}

impl Inspection {
    /// The inspection, if the settings switch it on.
    pub(super) fn wanted(
        session: &Session,
        permit: &Permit,
        direction: Direction,
    ) -> Option<Box<Self>> {
        let mitm = &permit.generation().settings().mitm;
        mitm.inspect.then(|| {
            Box::new(Self {
                client: session.address,
                authority: permit.authority().clone(),
                direction,
                size: Size::up_to(mitm.max_body_bytes),
            })
        })
    }

    pub(super) fn note(&mut self, data: &Bytes) {
        self.size.add(data.len() as u64);
    }
}

impl Size {
    fn up_to(most: u64) -> Self {
        Self {
            counted: 0,
            most,
            is_more: false,
        }
    }

    fn add(&mut self, bytes: u64) {
        let room = self.most - self.counted;
        self.is_more |= bytes > room;
        self.counted += bytes.min(room);
    }
}

impl Drop for Inspection {
    fn drop(&mut self) {
        tracing::info!(
            client = %self.client,
            authority = %self.authority,
            body = match self.direction {
                Direction::Request => "request",
                Direction::Response => "response",
            },
            bytes = self.size.counted,
            truncated = self.size.is_more,
            "inspected a body",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m8_no_more_is_counted_than_is_to_be_looked_at() {
        let mut size = Size::up_to(10);
        for (bytes, counted, is_more) in
            [(0, 0, false), (4, 4, false), (6, 10, false), (1, 10, true)]
        {
            size.add(bytes);
            assert_eq!(
                (size.counted, size.is_more),
                (counted, is_more),
                "after {bytes}"
            );
        }
        let mut none = Size::up_to(0);
        none.add(u64::MAX);
        assert_eq!((none.counted, none.is_more), (0, true));
    }
}
