//! Behaviour over real sockets: the shipped binary, clients and origins on loopback.
//!
//! One module per listener or concern. Each test starts a daemon of its own on free ports, so that it
//! can run alone and beside the others.

mod admin;
mod approvals;
mod broker;
mod ca;
mod connect;
mod content;
mod control;
mod fleet;
mod flows;
mod forward;
mod interception;
mod limits;
mod pages;
mod policy;
#[cfg(target_os = "linux")]
mod privilege;
mod records;
mod reload;
mod resolver;
mod roles;
#[cfg(target_os = "linux")]
mod run;
mod sessions;
mod smuggling;
mod socks5;
mod startup;
mod system_files;
mod telemetry;
#[cfg(not(target_os = "macos"))]
mod unix_sockets;
mod upstream_proxy;
