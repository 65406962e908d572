//! The files of the system that the worker needs, on their way from a loader through the monitor
//! (SPEC L14): the hosts file, `/etc/resolv.conf`, and the roots with the CA's public facts.
//!
//! They change at run time, so they are apart from the settings. A loader reads them for a
//! [`Plan`], which it made from the settings. The monitor keeps the last usable content of each,
//! does not parse it, and watches the paths.

use std::path::PathBuf;

use super::layout::{Malformed, Reader, Writer};
use crate::watched::{MAX_WATCHED, WatchedPart, WatchedPath};

/// Which files the settings in force need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The hosts file of the settings; `None` is the system's.
    pub(crate) hosts_file: Option<PathBuf>,
    /// Whether the system names the name servers.
    pub(crate) resolv_conf: FileUse,
    pub(crate) roots: FileUse,
    /// The certificate (DER) of the CA in force, and its own file. `None` without interception.
    pub(crate) ca: Option<(Vec<u8>, Option<PathBuf>)>,
    /// The certificate of the CA that ends with the monitor. It is never a root.
    pub(crate) ephemeral: Vec<u8>,
    /// The directory of the public files.
    pub(crate) state: Option<PathBuf>,
    /// Whether the public files are written. A CA that ends with the monitor would leave new ones at each
    /// start, so they wait until something can be intercepted (SPEC M5).
    pub(crate) public_files: FileUse,
}

/// Whether a file is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FileUse {
    #[default]
    No = 0,
    Yes = 1,
}

/// The parts for the worker.
pub(crate) const PARTS: usize = 4;

/// The files as they are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SystemFiles {
    pub(crate) plan: Plan,
    pub(crate) watched: Vec<WatchedPath>,
    /// The contents, in the order of `opaque/file_contents.rs`, which writes and reads them.
    pub(crate) parts: [Vec<u8>; PARTS],
}

/// A loader's output for a [`Plan`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FoundFiles {
    pub(crate) watched: Vec<WatchedPath>,
    /// As in [`SystemFiles`]; `None` where a file cannot be used.
    pub(crate) parts: [Option<Vec<u8>>; PARTS],
}

/// Whether files have another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Same,
    Changed,
}

impl SystemFiles {
    /// Takes over the usable parts. The others stay as they were.
    pub(crate) fn take_over(&mut self, found: FoundFiles) -> Content {
        self.watched = found.watched;
        let mut content = Content::Same;
        for (part, found) in self.parts.iter_mut().zip(found.parts) {
            if let Some(found) = found
                && found != *part
            {
                *part = found;
                content = Content::Changed;
            }
        }
        content
    }

    /// The bytes for the worker.
    pub(crate) fn blob(&self) -> Vec<u8> {
        let mut out = Writer::default();
        for part in &self.parts {
            out.counted(part);
        }
        out.0
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        self.plan.encode(out);
        out.watched(&self.watched);
        for part in &self.parts {
            out.counted(part);
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            plan: Plan::decode(input)?,
            watched: input.watched()?,
            parts: [
                input.counted()?.to_vec(),
                input.counted()?.to_vec(),
                input.counted()?.to_vec(),
                input.counted()?.to_vec(),
            ],
        })
    }
}

/// The parts of [`SystemFiles::blob`].
pub(crate) fn split_blob(blob: &[u8]) -> Result<[&[u8]; PARTS], Malformed> {
    let mut input = Reader(blob);
    let mut parts = [&[][..]; PARTS];
    for part in &mut parts {
        *part = input.counted()?;
    }
    input.end(parts)
}

impl FoundFiles {
    pub(super) fn encode(&self, out: &mut Writer) {
        out.watched(&self.watched);
        for part in &self.parts {
            out.optional(part.as_deref());
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            watched: input.watched()?,
            parts: [
                input.optional()?.map(<[u8]>::to_vec),
                input.optional()?.map(<[u8]>::to_vec),
                input.optional()?.map(<[u8]>::to_vec),
                input.optional()?.map(<[u8]>::to_vec),
            ],
        })
    }
}

impl Plan {
    pub(super) fn encode(&self, out: &mut Writer) {
        out.optional_path(self.hosts_file.as_deref());
        out.u8(self.resolv_conf as u8);
        out.u8(self.roots as u8);
        match &self.ca {
            None => out.u8(0),
            Some((der, kept_at)) => {
                out.u8(1);
                out.counted(der);
                out.optional_path(kept_at.as_deref());
            }
        }
        out.counted(&self.ephemeral);
        out.optional_path(self.state.as_deref());
        out.u8(self.public_files as u8);
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            hosts_file: input.optional_path()?,
            resolv_conf: input.used()?,
            roots: input.used()?,
            ca: match input.u8()? {
                0 => None,
                1 => Some((input.counted()?.to_vec(), input.optional_path()?)),
                _ => return Err(Malformed),
            },
            ephemeral: input.counted()?.to_vec(),
            state: input.optional_path()?,
            public_files: input.used()?,
        })
    }
}

impl Writer {
    fn optional(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.u8(0),
            Some(bytes) => {
                self.u8(1);
                self.counted(bytes);
            }
        }
    }

    fn optional_path(&mut self, path: Option<&std::path::Path>) {
        match path {
            None => self.u8(0),
            Some(path) => {
                self.u8(1);
                self.path(path);
            }
        }
    }

    fn watched(&mut self, watched: &[WatchedPath]) {
        self.u32(u32::try_from(watched.len()).unwrap_or(u32::MAX));
        for WatchedPath { path, part, stamp } in watched {
            self.path(path);
            self.u8(*part as u8);
            self.u64(*stamp);
        }
    }
}

impl<'a> Reader<'a> {
    fn optional(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => Ok(Some(self.counted()?)),
            _ => Err(Malformed),
        }
    }

    fn optional_path(&mut self) -> Result<Option<PathBuf>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => Ok(Some(self.path()?)),
            _ => Err(Malformed),
        }
    }

    fn used(&mut self) -> Result<FileUse, Malformed> {
        match self.u8()? {
            0 => Ok(FileUse::No),
            1 => Ok(FileUse::Yes),
            _ => Err(Malformed),
        }
    }

    fn watched(&mut self) -> Result<Vec<WatchedPath>, Malformed> {
        let count = self.u32()? as usize;
        if count > MAX_WATCHED {
            return Err(Malformed);
        }
        let one = |input: &mut Self| {
            Ok(WatchedPath {
                path: input.path()?,
                part: match input.u8()? {
                    0 => WatchedPart::Itself,
                    1 => WatchedPart::Entries,
                    _ => return Err(Malformed),
                },
                stamp: input.u64()?,
            })
        };
        (0..count).map(|_| one(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> SystemFiles {
        SystemFiles {
            plan: Plan {
                hosts_file: Some("/etc/other-hosts".into()),
                resolv_conf: FileUse::Yes,
                roots: FileUse::No,
                ca: Some((b"DER".to_vec(), Some("/state/ca.pem".into()))),
                ephemeral: b"other DER".to_vec(),
                state: None,
                public_files: FileUse::Yes,
            },
            watched: vec![WatchedPath {
                path: "/etc/resolv.conf".into(),
                part: WatchedPart::Entries,
                stamp: 7,
            }],
            parts: ["hosts", "servers", "roots", ""].map(Into::into),
        }
    }

    #[test]
    fn l14_system_files_are_read_back_unchanged_and_never_in_part() {
        let files = files();
        let mut out = Writer::default();
        files.encode(&mut out);
        for end in 0..out.0.len() {
            let mut input = Reader(&out.0[..end]);
            assert_eq!(SystemFiles::decode(&mut input), Err(Malformed), "{end}");
        }
        assert_eq!(SystemFiles::decode(&mut Reader(&out.0)), Ok(files));
    }

    #[test]
    fn l14_a_file_that_cannot_be_used_leaves_the_old_content_in_force() {
        let mut files = files();
        let before = files.clone();
        let found = FoundFiles {
            watched: Vec::new(),
            parts: [None, None, Some(b"roots".to_vec()), Some(Vec::new())],
        };
        let mut out = Writer::default();
        found.encode(&mut out);
        assert_eq!(FoundFiles::decode(&mut Reader(&out.0)).as_ref(), Ok(&found));
        assert_eq!(files.take_over(found), Content::Same);
        assert_eq!(files.parts, before.parts);
        assert!(files.watched.is_empty(), "the new paths are watched");
        let found = FoundFiles {
            watched: Vec::new(),
            parts: [None, Some(b"other".to_vec()), None, Some(b"why".to_vec())],
        };
        assert_eq!(files.take_over(found), Content::Changed);
        assert_eq!(
            files.parts,
            ["hosts", "other", "roots", "why"].map(Vec::from)
        );
        let blob = files.blob();
        let parts = split_blob(&blob).map(|parts| parts.map(<[u8]>::to_vec));
        assert_eq!(parts, Ok(files.parts));
    }
}
