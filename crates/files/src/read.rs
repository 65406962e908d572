//! The one reader of files: it looks at what it opens, and stops at a limit.
//!
//! A path may lead to a device that never ends, a pipe that never begins, or a file of any size. So a
//! caller says how large a file of its kind can be, and what else it may be.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use crate::trust::{Trust, Untrusted};

/// First buffer for what does not tell its size.
const FIRST_BUFFER: usize = 8 << 10;

/// How a file is read.
///
/// ```
/// use codex_network_files::Reading;
///
/// const HOSTS: Reading = Reading::up_to(16 << 20);
/// let refused = HOSTS.read("/dev/zero".as_ref()).expect_err("it never ends");
/// assert_eq!(refused.to_string(), "it is not a regular file");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    limit: u64,
    sources: Sources,
    follows: bool,
    trust: Option<Trust>,
}

/// What may stand in the place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    /// Regular files.
    Regular,
    /// Regular files and `/dev/null`, which stands for an empty one.
    RegularOrNull,
    /// Pipes and devices too: somebody named them. Opening a pipe waits for its writer.
    Any,
}

/// A file that was judged, and not read yet.
#[derive(Debug)]
pub struct OpenedFile {
    file: File,
    metadata: Metadata,
    limit: u64,
}

/// Why a file is not read. Nothing says its path, which the caller knows.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is a link where none is followed.
    #[error("it is a symlink")]
    Link,
    /// It is a directory.
    #[error("it is a directory")]
    Directory,
    /// It is a pipe, a device or a socket where none may be.
    #[error("it is not a regular file")]
    Special,
    /// It is larger than this many bytes.
    #[error("it is larger than {}", size(*.0))]
    TooLarge(u64),
    /// Another file came in its place while it was opened.
    #[error("it was replaced while it was opened")]
    Replaced,
    /// Others may change it.
    #[error(transparent)]
    Untrusted(Untrusted),
}

impl Reading {
    /// Regular files of at most this many bytes. Links are followed.
    pub const fn up_to(limit: u64) -> Self {
        Self {
            limit,
            sources: Sources::Regular,
            follows: true,
            trust: None,
        }
    }

    /// What may stand in the place of a file.
    #[must_use]
    pub const fn from_sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self
    }

    /// Follows no link at the end of the path.
    #[must_use]
    pub const fn without_links(mut self) -> Self {
        self.follows = false;
        self
    }

    /// Refuses what others may change, if the user is one who [refuses](Trust::is_binding).
    #[must_use]
    pub const fn kept_by(mut self, user: Trust) -> Self {
        self.trust = if user.is_binding() { Some(user) } else { None };
        self
    }

    /// Opens a file and judges it.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, and when it is not what it should be.
    pub fn open(&self, path: &Path) -> Result<OpenedFile, ReadError> {
        let may_wait = self.sources == Sources::Any && !path.metadata()?.is_file();
        let mut flags = OFlag::O_NOCTTY;
        if !may_wait {
            flags |= OFlag::O_NONBLOCK;
        }
        if !self.follows {
            flags |= OFlag::O_NOFOLLOW;
        }
        let opened = File::options()
            .read(true)
            .custom_flags(flags.bits())
            .open(path);
        let file = opened.map_err(|error| match error.raw_os_error() {
            Some(number) if !self.follows && number == nix::Error::ELOOP as i32 => ReadError::Link,
            // A socket.
            Some(number) if number == nix::Error::ENXIO as i32 => ReadError::Special,
            _ => error.into(),
        })?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ReadError::Directory);
        }
        let is_allowed = match self.sources {
            Sources::Regular => metadata.is_file(),
            Sources::RegularOrNull => metadata.is_file() || is_null(&metadata),
            Sources::Any => true,
        };
        if !is_allowed {
            return Err(ReadError::Special);
        }
        if let Some(trust) = self.trust {
            let end = trust.check_end(path).map_err(ReadError::Untrusted)?;
            let identity = |file: &Metadata| (file.dev(), file.ino());
            if end.is_some_and(|end| identity(&end) != identity(&metadata)) {
                return Err(ReadError::Replaced);
            }
        }
        if metadata.is_file() && metadata.len() > self.limit {
            return Err(ReadError::TooLarge(self.limit));
        }
        Ok(OpenedFile {
            file,
            metadata,
            limit: self.limit,
        })
    }

    /// Opens and reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, and when it is not what it should be.
    pub fn read(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, ReadError> {
        self.open(path)?.read()
    }

    /// Reads what is text, and replaces what is not UTF-8.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_text(&self, path: &Path) -> Result<String, ReadError> {
        let content = self.read(path)?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    }
}

impl OpenedFile {
    /// What the system says of the file that is open.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Reads it to its end. The content is wiped when it is dropped, and no copy stays behind.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or has no end before the limit.
    pub fn read(mut self) -> Result<Zeroizing<Vec<u8>>, ReadError> {
        // The length may be wrong: that of a pipe, of a file of the kernel, or of one that grows.
        let most = usize::try_from(self.limit)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        let told = usize::try_from(self.metadata.len()).unwrap_or(usize::MAX);
        let first = match told {
            0 => FIRST_BUFFER,
            told => told.saturating_add(1),
        };
        let mut content = Zeroizing::new(vec![0; first.min(most)]);
        let mut filled = 0;
        loop {
            match self.file.read(&mut content[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            if filled < content.len() {
                continue;
            }
            if filled == most {
                return Err(ReadError::TooLarge(self.limit));
            }
            // Not `reserve`, which would leave what was read behind.
            let mut larger = Zeroizing::new(vec![0; filled.saturating_mul(2).min(most)]);
            larger[..filled].copy_from_slice(&content);
            content = larger;
        }
        content.truncate(filled);
        Ok(content)
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => error,
            error => Self::other(error),
        }
    }
}

fn is_null(device: &Metadata) -> bool {
    device.file_type().is_char_device()
        && Path::new("/dev/null")
            .metadata()
            .is_ok_and(|null| null.file_type().is_char_device() && null.rdev() == device.rdev())
}

fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests;
