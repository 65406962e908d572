//! The protocol of the control socket at the level of bytes, on both sides.

mod caller;
mod client;
mod descriptors;
mod server;
