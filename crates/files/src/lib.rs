//! Files and directories that other users may influence.
//!
//! [`Trust`] checks who may change a file: it looks at the file and at every directory above it.
//! [`Reading`] is the only reader of files; it stops at a limit. [`Node`] changes the mode and group
//! of the file that was inspected, even if its name leads to another file by then. [`FileLock`] is
//! a lock that other users cannot take. [`listening_sockets()`] reads from `/proc` which processes
//! listen on a port.
//!
//! This crate knows nothing of the proxy. Its callers decide what a refusal means.

mod listening_sockets;
mod lock;
mod node;
mod read;
mod trust;

pub use listening_sockets::{ListeningSocket, SocketProcess, listening_sockets};
pub use lock::{FileLock, LockError};
pub use node::{Node, make_directory};
pub use read::{OpenedFile, ReadError, Reading, Sources};
pub use trust::{Fault, Inspected, Trust, Untrusted, Writer, as_typed};
