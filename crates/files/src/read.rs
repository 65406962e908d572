//! The only reader of files. It checks the opened file and stops at a limit.
//!
//! A path may lead to an endless device, a pipe without a writer, or a file of any size. The caller
//! says how large the file may be and which kinds of files it accepts.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use crate::trust::{Trust, Untrusted};

/// Size of the first buffer for a file of unknown size.
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

/// Which kinds of files are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    /// Regular files.
    Regular,
    /// Regular files and `/dev/null`, which stands for an empty one.
    RegularOrNull,
    /// Pipes and devices too, for a file that the user named. Opening a pipe waits for its writer.
    Any,
}

/// A file that was checked and has not been read yet.
#[derive(Debug)]
pub struct OpenedFile {
    file: File,
    metadata: Metadata,
    limit: u64,
}

/// Why a file was not read. The message leaves the path out: the caller adds it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A system error.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The path is a link, and links are not followed.
    #[error("it is a symlink")]
    Link,
    /// It is a directory.
    #[error("it is a directory")]
    Directory,
    /// It is a pipe, a device or a socket, which is not accepted.
    #[error("it is not a regular file")]
    Special,
    /// It is larger than this many bytes.
    #[error("it is larger than {}", size(*.0))]
    TooLarge(u64),
    /// It was replaced by another file while it was opened.
    #[error("it was replaced while it was opened")]
    Replaced,
    /// Other users may change it.
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

    /// Sets the accepted kinds of files.
    #[must_use]
    pub const fn from_sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self
    }

    /// Refuses a link at the end of the path.
    #[must_use]
    pub const fn without_links(mut self) -> Self {
        self.follows = false;
        self
    }

    /// Refuses a file that other users may change, if the user's rule [is
    /// binding](Trust::is_binding).
    #[must_use]
    pub const fn kept_by(mut self, user: Trust) -> Self {
        self.trust = if user.is_binding() { Some(user) } else { None };
        self
    }

    /// Opens a file and checks it.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be opened, or a check fails.
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
    /// Returns an error if it cannot be read, or a check fails.
    pub fn read(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, ReadError> {
        self.open(path)?.read()
    }

    /// Reads a text, and replaces bytes that are not UTF-8.
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
    /// The metadata of the open file.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Reads it to its end. The content is wiped when it is dropped, and no copy remains.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be read, or does not end before the limit.
    pub fn read(mut self) -> Result<Zeroizing<Vec<u8>>, ReadError> {
        // The length may be wrong for a pipe, a file of the kernel, or a growing file.
        let max = usize::try_from(self.limit)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        let announced = usize::try_from(self.metadata.len()).unwrap_or(usize::MAX);
        let first = match announced {
            0 => FIRST_BUFFER,
            size => size.saturating_add(1),
        };
        let mut content = Zeroizing::new(vec![0; first.min(max)]);
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
            if filled == max {
                return Err(ReadError::TooLarge(self.limit));
            }
            // Not `reserve`, which would leave the old buffer behind.
            let mut larger = Zeroizing::new(vec![0; filled.saturating_mul(2).min(max)]);
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
