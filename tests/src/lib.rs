//! The base of the behaviour tests: the daemon as a child process, origins to reach through it, and
//! clients to reach them with. Read in that order:
//!
//! - [`daemon`] starts the shipped binary on a configuration written for one test, waits until it
//!   logs that it is ready, and keeps its log;
//! - [`origin`] is an HTTP server whose answers a test scripts, and which can
//!   prove that a refused request never reached it;
//! - [`client`] speaks HTTP and SOCKS5, UDP too, by hand, byte for byte, TLS and HTTP/2 over
//!   what it opened, and [`program`] runs real clients (curl, git, pip) under a deadline;
//! - [`resolver`] is a name server with scripted answers;
//! - [`machine`] says whether this machine has what a test needs, [`namespace`] runs a test in a
//!   network of its own, and [`descriptors`] shares out the descriptors of the process;
//! - [`tls`] issues certificates, good and bad, [`port`] offers ports where connecting fails,
//!   [`upstream_proxy`] is a proxy behind the proxy,
//!   [`wire`] reads HTTP/1.1 for both sides, [`wait`] bounds every wait.
//!
//! Everything blocks and uses threads: a test reads from top to bottom. All
//! traffic stays on loopback, on ports that the kernel chooses.
#![expect(
    clippy::missing_panics_doc,
    reason = "a test helper reports a broken expectation by panicking; every function here may"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a test is the client and the origin, which dial as they please; only the proxy may not"
)]

pub mod client;
pub mod daemon;
pub mod descriptors;
mod frames;
pub mod machine;
pub mod namespace;
pub mod origin;
pub mod port;
pub mod program;
pub mod resolver;
pub mod tls;
pub mod upstream_proxy;
pub mod wait;
pub mod wire;
