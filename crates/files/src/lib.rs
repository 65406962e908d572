//! Files and directories that other users may influence.
//!
//! [`Trust`] says who may change a place: the file and every directory on the way to it.
//! [`Reading`] is the one reader of files: it stops at a limit. [`Node`] changes the mode and group
//! of the file that was inspected, even if its name leads to another file by then. [`FileLock`] is
//! a lock that other users cannot take.
//!
//! This crate knows nothing of the proxy: its callers decide what a refusal means.

mod lock;
mod node;
mod read;
mod trust;

pub use lock::{FileLock, LockError};
pub use node::{Node, make_directory};
pub use read::{OpenedFile, ReadError, Reading, Sources};
pub use trust::{Fault, Inspected, Trust, Untrusted, Writer, as_typed};
