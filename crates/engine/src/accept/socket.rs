//! The listening socket of an accept loop.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd as _;
use std::task::{Context, Poll};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::closing::{DescriptorCloser, GivenDescriptor};

/// A listening socket: one of the proxy's own, or one that the opener of a session gave.
#[derive(Debug)]
pub(crate) struct AcceptSocket {
    /// Set until it is dropped.
    listener: Option<TcpListener>,
    /// Closes a given socket for the user who gave it. Such a user may keep copies of it, and may have
    /// turned it into a connection that lingers.
    giver: Option<(u32, DescriptorCloser)>,
}

impl AcceptSocket {
    /// A listener of the proxy. Call it inside the runtime of its loop.
    pub(crate) fn own(listener: std::net::TcpListener) -> io::Result<Self> {
        Ok(Self {
            listener: Some(TcpListener::from_std(listener)?),
            giver: None,
        })
    }

    /// A listener that a user gave. Call it inside the runtime of its loop.
    pub(crate) fn given(listener: GivenDescriptor) -> io::Result<Self> {
        let giver = listener.giver();
        let listener = listener.into_owner(|listener| TcpListener::from_std(listener.into()))?;
        Ok(Self {
            listener: Some(listener),
            giver: Some(giver),
        })
    }

    pub(crate) fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        match &self.listener {
            Some(listener) => listener.poll_accept(cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Whether an attempt to accept would wait: a holder of a copy has switched the mode.
    pub(super) fn is_blocking(&self) -> bool {
        let Some(listener) = &self.listener else {
            return false;
        };
        let flags = fcntl(listener.as_fd(), FcntlArg::F_GETFL);
        flags.is_ok_and(|flags| !OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK))
    }

    /// Refuses connections from now on, also those to copies of the socket.
    pub(crate) fn shut(&self) {
        if let Some(listener) = &self.listener {
            let _ = SockRef::from(listener).shutdown(Shutdown::Both);
        }
    }
}

impl Drop for AcceptSocket {
    fn drop(&mut self) {
        if let (Some(listener), Some((user, closer))) = (self.listener.take(), &self.giver)
            && let Ok(listener) = listener.into_std()
        {
            closer.close(*user, listener.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn j13_the_holder_of_a_copy_can_make_a_listener_blocking_and_that_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        listener.set_nonblocking(true).expect("our own socket");
        let copy = listener.try_clone().expect("a copy");
        let socket = AcceptSocket::own(listener).expect("a runtime");
        assert!(!socket.is_blocking());
        copy.set_nonblocking(false).expect("our own socket");
        assert!(socket.is_blocking());
        copy.set_nonblocking(true).expect("our own socket");
        assert!(!socket.is_blocking());
    }
}
