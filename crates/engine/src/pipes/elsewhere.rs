//! Systems without `splice`: there is never a pipe.

use std::convert::Infallible;
use std::io;

use tokio::net::TcpStream;

use super::BrokenPipeSignal;

/// A pool that never has a pipe.
#[derive(Clone, Debug)]
pub(crate) struct PipePool(());

/// A pipe, which never exists.
#[derive(Debug)]
pub(crate) struct Pipe(Infallible);

impl PipePool {
    pub(crate) fn new(_signal: BrokenPipeSignal) -> Self {
        Self(())
    }

    #[cfg(test)]
    pub(crate) fn with_limit(_limit: usize) -> Self {
        Self(())
    }

    pub(crate) fn take(&self) -> Option<Pipe> {
        None
    }
}

impl Pipe {
    pub(crate) fn is_empty(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn fill(&mut self, _from: &TcpStream) -> io::Result<Option<usize>> {
        match self.0 {}
    }

    pub(crate) fn drain(&mut self, _to: &TcpStream) -> io::Result<usize> {
        match self.0 {}
    }
}
