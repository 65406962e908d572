//! The jail of `proxyctl run`: a program in namespaces of its own, whose only network is the doors of
//! its session (SPEC J6, J7, J9).
//!
//! `proxyctl` starts itself again as a *stage* (`stage`). The stage makes the namespaces, binds the
//! listeners of the doors inside them, and passes the listeners back. A socket keeps the namespace that
//! it was made in, so the proxy accepts on them directly. When the session is open, `proxyctl` sends the
//! command, the stage confines itself, and the command takes its place.
//!
//! - `frames`: the messages between `proxyctl` and its stages.
//! - `process`: the side of `proxyctl`: prepares, starts, forwards signals, waits.
//! - `early_signals`: signals that come before the command.
//! - `relay`: what the loop of `process` needs of a terminal that is the command's own.
//! - `stage`: the side in the jail.
//! - `listeners`: binds the doors' listeners, in a jail or outside.
//! - `stop`: stops `proxyctl` with the command.
//! - `standard_streams`: refuses those that lead out of a jail.
//! - `error`: why there is no jail, and the remedy.
//!
//! The jail confines the network and the other ways to processes outside. It does not hide files.

mod early_signals;
mod error;
mod frames;
mod listeners;
mod process;
mod relay;
mod stage;
mod standard_streams;
mod stop;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

pub(crate) use error::JailError;
pub(crate) use process::{Ended, JailEnd, PreparedJail, forked, prepare};
pub(crate) use relay::TerminalRelay;
pub(crate) use stage::{STAGE_ARGUMENT, close_from, fork, run as run_stage};

/// The port of the HTTP door inside a jail.
pub(crate) const HTTP_PORT: u16 = 3128;
/// The port of the SOCKS5 door inside a jail.
pub(crate) const SOCKS5_PORT: u16 = 1080;
/// The port of the transparent door inside a jail.
pub(crate) const TRANSPARENT_PORT: u16 = 3129;
/// The port of the policy DNS inside a jail.
pub(crate) const DNS_PORT: u16 = 53;

/// Whether the kernel sends this signal to one process of a group as well as to all of it: to the leader of a
/// session whose terminal closes.
fn reaches_one_process(signal: i32) -> bool {
    [Signal::SIGHUP as i32, Signal::SIGCONT as i32].contains(&signal)
}

/// The service of a session's listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Door {
    Http,
    Socks5,
    Transparent,
    DnsUdp,
    DnsTcp,
    /// A port that leads to a fixed destination. The number is its place in [`JailPlan::forwards`].
    Forward(usize),
}

/// How the command is isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Confinement {
    /// Namespaces, and a filter of system calls.
    Jail,
    /// Only the proxy variables. The listeners are on loopback ports of this machine.
    Environment,
}

/// The jail that a command needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JailPlan {
    pub(crate) confinement: Confinement,
    /// Ports on the jail's loopback, one for each `--forward`.
    pub(crate) forwards: Vec<u16>,
    /// Whether connections to any other address lead to the transparent door. Needs `nft`.
    pub(crate) transparent: bool,
    /// Whether unix sockets may lead to processes outside the jail.
    pub(crate) allow_unix_sockets: bool,
    /// The device number of the launcher's terminal, if the command gets a terminal of its own in its place. Only with
    /// [`Confinement::Jail`].
    pub(crate) hidden_terminal: Option<u64>,
}
