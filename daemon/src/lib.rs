//! A local network-policy proxy: decides which hosts the programs on a machine may talk to.
//!
//! This package is the binary `codex-network-proxy` and ties the crates together: configuration
//! comes from `codex-network-config`, enforcement is `codex-network-engine`, and what is here
//! starts them, keeps them running and takes an operator's orders.
//!
//! Whoever wants the proxy in a process of their own, without the program, starts at
//! [`NetworkProxy`] and takes this package with `default-features = false`.
//!
//! - `embed`: the proxy in somebody else's process.
//! - `admin`: the admin HTTP API, which the worker serves, and an embedded proxy.
//! - `admitted`: who may call on the control socket, by id.
//! - `args`: the command line.
//! - `ca`: the CA of the interception, its files, and what everybody may know of it.
//! - `check`: judging a configuration without using it.
//! - `init`: making the CA that is kept.
//! - `logging`: where records and messages go.
//! - `memory`: keeps other processes out of the roles' memory.
//! - `monitor`: what keeps the service's privilege and sockets, and starts the other two roles.
//! - `loader`: judges the configuration for the monitor, and is gone.
//! - `worker`: the running proxy, confined.
//! - `problems`: what is wrong with a configuration, for those who asked for a reload.
//! - `state`: where state is kept.
//! - `program`: what the command line asks for.
//! - `privsep`: what stands between monitor and worker.

mod admin;
#[cfg(feature = "service")]
mod admitted;
#[cfg(feature = "service")]
mod args;
#[cfg_attr(
    not(feature = "service"),
    expect(
        dead_code,
        unused_imports,
        reason = "the service has uses for a CA that a library has not"
    )
)]
mod ca;
#[cfg(feature = "service")]
mod check;
mod embed;
#[cfg(feature = "service")]
mod init;
#[cfg(feature = "service")]
mod loader;
#[cfg(feature = "service")]
mod logging;
#[cfg(feature = "service")]
mod manual;
#[cfg(feature = "service")]
mod memory;
#[cfg(feature = "service")]
mod monitor;
#[cfg(feature = "service")]
mod notify;
#[cfg(feature = "service")]
mod places;
#[cfg(feature = "service")]
mod privsep;
#[cfg(feature = "service")]
mod problems;
#[cfg(feature = "service")]
mod program;
#[cfg(feature = "service")]
mod state;
#[cfg(feature = "service")]
mod worker;

#[cfg(all(fuzzing, feature = "service"))]
pub mod fuzzing;

pub use embed::{
    BlockedRequestObserver, NetworkProxy, NetworkProxyBuilder, NetworkProxyError,
    NetworkProxyHandle, run_http_proxy_with_std_listener, run_socks5_with_std_listener,
};
#[cfg(feature = "service")]
pub use program::main;

pub use codex_network_config::{Diagnostics, Settings, Sources, Widening};
pub use codex_network_engine::{
    AuditMetadata as NetworkProxyAuditMetadata, BlockedEntry as BlockedRequest, ChildEnvironment,
    Counters, NetworkDecision, NetworkPolicyDecider, NetworkPolicyRequest,
};
pub use codex_network_policy::{Mode as NetworkMode, Protocol as NetworkProtocol};

/// The README's examples, run as they stand there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
