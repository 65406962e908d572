//! The library over real sockets (SPEC E1): clients, doors and origins on loopback.
//!
//! `tests/records.rs` captures events and `tests/embed_many.rs` counts descriptors, so each of them has a
//! process of its own.

#![expect(
    clippy::disallowed_methods,
    reason = "clients of the proxy dial as clients do"
)]

mod admin;
mod credentials;
mod decider;
mod examples;
mod handle;
mod own;
mod questions;
mod scene;
mod trust;
