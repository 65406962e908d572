//! Requests under way are judged again when the settings change, as tunnels are (SPEC P11).
//!
//! Data can leave the machine as long as a body streams. So a request must end when the policy no longer
//! permits it, at any stage. The proxy ends its connection: HTTP/1 has no other means, and an HTTP/2 client can
//! repeat the requests that are still permitted.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use std::time::Duration;

use codex_network_policy::Reason;
use tokio::sync::Notify;

use super::passage::Passage;
use crate::enforce::{LeadsTo, Standing};
use crate::live_policy::{Generation, GenerationNumber, LivePolicy};

/// How long a request may go on after the policy has stopped permitting it. SPEC P11 allows one second
/// for this and for closing the connection.
const GRACE: Duration = Duration::from_millis(500);

/// The requests of one connection that have reached an upstream and are not complete.
#[derive(Debug, Default)]
pub(super) struct Underway {
    requests: Mutex<Requests>,
    /// A request was permitted by settings that are no longer in force.
    outdated: Notify,
}

#[derive(Debug, Default)]
struct Requests {
    last: u64,
    by_number: HashMap<u64, Request>,
}

#[derive(Debug)]
struct Request {
    standing: Standing,
    /// The settings that permitted it.
    generation: GenerationNumber,
}

/// A request's place among those under way. It is freed when every task that moves a part of the
/// request or its answer has dropped it.
#[derive(Clone, Default)]
pub(super) struct Place(Arc<Mutex<Option<Held>>>);

struct Held {
    of: Arc<Underway>,
    number: u64,
}

impl Underway {
    /// Resolves when the settings in force no longer permit one of the requests.
    pub(super) async fn forbidden(&self, live: &LivePolicy) -> Reason {
        let mut changes = live.watch();
        loop {
            tokio::select! {
                swapped = changes.changed() => if swapped.is_err() {
                    std::future::pending::<()>().await;
                },
                () = self.outdated.notified() => {}
            }
            if self.judge(&live.current()).is_none() {
                continue;
            }
            // Most requests are complete in a moment, and were judged by a whole policy (SPEC C7).
            tokio::time::sleep(GRACE).await;
            if let Some(found) = self.judge(&live.current()) {
                return found;
            }
        }
    }

    fn judge(&self, generation: &Generation) -> Option<Reason> {
        let mut requests = self.lock();
        for request in requests.by_number.values_mut() {
            if request.generation == generation.number() {
                continue;
            }
            let decision = request.standing.judge(generation);
            if !decision.is_allow() {
                return Some(decision.reason());
            }
            request.generation = generation.number();
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock()
    }
}

impl Place {
    /// Takes the place for a request that is about to be sent. A request that is sent again takes
    /// another one.
    pub(super) fn take(
        &self,
        of: &Arc<Underway>,
        passage: &Passage,
        leads_to: &LeadsTo,
        live: &LivePolicy,
    ) {
        let request = Request {
            standing: passage.standing(leads_to),
            generation: passage.generation().number(),
        };
        let mut requests = of.lock();
        requests.last += 1;
        let number = requests.last;
        let held = Held {
            of: Arc::clone(of),
            number,
        };
        requests.by_number.insert(number, request);
        drop(requests);
        let before = self.0.lock().replace(held);
        drop(before);
        // A change of the settings after this check finds the request in its place.
        if live.current().number() != passage.generation().number() {
            of.outdated.notify_one();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.lock().by_number.remove(&self.number);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}
