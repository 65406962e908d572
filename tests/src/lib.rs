//! The kit of the behaviour tests: the daemon as a child process, origins to reach through it, and
//! clients to reach them with. Start reading with [`setup`]:
//!
//! - [`setup`] is the usual beginning of a test: a daemon, an origin, and clients of both;
//! - [`daemon`] starts the proxy on a configuration written for one test, waits until it logs that it
//!   is ready, keeps its log, and sends it requests; [`proxyctl`] runs the operator's tool on it;
//! - [`origin`] is an HTTP server whose answers a test scripts, and which can prove that a refused
//!   request never reached it; [`raw_origin`] lets a test play the server byte by byte;
//! - [`client`] sends HTTP, SOCKS5, UDP, TLS and HTTP/2 exactly as the test wrote it, and
//!   [`program`] runs real clients (curl, git, pip) under a deadline;
//! - [`resolver`] is a name server with scripted answers, and [`upstream_proxy`] is a proxy behind
//!   the proxy;
//! - [`collector`] takes the audit events that the daemon exports;
//! - [`tls`] issues certificates, good and bad, and [`port`] offers ports where connecting fails;
//! - [`machine`] reports whether this machine has what a test needs, [`namespace`] runs a test in a
//!   network of its own, [`descriptors`] shares out the descriptors of the test process, and
//!   [`process`] reads what the kernel reports of other processes, and [`leaks`] searches for a secret
//!   in everything that they wrote;
//! - [`shipped`] has the paths of the programs, [`wire`] reads HTTP/1.1 for both sides, and [`wait`]
//!   bounds every wait.
//!
//! Everything blocks and uses threads: a test reads from top to bottom. All traffic stays on
//! loopback, on ports that the kernel chooses.
#![expect(
    clippy::missing_panics_doc,
    reason = "a test helper reports a broken expectation by panicking; every function here may"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a test is the client and the origin, which dial as they please; only the proxy may not"
)]

pub mod client;
pub mod collector;
pub mod daemon;
pub mod descriptors;
mod frames;
pub mod leaks;
pub mod machine;
pub mod namespace;
pub mod origin;
pub mod port;
pub mod process;
pub mod program;
pub mod proxyctl;
pub mod raw_origin;
pub mod resolver;
pub mod session;
pub mod setup;
pub mod shipped;
pub mod tls;
pub mod upstream_proxy;
pub mod wait;
pub mod wire;
