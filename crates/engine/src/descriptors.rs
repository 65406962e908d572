//! Recognises that no file descriptor is left. This is the proxy's fault or the machine's, never a
//! client's or an upstream's.

use std::io;

use nix::libc;

/// Whether the error says that this process (`EMFILE`) or this machine (`ENFILE`) has no file
/// descriptor left.
pub(crate) fn are_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
