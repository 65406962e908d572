//! Files without a name, in which the monitor passes bytes to a worker.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use anyhow::Context as _;

/// A file in memory that can no longer be changed.
#[cfg(target_os = "linux")]
pub(super) fn sealed(content: &[u8]) -> anyhow::Result<OwnedFd> {
    let mut file = in_memory().context("cannot make a file in memory for the settings")?;
    file.write_all(content)
        .context("cannot write the settings into memory")?;
    seal(&file).context("cannot seal the settings")?;
    Ok(file.into())
}

#[cfg(target_os = "linux")]
fn in_memory() -> std::io::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    Ok(memfd_create(c"settings", flags)?.into())
}

#[cfg(target_os = "linux")]
fn seal(file: &File) -> std::io::Result<()> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    Ok(())
}

/// Other systems have no sealed memory. The closest is a file without a name, of which only a
/// descriptor for reading is given away.
#[cfg(not(target_os = "linux"))]
pub(super) fn sealed(content: &[u8]) -> anyhow::Result<OwnedFd> {
    let mut file = tempfile::NamedTempFile::new().context("cannot make a file for the settings")?;
    file.write_all(content)
        .context("cannot write the settings into a file")?;
    let reading = File::open(file.path()).context("cannot read the settings back")?;
    Ok(reading.into())
}
