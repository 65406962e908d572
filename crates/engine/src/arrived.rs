//! Reads the bytes that have already arrived on a socket.

use std::io::{self, Read as _};
use std::mem::MaybeUninit;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Reads from a socket before the runtime knows that the socket is readable. The first bytes of a client have
/// usually arrived when its connection is accepted. To read them at once takes neither a turn of the runtime
/// nor a timer.
///
/// # Errors
///
/// The system's error; `WouldBlock` if nothing has arrived.
pub(crate) fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    (&*SockRef::from(stream)).read(buffer)
}

/// Whether bytes have arrived that were not read yet.
pub(crate) fn has_bytes(stream: &TcpStream) -> bool {
    SockRef::from(stream)
        .peek(&mut [MaybeUninit::uninit()])
        .is_ok_and(|length| length > 0)
}
