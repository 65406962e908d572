//! Systems without seccomp and Landlock: the worker is another user's process, and that is all.

use std::os::fd::RawFd;

use nix::unistd::Gid;

pub(super) fn die_with_the_parent() -> anyhow::Result<()> {
    // The channel's end tells the worker instead.
    Ok(())
}

/// Leaves the own group alone: Apple's systems want one at least.
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

/// What is missing: all of it.
pub(super) fn confine(_journal: Option<RawFd>) -> (Option<&'static str>, Vec<String>) {
    (
        None,
        vec!["this system has neither seccomp nor Landlock".to_owned()],
    )
}
