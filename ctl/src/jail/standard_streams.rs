//! The standard streams, which the command shares with the caller (SPEC J6).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType, getpeername};

use super::JailError;

/// Refuses standard streams that lead out of the jail. A socket stays in the network that it was made in, so
/// the command could send through it to any address, or connect it anew.
pub(super) fn check() -> Result<(), JailError> {
    let streams = [
        ("input", io::stdin().as_fd().try_clone_to_owned()),
        ("output", io::stdout().as_fd().try_clone_to_owned()),
        ("error", io::stderr().as_fd().try_clone_to_owned()),
    ];
    for (name, stream) in streams {
        // A closed stream leads nowhere.
        let Ok(stream) = stream else { continue };
        if leads_out(stream.as_fd()) {
            return Err(JailError {
                cause: format!("standard {name} is a socket that leads out of the jail"),
                remedy: Some("put a pipe between, such as `cat |` or `| cat`".to_owned()),
                has_begun: false,
            });
        }
        // From a directory of the machine's `/proc`, all of it could be opened.
        if File::from(stream).metadata().is_ok_and(|of| of.is_dir()) {
            return Err(JailError::without_remedy(format!(
                "standard {name} is a directory"
            )));
        }
    }
    Ok(())
}

/// Whether it is a socket that a program can send with to other addresses. A connected stream of the unix
/// family has one other end for good.
fn leads_out(stream: BorrowedFd<'_>) -> bool {
    let Ok(domain) = socket_domain(stream) else {
        return false;
    };
    let is_stream = matches!(
        socket_type(stream),
        Ok(SocketType::STREAM | SocketType::SEQPACKET)
    );
    let is_pair = domain == AddressFamily::UNIX && is_stream && getpeername(stream).is_ok();
    !is_pair
}
