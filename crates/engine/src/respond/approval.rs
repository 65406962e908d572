//! Answers to requests that a person must approve, or has denied (SPEC Q2).

use http::HeaderValue;

use crate::attempt::{Approval, ApprovalState, Refusal};

/// The value of `Retry-After` (RFC 9110 section 10.2.3), while there is no answer.
pub(super) fn retry_after(refusal: &Refusal) -> Option<HeaderValue> {
    match refusal.approval.as_ref()?.state {
        ApprovalState::Unanswered { retry_after } => {
            Some(HeaderValue::from(retry_after.as_secs().max(1)))
        }
        ApprovalState::Denied { .. } => None,
    }
}

/// The cause of a refusal and its remedy.
pub(super) fn sentence(host: &str, approval: &Approval) -> String {
    let id = &approval.id;
    match approval.state {
        ApprovalState::Unanswered { .. } => format!(
            "{host} is not on the allow list of the network policy, and a user must approve it first, with \
             `proxyctl approve {id}`; try again once it is approved."
        ),
        ApprovalState::Denied { .. } => format!(
            "{host} is not on the allow list of the network policy, and a user has denied it (question {id})."
        ),
    }
}
