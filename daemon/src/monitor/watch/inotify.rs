//! Changes of paths from the kernel: inotify(7).
//!
//! Directories are watched for the names on the way, so that a file that is created, replaced or
//! renamed is noticed. Files are watched themselves, for what is written into them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::{Woken, is_ready, poll};
use crate::watched::{WatchedPart, WatchedPath, split};

/// The kernel's reports.
#[derive(Debug)]
pub(super) struct Source {
    inotify: Inotify,
    watched: HashMap<WatchDescriptor, Names>,
    /// Why some of the paths are not watched.
    missing: Option<Errno>,
}

/// The names in a directory that count.
#[derive(Debug, Default)]
struct Names {
    some: HashSet<OsString>,
    filter: NameFilter,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum NameFilter {
    #[default]
    Some,
    All,
}

/// A path to watch.
#[derive(Debug, Default)]
struct WatchRequest {
    flags: Option<AddWatchFlags>,
    names: Names,
}

impl WatchRequest {
    fn add(&mut self, flags: AddWatchFlags) {
        let before = self.flags.unwrap_or(AddWatchFlags::empty());
        self.flags = Some(before | flags);
    }
}

impl Source {
    /// Watches the paths, and the directories that they are in.
    pub(super) fn open(paths: &[WatchedPath]) -> nix::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let itself = AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DONT_FOLLOW;
        let written = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE;
        let listed = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        // One watch for each path: a second one of the same inode would replace the first.
        let mut requested: BTreeMap<&Path, WatchRequest> = BTreeMap::new();
        for WatchedPath { path, part, .. } in paths {
            if let Some((directory, name)) = split(path) {
                let directory = requested.entry(directory).or_default();
                directory.add(itself | listed);
                directory.names.some.insert(name.to_owned());
            }
            match part {
                WatchedPart::Entries => {
                    let directory = requested.entry(path).or_default();
                    directory.add(itself | listed | written);
                    directory.names.filter = NameFilter::All;
                }
                // Links cannot be written, and directories are watched for what is in them.
                WatchedPart::Itself if path.symlink_metadata().is_ok_and(|it| it.is_file()) => {
                    requested.entry(path).or_default().add(itself | written);
                }
                WatchedPart::Itself => {}
            }
        }
        let mut watched = HashMap::new();
        let mut missing = None;
        for (path, WatchRequest { flags, names }) in requested {
            let flags = flags.unwrap_or(itself);
            match inotify.add_watch(path, flags) {
                Ok(descriptor) => drop(watched.insert(descriptor, names)),
                // The directory that it would be in is watched, or the next one above.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                // A directory that this user may not list, or the limit of watches.
                Err(error) => missing = Some(error),
            }
        }
        Ok(Self {
            inotify,
            watched,
            missing,
        })
    }

    /// Why some of the paths are not watched; they must be looked at.
    pub(super) fn missing(&self) -> Option<Errno> {
        self.missing
    }

    /// Waits for a change, or for a limited time.
    pub(super) fn wait(&self, end: &UnixStream, limit: Option<Duration>) -> Woken {
        let mut ready = [
            PollFd::new(end.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut ready, limit);
        if is_ready(&ready[0]) {
            return Woken::Dropped;
        }
        let events = self.inotify.read_events().unwrap_or_default();
        events
            .iter()
            .map(|event| self.woken_by(event))
            .max()
            .unwrap_or(Woken::Nothing)
    }

    fn woken_by(&self, event: &InotifyEvent) -> Woken {
        // The queue was full, so events are missing.
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return Woken::Changed;
        }
        let Some(names) = self.watched.get(&event.wd) else {
            return Woken::Nothing;
        };
        let counts = match &event.name {
            Some(name) => names.filter == NameFilter::All || names.some.contains(name),
            // The path itself.
            None => true,
        };
        if !counts {
            Woken::Nothing
        } else if event.mask.contains(AddWatchFlags::IN_ATTRIB) {
            // Of a directory it may be anything, such as a new time stamp.
            Woken::Hint
        } else {
            Woken::Changed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l14_a_path_that_cannot_be_watched_does_not_keep_the_others_from_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let watched = |path: std::path::PathBuf| WatchedPath {
            path,
            part: WatchedPart::Itself,
            stamp: 0,
        };
        let file = watched(directory.path().join("hosts"));
        let source = Source::open(std::slice::from_ref(&file)).expect("inotify");
        assert_eq!(source.missing(), None);
        let too_long = watched(directory.path().join("x".repeat(300)).join("hosts"));
        let source = Source::open(&[too_long, file.clone()]).expect("inotify");
        assert_eq!(source.missing(), Some(Errno::ENAMETOOLONG));
        std::fs::write(&file.path, "one").expect("a file");
        let (_alive, end) = UnixStream::pair().expect("a pair");
        assert_eq!(source.wait(&end, None), Woken::Changed);
    }
}
