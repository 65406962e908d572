//! The users of clients on this machine, requested over the channel to the monitor.
//!
//! One question is pending at a time, since its size is bounded; the next caller waits.

use std::sync::Arc;

use codex_network_engine::{ClientOwner, SocketPair};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::link::Link;
use crate::privsep::message::{ConnectionEnds, MAX_OWNERS_REQUESTED, ToMonitor};
use crate::privsep::ticket::{QuestionId, QuestionIds};

/// Requests users from the monitor.
#[derive(Debug)]
pub(super) struct Owners {
    link: Arc<Link>,
    questions: QuestionIds,
    /// Held by the caller that asks.
    asking: tokio::sync::Mutex<()>,
    waiting: Mutex<Option<PendingQuestion>>,
}

/// A pending question.
#[derive(Debug)]
struct PendingQuestion {
    question: QuestionId,
    answer: oneshot::Sender<Vec<Option<u32>>>,
}

impl Owners {
    pub(super) fn new(link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self {
            link,
            questions: QuestionIds::default(),
            asking: tokio::sync::Mutex::default(),
            waiting: Mutex::default(),
        })
    }

    /// An answer came.
    pub(super) fn answered(&self, question: QuestionId, users: Vec<Option<u32>>) {
        let waiting = self
            .waiting()
            .take_if(|waiting| waiting.question == question);
        if let Some(waiting) = waiting {
            // The caller may have given up.
            let _ = waiting.answer.send(users);
        }
    }

    async fn ask(&self, connections: &[SocketPair]) -> Vec<Option<u32>> {
        let _asking = self.asking.lock().await;
        let ends = |ends: &SocketPair| ConnectionEnds {
            client: ends.client,
            local: ends.local,
        };
        let mut users = Vec::new();
        for batch in connections.chunks(MAX_OWNERS_REQUESTED) {
            let question = self.questions.next();
            let (answer, received) = oneshot::channel();
            *self.waiting() = Some(PendingQuestion { question, answer });
            self.link.send(ToMonitor::AskOwners {
                question,
                connections: batch.iter().map(ends).collect(),
            });
            // Without a monitor this process ends.
            users.extend(received.await.unwrap_or_default());
        }
        users
    }

    fn waiting(&self) -> MutexGuard<'_, Option<PendingQuestion>> {
        self.waiting.lock()
    }
}

impl ClientOwner for Owners {
    fn owners<'a>(&'a self, connections: &'a [SocketPair]) -> BoxFuture<'a, Vec<Option<u32>>> {
        self.ask(connections).boxed()
    }
}
