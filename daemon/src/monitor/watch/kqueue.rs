//! Changes of paths from the kernel: kqueue(2).
//!
//! It reports that a directory has changed and not which name in it, so a change of a directory is
//! only a hint. Files are watched themselves, for what is written into them.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags};
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use nix::sys::stat::Mode;

use super::{Woken, is_ready, poll};
use crate::watched::{WatchedPath, split};

/// Events that are read at once.
const MAX_EVENTS: usize = 64;

/// The kernel's reports.
#[derive(Debug)]
pub(super) struct Source {
    queue: Kqueue,
    /// Open for events alone, and which of them are files.
    open: HashMap<usize, (OwnedFd, Woken)>,
    /// Why some of the paths are not watched.
    missing: Option<Errno>,
}

impl Source {
    /// Watches the paths, and the directories that they are in.
    pub(super) fn open(paths: &[WatchedPath]) -> nix::Result<Self> {
        let mut source = Self {
            queue: Kqueue::new()?,
            open: HashMap::new(),
            missing: None,
        };
        let mut seen = std::collections::BTreeSet::new();
        for watched in paths {
            let directory = split(&watched.path).map(|(directory, _)| directory);
            for path in directory.into_iter().chain([watched.path.as_path()]) {
                if seen.insert(path.to_owned()) {
                    // A path that this user may not open, or the limit of descriptors.
                    source.missing = source.add(path).err().or(source.missing);
                }
            }
        }
        Ok(source)
    }

    /// Why some of the paths are not watched; they must be looked at.
    pub(super) fn missing(&self) -> Option<Errno> {
        self.missing
    }

    fn add(&mut self, path: &Path) -> nix::Result<()> {
        // Links are not opened: the directories that they are in are watched.
        let Ok(metadata) = path.symlink_metadata() else {
            return Ok(());
        };
        if metadata.is_symlink() {
            return Ok(());
        }
        let flags = OFlag::from_bits_retain(libc::O_EVTONLY) | OFlag::O_CLOEXEC;
        let descriptor = open(path, flags, Mode::empty())?;
        let ident = usize::try_from(descriptor.as_raw_fd()).unwrap_or_default();
        let all = FilterFlag::NOTE_WRITE
            | FilterFlag::NOTE_EXTEND
            | FilterFlag::NOTE_ATTRIB
            | FilterFlag::NOTE_DELETE
            | FilterFlag::NOTE_RENAME;
        let add = EvFlags::EV_ADD | EvFlags::EV_CLEAR;
        let change = KEvent::new(ident, EventFilter::EVFILT_VNODE, add, all, 0, 0);
        self.queue.kevent(&[change], &mut [], None)?;
        let woken = if metadata.is_dir() {
            Woken::Hint
        } else {
            Woken::Changed
        };
        self.open.insert(ident, (descriptor, woken));
        Ok(())
    }

    /// Waits for a change, or for a limited time.
    pub(super) fn wait(&self, end: &UnixStream, limit: Option<Duration>) -> Woken {
        let mut ready = [
            PollFd::new(end.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.queue.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut ready, limit);
        if is_ready(&ready[0]) {
            return Woken::Dropped;
        }
        if !is_ready(&ready[1]) {
            return Woken::Nothing;
        }
        let none = KEvent::new(
            0,
            EventFilter::EVFILT_VNODE,
            EvFlags::empty(),
            FilterFlag::empty(),
            0,
            0,
        );
        let mut events = [none; MAX_EVENTS];
        let at_once = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let count = self.queue.kevent(&[], &mut events, Some(at_once));
        let events = &events[..count.unwrap_or_default()];
        let mut woken = Woken::Nothing;
        for event in events {
            match self.open.get(&event.ident()) {
                Some((_, Woken::Changed)) => return Woken::Changed,
                Some((_, hint)) => woken = *hint,
                None => {}
            }
        }
        woken
    }
}
