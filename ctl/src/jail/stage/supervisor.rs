//! Performs each `connect` of the jail's programs, so that unix sockets lead to no process outside the
//! jail (SPEC J6).
//!
//! The kernel stops a program that calls `connect`, and passes the call to this module
//! (`seccomp_unotify(2)`). The supervisor copies the address, takes a duplicate of the descriptor, and
//! connects the duplicate itself. The program's own call is never executed, so a thread that changes the
//! address or the descriptor in the meantime has no effect.
//!
//! - A socket of another network namespace, such as an inherited one, is refused.
//! - Internet and abstract unix addresses belong to the socket's network namespace: the kernel resolves
//!   them there.
//! - A path leads only to a socket that was made in the jail (`paths`).
//! - Datagram unix sockets are refused, here and by the system call filter: they send to any path
//!   without `connect`.
//!
//! The peer of a unix socket sees the right user, but process 1 of the jail as the connecting process
//! (`SO_PEERCRED`).
//!
//! One thread receives all calls, and performs those that finish at once. A call that takes longer, or
//! that resolves a path, gets a thread of its own; there are at most [`MAX_WAITING`] of these. A call that
//! holds the receiving thread up keeps that thread, and another one receives (`relief`).

mod call;
mod descriptors;
mod paths;
mod relief;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use rustix::process::{Resource, getrlimit, setrlimit};

use self::call::{Address, Call, Progress};
use self::descriptors::Callers;
use self::paths::SocketFiles;
use self::relief::{Turn, Watch};
use super::{CANNOT, calls};

/// Calls that may wait at the same time. Further ones fail with `EAGAIN`.
const MAX_WAITING: usize = 128;
/// Stack of a thread for one call.
const STACK: usize = 128 << 10;
/// How long the receiving thread waits for a connection.
const AT_ONCE_TIMEOUT: Duration = Duration::from_millis(4);
/// How often a waiting thread checks that its caller still exists, and has no signal to handle.
const CALLER_CHECK_INTERVAL: Duration = Duration::from_millis(250);

struct Supervisor {
    listener: OwnedFd,
    /// The jail's network namespace.
    network: u64,
    files: SocketFiles,
    waiting: AtomicUsize,
    /// Threads that received, and that a call holds up.
    held_up: AtomicUsize,
    watch: Watch,
}

/// Whether this process can take a descriptor of `process`, as the supervisor does, and the kernel
/// numbers network namespaces. Not where `kernel.yama.ptrace_scope` is 3, or before Linux 5.14.
pub(super) fn is_possible(process: Pid, descriptor: i32) -> bool {
    let takes = descriptors::take(process, descriptor).is_ok();
    takes && own_network().is_ok()
}

/// Takes the listener that `process` has made, whose number comes through the pipe, and serves it for
/// the life of this process. Returns false when `process` could not make one, or has failed.
pub(super) fn start(process: Pid, mut numbers: &File) -> io::Result<bool> {
    let mut number = [0; 4];
    match numbers.read_exact(&mut number) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    }
    let number = i32::from_le_bytes(number);
    if number < 0 {
        return Ok(false);
    }
    raise_descriptor_limit();
    let listener = descriptors::take(process, number)?;
    calls::wake_nearby(listener.as_fd());
    let supervisor = Arc::new(Supervisor {
        listener,
        network: own_network()?,
        files: SocketFiles::default(),
        waiting: AtomicUsize::new(0),
        held_up: AtomicUsize::new(0),
        watch: Watch::default(),
    });
    thread::Builder::new().spawn(move || {
        let guard = EndsTheJail;
        if supervisor.begin().is_ok() {
            std::mem::forget(guard);
        }
    })?;
    Ok(true)
}

/// Ends the jail with the thread. Without a listener, a program in the jail could install its own.
struct EndsTheJail;

impl Drop for EndsTheJail {
    fn drop(&mut self) {
        std::process::exit(i32::from(CANNOT));
    }
}

/// Permits this process as many descriptors as it may have: the supervisor keeps some for later calls. The
/// command has its own limit already.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it, the caller's limit stays.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The network namespace of this process.
fn own_network() -> io::Result<u64> {
    let (socket, _) = UnixStream::pair()?;
    Ok(calls::network_of(socket.as_fd())?)
}

/// The thread and those that it starts keep the right to take descriptors and to find the files of
/// sockets. The permissions of files hold for them as for the command.
fn keep_two_capabilities() -> Result<(), caps::errors::CapsError> {
    let kept = CapsHashSet::from([Capability::CAP_SYS_PTRACE, Capability::CAP_NET_ADMIN]);
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

impl Supervisor {
    /// The first receiving thread. Those that it starts have its capabilities.
    fn begin(self: &Arc<Self>) -> io::Result<()> {
        keep_two_capabilities().map_err(io::Error::other)?;
        let turn = Arc::new(Turn::default());
        let (supervisor, watched) = (Arc::clone(self), Arc::clone(&turn));
        thread::Builder::new().stack_size(STACK).spawn(move || {
            let relieve = |turn: &Arc<Turn>, count| supervisor.relieve(turn, count);
            supervisor.watch.run(watched, relieve);
        })?;
        self.serve(&turn)
    }

    /// Starts another receiving thread in place of one that is still in the call of this count. Returns the
    /// new one's turn, or nothing when the former one goes on.
    fn relieve(self: &Arc<Self>, former: &Arc<Turn>, count: u64) -> Option<Arc<Turn>> {
        if self.held_up.load(Ordering::Relaxed) >= MAX_WAITING {
            return None;
        }
        let turn = Arc::new(Turn::default());
        let (sender, outcome) = mpsc::channel();
        let (supervisor, former, own) = (Arc::clone(self), Arc::clone(former), Arc::clone(&turn));
        let receiver = thread::Builder::new().spawn(move || {
            let replaces = former.replace(count);
            if replaces {
                supervisor.held_up.fetch_add(1, Ordering::Relaxed);
            }
            // The watching thread waits for it.
            let _ = sender.send(replaces);
            let guard = EndsTheJail;
            if !replaces || supervisor.serve(&own).is_ok() {
                std::mem::forget(guard);
            }
        });
        (receiver.is_ok() && outcome.recv() == Ok(true)).then_some(turn)
    }

    /// Serves until no process is left that the filter applies to, or until another thread has replaced this
    /// one.
    fn serve(self: &Arc<Self>, turn: &Turn) -> io::Result<()> {
        let mut callers = Callers::default();
        let listener = self.listener.as_fd();
        loop {
            match calls::receive(listener) {
                Ok(received) => {
                    turn.begin(&self.watch);
                    match Call::read(listener, &received, &mut callers) {
                        Ok(Some(call)) => self.perform(call),
                        Ok(None) => {}
                        Err(error) => calls::answer(listener, received.id, Err(error)),
                    }
                    if !turn.end() {
                        self.held_up.fetch_sub(1, Ordering::Relaxed);
                        return Ok(());
                    }
                }
                // The caller has ended, or all callers have.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => {
                    let mut polled = [PollFd::new(listener, PollFlags::POLLIN)];
                    poll(&mut polled, PollTimeout::ZERO)?;
                    let events = polled[0].revents().unwrap_or(PollFlags::empty());
                    if events.contains(PollFlags::POLLHUP) {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Performs a call, here or on a thread of its own.
    fn perform(self: &Arc<Self>, mut call: Call) {
        let address = match call.address(self.network) {
            Ok(address) => address,
            Err(error) => return self.finish(call, Err(error)),
        };
        if matches!(address, Address::Path(_)) {
            return self.perform_apart(call);
        }
        if self.held_up.load(Ordering::Relaxed) >= MAX_WAITING {
            return self.finish(call, Err(Errno::EAGAIN));
        }
        match call.connect(AT_ONCE_TIMEOUT) {
            Progress::Done(outcome) => self.finish(call, outcome),
            Progress::Waits => self.perform_apart(call),
        }
    }

    fn perform_apart(self: &Arc<Self>, call: Call) {
        let id = call.id;
        let too_many = || calls::answer(self.listener.as_fd(), id, Err(Errno::EAGAIN));
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return too_many();
        }
        let supervisor = Arc::clone(self);
        let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
            let guard = Waiting(&supervisor.waiting);
            supervisor.wait(call);
            drop(guard);
        });
        if thread.is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            too_many();
        }
    }

    /// Performs a call to its end, or until its caller is gone.
    fn wait(&self, mut call: Call) {
        // The file stays open for the connection's sake.
        let mut file = None;
        match call.address(self.network) {
            Ok(Address::Path(path)) => match self.files.open(&call, &path, self.network) {
                Ok(opened) => {
                    call.lead_to(&opened);
                    file = Some(opened);
                }
                Err(error) => return self.finish(call, Err(error)),
            },
            Ok(Address::Other) => {}
            Err(error) => return self.finish(call, Err(error)),
        }
        while calls::is_waiting(self.listener.as_fd(), call.id) {
            match call.connect(CALLER_CHECK_INTERVAL) {
                Progress::Done(outcome) => {
                    self.finish(call, outcome);
                    break;
                }
                Progress::Waits if call.is_interrupted() => {
                    self.finish(call, Err(Errno::EINTR));
                    break;
                }
                Progress::Waits => {}
            }
        }
        drop(file);
    }

    fn finish(&self, call: Call, outcome: Result<(), Errno>) {
        let id = call.id;
        // Not after the answer: when the caller closes its descriptor, the connection has to end.
        drop(call);
        calls::answer(self.listener.as_fd(), id, outcome);
    }
}

/// Counts a waiting call.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
