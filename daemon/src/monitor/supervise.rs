//! One worker process: starting it, reading its messages, sending to it, ending it; and the delay
//! before the next one.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Event;
use crate::privsep;
use crate::privsep::channel::{self, Receiver};
use crate::privsep::message::{MAX_LEAVES_REQUESTED, MAX_TO_MONITOR, ToMonitor, ToWorker};

/// How long a worker may take to read a message.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// A worker's environment: variables that control its log.
const PASSED_ON: [&str; 4] = ["JOURNAL_STREAM", "NO_COLOR", "RUST_BACKTRACE", "TERM"];
/// A worker that lived this long was sound, so the next one starts at once.
const MIN_SOUND_LIFE: Duration = Duration::from_secs(10);
/// The wait before the second restart in a row, and the longest.
const RESTART_INTERVALS: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(5));

/// Leaves that a worker may wait for at once. A sound worker waits for fewer.
const MAX_LEAVES: usize = 2 * MAX_LEAVES_REQUESTED;

/// A running worker.
pub(super) struct Worker {
    pub(super) number: u64,
    pub(super) started: Instant,
    /// Whether no worker has run successfully on its settings yet.
    pub(super) tries_new_settings: bool,
    /// The process of the worker. Only [`end`](Self::end) reaps it, on the thread that kills it. Its
    /// process id is not reused before that, and afterwards `Child` sends no signal. So no signal
    /// can hit another process.
    child: Child,
    /// Leaves that were requested and not answered.
    leaves: Arc<AtomicUsize>,
    sender: channel::Sender,
    /// A further descriptor of the channel, for the next monitor.
    channel: UnixStream,
    /// Whether it must outlive this monitor.
    is_leaving: Arc<AtomicBool>,
    /// The number without which it cannot.
    release: u64,
    ready: Ready,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    NotYet,
    Yes,
}

/// The delay before the next worker.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    restarts: u32,
    wait: Duration,
}

impl Worker {
    /// Starts a worker. Call it on the main thread: the kernel ends the worker when the thread that
    /// started it ends.
    pub(super) fn start(number: u64, events: SyncSender<Event>) -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("cannot make the channel to the worker")?;
        // A worker that does not read must not block the monitor.
        ours.set_write_timeout(Some(SEND_TIMEOUT))
            .context("cannot use the channel to the worker")?;
        let child = privsep::command("worker")?
            .arg(privsep::WORKER)
            // The starter's environment may hold secrets, so a process that talks to the network
            // must not get it.
            .env_clear()
            .envs(
                std::env::vars_os()
                    .filter(|(name, _)| PASSED_ON.iter().any(|passed| name == passed)),
            )
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // A terminal's Ctrl-C is for the monitor, which then drains the worker.
            .process_group(0)
            .spawn()
            .context("cannot start the worker")?;
        let channel = ours.try_clone().context("cannot use the channel")?;
        let (sender, receiver) =
            channel::split(ours, MAX_TO_MONITOR).context("cannot use the channel")?;
        let leaves = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&leaves);
        let is_leaving = Arc::new(AtomicBool::new(false));
        let leaving = Arc::clone(&is_leaving);
        std::thread::spawn(move || listen(number, receiver, &events, &asked, &leaving));
        let mut release = [0; 8];
        getrandom::fill(&mut release).context("the system gives no random number")?;
        Ok(Self {
            number,
            started: Instant::now(),
            tries_new_settings: false,
            child,
            leaves,
            sender,
            channel,
            is_leaving,
            release: u64::from_le_bytes(release),
            ready: Ready::NotYet,
        })
    }

    pub(super) fn send(&self, message: &ToWorker, descriptors: &[OwnedFd]) -> io::Result<()> {
        send(&self.sender, message, descriptors)
    }

    /// A request for a leaf was answered.
    pub(super) fn leaf_is_answered(&self) {
        self.leaves.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn ready(&mut self) {
        self.ready = Ready::Yes;
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready == Ready::Yes
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A descriptor of its channel.
    pub(super) fn channel(&self) -> io::Result<OwnedFd> {
        Ok(self.channel.try_clone()?.into())
    }

    /// The number that lets it outlive this monitor.
    pub(super) fn release(&self) -> u64 {
        self.release
    }

    /// Makes it drain and outlive this monitor. After its answer nothing more is read.
    pub(super) fn hand_over(&self, limit: Duration) -> io::Result<()> {
        self.is_leaving.store(true, Ordering::Release);
        let release = self.release;
        self.send(&ToWorker::HandOver { limit, release }, &[])
    }

    /// Whether it must outlive this monitor.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// The next monitor cannot take it over, so its messages are read here again.
    pub(super) fn keep(&self, events: SyncSender<Event>) -> io::Result<()> {
        self.is_leaving.store(false, Ordering::Release);
        let (_, receiver) = channel::split(self.channel.try_clone()?, MAX_TO_MONITOR)?;
        let (number, leaves) = (self.number, Arc::clone(&self.leaves));
        let leaving = Arc::clone(&self.is_leaving);
        std::thread::spawn(move || listen(number, receiver, &events, &leaves, &leaving));
        Ok(())
    }

    /// Kills it. The channel, which closes with it, reports its end.
    pub(super) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
    }

    /// Reaps a worker whose channel has closed, and says how it ended. One that still runs is
    /// unusable and is killed; one that has ended keeps its own status.
    pub(super) fn end(&mut self) -> String {
        self.kill();
        self.child
            .wait()
            .map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

impl BackOff {
    /// How many workers were replaced.
    pub(super) fn restarts(&self) -> u32 {
        self.restarts
    }

    /// The delay before the next worker, if the last one started at this time.
    pub(super) fn after(&mut self, started: Instant) -> Duration {
        self.restarts += 1;
        if started.elapsed() >= MIN_SOUND_LIFE {
            self.wait = Duration::ZERO;
        }
        self.next()
    }

    /// The delay now; the next one is longer.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).clamp(RESTART_INTERVALS.0, RESTART_INTERVALS.1);
        wait
    }
}

/// Sends a message to a worker.
pub(super) fn send(
    sender: &channel::Sender,
    message: &ToWorker,
    descriptors: &[OwnedFd],
) -> io::Result<()> {
    let (operation, payload) = message.encode();
    let raw: Vec<_> = descriptors
        .iter()
        .map(std::os::fd::AsRawFd::as_raw_fd)
        .collect();
    sender.send(operation, &payload, &raw)
}

/// Passes the messages of worker `number` on as events, and at last its end. With `is_leaving`, a
/// confirmed handover is the last message: what follows is for the next monitor.
pub(super) fn listen(
    number: u64,
    mut receiver: Receiver,
    events: &SyncSender<Event>,
    leaves: &AtomicUsize,
    is_leaving: &AtomicBool,
) {
    loop {
        let event = match receiver.receive() {
            // Cut off in the middle, or with unread bytes: the worker died, which is not a protocol
            // violation.
            Ok(None) => break,
            Err(error) if is_its_end(&error) => break,
            Ok(Some(frame)) if !frame.descriptors.is_empty() => {
                Event::Garbled(number, "it sent descriptors".to_owned())
            }
            Ok(Some(frame)) => match ToMonitor::decode(frame.operation, &frame.payload) {
                // Requests that the loop has not handled yet pile up in memory.
                Ok(ToMonitor::IssueLeaf { .. })
                    if leaves.fetch_add(1, Ordering::Relaxed) >= MAX_LEAVES =>
                {
                    Event::Garbled(number, "it requests too many certificates".to_owned())
                }
                Ok(ToMonitor::HandedOver) if is_leaving.load(Ordering::Acquire) => {
                    // Sending fails only if the event loop has ended, which needs no event.
                    let _ = events.send(Event::Said(number, ToMonitor::HandedOver));
                    return;
                }
                Ok(message) => Event::Said(number, message),
                Err(error) => Event::Garbled(number, error.to_string()),
            },
            Err(error) => Event::Garbled(number, error.to_string()),
        };
        let garbled = matches!(event, Event::Garbled(..));
        if events.send(event).is_err() {
            return;
        }
        if garbled {
            // Nothing that it sends counts any more except its end, which comes when it is killed.
            receiver.wait_for_the_end();
            break;
        }
    }
    // A loop that has ended needs no event.
    let _ = events.send(Event::Gone(number));
}

/// Whether the other side has ended, without a protocol violation.
fn is_its_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privsep::ticket::QuestionId;

    /// The events of the loop when a worker sends this and ends, with unread bytes or without.
    fn heard(said: &[u8], unread: &[u8]) -> Vec<Event> {
        use std::io::Write as _;
        let (ours, mut theirs) = UnixStream::pair().expect("a channel");
        let (sender, receiver) = channel::split(ours, MAX_TO_MONITOR).expect("two halves");
        let (events, heard) = std::sync::mpsc::sync_channel(8);
        theirs.write_all(said).expect("the monitor listens");
        if !unread.is_empty() {
            sender.send(unread[0], &unread[1..], &[]).expect("room");
        }
        drop(theirs);
        listen(
            7,
            receiver,
            &events,
            &AtomicUsize::new(0),
            &AtomicBool::new(false),
        );
        drop(events);
        heard.iter().collect()
    }

    #[test]
    fn a_worker_that_is_cut_off_or_leaves_bytes_unread_has_ended_and_did_not_violate_the_protocol()
    {
        for said in [&b""[..], b"\x06", b"\x06\x04\0\0\0\x01"] {
            for unread in [&b""[..], b"\x07"] {
                let heard = heard(said, unread);
                assert!(matches!(heard[..], [Event::Gone(7)]), "{said:?} {unread:?}");
            }
        }
    }

    #[test]
    fn a_worker_that_sends_a_malformed_message_is_replaced() {
        let heard = heard(b"\xff\0\0\0\0\x06\x04\0\0\0\x01\0\0\0", b"");
        assert!(matches!(heard[..], [Event::Garbled(7, _), Event::Gone(7)]));
    }

    #[test]
    fn m4_a_worker_that_sends_too_many_questions_is_ended() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (worker, _) = channel::split(theirs, 0).expect("a channel");
        let (_, receiver) = channel::split(ours, MAX_TO_MONITOR).expect("a channel");
        let (events, heard) = std::sync::mpsc::sync_channel(2 * MAX_LEAVES);
        let leaves = AtomicUsize::new(0);
        let (operation, question) = ToMonitor::IssueLeaf {
            question: QuestionId::numbered(1),
            authority: [0; 32],
            public_key: [4; 65],
            name: "a.test".to_owned(),
            user: None,
        }
        .encode();
        std::thread::spawn(move || {
            for _ in 0..2 * MAX_LEAVES {
                let _ = worker.send(operation, &question, &[]);
            }
        });
        listen(1, receiver, &events, &leaves, &AtomicBool::new(false));
        let heard: Vec<Event> = heard.try_iter().collect();
        let questions =
            |event: &&Event| matches!(event, Event::Said(1, ToMonitor::IssueLeaf { .. }));
        assert_eq!(heard.iter().filter(questions).count(), MAX_LEAVES);
        let [.., Event::Garbled(1, why), Event::Gone(1)] = &heard[..] else {
            panic!("not distrusted");
        };
        assert!(why.contains("too many"), "{why}");
    }

    #[test]
    fn the_first_restart_is_at_once_and_the_waits_grow_to_a_bound() {
        let mut back_off = BackOff::default();
        let now = Instant::now();
        let waits: Vec<u128> = (0..8).map(|_| back_off.after(now).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 5000]);
        assert_eq!(back_off.restarts(), 8);
        let long_ago = now
            .checked_sub(MIN_SOUND_LIFE)
            .expect("the machine is up for that long");
        assert_eq!(back_off.after(long_ago), Duration::ZERO);
    }
}
