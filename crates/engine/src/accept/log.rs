//! The log lines about listeners: a shortage is logged once, and again when it is over.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::AcceptFailure;
use crate::owner::ConnectionHandle;
use crate::record::Recorder;

/// Shortest time between two log lines about the limit of connections.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The log lines about a listener, which all its loops share, or about those of one session.
#[derive(Default)]
pub(crate) struct AcceptLog {
    /// When the limit of connections was last logged.
    limit_logged_at: Mutex<Option<Instant>>,
    /// The failures since a loop last accepted.
    failures: AtomicU64,
    /// The budget of lines of the user who gave the listeners, and can cause failures of them.
    giver: Option<(Arc<Recorder>, ConnectionHandle)>,
}

impl AcceptLog {
    /// The lines about the listeners that this user gave.
    pub(crate) fn given_by(user: &ConnectionHandle, recorder: &Arc<Recorder>) -> Self {
        Self {
            giver: Some((Arc::clone(recorder), user.clone())),
            ..Self::default()
        }
    }

    pub(super) fn may_log(&self) -> bool {
        let giver = self.giver.as_ref();
        giver.is_none_or(|(recorder, user)| recorder.may_log(user, "listeners of sessions"))
    }

    pub(super) fn at_limit(&self, door: &'static str, limit: usize) {
        let mut logged_at = self.limit_logged_at.lock();
        if logged_at.is_some_and(|logged_at| logged_at.elapsed() < LOG_INTERVAL) {
            return;
        }
        *logged_at = Some(Instant::now());
        if self.may_log() {
            tracing::warn!(
                door,
                limit,
                "at the limit of connections: further clients wait"
            );
        }
    }

    pub(super) fn failed(&self, door: &'static str, error: &io::Error, failure: AcceptFailure) {
        if self.failures.fetch_add(1, Ordering::Relaxed) == 0 && self.may_log() {
            tracing::error!(door, %error, trouble = ?failure, "cannot accept clients; trying again until it works");
        }
    }

    pub(super) fn accepted(&self, door: &'static str) {
        // Zero is the common case.
        if self.failures.load(Ordering::Relaxed) == 0 {
            return;
        }
        let failures = self.failures.swap(0, Ordering::Relaxed);
        if failures > 0 && self.may_log() {
            tracing::info!(door, failures, "accepting again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j13_the_lines_about_the_listeners_of_one_user_have_a_budget() {
        let recorder = Recorder::for_tests();
        let logs =
            [1, 1, 2].map(|user| AcceptLog::given_by(&ConnectionHandle::of_user(user), &recorder));
        let written = |log: &AcceptLog| (0..10_000).filter(|_| log.may_log()).count();
        let first = written(&logs[0]) + written(&logs[1]);
        assert!((500..1500).contains(&first), "{first}");
        assert!(logs[2].may_log());
        assert_eq!(written(&AcceptLog::default()), 10_000);
    }
}
