//! Linux: pipes and `splice(2)`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use codex_network_config::pipe_descriptors;
use codex_network_files::Reading;
use nix::libc;
use parking_lot::Mutex;
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::net::TcpStream;

use super::{BrokenPipeSignal, PIPE_BYTES};
use crate::descriptors;

/// Most bytes that go into a pipe at once. The size of the pipe does not limit them: one of its pages can
/// refer to a larger fragment of a packet.
const MAX_PIECE: usize = PIPE_BYTES;
/// Most pipes that are kept while no tunnel uses them.
const MAX_KEPT: usize = 8;
/// Largest `/proc/self/status` that is read.
const MAX_STATUS_BYTES: u64 = 64 * 1024;

/// The pipes of an engine. Cloning it gives another handle to the same pool.
#[derive(Clone, Debug)]
pub(crate) struct PipePool(Arc<PoolState>);

#[derive(Debug)]
struct PoolState {
    /// Empty pipes that no tunnel uses.
    free: Mutex<Vec<PipeEnds>>,
    /// How many pipes are open, in use or not.
    open: AtomicUsize,
    limit: usize,
    /// Whether the system refuses `splice` between sockets and pipes.
    is_refused: AtomicBool,
}

#[derive(Debug)]
struct PipeEnds {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe in use. Dropping it returns it to its pool if it is empty, and closes it otherwise.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Empty only while the pipe is dropped.
    ends: Option<PipeEnds>,
    /// How many bytes the pipe holds.
    held: usize,
    pool: Arc<PoolState>,
}

impl PipePool {
    /// A pool for an engine. It never has a pipe if a broken connection could end the process.
    ///
    /// All pipes together are at most half of the memory that the kernel gives to the pipes of one
    /// unprivileged user (64 MiB; `pipe(7)`, `pipe-user-pages-soft`).
    pub(crate) fn new(signal: BrokenPipeSignal) -> Self {
        if signal == BrokenPipeSignal::Unknown && !ignores_broken_pipes() {
            return Self::with_limit(0);
        }
        let ends = pipe_descriptors(descriptors::limit());
        Self::with_limit(usize::try_from(ends / 2).unwrap_or_default())
    }

    /// A pool of at most this many pipes.
    pub(crate) fn with_limit(limit: usize) -> Self {
        Self(Arc::new(PoolState {
            free: Mutex::default(),
            open: AtomicUsize::new(0),
            limit,
            is_refused: AtomicBool::new(false),
        }))
    }

    /// An empty pipe. `None` if all are in use, no descriptor is left, or the system refuses `splice`.
    pub(crate) fn take(&self) -> Option<Pipe> {
        let pool = &self.0;
        if pool.is_refused.load(Ordering::Relaxed) {
            return None;
        }
        let free = pool.free.lock().pop();
        let ends = free.or_else(|| pool.open())?;
        Some(Pipe {
            ends: Some(ends),
            held: 0,
            pool: Arc::clone(pool),
        })
    }
}

#[cfg(test)]
impl PipePool {
    /// How many pipes are open.
    pub(crate) fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// How many pipes hold bytes.
    pub(crate) fn in_use(&self) -> usize {
        self.open() - self.0.free.lock().len()
    }
}

impl PoolState {
    /// Makes a pipe if the limit permits.
    fn open(&self) -> Option<PipeEnds> {
        let below = |open: usize| (open < self.limit).then_some(open + 1);
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, below)
            .ok()?;
        let ends = PipeEnds::new();
        if ends.is_err() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        ends.ok()
    }
}

impl PipeEnds {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // A user with too many pipes gets only small ones, and then a copy costs less than `splice`.
        fcntl_setpipe_size(&write, PIPE_BYTES)?;
        Ok(Self { read, write })
    }
}

impl Pipe {
    /// Whether the pipe holds no bytes.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves bytes from a socket into the pipe, and returns how many. `None`: the caller must read the socket
    /// instead, since `splice` stops before urgent data, and some systems refuse it.
    ///
    /// # Errors
    ///
    /// The error of the socket.
    pub(crate) fn fill(&mut self, from: &TcpStream) -> io::Result<Option<usize>> {
        let Some(ends) = &self.ends else {
            return Ok(None);
        };
        match move_bytes(from, &ends.write, MAX_PIECE) {
            Ok(0) => Ok(None),
            Ok(moved) => {
                self.held += moved;
                Ok(Some(moved))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if is_refusal(&error) => {
                self.pool.is_refused.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Moves bytes from the pipe to a socket, and returns how many.
    ///
    /// # Errors
    ///
    /// The error of the socket.
    pub(crate) fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let Some(ends) = &self.ends else {
            return Ok(0);
        };
        let moved = move_bytes(&ends.read, to, self.held)?;
        if moved == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else {
            return;
        };
        if self.held == 0 {
            let mut free = self.pool.free.lock();
            if free.len() < MAX_KEPT {
                free.push(ends);
                return;
            }
        }
        drop(ends);
        self.pool.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn move_bytes(from: impl AsFd, to: impl AsFd, length: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(retry_on_intr(|| {
        splice(&from, None, &to, None, length, flags)
    })?)
}

/// Whether the error says that the call itself is not possible here. `EOPNOTSUPP` is not one: a socket reports it
/// when a router refuses the route (ICMP).
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EINVAL | libc::EPERM)
    )
}

/// Whether the process ignores `SIGPIPE` (`proc_pid_status(5)`: `SigIgn`).
fn ignores_broken_pipes() -> bool {
    let status = Reading::up_to(MAX_STATUS_BYTES).read_text(Path::new("/proc/self/status"));
    let ignored = status.ok().and_then(|status| {
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    // The lowest bit is signal 1.
    ignored.is_some_and(|mask| mask & (1 << (libc::SIGPIPE - 1)) != 0)
}
