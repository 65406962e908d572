//! Changes modes and groups: of an inspected file or socket, and of a new directory.
//!
//! A change by path affects the file that the path leads to at that moment, through a link too.
//! These changes affect the inspected file. A socket cannot be opened. On Linux an `O_PATH`
//! descriptor refers to it without opening it.

use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use nix::fcntl::OFlag;

/// A file or socket that was inspected. A link at the end of the path was not followed.
#[derive(Debug)]
pub struct Node {
    file: inode::InodeHandle,
    metadata: Metadata,
}

impl Node {
    /// Inspects the file at this path. For a link it inspects the link itself.
    ///
    /// # Errors
    ///
    /// Returns an error if the file does not exist or cannot be inspected.
    pub fn of(path: &Path) -> io::Result<Self> {
        let (file, metadata) = inode::InodeHandle::of(path)?;
        Ok(Self { file, metadata })
    }

    /// Its metadata at the time of the inspection.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Device and inode numbers. They are equal for two names of one file.
    pub fn identity(&self) -> (u64, u64) {
        (self.metadata.dev(), self.metadata.ino())
    }

    /// Sets the permission bits.
    ///
    /// # Errors
    ///
    /// Returns an error if the system refuses. A link has no mode, so it is always refused.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        if self.metadata.is_symlink() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.file.set_mode(mode)
    }

    /// Sets its group.
    ///
    /// # Errors
    ///
    /// Returns an error if the system refuses. A link is always refused.
    pub fn set_group(&self, group: u32) -> io::Result<()> {
        if self.metadata.is_symlink() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.file.set_group(group)
    }
}

/// Creates a directory with this mode, whatever the umask.
///
/// # Errors
///
/// Returns an error if it cannot be created; `AlreadyExists` when the name is taken.
pub fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode & 0o700).create(path)?;
    set_directory_mode(path, mode)
}

fn set_directory_mode(path: &Path, mode: u32) -> io::Result<()> {
    let directory = File::options()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(path)?;
    directory.set_permissions(Permissions::from_mode(mode))
}

#[cfg(target_os = "linux")]
mod inode {
    use std::fs::{File, Metadata, Permissions};
    use std::io;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    use std::path::{Path, PathBuf};

    use nix::fcntl::{AtFlags, OFlag};
    use nix::unistd::{Gid, fchownat};

    #[derive(Debug)]
    pub(super) struct InodeHandle(File);

    impl InodeHandle {
        pub(super) fn of(path: &Path) -> io::Result<(Self, Metadata)> {
            let file = File::options()
                .read(true)
                .custom_flags((OFlag::O_PATH | OFlag::O_NOFOLLOW).bits())
                .open(path)?;
            let metadata = file.metadata()?;
            Ok((Self(file), metadata))
        }

        /// `fchmod` does not accept an `O_PATH` descriptor. The kernel's link in `/proc` leads to its
        /// file.
        pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
            let link = PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
            std::fs::set_permissions(link, Permissions::from_mode(mode))
        }

        pub(super) fn set_group(&self, group: u32) -> io::Result<()> {
            let group = Some(Gid::from_raw(group));
            Ok(fchownat(&self.0, "", None, group, AtFlags::AT_EMPTY_PATH)?)
        }
    }
}

/// Without `O_PATH`: an open directory and a name in it. Links are not followed.
#[cfg(not(target_os = "linux"))]
mod inode {
    use std::ffi::OsString;
    use std::fs::{File, Metadata};
    use std::io;
    use std::path::Path;

    use nix::fcntl::AtFlags;
    use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
    use nix::unistd::{Gid, fchownat};

    #[derive(Debug)]
    pub(super) struct InodeHandle {
        directory: File,
        name: OsString,
    }

    impl InodeHandle {
        pub(super) fn of(path: &Path) -> io::Result<(Self, Metadata)> {
            let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            let directory = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let handle = Self {
                directory: File::open(directory)?,
                name: name.to_owned(),
            };
            Ok((handle, path.symlink_metadata()?))
        }

        pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
            let bits = nix::libc::mode_t::try_from(mode).map_err(io::Error::other)?;
            let mode = Mode::from_bits_truncate(bits);
            let no_link = FchmodatFlags::NoFollowSymlink;
            Ok(fchmodat(&self.directory, &*self.name, mode, no_link)?)
        }

        pub(super) fn set_group(&self, group: u32) -> io::Result<()> {
            let group = Some(Gid::from_raw(group));
            let no_link = AtFlags::AT_SYMLINK_NOFOLLOW;
            Ok(fchownat(
                &self.directory,
                &*self.name,
                None,
                group,
                no_link,
            )?)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o7777
    }

    #[test]
    fn l4_a_mode_is_set_on_the_inspected_file_even_if_its_name_leads_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, moved) = (
            directory.path().join("socket"),
            directory.path().join("old"),
        );
        let precious = directory.path().join("precious");
        std::fs::write(&precious, "").unwrap();
        std::fs::set_permissions(&precious, Permissions::from_mode(0o600)).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        let node = Node::of(&socket).unwrap();
        std::fs::rename(&socket, &moved).unwrap();
        symlink(&precious, &socket).unwrap();
        let set = node.set_mode(0o666);
        let group = nix::unistd::Gid::effective().as_raw();
        let given = node.set_group(group);
        assert_eq!(mode(&precious), 0o600);
        if cfg!(target_os = "linux") {
            set.unwrap();
            given.unwrap();
            assert_eq!(mode(&moved), 0o666);
        }
    }

    #[test]
    fn l4_mode_and_group_of_a_link_are_not_set() {
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (
            directory.path().join("link"),
            directory.path().join("target"),
        );
        std::fs::write(&target, "").unwrap();
        std::fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
        symlink(&target, &link).unwrap();
        let node = Node::of(&link).unwrap();
        node.set_mode(0o666).unwrap_err();
        node.set_group(0).unwrap_err();
        assert_eq!(mode(&target), 0o600);
    }

    #[test]
    fn m5_a_new_directory_has_its_mode_whatever_the_umask() {
        let directory = tempfile::tempdir().unwrap();
        let made = directory.path().join("made");
        make_directory(&made, 0o777).unwrap();
        assert_eq!(mode(&made), 0o777);
        let again = make_directory(&made, 0o700).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn m5_a_directorys_mode_is_not_set_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (
            directory.path().join("link"),
            directory.path().join("target"),
        );
        std::fs::create_dir(&target).unwrap();
        set_directory_mode(&target, 0o700).unwrap();
        symlink(&target, &link).unwrap();
        set_directory_mode(&link, 0o755).unwrap_err();
        assert_eq!(mode(&target), 0o700);
    }
}
