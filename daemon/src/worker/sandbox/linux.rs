//! Linux: capabilities, `no_new_privs`, Landlock, and seccomp (in [`calls`]).

mod calls;

use std::os::fd::RawFd;

use anyhow::{Context as _, bail};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetStatus, Scope,
};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, getppid, setgroups};

pub(super) fn die_with_the_parent() -> anyhow::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The monitor may have ended before the kernel processed the request.
    if getppid().as_raw() == 1 && !started_by_init() {
        bail!("the monitor is gone");
    }
    Ok(())
}

/// In a container the monitor itself can be process 1.
fn started_by_init() -> bool {
    std::fs::read_link("/proc/1/exe").ok() == std::env::current_exe().ok()
}

pub(super) fn drop_groups(_own: Gid) -> anyhow::Result<()> {
    Ok(setgroups(&[])?)
}

/// Drops the capabilities that a set-user-id program could bring back. Only a process that has them
/// can drop them, and only there does it matter.
pub(super) fn drop_capability_bounds() -> anyhow::Result<()> {
    if caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, caps::CapSet::Bounding)? {
            caps::drop(None, caps::CapSet::Bounding, capability)?;
        }
    }
    Ok(())
}

pub(super) fn lose_privileges_for_good() -> anyhow::Result<()> {
    prctl::set_no_new_privs().context("cannot set no_new_privs")?;
    for set in [
        caps::CapSet::Ambient,
        caps::CapSet::Inheritable,
        caps::CapSet::Effective,
        caps::CapSet::Permitted,
    ] {
        caps::clear(None, set).with_context(|| format!("cannot clear the {set:?} capabilities"))?;
    }
    // A change of user sets it to the administrator's default (`fs.suid_dumpable`).
    prctl::set_dumpable(false).context("cannot turn core dumps off")?;
    // A change of user resets the request to die with the parent.
    prctl::set_pdeathsig(Signal::SIGKILL).context("cannot tie the worker to its monitor")?;
    Ok(())
}

/// Undoes [`die_with_the_parent`]. `release` is the number that the process was confined with. Call
/// it on the main thread: the kernel keeps the setting by thread.
pub(super) fn outlive_the_parent(release: u64) -> std::io::Result<()> {
    calls::set_no_death_signal(release)
}

/// Confines the process with everything that the kernel supports, and returns what is missing.
/// `journal` is the descriptor of the socket to the journal. `release` is the number for
/// [`outlive_the_parent`].
pub(super) fn confine(journal: Option<RawFd>, release: u64) -> (Option<&'static str>, Vec<String>) {
    let mut missing = Vec::new();
    let mut landlock = None;
    match restrict_files() {
        Ok(RulesetStatus::FullyEnforced) => landlock = Some("enforced"),
        Ok(RulesetStatus::PartiallyEnforced) => {
            landlock = Some("partly enforced");
            missing.push("this kernel's Landlock knows only some of the restrictions".to_owned());
        }
        Ok(RulesetStatus::NotEnforced) => missing.push("this kernel has no Landlock".to_owned()),
        Err(error) => missing.push(format!("Landlock failed: {error:#}")),
    }
    if let Err(error) = restrict_reach() {
        missing.push(format!("Landlock failed: {error:#}"));
    }
    if let Err(error) = calls::restrict(calls::FilterFacts { journal, release }) {
        missing.push(format!("seccomp failed: {error:#}"));
    }
    (landlock, missing)
}

/// Hides the whole file system: the loader has read what the worker needs of it.
fn restrict_files() -> anyhow::Result<RulesetStatus> {
    // The newest rights that the library knows, if the kernel supports them; the oldest are
    // required.
    let handled = AccessFs::from_all(ABI::V5);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(handled)?
        .create()?;
    Ok(ruleset.restrict_self()?.ruleset)
}

/// Further restrictions, any of which a kernel may lack: seccomp refuses the same operations in
/// another way. The worker binds no TCP port (the monitor passes the listeners), sends no signal to
/// other processes, and reaches no unix socket outside, by any name.
fn restrict_reach() -> anyhow::Result<()> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(ABI::V6))?
        .handle_access(AccessFs::ResolveUnix)?
        .create()?
        .restrict_self()?;
    Ok(())
}

#[cfg(test)]
mod tests;
