//! Files and directories that others may have a hand in.
//!
//! [`Trust`] says who may change a place, which is the file and every directory on the way to it.
//! [`Reading`] is the one reader of files: it stops at a limit. [`Node`] changes modes and groups of what
//! was looked at, never of what has its name by then. [`FileLock`] is a lock that other users cannot
//! take.
//!
//! This crate knows nothing of the proxy: what a refusal means is its callers' business.

mod lock;
mod node;
mod read;
mod trust;

pub use lock::{FileLock, LockError};
pub use node::{Node, make_directory};
pub use read::{OpenedFile, ReadError, Reading, Sources};
pub use trust::{Fault, Inspected, Trust, Untrusted, Writer, as_typed};
