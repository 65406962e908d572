//! The service under a real systemd: its units, sockets, signals, journal and users (SPEC L6 to L9,
//! C5, C7, P11, R4; DESIGN section 1; issue 3, "Done when").
//!
//! The tests share one booted Debian 12 and take turns; each starts from an installed service that
//! has never run. They need root, and what `.ci/system` installs. Their own sockets are inside the
//! machine's network, so that what listens there is reached as from a program in it.
#![expect(
    clippy::disallowed_methods,
    reason = "a test is the client, which dials as it pleases; only the proxy may not"
)]

mod busy;
mod ca;
mod control;
mod death;
mod doctor;
mod fence;
mod fleet;
mod handed;
mod journal;
mod launchd;
mod load;
mod machine;
mod package;
mod privilege;
mod reload;
mod scene;
mod sockets;
mod start;
mod units;
mod watchdog;
