//! Systems without seccomp and Landlock: the worker only runs as another user.

use std::os::fd::RawFd;

use nix::unistd::Gid;

pub(super) fn die_with_the_parent() -> anyhow::Result<()> {
    // The worker ends with the channel instead.
    Ok(())
}

/// Keeps the own group: Apple's systems require at least one.
#[expect(unsafe_code, reason = "nix has no setgroups for Apple's systems")]
pub(super) fn drop_groups(own: Gid) -> anyhow::Result<()> {
    let groups = [own.as_raw()];
    // SAFETY: pointer and number describe `groups`, which the call only reads.
    let outcome = unsafe { nix::libc::setgroups(1, groups.as_ptr()) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error().into())
    }
}

pub(super) fn drop_capability_bounds() -> anyhow::Result<()> {
    Ok(())
}

pub(super) fn lose_privileges_for_good() -> anyhow::Result<()> {
    Ok(())
}

/// Nothing ties the process to its parent.
pub(super) fn outlive_the_parent(_release: u64) -> std::io::Result<()> {
    Ok(())
}

/// Everything is missing.
pub(super) fn confine(
    _journal: Option<RawFd>,
    _release: u64,
) -> (Option<&'static str>, Vec<String>) {
    (
        None,
        vec!["this system has neither seccomp nor Landlock".to_owned()],
    )
}
