//! Real jails with hostile programs in them (SPEC J6, J7, J9, J14, T4).
//!
//! `harness.rs` is a program that runs a command in a jail without a proxy. `attempts.c` has the hostile
//! programs: each attempt gets through or is refused. Every test runs as each user that this process can
//! become: root and an ordinary one. Attempts that get through outside a jail are made there too, so that
//! a refusal inside is the jail's.

#![cfg(target_os = "linux")]

mod doors;
mod exhaustion;
mod fixture;
mod life;
mod mounts;
mod network;
mod packets;
mod processes;
mod programs;
mod service;
mod signals;
mod system_calls;
mod unavailable;
mod unix_sockets;
