//! Requests under way are judged again when the settings change, as tunnels are (SPEC P11).
//!
//! Data can leave the machine while a body streams. So a request must end when the policy no longer permits it,
//! at any stage. The proxy ends its connection: HTTP/1 has no other means, and an HTTP/2 client can repeat the
//! requests that are still permitted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use codex_network_policy::Reason;
use futures_util::future::select_all;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::approvals::Grant;
use crate::enforce::WatchedAttempt;
use crate::live_policy::{Generation, GenerationNumber, LivePolicy};

/// How long a request may go on after the policy has stopped permitting it. SPEC P11 allows one second
/// for this and for closing the connection.
const FORBIDDEN_TIMEOUT: Duration = Duration::from_millis(500);

/// The requests of one connection that have reached an upstream and are not complete.
#[derive(Debug, Default)]
pub(super) struct WatchedRequests {
    requests: Mutex<RequestList>,
    /// A request was permitted by settings that are no longer in force.
    outdated: Notify,
}

#[derive(Debug, Default)]
struct RequestList {
    last: u64,
    /// Over HTTP/1 seldom more than one; over HTTP/2 one for each stream.
    requests: Vec<WatchedRequest>,
}

#[derive(Debug)]
struct WatchedRequest {
    number: u64,
    attempt: WatchedAttempt,
    /// The settings that permitted it.
    generation: GenerationNumber,
    /// Whether it is permitted without the grant that permitted it first, which has ended.
    outlived_grant: bool,
}

/// Keeps a request among those that are judged again. Every task that moves a part of the request or
/// its answer holds a clone. The request leaves when the last one is dropped.
#[derive(Clone, Default)]
pub(super) struct WatchGuard(Arc<Mutex<Option<WatchEntry>>>);

struct WatchEntry {
    requests: Arc<WatchedRequests>,
    number: u64,
}

impl WatchedRequests {
    /// Resolves when the settings in force no longer permit one of the requests.
    pub(super) async fn forbidden(&self, live: &LivePolicy) -> Reason {
        let mut changes = live.watch();
        loop {
            tokio::select! {
                swapped = changes.changed() => if swapped.is_err() {
                    std::future::pending::<()>().await;
                },
                () = self.outdated.notified() => {}
                () = grant_ends(self.grants()) => {}
            }
            if self.judge(&live.current()).is_none() {
                continue;
            }
            // Most requests are complete in a moment, and were judged by a whole policy (SPEC C7).
            tokio::time::sleep(FORBIDDEN_TIMEOUT).await;
            if let Some(found) = self.judge(&live.current()) {
                return found;
            }
        }
    }

    fn judge(&self, generation: &Generation) -> Option<Reason> {
        let mut requests = self.lock();
        for request in &mut requests.requests {
            let has_lapsed = !request.outlived_grant && request.attempt.has_lapsed();
            if request.generation == generation.number() && !has_lapsed {
                continue;
            }
            let decision = request.attempt.judge(generation);
            if !decision.is_allow() {
                return Some(decision.reason());
            }
            request.generation = generation.number();
            request.outlived_grant |= has_lapsed;
        }
        None
    }

    /// The grants that permitted the requests.
    fn grants(&self) -> Vec<Arc<Grant>> {
        let requests = self.lock();
        let requests = requests.requests.iter();
        let granted = requests.filter(|request| !request.outlived_grant);
        granted
            .filter_map(|request| request.attempt.grant().cloned())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, RequestList> {
        self.requests.lock()
    }
}

impl WatchGuard {
    /// Watches a request that is about to be sent. The generation is that of the settings
    /// that permitted it. A request that is sent again gets another entry.
    pub(super) fn start(
        &self,
        requests: &Arc<WatchedRequests>,
        attempt: WatchedAttempt,
        generation: &Generation,
        live: &LivePolicy,
    ) {
        let mut list = requests.lock();
        list.last += 1;
        let number = list.last;
        let is_granted = attempt.grant().is_some();
        list.requests.push(WatchedRequest {
            number,
            attempt,
            generation: generation.number(),
            outlived_grant: false,
        });
        drop(list);
        let entry = WatchEntry {
            requests: Arc::clone(requests),
            number,
        };
        let before = self.0.lock().replace(entry);
        drop(before);
        // A change of the settings after this check finds the request in the list.
        if is_granted || live.current().number() != generation.number() {
            requests.outdated.notify_one();
        }
    }
}

/// Resolves when one of the grants ends.
async fn grant_ends(grants: Vec<Arc<Grant>>) {
    if grants.is_empty() {
        std::future::pending::<()>().await;
    }
    let ends = grants.iter().map(|grant| Box::pin(grant.ended()));
    // Boxed, since most connections have none.
    Box::pin(select_all(ends)).await;
}

impl Drop for WatchEntry {
    fn drop(&mut self) {
        let mut list = self.requests.lock();
        let is_it = |request: &WatchedRequest| request.number == self.number;
        let removed = list
            .requests
            .iter()
            .position(is_it)
            .map(|index| list.requests.swap_remove(index));
        drop(list);
        drop(removed);
    }
}

impl fmt::Debug for WatchGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchGuard").finish_non_exhaustive()
    }
}
