//! A local network-policy proxy: decides which hosts the programs on a machine may talk to.
//!
//! This package is the binary `codex-network-proxy` and ties the crates together:
//! `codex-network-config` reads the configuration, `codex-network-engine` enforces it, and this
//! crate starts both, keeps them running and serves the operator.
//!
//! To run the proxy inside your own process, without the program, start at [`NetworkProxy`] and use
//! this package with `default-features = false`.
//!
//! - `embed`: the proxy inside another program's process.
//! - `admin`: the admin HTTP API, for the worker and for an embedded proxy.
//! - `admitted`: who may call on the control socket, by id.
//! - `args`: the command line.
//! - `ca`: the CA for interception, its files, and its public facts.
//! - `check`: judging a configuration without using it.
//! - `init`: making a CA in files.
//! - `logging`: where records and messages are written.
//! - `memory`: protects the roles' memory from other processes.
//! - `monitor`: keeps the service's privilege and sockets, and starts the other two roles.
//! - `loader`: checks the configuration for the monitor, and ends.
//! - `worker`: the running proxy, confined.
//! - `problems`: the problems of a configuration, for the callers of a reload.
//! - `state`: the state directory.
//! - `program`: runs the command line.
//! - `privsep`: the messages between monitor, loader and worker.
//! - `opaque`: bytes that the loader writes for the worker.
//! - `watched`: the paths of the system's files, to notice that one of them has changed.

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
        reason = "the service uses a CA in ways that a library does not"
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
mod memory;
#[cfg(feature = "service")]
mod monitor;
#[cfg(feature = "service")]
mod notify;
#[cfg(feature = "service")]
mod opaque;
#[cfg(feature = "service")]
mod places;
#[cfg(feature = "service")]
mod privsep;
#[cfg(feature = "service")]
mod problems;
#[cfg(feature = "service")]
mod program;
#[cfg(feature = "service")]
mod sequence;
#[cfg(feature = "service")]
mod state;
#[cfg_attr(
    not(feature = "service"),
    expect(
        dead_code,
        reason = "the service watches in ways that a library does not"
    )
)]
mod watched;
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

pub use codex_network_config::{Diagnostics, Settings, Sources, UpstreamProxies, Widening};
pub use codex_network_engine::{
    AuditMetadata as NetworkProxyAuditMetadata, BlockedEntry as BlockedRequest, ChildEnvironment,
    Counters, NetworkDecision, NetworkPolicyDecider, NetworkPolicyRequest,
};
pub use codex_network_policy::{Mode as NetworkMode, Protocol as NetworkProtocol};

/// Runs the README's examples.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
