//! Questions of an embedded proxy, and their answers (SPEC Q8): the store is that of the service.

use std::time::Duration;

use codex_network_engine::{
    ApprovalError, Approver, Audience, AudienceGuard, DirectGrant, Engine, GrantInfo, GrantRequest,
    QuestionInfo, QuestionState,
};
use codex_network_policy::Host;
use nix::unistd::Uid;
use tokio::sync::watch;

/// Interval of checks for questions that have expired.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Lists and answers the questions of one proxy. While it lives, questions are asked.
///
/// A request whose host is on neither list becomes a question if the settings have `[daemon.approvals] enabled =
/// true`, and the decider, if there is one, answers [`Ask`](crate::NetworkDecision::Ask). All clients of the proxy
/// share the answers.
///
/// ```no_run
/// # async fn answer(handle: &codex_network_proxy::NetworkProxyHandle) {
/// use codex_network_proxy::{GrantPorts, GrantRequest, QuestionState};
///
/// let mut questions = handle.questions();
/// while let Some(question) = questions.next().await {
///     if question.state == QuestionState::Pending {
///         // Show it to a person, who answers now or later. The request waits for `hold`, and a retry finds the
///         // answer.
///         let hour = codex_network_proxy::GrantScope::For(std::time::Duration::from_secs(3600));
///         let request = GrantRequest { scope: Some(hour), ports: GrantPorts::Asked };
///         let _ = questions.approve(&question.id, request);
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Questions {
    engine: Engine,
    changes: watch::Receiver<u64>,
    /// The number of the last change that was returned.
    seen: u64,
    _listening: AudienceGuard,
}

impl Questions {
    pub(super) fn of(engine: &Engine) -> Self {
        let approvals = engine.approvals();
        Self {
            engine: engine.clone(),
            changes: approvals.watch(),
            seen: 0,
            _listening: approvals.listen(Audience::All),
        }
    }

    /// The open questions, the oldest change first.
    pub fn open(&self) -> Vec<QuestionInfo> {
        let mut questions = self.engine.approvals().questions();
        questions.retain(|question| question.state == QuestionState::Pending);
        questions
    }

    /// The next change of a question: it was asked, answered or closed. Each is returned once, in their order; of
    /// several changes of one question, the last. `None` when the proxy ends.
    pub async fn next(&mut self) -> Option<QuestionInfo> {
        let drain = self.engine.drain().clone();
        loop {
            self.changes.mark_unchanged();
            let questions = self.engine.approvals().questions().into_iter();
            let mut new = questions.filter(|question| question.sequence > self.seen);
            if let Some(next) = new.next() {
                self.seen = next.sequence;
                return Some(next);
            }
            if drain.has_begun() {
                return None;
            }
            tokio::select! {
                _ = self.changes.changed() => {}
                () = drain.begun() => {}
                () = tokio::time::sleep(EXPIRY_CHECK_INTERVAL) => {}
            }
        }
    }

    /// Grants what a question asks for.
    ///
    /// # Errors
    ///
    /// Returns an error if the question is not open, or if the policy in force does not leave its destination to
    /// people. A grant until the end of a session is one too: clients of an embedded proxy have no session.
    pub fn approve(&self, id: &str, request: GrantRequest) -> Result<GrantInfo, ApprovalError> {
        self.engine.approve(id, request, &approver())
    }

    /// Denies what a question asks for, for as long as a question stays open (`expire`). A grant that it had ends.
    ///
    /// # Errors
    ///
    /// Returns an error if the question is neither open nor granted.
    pub fn deny(&self, id: &str) -> Result<QuestionInfo, ApprovalError> {
        let limits = self.engine.current().settings().daemon.approvals;
        self.engine.approvals().deny(id, &approver(), &limits)
    }

    /// Grants all ports of a host for a time, without a question.
    ///
    /// # Errors
    ///
    /// Returns an error if the policy in force does not leave the host to people.
    pub fn grant(&self, host: Host, time: Duration) -> Result<GrantInfo, ApprovalError> {
        let direct = DirectGrant {
            audience: Audience::All,
            host,
            time,
        };
        self.engine.grant(&direct, &approver())
    }

    /// The grants in force, the oldest first.
    pub fn grants(&self) -> Vec<GrantInfo> {
        self.engine.approvals().grants()
    }

    /// Ends a grant, and the connections that it permitted.
    ///
    /// # Errors
    ///
    /// Returns an error if no grant in force has this id.
    pub fn revoke(&self, id: &str) -> Result<GrantInfo, ApprovalError> {
        self.engine.approvals().revoke(id)
    }
}

/// The embedder answers.
fn approver() -> Approver {
    Approver {
        uid: Uid::effective().as_raw(),
        name: None,
    }
}
