//! The calls about questions and grants (SPEC Q).

use std::time::Duration;

use super::{CALL_TIMEOUT, CallError, Client, settle, within};
use crate::message::{
    Approval, Approvals, ApprovalsQuery, Denied, Granted, Grants, NoArguments, QuestionId,
    TemporaryGrant,
};
use crate::version;

impl Client {
    /// The questions that the caller may see. Waits for one if the query says so, and listens meanwhile.
    ///
    /// # Errors
    ///
    /// [`CallError::TooOld`] when the daemon has no questions; otherwise as every call.
    pub async fn approvals(&self, query: ApprovalsQuery) -> Result<Approvals, CallError> {
        self.require_protocol(version::APPROVALS)?;
        let deadline = CALL_TIMEOUT.saturating_add(Duration::from_secs(query.wait));
        settle(self.calls.approvals(within(deadline), query).await)
    }

    /// Grants what a question asks for.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotPermitted`](crate::ControlError::NotPermitted) for a caller who may not answer it,
    /// [`ControlError::Invalid`](crate::ControlError::Invalid) if it cannot be granted; otherwise as
    /// [`approvals`](Self::approvals).
    pub async fn approve(&self, approval: Approval) -> Result<Granted, CallError> {
        self.require_protocol(version::APPROVALS)?;
        settle(self.calls.approve(within(CALL_TIMEOUT), approval).await)
    }

    /// Denies what a question asks for.
    ///
    /// # Errors
    ///
    /// The same as [`approve`](Self::approve).
    pub async fn deny(&self, question: QuestionId) -> Result<Denied, CallError> {
        self.require_protocol(version::APPROVALS)?;
        settle(self.calls.deny(within(CALL_TIMEOUT), question).await)
    }

    /// Grants a host without a question.
    ///
    /// # Errors
    ///
    /// [`CallError::TooOld`] when the daemon does not know the call; otherwise as [`approve`](Self::approve).
    pub async fn grant(&self, grant: TemporaryGrant) -> Result<Granted, CallError> {
        self.require_protocol(version::TEMPORARY_GRANTS)?;
        settle(self.calls.grant(within(CALL_TIMEOUT), grant).await)
    }

    /// The grants that the caller may see.
    ///
    /// # Errors
    ///
    /// The same as [`approvals`](Self::approvals).
    pub async fn grants(&self) -> Result<Grants, CallError> {
        self.require_protocol(version::APPROVALS)?;
        settle(
            self.calls
                .grants(within(CALL_TIMEOUT), NoArguments {})
                .await,
        )
    }

    /// Ends a grant, and the connections that it permitted.
    ///
    /// # Errors
    ///
    /// The same as [`approve`](Self::approve).
    pub async fn revoke(&self, grant: QuestionId) -> Result<Granted, CallError> {
        self.require_protocol(version::APPROVALS)?;
        settle(self.calls.revoke(within(CALL_TIMEOUT), grant).await)
    }
}
