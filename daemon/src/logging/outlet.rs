//! A bounded queue between the callers that log and a sink that may block.
//!
//! A caller never waits: it puts an entry into the queue, and a thread writes it. If the sink is
//! not read, the queue fills up and further entries are lost. The log reports their number as soon
//! as there is room again. So a stopped terminal, a full pipe or a stuck journal costs log lines
//! and never a client.
//!
//! An entry is lost only in these cases:
//!
//! - [`MAX_ENTRIES`] or [`MAX_BYTES`] are waiting (counted and reported);
//! - the sink refuses it, as a pipe without a reader (counted, and reported when it accepts
//!   another);
//! - the journal goes away between the check and the send;
//! - the process is killed, or the waiting entries are not read within the limit of
//!   [`Outlet::flush`].

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Most entries that wait.
const MAX_ENTRIES: usize = 4096;
/// Most bytes that wait.
const MAX_BYTES: usize = 4 << 20;

/// An entry that can wait in the queue.
pub(super) trait Entry: Send + 'static {
    /// Its memory, in bytes.
    fn size(&self) -> usize;
}

/// The queue.
pub(super) struct Outlet<E> {
    queue: Mutex<Queue<E>>,
    filled: Condvar,
    drained: Condvar,
    /// Makes the entry that reports lost ones.
    notice: fn(u64) -> E,
}

struct Queue<E> {
    entries: VecDeque<WaitingEntry<E>>,
    bytes: usize,
    /// Entries lost since the last waiting one, because the queue was full.
    lost: u64,
    /// Entries lost since the sink last accepted one, because it refused them.
    refused: u64,
    writer: WriterState,
}

struct WaitingEntry<E> {
    entry: E,
    /// How many entries are lost with this one: a notice stands for those that it reports.
    stands_for: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WriterState {
    NotStarted,
    Idle,
    Writing,
}

impl<E: Entry> Outlet<E> {
    /// An empty queue. Nothing is written before [`start`](Self::start). `notice` makes the entry
    /// that reports lost ones.
    pub(super) fn new(notice: fn(u64) -> E) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue {
                entries: VecDeque::new(),
                bytes: 0,
                lost: 0,
                refused: 0,
                writer: WriterState::NotStarted,
            }),
            filled: Condvar::new(),
            drained: Condvar::new(),
            notice,
        })
    }

    /// Starts the thread that writes each entry with `write`, however long that takes. The thread
    /// lives as long as the process.
    pub(super) fn start(
        self: &Arc<Self>,
        write: impl Fn(&E) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let outlet = Arc::clone(self);
        self.lock().writer = WriterState::Idle;
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                loop {
                    let waiting = outlet.next();
                    let outcome = write(&waiting.entry);
                    outlet.written(&waiting, &outcome);
                }
            })
            .inspect_err(|_| self.lock().writer = WriterState::NotStarted)?;
        Ok(())
    }

    /// Appends an entry, or counts it as lost. Never waits for the writer.
    pub(super) fn push(&self, entry: E) {
        let mut queue = self.lock();
        if queue.entries.len() >= MAX_ENTRIES || queue.bytes + entry.size() > MAX_BYTES {
            queue.lost += 1;
            return;
        }
        let lost = std::mem::take(&mut queue.lost) + std::mem::take(&mut queue.refused);
        if lost > 0 {
            queue.put((self.notice)(lost), lost);
        }
        queue.put(entry, 1);
        drop(queue);
        self.filled.notify_one();
    }

    /// Waits until everything is written, at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let mut queue = self.lock();
        if queue.writer == WriterState::NotStarted {
            return;
        }
        let unwritten = |queue: &mut Queue<E>| {
            queue.writer == WriterState::Writing || !queue.entries.is_empty() || queue.lost > 0
        };
        self.drained.wait_while_for(&mut queue, unwritten, limit);
    }

    /// The next entry to write, once there is one.
    fn next(&self) -> WaitingEntry<E> {
        let mut queue = self.lock();
        loop {
            let waiting = queue.take().or_else(|| {
                let lost = std::mem::take(&mut queue.lost);
                (lost > 0).then(|| WaitingEntry {
                    entry: (self.notice)(lost),
                    stands_for: lost,
                })
            });
            if let Some(waiting) = waiting {
                queue.writer = WriterState::Writing;
                return waiting;
            }
            self.filled.wait(&mut queue);
        }
    }

    fn written(&self, waiting: &WaitingEntry<E>, outcome: &io::Result<()>) {
        let mut queue = self.lock();
        queue.writer = WriterState::Idle;
        if outcome.is_err() {
            queue.refused += waiting.stands_for;
        }
        drop(queue);
        self.drained.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue<E>> {
        self.queue.lock()
    }
}

impl<E: Entry> Queue<E> {
    fn put(&mut self, entry: E, stands_for: u64) {
        self.bytes += entry.size();
        self.entries.push_back(WaitingEntry { entry, stands_for });
    }

    fn take(&mut self) -> Option<WaitingEntry<E>> {
        let waiting = self.entries.pop_front()?;
        self.bytes -= waiting.entry.size();
        Some(waiting)
    }
}

/// An entry of one or more lines.
impl Entry for Vec<u8> {
    fn size(&self) -> usize {
        self.capacity()
    }
}

/// Writes lines without the standard library's lock, for which other threads would wait.
pub(super) fn write_to_stderr(lines: &Vec<u8>) -> io::Result<()> {
    let mut rest = lines.as_slice();
    let stderr = io::stderr();
    while !rest.is_empty() {
        match nix::unistd::write(&stderr, rest) {
            Ok(written) => rest = &rest[written..],
            Err(nix::Error::EINTR) => {}
            // Another process that shares our standard error may have made it non-blocking.
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

    fn outlet() -> Arc<Outlet<Vec<u8>>> {
        Outlet::new(|lost| format!("{lost} lost").into_bytes())
    }

    /// The entries that the sink gets until the queue is empty.
    fn drain(outlet: &Outlet<Vec<u8>>) -> Vec<String> {
        let mut taken = Vec::new();
        while !outlet.lock().entries.is_empty() || outlet.lock().lost > 0 {
            let waiting = outlet.next();
            outlet.written(&waiting, &Ok(()));
            taken.push(String::from_utf8(waiting.entry).expect("text"));
        }
        taken
    }

    #[test]
    fn r4_a_full_queue_drops_new_entries_and_reports_their_number_in_the_gap() {
        let outlet = outlet();
        for number in 0..MAX_ENTRIES + 3 {
            outlet.push(number.to_string().into_bytes());
        }
        let first = outlet.next();
        outlet.written(&first, &Ok(()));
        outlet.push(b"later".to_vec());
        let taken = drain(&outlet);
        let last = &taken[taken.len() - 3..];
        assert_eq!(last, ["4095", "3 lost", "later"]);
        assert_eq!(taken.len(), MAX_ENTRIES + 1);
    }

    #[test]
    fn r4_lost_entries_are_reported_even_if_no_entry_follows() {
        let outlet = outlet();
        let large = vec![b'x'; MAX_BYTES / 2];
        for _ in 0..5 {
            outlet.push(large.clone());
        }
        let taken = drain(&outlet);
        assert_eq!(taken.len(), 3);
        assert_eq!(taken[2], "3 lost");
    }

    #[test]
    fn r4_refused_entries_are_reported_when_the_sink_accepts_again() {
        let outlet = outlet();
        outlet.push(b"one".to_vec());
        outlet.push(b"two".to_vec());
        for _ in 0..2 {
            let waiting = outlet.next();
            outlet.written(&waiting, &Err(io::ErrorKind::BrokenPipe.into()));
        }
        outlet.push(b"three".to_vec());
        // The notice is refused too, and the entries that it reports still count.
        let notice = outlet.next();
        assert_eq!(notice.entry, b"2 lost");
        outlet.written(&notice, &Err(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(drain(&outlet), ["three"]);
        outlet.push(b"four".to_vec());
        assert_eq!(drain(&outlet), ["2 lost", "four"]);
    }

    #[test]
    fn r4_a_sink_that_accepts_nothing_blocks_no_caller() {
        let (one, other) = std::os::unix::net::UnixDatagram::pair().expect("sockets");
        let outlet = outlet();
        outlet
            .start(move |entry| one.send(entry).map(|_| ()))
            .expect("a thread");
        // Far more than a socket's queue holds.
        for number in 0..3000 {
            outlet.push(number.to_string().into_bytes());
        }
        outlet.flush(Duration::from_millis(10));
        let mut entry = [0; 16];
        for number in 0..3000 {
            let length = other.recv(&mut entry).expect("an entry");
            assert_eq!(entry[..length], *number.to_string().as_bytes());
        }
        outlet.flush(LIMIT);
        assert!(outlet.lock().entries.is_empty());
    }
}
