//! Closes descriptors that others gave to this process, or that may hold such descriptors unread.
//!
//! The last close of a file can wait: a TCP connection may linger (`SO_LINGER`), and a file system in user
//! space answers when it likes. So no thread that serves others closes them. It does not find out whether
//! a close would wait: the giver can change that at any time.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// Threads that close, at most. The descriptors of one user are closed by one thread.
const MAX_THREADS: usize = 16;
/// Descriptors that wait to be closed before [`DescriptorCloser::room`] waits.
const MAX_WAITING: usize = 1024;
/// How long a thread without work stays.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Closes descriptors on threads of its own, which start when they are needed and end without work. Cloning it
/// gives another handle to the same one.
#[derive(Clone, Debug, Default)]
pub struct DescriptorCloser(Arc<Closing>);

/// A descriptor that a user gave. Wherever it is dropped, its user's thread closes it.
#[derive(Debug)]
pub(crate) struct GivenDescriptor {
    /// Set until it is dropped or taken over.
    descriptor: Option<OwnedFd>,
    user: u32,
    closer: DescriptorCloser,
}

#[derive(Debug, Default)]
struct Closing {
    lanes: [Lane; MAX_THREADS],
    waiting: AtomicUsize,
    room: Notify,
}

/// The descriptors that one thread closes.
#[derive(Debug, Default)]
struct Lane {
    state: Mutex<LaneState>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct LaneState {
    descriptors: VecDeque<OwnedFd>,
    has_thread: bool,
}

impl DescriptorCloser {
    /// Closes a descriptor of this user, soon. It never waits.
    pub fn close(&self, user: u32, descriptor: OwnedFd) {
        let closing = &self.0;
        let place = usize::try_from(user).unwrap_or(0) % MAX_THREADS;
        closing.waiting.fetch_add(1, Ordering::Relaxed);
        let mut state = closing.lanes[place].state.lock();
        state.descriptors.push_back(descriptor);
        if state.has_thread {
            closing.lanes[place].more.notify_one();
            return;
        }
        let work = Arc::clone(closing);
        let started = thread::Builder::new()
            .name("closing".to_owned())
            .spawn(move || work.run(place));
        // Without a thread, the descriptor waits for the next one of this user.
        state.has_thread = started.is_ok();
    }

    /// Resolves when fewer descriptors than the limit of 1024 wait. Take no more from others before.
    pub async fn room(&self) {
        loop {
            let freed = self.0.room.notified();
            if self.0.waiting.load(Ordering::Acquire) < MAX_WAITING {
                return;
            }
            freed.await;
        }
    }
}

impl GivenDescriptor {
    pub(crate) fn new(user: u32, descriptor: OwnedFd, closer: &DescriptorCloser) -> Self {
        Self {
            descriptor: Some(descriptor),
            user,
            closer: closer.clone(),
        }
    }

    /// The user who gave it, and what closes descriptors of users.
    pub(crate) fn giver(&self) -> (u32, DescriptorCloser) {
        (self.user, self.closer.clone())
    }

    /// Makes an owner of the descriptor, which closes it from then on.
    ///
    /// # Errors
    ///
    /// That of `make`, which may close the descriptor that it got: another copy is then closed last. The
    /// system's error if there can be no copy.
    pub(crate) fn into_owner<T>(
        mut self,
        make: impl FnOnce(OwnedFd) -> io::Result<T>,
    ) -> io::Result<T> {
        let owner = make(self.as_fd().try_clone_to_owned()?)?;
        // Not the last one, so its close does not wait.
        drop(self.descriptor.take());
        Ok(owner)
    }
}

impl AsFd for GivenDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let descriptor = self.descriptor.as_ref();
        descriptor
            .expect("set until it is dropped or taken over")
            .as_fd()
    }
}

impl Drop for GivenDescriptor {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take() {
            self.closer.close(self.user, descriptor);
        }
    }
}

impl Closing {
    /// Closes the descriptors of one lane until there is no work.
    fn run(&self, place: usize) {
        let lane = &self.lanes[place];
        loop {
            let mut state = lane.state.lock();
            if state.descriptors.is_empty() {
                lane.more.wait_for(&mut state, IDLE_TIMEOUT);
            }
            let Some(descriptor) = state.descriptors.pop_front() else {
                state.has_thread = false;
                return;
            };
            drop(state);
            drop(descriptor);
            self.waiting.fetch_sub(1, Ordering::Release);
            self.room.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use socket2::SockRef;

    use super::*;

    /// A connection whose close waits until the other end is dropped.
    #[expect(clippy::disallowed_methods, reason = "to a listener of this test")]
    fn lingering() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("bound");
        let mut stream = TcpStream::connect(address).expect("it listens");
        let (other, _) = listener.accept().expect("a client");
        stream.set_nonblocking(true).expect("a mode");
        while stream.write(&[0; 1 << 14]).is_ok() {}
        // A non-blocking socket lingers at its close too.
        let limit = Duration::from_secs(3600);
        SockRef::from(&stream)
            .set_linger(Some(limit))
            .expect("an option");
        (stream.into(), other)
    }

    #[test]
    fn j13_a_close_that_waits_delays_neither_the_caller_nor_other_users() {
        let closer = DescriptorCloser::default();
        let (descriptor, other_end) = lingering();
        closer.close(1, descriptor);
        let (given, mut kept) = UnixStream::pair().expect("a pair");
        closer.close(2, given.into());
        let mut rest = Vec::new();
        kept.read_to_end(&mut rest).expect("the other end closes");
        // It counts until its close has returned.
        while closer.0.waiting.load(Ordering::Acquire) > 1 {
            thread::yield_now();
        }
        assert_eq!(closer.0.waiting.load(Ordering::Acquire), 1);
        drop(other_end);
    }

    #[tokio::test]
    async fn j13_beyond_the_limit_there_is_no_room_until_descriptors_are_closed() {
        let closer = DescriptorCloser::default();
        let (descriptor, other_end) = lingering();
        closer.close(1, descriptor);
        let (given, _kept) = UnixStream::pair().expect("a pair");
        for _ in 1..MAX_WAITING / 2 {
            closer.close(1, given.try_clone().expect("a copy").into());
        }
        closer.room().await;
        closer
            .0
            .waiting
            .fetch_add(MAX_WAITING / 2, Ordering::Relaxed);
        let mut room = std::pin::pin!(closer.room());
        assert!(futures_util::poll!(&mut room).is_pending());
        drop(other_end);
        room.await;
    }
}
