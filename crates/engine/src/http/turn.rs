//! Whose turn it is on a connection: the client's to ask, or ours to answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::{Mutex, MutexGuard};
use std::task::Context;

use futures_util::task::AtomicWaker;

use crate::activity::Busy;
use crate::owner::ConnectionHandle;

/// Whose turn it is on a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<State>);

#[derive(Debug, Default)]
struct State {
    whose: AtomicU8,
    /// The task that waits for the client's turn, or for the result of an upgrade.
    waker: AtomicWaker,
    upgrade: AtomicU8,
    /// For each request that hyper has not read yet, whether its URL has no path.
    pathless: Mutex<VecDeque<bool>>,
}

/// Whether the connection changes to another protocol (RFC 9110 section 7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Upgrade {
    /// It does not.
    None = 0,
    /// A request asks for it, and there is no answer yet.
    Asked = 1,
    /// It has changed: the bytes are no longer HTTP.
    Done = 2,
}

/// Our turn, from a request to the end of its answer. Dropping it returns the turn to the client.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    is_pathless: bool,
    /// Keeps the connection from counting as idle.
    _busy: Busy,
}

const CLIENTS: u8 = 0;
const OURS: u8 = 1;
const ANSWERING: u8 = 2;

impl Turns {
    /// Takes the turn for a request that has arrived on this connection.
    pub(super) fn take(&self, connection: &ConnectionHandle) -> Turn {
        self.0.whose.store(OURS, Ordering::Relaxed);
        Turn {
            turns: self.clone(),
            is_pathless: self.pathless().pop_front().unwrap_or_default(),
            _busy: connection.busy(),
        }
    }

    /// Whether a request is in hand.
    pub(super) fn is_ours(&self) -> bool {
        self.0.whose.load(Ordering::Relaxed) != CLIENTS
    }

    /// Notes for each request, before hyper reads it, whether its URL has no path.
    pub(super) fn note_pathless(&self, requests: impl Iterator<Item = bool>) {
        self.pathless().extend(requests);
    }

    fn pathless(&self) -> MutexGuard<'_, VecDeque<bool>> {
        self.0.pathless.lock()
    }

    /// Wakes the task when the turn is the client's again.
    pub(super) fn wake_when_given_back(&self, cx: &Context<'_>) {
        self.0.waker.register(cx.waker());
    }

    /// Notes the result of an upgrade.
    pub(super) fn set_upgrade(&self, upgrade: Upgrade) {
        self.0.upgrade.store(upgrade as u8, Ordering::Release);
        self.0.waker.wake();
    }

    /// The result of an upgrade. If it is [`Upgrade::Asked`], the task is woken when the answer decides it.
    pub(super) fn poll_upgrade(&self, cx: &Context<'_>) -> Upgrade {
        if self.upgrade() == Upgrade::Asked {
            self.0.waker.register(cx.waker());
        }
        self.upgrade()
    }

    fn upgrade(&self) -> Upgrade {
        match self.0.upgrade.load(Ordering::Acquire) {
            0 => Upgrade::None,
            1 => Upgrade::Asked,
            _ => Upgrade::Done,
        }
    }

    /// Whether a request is in hand that has no answer yet.
    pub(super) fn awaits_answer(&self) -> bool {
        self.0.whose.load(Ordering::Relaxed) == OURS
    }
}

impl Turn {
    /// Whether the URL of the request was noted to have no path.
    pub(super) fn is_pathless(&self) -> bool {
        self.is_pathless
    }

    /// The answer begins.
    pub(super) fn answers(&self) {
        self.turns.0.whose.store(ANSWERING, Ordering::Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.whose.store(CLIENTS, Ordering::Relaxed);
        self.turns.0.waker.wake();
    }
}
