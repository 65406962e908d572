//! The library in a runtime with several threads: its listeners as its own destinations, and the
//! examples. Not in `tests/it`, since the threads of such a runtime disturb tests that capture events.

#![expect(
    clippy::disallowed_methods,
    reason = "clients of the proxy dial as clients do"
)]

mod examples;
mod own;
