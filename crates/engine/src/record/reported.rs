//! Attempts that are let through only because hosts on neither list are reported and not refused (SPEC P12). They
//! are among the refusals, marked, so that `/blocked` shows what enforcement would refuse. Their audit events are those
//! of allowed attempts.

use std::borrow::Cow;

use codex_network_policy::{Authority, Decision};

use super::Recorder;
use super::refused::Refused;
use crate::attempt::{Attempt, DestinationKind, Refusal};
use crate::lines::{About, LineChoice};
use crate::live_policy::Generation;

impl Recorder {
    /// Enters an allowed attempt among the refusals, within the client's budget of lines.
    pub(super) fn reported(
        &self,
        generation: &Generation,
        attempt: &Attempt,
        authority: &Authority,
        decision: Decision,
    ) {
        let refusal = Refusal {
            decision,
            destination: DestinationKind::Host,
            protocol: attempt.kind.protocol(),
            host: authority.host.to_string(),
            port: authority.port,
            detail: None,
            decider_reason: None,
            credential: None,
            approval: None,
        };
        let refused = Refused {
            policy: generation.policy(),
            attempt,
            refusal: &refusal,
            reason: Cow::Borrowed(decision.reason().as_str()),
            clock: &*self.clock,
        };
        let capacity = generation.settings().daemon.limits.blocked_buffer;
        let holder = match self.lines.take(&attempt.client.connection) {
            LineChoice::Written => return self.blocked.push(refused.entry(), capacity),
            LineChoice::Counted(holder) => holder,
        };
        // Each has an audit event, so the lines need no count for each destination.
        let about = About::Message("attempts that would be refused");
        let is_first = self.lines.count(holder, about, || None);
        self.blocked
            .push_counted(|other| refused.is_like(other), || refused.entry(), capacity);
        self.write_counts_later(is_first);
    }
}
