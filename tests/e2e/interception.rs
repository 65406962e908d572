//! TLS interception by the shipped daemon, over real sockets (SPEC section 6, and P7, P9, P11, H5,
//! H9, R1 and R3 inside it).
//!
//! The engine's tests cover SOCKS5 to port 443: only root may listen there.

mod ambiguous;
mod attempt;
mod bodies;
mod bridge;
mod causes;
mod changes;
mod clients;
mod early;
mod floods;
pub(crate) mod frames;
mod half_close;
pub(crate) mod hooks;
mod interim;
mod limited;
mod negotiation;
mod origins;
mod plain_http;
mod requests;
pub(crate) mod resets;
mod unprocessed;
mod websocket;
mod windows;

/// The two versions of HTTP, by their names in ALPN.
pub(crate) const BOTH: [&str; 2] = ["h2", "http/1.1"];
