//! The protocol of the control socket: the calls of `proxyctl` to the proxy, and their transport.
//!
//! Both sides use this crate, so neither can drift from the other. It depends on neither engine nor
//! configuration: the daemon fills in the messages, and `proxyctl` shows them.
//!
//! # Life of a call
//!
//! 1. [`socket_path`] gives the socket's path. [`client`] connects, and asks the kernel which user
//!    listens there (`listener`) before it sends anything (SPEC K2).
//! 2. The daemon asks the kernel who calls, and passes the connection to [`serve()`] with the
//!    caller's [`Access`], or closes it. Nothing has been read so far (SPEC K3).
//! 3. `transport` reads one frame: it caps its length, clamps its deadline and parses its JSON.
//! 4. `server` accepts only `hello` until [`version`] has found a common version (SPEC K4).
//!    Then it checks each call against the access that the call needs (`service`).
//! 5. The daemon's [`Control`] answers with a [`message`] or a [`ControlError`].
//!
//! # Changing it
//!
//! `hello` is frozen. Calls are only ever added, with a new [`version::NEWEST`]; each takes one
//! struct whose fields all have defaults, and so do the fields of the answers.

pub mod access;
mod carrier;
pub mod client;
pub mod error;
mod listener;
pub mod message;
mod server;
mod service;
pub mod socket_path;
mod transport;
pub mod version;

pub use access::Access;
pub use carrier::{Carrier, ControlStream};
pub use client::Client;
pub use error::{ControlError, ReloadProblem};
pub use listener::{ListenerOwner, TrustedListeners};
pub use server::{ConnectionEnd, serve};
pub use service::Control;
/// tarpc's context of every call: its deadline, after the clamp.
pub use tarpc::context::Context;
