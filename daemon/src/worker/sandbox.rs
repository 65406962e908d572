//! What the worker gives up before it serves anybody.
//!
//! First its privilege: user, groups, capabilities, and the way back to any of them. Then what an
//! ordinary user's program may still do and this one never needs: see the file system, start
//! programs, make instructions, listen, send signals, reach unix sockets and other processes. Every step that a kernel lacks is reported; with
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

/// How far the worker is confined.
#[derive(Debug)]
pub(super) struct Confined {
    wanted: Confinement,
    /// How far Landlock goes.
    landlock: Option<&'static str>,
    /// What is missing, and why.
    missing: Vec<String>,
}

/// Makes the kernel end this process when the monitor ends, so that nothing serves unsupervised.
pub(super) fn die_with_the_monitor() -> anyhow::Result<()> {
    platform::die_with_the_parent()
}

/// Becomes somebody who owns nothing, for good. `None` when there is nothing to give up, because
/// the service was started by an ordinary user.
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

/// Confines the process. To be called before there are other threads. `journal` is the descriptor of
/// the socket that leads to the journal, where there is one.
pub(super) fn confine(wanted: Confinement, journal: Option<RawFd>) -> anyhow::Result<Confined> {
    let (landlock, missing) = if wanted == Confinement::Off {
        (None, Vec::new())
    } else {
        platform::confine(journal)
    };
    if wanted == Confinement::Require && !missing.is_empty() {
        anyhow::bail!("[daemon] sandbox = \"require\", but {}", missing.join("; "));
    }
    Ok(Confined {
        wanted,
        landlock,
        missing,
    })
}

impl Confined {
    /// How far Landlock confines the view of the file system; `None` where it does not.
    pub(super) fn landlock(&self) -> Option<&str> {
        self.landlock
    }

    /// Says in the log what is missing.
    pub(super) fn report(&self) {
        if self.wanted == Confinement::Off {
            tracing::warn!("the worker is not confined ([daemon] sandbox = \"off\")");
        }
        for missing in &self.missing {
            tracing::warn!("the worker is less confined than it could be: {missing}");
        }
    }
}
