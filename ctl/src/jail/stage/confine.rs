//! The last step before the command: no capabilities, no new privileges, and a filter of system calls
//! (SPEC J6).
//!
//! The filter has an entry for each way out of the jail that namespaces leave open. Everything else is
//! permitted, so that ordinary programs work. `filter` has the entries.

mod filter;

use std::io;

use caps::{CapSet, Capability};
use landlock::{CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetError, Scope};
use nix::sys::prctl;

/// The unix sockets that the command may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnixSockets {
    All,
    /// Sockets for connections. `supervisor` performs each `connect`.
    Supervised,
    /// Pairs of connected sockets.
    Pairs,
}

/// Confines this process for good.
pub(super) fn confine(unix_sockets: UnixSockets) -> io::Result<()> {
    drop_capabilities().map_err(io::Error::other)?;
    prctl::set_no_new_privs()?;
    keep_signals_inside().map_err(io::Error::other)?;
    filter::apply(unix_sockets)
}

/// Gives up all capabilities in the inner user namespace. Without the bounding set, root gets none back
/// when it executes a program.
fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    for capability in caps::runtime::thread_all_supported() {
        caps::drop(None, CapSet::Bounding, capability)?;
    }
    // A kernel may have more than this library knows.
    debug_assert!(!caps::has_cap(
        None,
        CapSet::Bounding,
        Capability::CAP_SYS_ADMIN
    )?);
    caps::clear(None, CapSet::Ambient)?;
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set)?;
    }
    Ok(())
}

/// Whether [`keep_signals_inside`] works on this kernel.
pub(in super::super) fn can_keep_signals_inside() -> bool {
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::Signal);
    rules.and_then(Ruleset::create).is_ok()
}

/// Lets signals reach only processes of the command, from Linux 6.12 on. The command shares its process
/// group with `proxyctl` and with other programs of a pipeline, and a signal to the group would reach
/// them.
fn keep_signals_inside() -> Result<(), RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::Signal)?
        .create()?
        .restrict_self()?;
    Ok(())
}
