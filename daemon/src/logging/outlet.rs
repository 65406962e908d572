//! A bounded queue between those who log and a place that may not take what they say.
//!
//! Whoever logs never waits: it puts an entry into the queue, and a thread of its own writes. Where
//! nobody reads, the queue fills up and what comes then is lost; how much, the log says as soon as
//! there is room again. So a terminal that is stopped, a full pipe or a stuck journal costs log lines
//! and never a client.
//!
//! An entry is lost in these cases and in no other:
//!
//! - [`MOST_ENTRIES`] or [`MOST_BYTES`] wait already (counted, and told);
//! - the place refuses it, as a pipe whose reader has gone (counted, and told where it takes another);
//! - the process is killed, or nobody takes what waits within the limit of [`Outlet::flush`].

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Most entries that wait.
const MOST_ENTRIES: usize = 4096;
/// Most bytes that wait.
const MOST_BYTES: usize = 4 << 20;

/// Where entries go.
#[derive(Debug)]
pub(super) enum Sink {
    /// Lines on standard error.
    Stderr,
    /// Datagrams to the journal at this path.
    Journal(UnixDatagram, &'static str),
}

/// The queue.
pub(super) struct Outlet {
    queue: Mutex<Queue>,
    filled: Condvar,
    drained: Condvar,
    /// How the log says that entries were lost.
    notice: Notice,
}

/// Makes the entry that says how many were lost.
type Notice = Box<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Lost since the last entry that waits, for want of room.
    lost: u64,
    /// Lost since the sink took the last one, since it refused them.
    refused: u64,
    writer: Writer,
}

struct Entry {
    bytes: Vec<u8>,
    /// How many entries are lost when this one is: a notice stands for those that it tells of.
    stands_for: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Writer {
    #[default]
    NotStarted,
    Idle,
    Writing,
}

impl Outlet {
    /// An empty queue; nothing is written before [`start`](Self::start).
    pub(super) fn new(notice: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            notice: Box::new(notice),
        })
    }

    /// Starts the thread that writes. It lives as long as the process.
    pub(super) fn start(self: &Arc<Self>, sink: Sink) -> io::Result<()> {
        let outlet = Arc::clone(self);
        self.lock().writer = Writer::Idle;
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                loop {
                    let entry = outlet.next();
                    let outcome = sink.write(&entry.bytes);
                    outlet.written(&entry, &outcome);
                }
            })
            .inspect_err(|_| self.lock().writer = Writer::NotStarted)?;
        Ok(())
    }

    /// Puts an entry behind the others, or counts it as lost. Never waits for the sink.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut queue = self.lock();
        if queue.entries.len() >= MOST_ENTRIES || queue.bytes + bytes.len() > MOST_BYTES {
            queue.lost += 1;
            return;
        }
        let lost = std::mem::take(&mut queue.lost) + std::mem::take(&mut queue.refused);
        if lost > 0 {
            queue.put((self.notice)(lost), lost);
        }
        queue.put(bytes.to_vec(), 1);
        drop(queue);
        self.filled.notify_one();
    }

    /// Waits until everything is written, but no longer than `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let queue = self.lock();
        if queue.writer == Writer::NotStarted {
            return;
        }
        let unwritten = |queue: &mut Queue| {
            queue.writer == Writer::Writing || !queue.entries.is_empty() || queue.lost > 0
        };
        let _ = self.drained.wait_timeout_while(queue, limit, unwritten);
    }

    /// The next entry to write, once there is one.
    fn next(&self) -> Entry {
        let mut queue = self.lock();
        loop {
            let entry = queue.take().or_else(|| {
                let lost = std::mem::take(&mut queue.lost);
                (lost > 0).then(|| Entry {
                    bytes: (self.notice)(lost),
                    stands_for: lost,
                })
            });
            if let Some(entry) = entry {
                queue.writer = Writer::Writing;
                return entry;
            }
            queue = self
                .filled
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn written(&self, entry: &Entry, outcome: &io::Result<()>) {
        let mut queue = self.lock();
        queue.writer = Writer::Idle;
        if outcome.is_err() {
            queue.refused += entry.stands_for;
        }
        drop(queue);
        self.drained.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

impl Queue {
    fn put(&mut self, bytes: Vec<u8>, stands_for: u64) {
        self.bytes += bytes.len();
        self.entries.push_back(Entry { bytes, stands_for });
    }

    fn take(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes.len();
        Some(entry)
    }
}

impl Sink {
    /// Writes one entry, however long that takes.
    fn write(&self, entry: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => write_to_stderr(entry),
            Self::Journal(socket, place) => socket.send_to(entry, place).map(|_| ()),
        }
    }
}

/// Past the standard library's lock, which others would then wait for.
fn write_to_stderr(mut rest: &[u8]) -> io::Result<()> {
    let stderr = io::stderr();
    while !rest.is_empty() {
        match nix::unistd::write(&stderr, rest) {
            Ok(written) => rest = &rest[written..],
            Err(nix::Error::EINTR) => {}
            // Whoever shares our standard error may have made it non-blocking.
            Err(nix::Error::EAGAIN) => {
                let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
                poll(&mut room, PollTimeout::NONE)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn outlet() -> Arc<Outlet> {
        Outlet::new(|lost| format!("{lost} lost").into_bytes())
    }

    /// What the sink takes until nothing is left to write.
    fn drain(outlet: &Outlet) -> Vec<String> {
        let mut taken = Vec::new();
        while !outlet.lock().entries.is_empty() || outlet.lock().lost > 0 {
            let entry = outlet.next();
            outlet.written(&entry, &Ok(()));
            taken.push(String::from_utf8(entry.bytes).expect("text"));
        }
        taken
    }

    #[test]
    fn r4_a_full_queue_loses_what_comes_and_says_how_much_at_the_place_of_the_gap() {
        let outlet = outlet();
        for number in 0..MOST_ENTRIES + 3 {
            outlet.push(number.to_string().as_bytes());
        }
        let first = outlet.next();
        outlet.written(&first, &Ok(()));
        outlet.push(b"later");
        let taken = drain(&outlet);
        let last = &taken[taken.len() - 3..];
        assert_eq!(last, ["4095", "3 lost", "later"]);
        assert_eq!(taken.len(), MOST_ENTRIES + 1);
    }

    #[test]
    fn r4_what_was_lost_is_said_even_when_nothing_follows() {
        let outlet = outlet();
        let large = vec![b'x'; MOST_BYTES / 2];
        for _ in 0..5 {
            outlet.push(&large);
        }
        let taken = drain(&outlet);
        assert_eq!(taken.len(), 3);
        assert_eq!(taken[2], "3 lost");
    }

    #[test]
    fn r4_what_the_place_refused_is_said_when_it_takes_something_again() {
        let outlet = outlet();
        outlet.push(b"one");
        outlet.push(b"two");
        for _ in 0..2 {
            let entry = outlet.next();
            outlet.written(&entry, &Err(io::ErrorKind::BrokenPipe.into()));
        }
        outlet.push(b"three");
        // The notice is refused too, and what it tells of is not forgotten.
        let notice = outlet.next();
        assert_eq!(notice.bytes, b"2 lost");
        outlet.written(&notice, &Err(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(drain(&outlet), ["three"]);
        outlet.push(b"four");
        assert_eq!(drain(&outlet), ["2 lost", "four"]);
    }

    #[test]
    fn r4_a_journal_that_takes_nothing_holds_nobody_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("journal");
        let journal = UnixDatagram::bind(&place).expect("a free path");
        let place: &'static str = Box::leak(place.to_string_lossy().into_owned().into_boxed_str());
        let outlet = outlet();
        let socket = UnixDatagram::unbound().expect("a socket");
        outlet
            .start(Sink::Journal(socket, place))
            .expect("a thread");
        // Far more than a socket's queue holds.
        for number in 0..3000 {
            outlet.push(number.to_string().as_bytes());
        }
        outlet.flush(Duration::from_millis(10));
        let mut entry = [0; 16];
        for number in 0..3000 {
            let length = journal.recv(&mut entry).expect("an entry");
            assert_eq!(entry[..length], *number.to_string().as_bytes());
        }
        outlet.flush(LIMIT);
        assert!(outlet.lock().entries.is_empty());
    }
}
