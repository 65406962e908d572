//! A failure as clients and the log get it: whose fault it is, what happened, and the sources.
//! `respond` renders it in HTTP and SOCKS5, and the flow event in the log.

use std::error::Error;

use crate::outcome::{Ending, Fault, FlowOutcome, Logged};

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// The outcome that the record of the attempt shows.
    pub(crate) outcome: FlowOutcome,
    pub(crate) kind: FailureKind,
    /// The text for the client and the log. It holds no detail of the resolver or the system (SPEC
    /// H7).
    pub(crate) text: String,
    /// The text that the sources of the error add, for the log only.
    pub(crate) detail: Option<String>,
}

/// The kinds of failure that have an answer of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Something took too long.
    Timeout,
    /// The name of the host did not resolve.
    NotResolved,
    /// The host refused the connection.
    ConnectionRefused,
    /// The host is unreachable.
    Unreachable,
    /// Any other failure.
    Other,
}

impl Failure {
    /// The failure that an error causes.
    pub(crate) fn of(
        error: &dyn Error,
        fault: Fault,
        outcome: FlowOutcome,
        kind: FailureKind,
    ) -> Self {
        Self {
            fault,
            outcome,
            kind,
            text: error.to_string(),
            detail: detail(error),
        }
    }

    /// The end of the attempt, for its event.
    pub(crate) fn ending(self) -> Ending {
        Ending {
            outcome: self.outcome,
            fault: Some(self.fault),
            reason: None,
            cause: Some(self.text.into()),
            detail: self.detail,
            logged: Logged::HereOnly,
        }
    }
}

/// Bytes of [`detail`] at most. The text of rustls about a certificate can be a quarter of a MiB long.
const MAX_DETAIL: usize = 300;

/// The text that the sources of an error add to its own, for the log only.
fn detail(error: &dyn Error) -> Option<String> {
    let text = error.to_string();
    let mut added = Vec::new();
    let mut source = error.source();
    while let Some(error) = source {
        added.push(error.to_string());
        source = error.source();
    }
    added.retain(|source| !text.contains(source));
    let mut added = added.join(": ");
    let end = (0..=MAX_DETAIL)
        .rev()
        .find(|end| added.is_char_boundary(*end));
    added.truncate(end.unwrap_or_default());
    (!added.is_empty()).then_some(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it failed")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Inner(String);

    #[test]
    fn r2_a_long_text_of_a_library_is_cut() {
        let long = Outer(Inner("\u{e9}".repeat(100_000)));
        let added = detail(&long).expect("a detail");
        assert_eq!(added.len(), MAX_DETAIL);
        let short = Outer(Inner("why".to_owned()));
        assert_eq!(detail(&short).as_deref(), Some("why"));
        assert_eq!(detail(&Outer(Inner(String::new()))), None);
    }
}
