//! Why a connection could not be opened: to a host, to an upstream proxy or to a unix socket.

use std::io;

use crate::descriptors;

/// Why no address could be connected to. The fault lies with the upstream or the way to it, except
/// for [`ExhaustedDescriptors`](Self::ExhaustedDescriptors), which is ours.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing answered within the limit.
    #[error("the connection timed out")]
    Timeout,
    /// The host answered that the port is closed.
    #[error("the connection was refused")]
    Refused,
    /// There is no way to the host, or there was no address to try.
    #[error("the host is unreachable")]
    Unreachable,
    /// This process, or this machine, has no file descriptor left.
    #[error("the proxy has no file descriptors left")]
    ExhaustedDescriptors,
    /// Any other system error. The detail is for the log.
    #[error("the connection failed")]
    Other(#[source] io::Error),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{
            ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut,
        };
        match error.kind() {
            _ if descriptors::are_exhausted(&error) => Self::ExhaustedDescriptors,
            ConnectionRefused => Self::Refused,
            HostUnreachable | NetworkUnreachable | NetworkDown => Self::Unreachable,
            TimedOut => Self::Timeout,
            _ => Self::Other(error),
        }
    }
}
