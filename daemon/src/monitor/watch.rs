//! A thread that notices changes of paths (SPEC L14): by inotify(7) on Linux, by kqueue(2) on macOS,
//! and by looking every few seconds where these do not work.
//!
//! It opens no file for reading. A change is reported once a short time has passed without a further
//! one, since programs replace files in several steps.

#[cfg(target_os = "linux")]
mod inotify;
#[cfg(not(target_os = "linux"))]
mod kqueue;

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use self::inotify::Source;
#[cfg(not(target_os = "linux"))]
use self::kqueue::Source;
use super::Event;
use crate::watched::WatchedPath;

/// A change is reported after this time without another one.
const QUIET_INTERVAL: Duration = Duration::from_millis(200);
/// A change is reported after this time at the latest.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the paths are looked at where the kernel does not report changes.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// A running watch. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Watch {
    /// The thread waits for the end of this connection too.
    _alive: UnixStream,
}

/// Why the thread woke up, the most important reason last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Woken {
    /// The time is over, or something else has changed.
    Nothing,
    /// A path may have changed.
    Hint,
    /// A path has changed.
    Changed,
    /// The watch was dropped.
    Dropped,
}

impl Watch {
    /// Starts to watch. A path whose state differs from its stamp is reported too: it has changed
    /// before the watch began. `None`, with a line in the log, if there is no thread or socket for it.
    pub(super) fn start(
        number: u32,
        paths: Vec<WatchedPath>,
        events: SyncSender<Event>,
    ) -> Option<Self> {
        let start = || {
            let (alive, end) = UnixStream::pair()?;
            let thread = std::thread::Builder::new().name("watch".to_owned());
            thread.spawn(move || watch(number, paths, &end, &events))?;
            Ok(Self { _alive: alive })
        };
        let started: std::io::Result<Self> = start();
        match started {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::error!(
                    "cannot watch the files of the system: {error}; after changes of name servers, hosts or roots, \
                     reload the proxy"
                );
                None
            }
        }
    }
}

/// Reports changes until the watch is dropped.
fn watch(number: u32, mut paths: Vec<WatchedPath>, end: &UnixStream, events: &SyncSender<Event>) {
    let source = Source::open(&paths);
    let missing = match &source {
        Ok(source) => source.missing(),
        Err(error) => Some(*error),
    };
    if let Some(error) = missing {
        say_that_it_polls(error);
    }
    let source = source.ok();
    let mut change = UnreportedChanges::default();
    if paths.iter().any(WatchedPath::has_changed) {
        change.note();
    }
    loop {
        let limit = match change.due() {
            Some(due) => Some(due.saturating_duration_since(Instant::now())),
            None => missing.map(|_| POLL_INTERVAL),
        };
        let woken = match &source {
            Some(source) => source.wait(end, limit),
            None => without_source(end, limit),
        };
        match woken {
            Woken::Dropped => return,
            Woken::Changed => change.note(),
            Woken::Hint if has_changed(&mut paths) => change.note(),
            Woken::Nothing if missing.is_some() && has_changed(&mut paths) => change.note(),
            Woken::Hint | Woken::Nothing => {}
        }
        if change.due().is_some_and(|due| due <= Instant::now()) {
            change = UnreportedChanges::default();
            if events.send(Event::SystemFilesChanged(number)).is_err() {
                return;
            }
        }
    }
}

/// The changes that were not reported yet.
#[derive(Clone, Copy, Debug, Default)]
struct UnreportedChanges {
    /// The time of the first and of the last one.
    seen: Option<(Instant, Instant)>,
}

impl UnreportedChanges {
    fn note(&mut self) {
        let now = Instant::now();
        let (first, _) = self.seen.unwrap_or((now, now));
        self.seen = Some((first, now));
    }

    /// When they are reported.
    fn due(&self) -> Option<Instant> {
        let (first, last) = self.seen?;
        Some((last + QUIET_INTERVAL).min(first + REPORT_TIMEOUT))
    }
}

/// Whether a path has changed since the last look.
fn has_changed(paths: &mut [WatchedPath]) -> bool {
    let mut has_changed = false;
    for path in paths {
        if path.has_changed() {
            path.renew();
            has_changed = true;
        }
    }
    has_changed
}

/// Waits without the kernel's help.
fn without_source(end: &UnixStream, limit: Option<Duration>) -> Woken {
    use std::os::fd::AsFd as _;

    use nix::poll::{PollFd, PollFlags};
    let mut ends = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
    poll(&mut ends, limit);
    if is_ready(&ends[0]) {
        Woken::Dropped
    } else {
        Woken::Nothing
    }
}

/// Waits until a descriptor is ready, or for a limited time.
fn poll(descriptors: &mut [nix::poll::PollFd<'_>], limit: Option<Duration>) {
    use nix::poll::PollTimeout;
    // Rounded up: a wait that ends a moment too early would be repeated without a pause.
    let limit = limit.map_or(PollTimeout::NONE, |limit| {
        PollTimeout::try_from(limit + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    });
    if let Err(error) = nix::poll::poll(descriptors, limit)
        && error != nix::Error::EINTR
    {
        tracing::debug!(%error, "cannot wait for changes of files");
        std::thread::sleep(QUIET_INTERVAL);
    }
}

fn is_ready(descriptor: &nix::poll::PollFd<'_>) -> bool {
    descriptor.any().unwrap_or(false)
}

/// Says once that changes are noticed late, and why.
fn say_that_it_polls(why: nix::Error) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "the kernel does not report all changes of name servers, hosts and roots ({why}); they are looked at every \
             {} s too",
            POLL_INTERVAL.as_secs()
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::mpsc::{self, Receiver, RecvTimeoutError};

    use super::*;
    use crate::watched::{Collection, WatchedPart};

    /// Longer than any test needs.
    const AMPLE: Duration = Duration::from_secs(60);

    fn watched(path: &Path) -> (Watch, Receiver<Event>) {
        let mut paths = Collection::default();
        paths.add(path, WatchedPart::Itself);
        let (events, seen) = mpsc::sync_channel(8);
        let watch = Watch::start(7, paths.stamped(), events).expect("a thread");
        (watch, seen)
    }

    #[track_caller]
    fn reports(seen: &Receiver<Event>) {
        let event = seen.recv_timeout(AMPLE).expect("a change is reported");
        assert!(matches!(event, Event::SystemFilesChanged(7)));
    }

    #[test]
    fn l14_each_way_to_change_a_file_is_reported_and_many_changes_at_once_are_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().canonicalize().expect("its own path");
        fs::create_dir(root.join("run")).expect("a directory");
        fs::write(root.join("run/a"), "a").expect("a file");
        fs::write(root.join("run/b"), "b").expect("a file");
        let file = root.join("resolv.conf");
        symlink("run/a", &file).expect("a link");
        for change in [
            // In place, renamed over, a link replaced, a directory on the way replaced, removed.
            (|root: &Path| fs::write(root.join("run/a"), "c")) as fn(&Path) -> std::io::Result<()>,
            |root| fs::rename(root.join("run/b"), root.join("run/a")),
            |root| {
                symlink("run/b", root.join("new"))?;
                fs::rename(root.join("new"), root.join("resolv.conf"))
            },
            |root| fs::write(root.join("run/b"), "made where the link leads"),
            |root| fs::rename(root.join("run"), root.join("gone")),
            |root| fs::rename(root.join("gone"), root.join("run")),
            |root| fs::remove_file(root.join("run/b")),
            |root| {
                (0..100).try_for_each(|number| fs::write(root.join("run/b"), number.to_string()))
            },
        ] {
            let (_watch, seen) = watched(&file);
            change(&root).expect("a change");
            reports(&seen);
            assert!(matches!(
                seen.recv_timeout(2 * QUIET_INTERVAL),
                Err(RecvTimeoutError::Timeout)
            ));
        }
    }

    #[test]
    fn l14_a_change_before_the_watch_began_is_reported_and_a_dropped_watch_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("hosts");
        fs::write(&file, "one").expect("a file");
        let mut paths = Collection::default();
        paths.add(&file, WatchedPart::Itself);
        let paths = paths.stamped();
        fs::write(&file, "two").expect("a file");
        let (events, seen) = mpsc::sync_channel(8);
        let watch = Watch::start(7, paths, events);
        reports(&seen);
        drop(watch);
        let ended = seen.recv_timeout(AMPLE);
        assert!(matches!(ended, Err(RecvTimeoutError::Disconnected)));
    }

    #[test]
    fn l14_a_file_that_never_comes_to_rest_is_reported_all_the_same() {
        let mut change = UnreportedChanges::default();
        assert_eq!(change.due(), None);
        let long_ago = Instant::now()
            .checked_sub(REPORT_TIMEOUT)
            .expect("the machine is up for that long");
        change.seen = Some((long_ago, long_ago));
        change.note();
        assert!(change.due().is_some_and(|due| due <= Instant::now()));
        let mut fresh = UnreportedChanges::default();
        fresh.note();
        assert!(fresh.due().is_some_and(|due| due > Instant::now()));
    }

    #[test]
    fn l14_without_the_kernels_help_a_look_finds_a_change_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("hosts");
        let mut paths = Collection::default();
        paths.add(&file, WatchedPart::Itself);
        let mut paths = paths.stamped();
        assert!(!has_changed(&mut paths));
        fs::write(&file, "one").expect("a file");
        assert!(has_changed(&mut paths));
        assert!(!has_changed(&mut paths));
        let (alive, end) = UnixStream::pair().expect("a pair");
        let soon = Some(Duration::from_millis(1));
        assert_eq!(without_source(&end, soon), Woken::Nothing);
        drop(alive);
        assert_eq!(without_source(&end, None), Woken::Dropped);
    }
}
