//! The service under a real systemd: its units, sockets, signals, journal and users (SPEC L6 to L9,
//! C5, C7, P11, R4; `ARCHITECTURE.md`, "Three roles, one program"; issue 3, "Done when").
//!
//! The tests share one booted Debian 12, one after the other. Each starts from an installed service that
//! has never run. They need root, and the files that `.ci/system` installs. Their own sockets are
//! in the machine's network, so that its listeners are reached as by a program inside.
#![expect(
    clippy::disallowed_methods,
    reason = "a test is the client, which dials as it pleases; only the proxy may not"
)]

mod busy;
mod ca;
mod control;
mod death;
mod doctor;
mod faults;
mod fence;
mod fleet;
mod handed;
mod handover;
mod journal;
mod launchd;
mod load;
mod machine;
mod package;
mod privilege;
mod reload;
mod service;
mod sockets;
mod standby;
mod start;
mod system_files;
mod units;
mod watchdog;
