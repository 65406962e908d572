//! The contract of the control socket: what `proxyctl` may ask of the proxy, and how it travels.
//!
//! Both ends use this crate, so neither can drift from the other. It knows no engine and no
//! configuration: the daemon fills the messages in, `proxyctl` shows them.
//!
//! # Life of a call
//!
//! 1. `place` says where the socket is; [`client`] connects, and learns from the kernel who listens
//!    there (`listener`) before it sends anything (SPEC K2).
//! 2. The daemon knows from the kernel who calls and hands the connection to [`serve()`] with the
//!    caller's [`Access`], or hangs up. Nothing has been read so far (SPEC K3).
//! 3. `transport` takes one frame: its length is capped, its deadline clamped, its JSON parsed.
//! 4. `service` lets `hello` and nothing else through until [`version`] has found a common version
//!    (SPEC K4), then holds each call against the access that it needs (`access`).
//! 5. The daemon's [`Control`] answers with a [`message`] or a [`ControlError`].
//!
//! # Changing it
//!
//! `hello` is frozen. Calls are only ever added, with a new [`version::NEWEST`]; each takes one
//! struct whose fields all have defaults, and so do the fields of the answers.

pub mod access;
pub mod client;
pub mod error;
mod listener;
pub mod message;
pub mod place;
mod service;
mod transport;
pub mod version;

pub use access::Access;
pub use client::Client;
pub use error::{ControlError, ReloadProblem};
pub use listener::{ListenerOwner, TrustedListeners};
pub use service::{Control, Ended, serve};

/// What tarpc hands to every call: its deadline, after the clamp.
pub use tarpc::context::Context;
