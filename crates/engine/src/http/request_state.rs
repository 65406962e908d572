//! Whether a request is in hand on a connection over HTTP/1, and whether the connection changes to
//! another protocol. The client stream and the HTTP service share it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};

use crate::activity::Busy;
use crate::owner::ConnectionHandle;

/// The state of the requests of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestState(Arc<RequestFlags>);

#[derive(Debug, Default)]
struct RequestFlags {
    /// [`NONE`], [`WAITS`] or [`ANSWERED`].
    request: AtomicU8,
    /// The task that waits for the end of a request, or for the result of an upgrade.
    waker: AtomicWaker,
    upgrade: AtomicU8,
    /// [`ConnectState`].
    connect: AtomicU8,
    /// For each request that hyper has not read yet, whether its URL has no path.
    pathless: Mutex<VecDeque<bool>>,
}

/// Whether the connection changes to another protocol (RFC 9110 section 7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum UpgradeState {
    /// It does not.
    None = 0,
    /// A request offers it, and has no answer yet.
    Requested = 1,
    /// The protocol has changed: the bytes are no longer HTTP.
    Done = 2,
}

/// Whether HTTP goes on behind a CONNECT (RFC 9110 section 9.3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ConnectState {
    /// There is no CONNECT, or bytes for the tunnel have arrived behind it.
    None = 0,
    /// The head of a CONNECT was the last thing to arrive.
    Last = 1,
    /// The CONNECT is refused, and the connection stays open for the next request.
    Refused = 2,
}

/// A request in hand, until its answer has been sent or abandoned and this is dropped.
#[derive(Debug)]
pub(super) struct ActiveRequest {
    state: RequestState,
    is_pathless: bool,
    /// Keeps the connection from counting as idle.
    _busy: Busy,
}

/// No request is in hand.
const NONE: u8 = 0;
/// A request has no answer yet.
const WAITS: u8 = 1;
/// The answer has begun.
const ANSWERED: u8 = 2;

impl RequestState {
    /// A request has arrived on this connection.
    pub(super) fn begin(&self, connection: &ConnectionHandle) -> ActiveRequest {
        self.0.request.store(WAITS, Ordering::Relaxed);
        ActiveRequest {
            state: self.clone(),
            is_pathless: self.pathless().pop_front().unwrap_or_default(),
            _busy: connection.busy(),
        }
    }

    /// Whether a request is in hand.
    pub(super) fn is_active(&self) -> bool {
        self.0.request.load(Ordering::Relaxed) != NONE
    }

    /// Whether a request is in hand that has no answer yet.
    pub(super) fn awaits_answer(&self) -> bool {
        self.0.request.load(Ordering::Relaxed) == WAITS
    }

    /// Records for each request whether its URL lacks a path. Call it before hyper reads the
    /// request.
    pub(super) fn note_pathless(&self, requests: impl Iterator<Item = bool>) {
        self.pathless().extend(requests);
    }

    fn pathless(&self) -> MutexGuard<'_, VecDeque<bool>> {
        self.0.pathless.lock()
    }

    /// Wakes the task when no request is in hand any more.
    pub(super) fn wake_when_inactive(&self, cx: &Context<'_>) {
        self.0.waker.register(cx.waker());
    }

    /// Notes the result of an upgrade.
    pub(super) fn set_upgrade(&self, upgrade: UpgradeState) {
        self.0.upgrade.store(upgrade as u8, Ordering::Release);
        self.0.waker.wake();
    }

    /// The result of an upgrade. If it is [`UpgradeState::Requested`], the task is woken when the
    /// answer decides it.
    pub(super) fn poll_upgrade(&self, cx: &Context<'_>) -> UpgradeState {
        if self.upgrade() == UpgradeState::Requested {
            self.0.waker.register(cx.waker());
        }
        self.upgrade()
    }

    fn upgrade(&self) -> UpgradeState {
        match self.0.upgrade.load(Ordering::Acquire) {
            0 => UpgradeState::None,
            1 => UpgradeState::Requested,
            _ => UpgradeState::Done,
        }
    }
}

impl RequestState {
    /// Notes what has arrived behind the head of a CONNECT, or that HTTP goes on.
    pub(super) fn set_connect(&self, state: ConnectState) {
        self.0.connect.store(state as u8, Ordering::Relaxed);
    }

    /// The state that was noted last.
    pub(super) fn connect(&self) -> ConnectState {
        match self.0.connect.load(Ordering::Relaxed) {
            0 => ConnectState::None,
            1 => ConnectState::Last,
            _ => ConnectState::Refused,
        }
    }

    /// Notes that the CONNECT in hand is refused. Returns whether the connection can carry another
    /// request. If not, the answer must be its last one.
    pub(super) fn refuse_connect(&self) -> bool {
        let is_last = self.connect() == ConnectState::Last;
        if is_last {
            self.set_connect(ConnectState::Refused);
        }
        is_last
    }
}

impl ActiveRequest {
    /// Whether the URL of the request was noted to have no path.
    pub(super) fn is_pathless(&self) -> bool {
        self.is_pathless
    }

    /// The answer begins.
    pub(super) fn begin_answer(&self) {
        self.state.0.request.store(ANSWERED, Ordering::Relaxed);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.state.0.request.store(NONE, Ordering::Relaxed);
        self.state.0.waker.wake();
    }
}
