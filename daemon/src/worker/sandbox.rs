//! How the worker gives up privilege before it serves clients.
//!
//! First it gives up its privilege: user, groups, capabilities, and the way back to any of them.
//! Then it gives up what an ordinary user's program may do and the worker never needs: seeing the
//! file system, starting programs, making memory executable, listening, sending signals, reaching
//! unix sockets and other processes. Every step that a kernel does not support is reported; with
//! `[daemon] sandbox = "require"` it is an error.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

use std::os::fd::RawFd;

use anyhow::Context as _;
use nix::unistd::{Gid, Uid, setgid, setuid};

#[cfg(not(target_os = "linux"))]
use self::elsewhere as platform;
#[cfg(target_os = "linux")]
use self::linux as platform;
use crate::privsep::message::{Account, Confinement};

/// The confinement that was achieved.
#[derive(Debug)]
pub(super) struct AppliedConfinement {
    setting: Confinement,
    /// The accesses that Landlock restricts.
    landlock: Option<&'static str>,
    /// The missing steps, and why.
    missing: Vec<String>,
}

/// Makes the kernel end this process when the monitor ends, so that no worker runs unsupervised.
pub(super) fn die_with_the_monitor() -> anyhow::Result<()> {
    platform::die_with_the_parent()
}

/// Lets this process outlive its monitor, which has handed it over to the next one. `release` is
/// the number from the monitor. Call it on the main thread.
pub(super) fn outlive_the_monitor(release: u64) -> std::io::Result<()> {
    platform::outlive_the_parent(release)
}

/// Becomes an unprivileged user, for good. `None` when there is no privilege to give up, because an
/// ordinary user started the service.
pub(super) fn drop_privilege(account: Option<Account>) -> anyhow::Result<()> {
    platform::drop_capability_bounds().context("cannot give up the capabilities")?;
    if let Some(account) = account {
        let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
        platform::drop_groups(gid).context("cannot give up the supplementary groups")?;
        setgid(gid).with_context(|| format!("cannot become group {gid}"))?;
        setuid(uid).with_context(|| format!("cannot become user {uid}"))?;
        if !uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
            anyhow::bail!("could become root again after giving it up");
        }
    }
    platform::lose_privileges_for_good()
}

/// Confines the process. Call it before there are other threads. `journal` is the descriptor of the
/// socket to the journal, if there is one. `release` is the number for
/// [`outlive_the_monitor`], which this process must forget.
pub(super) fn confine(
    setting: Confinement,
    journal: Option<RawFd>,
    release: u64,
) -> anyhow::Result<AppliedConfinement> {
    let (landlock, missing) = if setting == Confinement::Off {
        (None, Vec::new())
    } else {
        platform::confine(journal, release)
    };
    if setting == Confinement::Require && !missing.is_empty() {
        anyhow::bail!("[daemon] sandbox = \"require\", but {}", missing.join("; "));
    }
    Ok(AppliedConfinement {
        setting,
        landlock,
        missing,
    })
}

impl AppliedConfinement {
    /// The accesses that Landlock restricts; `None` without Landlock.
    pub(super) fn landlock(&self) -> Option<&str> {
        self.landlock
    }

    /// Logs the missing steps.
    pub(super) fn report(&self) {
        if self.setting == Confinement::Off {
            tracing::warn!("the worker is not confined ([daemon] sandbox = \"off\")");
        }
        for missing in &self.missing {
            tracing::warn!("the worker is not fully confined: {missing}");
        }
    }
}
