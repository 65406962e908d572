//! The parts that the connections of both protocols have.

use tokio::task::JoinHandle;

/// Most bytes of an answer that are read.
pub(super) const MAX_ANSWER: usize = 64 << 10;

/// The task that moves the bytes of a connection. It ends with the value.
#[derive(Debug)]
pub(super) struct Driver(pub(super) JoinHandle<()>);

/// Whether a connection can carry a further request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    Yes,
    No,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
