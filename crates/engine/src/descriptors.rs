//! How many file descriptors this process may have, and whether none is left. That is the proxy's fault or the
//! machine's, never a client's or an upstream's.

use std::io;

use nix::libc;
use rustix::process::{Resource, getrlimit};

/// How many descriptors this process may have open.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether the error says that this process (`EMFILE`) or this machine (`ENFILE`) has no file
/// descriptor left.
pub(crate) fn are_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
