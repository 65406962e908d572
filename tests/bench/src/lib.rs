//! Compares codex-network-proxy with other proxies, all on loopback in one run, and shows how its cost grows.
//!
//! Modules from the top: the commands, what is measured, the programs that are compared, the load, and the
//! origin that the load reaches. Nothing here knows how a proxy works inside.
#![cfg(target_os = "linux")]
#![expect(
    clippy::disallowed_methods,
    reason = "the load dials as clients do, and the relay is a proxy of its own"
)]

mod arguments;
mod compare;
mod dial;
mod growth;
mod jail;
mod lab;
mod load;
mod machine;
mod origin;
mod process;
mod programs;
mod relay;
mod report;
mod scenario;
mod watched;

pub use arguments::run;
