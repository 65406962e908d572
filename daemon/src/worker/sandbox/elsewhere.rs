//! Systems without seccomp and Landlock: the worker is another user's process, and that is all.

pub(super) fn die_with_the_parent() -> anyhow::Result<()> {
    // The channel's end tells the worker instead.
    Ok(())
}

pub(super) fn drop_capability_bounds() -> anyhow::Result<()> {
    Ok(())
}

pub(super) fn lose_privileges_for_good() -> anyhow::Result<()> {
    Ok(())
}

/// What is missing: all of it.
pub(super) fn confine() -> (Option<&'static str>, Vec<String>) {
    (
        None,
        vec!["this system has neither seccomp nor Landlock".to_owned()],
    )
}
