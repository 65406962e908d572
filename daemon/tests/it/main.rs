//! The library over real sockets (SPEC E1): clients, doors and origins on loopback.
//!
//! Nearly all have a runtime with one thread, since some capture events. `tests/multi_thread` has the tests
//! that need more threads, and `tests/embed_many.rs` counts the descriptors of its process.

#![expect(
    clippy::disallowed_methods,
    reason = "clients of the proxy dial as clients do"
)]

mod admin;
mod decider;
mod handle;
mod records;
mod scene;
mod trust;
