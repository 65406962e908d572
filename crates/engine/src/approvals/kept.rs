//! The entries of the store: questions and denials.

use std::sync::Arc;

use codex_network_policy::{Authority, Protocol};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::asker::{Asker, AskerId};
use super::question::{ApprovalError, QuestionInfo, QuestionState};

/// Most requests that wait for one answer. Further ones are refused at once.
const MAX_WAITING: usize = 64;

/// A request that waits for an answer.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: Arc<str>,
    /// Cancelled when the question is closed.
    pub(super) settled: CancellationToken,
    /// Counted by its references.
    _waiting: Arc<()>,
}

/// A remembered denial.
#[derive(Debug)]
pub(crate) struct Denial {
    pub(crate) id: Arc<str>,
    /// The text for records.
    pub(crate) rule: Arc<str>,
    pub(super) asker: AskerId,
    /// The user of the asker.
    pub(super) uid: u32,
    pub(super) authority: Authority,
    /// `None`: until the session ends.
    pub(super) until: Option<Instant>,
}

/// A question, open or closed.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) id: Arc<str>,
    pub(super) sequence: u64,
    pub(super) state: QuestionState,
    pub(super) asker: Asker,
    pub(super) authority: Authority,
    pub(super) protocol: Protocol,
    pub(super) asked: i64,
    pub(super) expires: Instant,
    pub(super) expires_wall: i64,
    pub(super) settled: CancellationToken,
    pub(super) waiting: Arc<()>,
    /// The number of the last change of whether any request waits, after the first one.
    pub(super) awaited_sequence: u64,
    pub(super) by: Option<Arc<str>>,
}

impl Question {
    /// Waits for the answer, or gives the id if too many requests wait.
    pub(super) fn wait(&self) -> Result<Waiter, Arc<str>> {
        if self.waiting() >= MAX_WAITING {
            return Err(Arc::clone(&self.id));
        }
        Ok(Waiter {
            id: Arc::clone(&self.id),
            settled: self.settled.clone(),
            _waiting: Arc::clone(&self.waiting),
        })
    }

    pub(super) fn waiting(&self) -> usize {
        Arc::strong_count(&self.waiting) - 1
    }

    pub(super) fn closed(&self) -> ApprovalError {
        ApprovalError::Closed {
            id: Arc::clone(&self.id),
            state: self.state,
        }
    }

    pub(super) fn info(&self) -> QuestionInfo {
        QuestionInfo {
            id: Arc::clone(&self.id),
            sequence: self.sequence,
            state: self.state,
            session: self.asker.session.clone(),
            uid: self.asker.uid,
            user: self.asker.user.clone(),
            command: self.asker.command.clone(),
            host: self.authority.host.clone(),
            port: self.authority.port,
            protocol: self.protocol.record_name(),
            asked: self.asked,
            expires: self.expires_wall,
            waiting: self.waiting(),
            awaited_sequence: self.awaited_sequence,
            by: self.by.clone(),
        }
    }
}

impl Denial {
    pub(super) fn is_live(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}
