//! The library over real sockets (SPEC E1): clients, doors and origins on loopback.

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
