//! Real clients through the real binary: each by HTTP and SOCKS5 if it can, once to an allowed
//! origin and once to a blocked one, which must not be contacted (issue 2, "Real components"; SPEC
//! H1, H5, H8, S1, S2, R1).
//!
//! Each client also contacts its origin without a proxy, so that a failure shows whether the proxy
//! or the test is at fault. Most of them run once more with their TLS intercepted: see
//! `intercepted.rs`. `.ci/clients` installs them all.

mod boto3;
#[cfg(target_os = "linux")]
mod brokered;
mod busybox;
mod cargo;
mod chromium;
mod client;
mod curl;
mod git;
mod git_lfs;
mod go;
mod grpc;
mod intercepted;
#[cfg(target_os = "linux")]
mod jail;
mod java;
mod kubectl;
mod nghttp;
mod node;
mod npm;
mod openssl;
mod page;
mod pip;
mod python;
mod script;
mod skopeo;
mod ssh;
mod upstream_proxy;
mod websocket;
mod wget;
