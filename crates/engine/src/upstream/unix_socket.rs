//! Connects to the file of a permitted unix socket. This is the only place in the engine that
//! connects to a unix socket (`ARCHITECTURE.md`, "Invariants"). `socket_file` has found the file.

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::connect_error::ConnectError;
use crate::enforce::unix_socket::SocketPermit;
use crate::socket_file::{SocketError, SocketFile};

/// Connects to the permitted socket.
pub(super) async fn connect(
    permit: &SocketPermit,
    limit: Duration,
) -> Result<UnixStream, SocketError> {
    timeout(limit, dial(permit.socket()))
        .await
        .unwrap_or(Err(SocketError::Connect(ConnectError::Timeout)))
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that connects to unix sockets; only what was found and permitted gets here"
)]
async fn dial(socket: &SocketFile) -> Result<UnixStream, SocketError> {
    let stream = UnixStream::connect(socket.address()).await?;
    socket.check_unchanged()?;
    Ok(stream)
}

#[cfg(test)]
mod tests;
