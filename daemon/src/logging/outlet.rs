//! A bounded queue between the callers that log and a sink that may block.
//!
//! A caller never waits: it puts an entry into the queue, and a thread writes it. If the sink is
//! not read, the queue fills up and further entries are lost. The log reports their number as soon
//! as there is room again. So a stopped terminal, a full pipe or a stuck journal costs log lines
//! and never a client.
//!
//! A caller wakes the thread only if it sleeps. After it has written, the thread lets entries gather for
//! [`BATCH_INTERVAL`] and writes them together. So an entry after a quiet time is written at once, and
//! under load the cost of waking and writing is shared by many entries.
//!
//! An entry is lost only in these cases:
//!
//! - [`MAX_ENTRIES`] or [`MAX_BYTES`] are waiting (counted and reported);
//! - the sink refuses it, as a pipe without a reader (counted, and reported when it accepts
//!   another);
//! - the journal goes away between the check and the send;
//! - the process is killed, or the waiting entries are not read within the limit of
//!   [`Outlet::flush`]. If the log is read, a killed process loses the entries of the last
//!   [`BATCH_INTERVAL`] at most.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Most entries that wait.
const MAX_ENTRIES: usize = 4096;
/// Most bytes that wait.
const MAX_BYTES: usize = 4 << 20;
/// How long entries gather after others were written.
const BATCH_INTERVAL: Duration = Duration::from_millis(2);
/// Entries for which an empty queue keeps its memory.
const MAX_KEPT: usize = 64;

/// An entry that can wait in the queue.
pub(super) trait Entry: Send + 'static {
    /// Its memory, in bytes.
    fn size(&self) -> usize;
}

/// Takes entries from the queue, on a thread of its own.
pub(super) trait Sink<E>: Send + 'static {
    /// Writes the first of these entries, however long it takes. Returns their number, which is at least
    /// one, and whether they were accepted.
    fn write(&mut self, entries: &[WaitingEntry<E>]) -> (usize, io::Result<()>);
}

/// Writes entries one by one.
pub(super) struct OneByOne<F>(pub(super) F);

/// The queue.
pub(super) struct Outlet<E> {
    queue: Mutex<Queue<E>>,
    filled: Condvar,
    drained: Condvar,
    /// Makes the entry that reports lost ones.
    notice: fn(u64) -> E,
}

struct Queue<E> {
    /// The entries that the writer has not taken.
    entries: Vec<WaitingEntry<E>>,
    /// The number of entries that are not written, taken ones included, and their bytes.
    unwritten: usize,
    bytes: usize,
    /// Entries lost since the last waiting one, because the queue was full.
    lost: u64,
    /// Entries lost since the sink last accepted one, because it refused them.
    refused: u64,
    /// All entries that were lost, and when the last of them was.
    losses: Losses,
    writer: WriterState,
    /// How many callers wait in [`Outlet::flush`].
    flushing: usize,
}

/// Entries that were lost since the start.
#[derive(Clone, Copy, Default)]
pub(super) struct Losses {
    pub(super) entries: u64,
    /// When the last of them was lost.
    pub(super) last: Option<SystemTime>,
}

/// An entry in the queue.
pub(super) struct WaitingEntry<E> {
    pub(super) entry: E,
    /// How many entries are lost with this one: a notice stands for those that it reports.
    stands_for: u64,
    /// Whether it reports lost entries.
    is_notice: bool,
}

#[cfg(test)]
impl<E> WaitingEntry<E> {
    /// An entry that stands for itself.
    pub(super) fn new(entry: E) -> Self {
        Self {
            entry,
            stands_for: 1,
            is_notice: false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WriterState {
    NotStarted,
    /// It sleeps until an entry wakes it.
    Asleep,
    /// It writes, or lets entries gather.
    Awake,
}

impl<E: Entry> Outlet<E> {
    /// An empty queue. Nothing is written before [`start`](Self::start). `notice` makes the entry
    /// that reports lost ones.
    pub(super) fn new(notice: fn(u64) -> E) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue {
                entries: Vec::new(),
                unwritten: 0,
                bytes: 0,
                lost: 0,
                refused: 0,
                losses: Losses::default(),
                writer: WriterState::NotStarted,
                flushing: 0,
            }),
            filled: Condvar::new(),
            drained: Condvar::new(),
            notice,
        })
    }

    /// Starts the thread that passes the entries to `sink`. The thread lives as long as the process.
    pub(super) fn start(self: &Arc<Self>, mut sink: impl Sink<E>) -> io::Result<()> {
        let outlet = Arc::clone(self);
        self.lock().writer = WriterState::Asleep;
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                let mut taken = Vec::new();
                loop {
                    outlet.take(&mut taken);
                    let mut rest = taken.as_slice();
                    while !rest.is_empty() {
                        let (number, outcome) = sink.write(rest);
                        let (written, later) = rest.split_at(number.clamp(1, rest.len()));
                        outlet.written(written, &outcome);
                        rest = later;
                    }
                    taken.clear();
                    outlet.gather();
                }
            })
            .inspect_err(|_| self.lock().writer = WriterState::NotStarted)?;
        Ok(())
    }

    /// Appends an entry, or counts it as lost. Never waits for the writer.
    pub(super) fn push(&self, entry: E) {
        let mut queue = self.lock();
        if queue.unwritten >= MAX_ENTRIES || queue.bytes + entry.size() > MAX_BYTES {
            queue.lost += 1;
            queue.note_losses(1);
            return;
        }
        let was_filling = queue.is_filling();
        let lost = std::mem::take(&mut queue.lost) + std::mem::take(&mut queue.refused);
        if lost > 0 {
            queue.put_notice((self.notice)(lost), lost);
        }
        queue.put(entry);
        let wakes = match queue.writer {
            WriterState::NotStarted => false,
            WriterState::Asleep => true,
            WriterState::Awake => queue.is_filling() && !was_filling,
        };
        drop(queue);
        if wakes {
            self.filled.notify_one();
        }
    }

    /// The entries that were lost since the start.
    pub(super) fn losses(&self) -> Losses {
        self.lock().losses
    }

    /// Waits until everything is written, at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let mut queue = self.lock();
        if queue.writer == WriterState::NotStarted {
            return;
        }
        queue.flushing += 1;
        self.filled.notify_one();
        let unwritten = |queue: &mut Queue<E>| queue.unwritten > 0 || queue.lost > 0;
        self.drained.wait_while_for(&mut queue, unwritten, limit);
        queue.flushing -= 1;
    }

    /// Takes all entries, once there are some. `taken` is empty before.
    fn take(&self, taken: &mut Vec<WaitingEntry<E>>) {
        let mut queue = self.lock();
        loop {
            if queue.entries.is_empty() && queue.lost > 0 {
                let lost = std::mem::take(&mut queue.lost);
                queue.put_notice((self.notice)(lost), lost);
            }
            if !queue.entries.is_empty() {
                queue.writer = WriterState::Awake;
                std::mem::swap(&mut queue.entries, taken);
                return;
            }
            queue.writer = WriterState::Asleep;
            taken.shrink_to(MAX_KEPT);
            queue.entries.shrink_to(MAX_KEPT);
            self.filled.wait(&mut queue);
        }
    }

    fn written(&self, entries: &[WaitingEntry<E>], outcome: &io::Result<()>) {
        let bytes: usize = entries.iter().map(|waiting| waiting.entry.size()).sum();
        let mut queue = self.lock();
        queue.unwritten -= entries.len();
        queue.bytes -= bytes;
        if outcome.is_err() {
            queue.refused += entries
                .iter()
                .map(|waiting| waiting.stands_for)
                .sum::<u64>();
            // A notice stands for entries that count already.
            let new = entries.iter().filter(|waiting| !waiting.is_notice);
            queue.note_losses(new.count() as u64);
        }
        drop(queue);
        self.drained.notify_all();
    }

    /// Lets entries gather, so that they are written together.
    fn gather(&self) {
        let mut queue = self.lock();
        let has_time = |queue: &mut Queue<E>| !queue.is_filling() && queue.flushing == 0;
        self.filled
            .wait_while_for(&mut queue, has_time, BATCH_INTERVAL);
    }

    fn lock(&self) -> MutexGuard<'_, Queue<E>> {
        self.queue.lock()
    }
}

impl<E: Entry> Queue<E> {
    fn put(&mut self, entry: E) {
        self.append(WaitingEntry {
            entry,
            stands_for: 1,
            is_notice: false,
        });
    }

    /// Puts the report of lost entries into the queue.
    fn put_notice(&mut self, entry: E, lost: u64) {
        self.append(WaitingEntry {
            entry,
            stands_for: lost,
            is_notice: true,
        });
    }

    fn append(&mut self, waiting: WaitingEntry<E>) {
        self.unwritten += 1;
        self.bytes += waiting.entry.size();
        self.entries.push(waiting);
    }

    fn note_losses(&mut self, lines: u64) {
        if lines > 0 {
            self.losses.entries += lines;
            self.losses.last = Some(SystemTime::now());
        }
    }

    /// Whether so much waits that it must be written soon.
    fn is_filling(&self) -> bool {
        self.unwritten >= MAX_ENTRIES / 2 || self.bytes >= MAX_BYTES / 2
    }
}

impl<E, F: FnMut(&E) -> io::Result<()> + Send + 'static> Sink<E> for OneByOne<F>
where
    E: Entry,
{
    fn write(&mut self, entries: &[WaitingEntry<E>]) -> (usize, io::Result<()>) {
        match entries {
            [first, ..] => (1, (self.0)(&first.entry)),
            [] => (0, Ok(())),
        }
    }
}

/// An entry of one or more lines.
impl Entry for Vec<u8> {
    fn size(&self) -> usize {
        self.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn outlet() -> Arc<Outlet<Vec<u8>>> {
        Outlet::new(|lost| format!("{lost} lost").into_bytes())
    }

    /// Takes everything that waits, and has it refused or accepted.
    fn take(outlet: &Outlet<Vec<u8>>, outcome: &io::Result<()>) -> Vec<String> {
        let mut taken = Vec::new();
        outlet.take(&mut taken);
        outlet.written(&taken, outcome);
        let texts = taken.into_iter();
        texts
            .map(|waiting| String::from_utf8(waiting.entry).expect("text"))
            .collect()
    }

    /// The entries that the sink gets until the queue is empty.
    fn drain(outlet: &Outlet<Vec<u8>>) -> Vec<String> {
        let mut taken = Vec::new();
        while outlet.lock().unwritten > 0 || outlet.lock().lost > 0 {
            taken.extend(take(outlet, &Ok(())));
        }
        taken
    }

    #[test]
    fn r4_a_full_queue_drops_new_entries_and_reports_their_number_in_the_gap() {
        let outlet = outlet();
        for number in 0..MAX_ENTRIES + 3 {
            outlet.push(number.to_string().into_bytes());
        }
        let mut taken = Vec::new();
        outlet.take(&mut taken);
        // Entries that are taken but not written leave no room.
        outlet.push(b"too early".to_vec());
        outlet.written(&taken[..1], &Ok(()));
        outlet.push(b"later".to_vec());
        outlet.written(&taken[1..], &Ok(()));
        assert_eq!(taken.len(), MAX_ENTRIES);
        assert_eq!(taken[MAX_ENTRIES - 1].entry, b"4095");
        assert_eq!(drain(&outlet), ["4 lost", "later"]);
        assert_eq!(outlet.losses().entries, 4);
        assert_eq!(outlet.lock().bytes, 0);
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
        let broken = Err(io::ErrorKind::BrokenPipe.into());
        assert_eq!(take(&outlet, &broken), ["one", "two"]);
        outlet.push(b"three".to_vec());
        // The notice is refused too, and the entries that it reports still count.
        assert_eq!(take(&outlet, &broken), ["2 lost", "three"]);
        outlet.push(b"four".to_vec());
        assert_eq!(drain(&outlet), ["3 lost", "four"]);
        assert_eq!(
            outlet.losses().entries,
            3,
            "a refused notice is no further loss"
        );
        assert!(outlet.losses().last.is_some());
    }

    #[test]
    fn r4_a_sink_that_accepts_nothing_blocks_no_caller() {
        let (one, other) = std::os::unix::net::UnixDatagram::pair().expect("sockets");
        let outlet = outlet();
        outlet
            .start(OneByOne(move |entry: &Vec<u8>| one.send(entry).map(drop)))
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
        assert_eq!(outlet.lock().unwritten, 0);
    }

    /// Reports the number of entries in each batch.
    struct Batches(std::sync::mpsc::Sender<usize>);

    impl Sink<Vec<u8>> for Batches {
        fn write(&mut self, entries: &[WaitingEntry<Vec<u8>>]) -> (usize, io::Result<()>) {
            self.0.send(entries.len()).expect("the test waits");
            (entries.len(), Ok(()))
        }
    }

    #[test]
    fn r4_entries_that_wait_are_written_together_and_each_is_written() {
        let (sent, batches) = std::sync::mpsc::channel();
        let outlet = outlet();
        for _ in 0..100 {
            outlet.push(b"early".to_vec());
        }
        outlet.start(Batches(sent)).expect("a thread");
        assert_eq!(batches.recv_timeout(LIMIT), Ok(100));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let outlet = Arc::clone(&outlet);
                std::thread::spawn(move || {
                    for _ in 0..500 {
                        outlet.push(b"entry".to_vec());
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        outlet.flush(LIMIT);
        assert_eq!(batches.try_iter().sum::<usize>(), 2000);
    }

    #[test]
    fn r4_the_writer_wakes_for_an_entry_after_a_quiet_time() {
        let (sent, batches) = std::sync::mpsc::channel();
        let outlet = outlet();
        outlet.start(Batches(sent)).expect("a thread");
        for _ in 0..3 {
            // Until it sleeps, nothing waits.
            while outlet.lock().writer != WriterState::Asleep {
                std::thread::yield_now();
            }
            outlet.push(b"entry".to_vec());
            assert_eq!(batches.recv_timeout(LIMIT), Ok(1));
        }
    }
}
