//! The tests of the engine over real sockets on loopback, in one program.
//!
//! They run in parallel. A test that needs a process of its own runs this program again
//! ([`kit::process`]); its file says so.

mod kit;

mod drain;
mod interception;
#[cfg(target_os = "linux")]
mod machine;
mod own;
mod runtimes;
#[cfg(target_os = "linux")]
mod session_listeners;
mod shares;
mod unix_socket_flows;
mod unix_sockets;
mod upstream_proxy;
mod vetting;
