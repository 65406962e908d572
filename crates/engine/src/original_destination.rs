//! The destination of a connection before a jail's redirect rule changed it (SPEC T2).

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

#[cfg(not(target_os = "linux"))]
use elsewhere as platform;
#[cfg(target_os = "linux")]
use linux as platform;
use tokio::net::TcpStream;

/// Finds the original destination of an accepted connection.
pub(crate) type FindDestination = Arc<dyn Fn(&TcpStream) -> io::Result<SocketAddr> + Send + Sync>;

/// Asks the kernel.
pub(crate) fn from_kernel() -> FindDestination {
    Arc::new(platform::of)
}
