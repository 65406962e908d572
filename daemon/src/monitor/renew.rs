//! The CA in memory is replaced before it gets old, and when the clock leaves its validity (SPEC M3).
//!
//! The monitor makes the new CA, and a reload publishes it: the loader writes its public files, and the
//! worker forgets the leaves of the old one. Until the worker has those settings, it still gets leaves
//! of the old CA. A CA in files is never replaced: the log says what to do.

use std::time::{Duration, Instant, SystemTime};

use super::Monitor;
use crate::privsep::settled::Authority;

/// How long after a reload for a new CA the next one is requested, if the first did not bring it.
const RETRY_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// How often the log says that a CA in files is old.
const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The last step.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    asked: Option<Instant>,
    warned: Option<Instant>,
}

/// The CA of the settings in force, in relation to the one in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InForce {
    /// It is the one in memory.
    Current,
    /// It is one that was in memory before.
    Before,
    /// None, or one in files.
    Other,
}

impl Renewal {
    /// Whether a reload must bring the new CA to the worker, and none was requested lately.
    fn must_reload(&mut self, in_force: InForce, now: Instant) -> bool {
        let is_due = in_force == InForce::Before && is_over(self.asked, RETRY_INTERVAL, now);
        if is_due {
            self.asked = Some(now);
        }
        is_due
    }

    /// A CA was made: the worker needs it soon, even if one was requested before.
    fn made(&mut self) {
        self.asked = None;
    }

    fn may_warn(&mut self, now: Instant) -> bool {
        let may = is_over(self.warned, WARNING_INTERVAL, now);
        if may {
            self.warned = Some(now);
        }
        may
    }
}

fn is_over(last: Option<Instant>, interval: Duration, now: Instant) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(last) >= interval)
}

impl Monitor {
    /// Looks at the age of the CA. Cheap: it compares times.
    pub(super) fn look_at_ca(&mut self, clock: SystemTime, now: Instant) {
        match self.issuing.renew(clock) {
            Ok(None) => {}
            Ok(Some(certificate)) => {
                self.arguments.set_certificate(certificate);
                self.renewal.made();
                tracing::info!(
                    "made a new CA, since the one in memory is past two thirds of its life, or not valid by this \
                     machine's clock"
                );
            }
            Err(error) => {
                if self.renewal.may_warn(now) {
                    tracing::error!("cannot make a new CA: {error:#}");
                }
            }
        }
        let in_force = match &self.settled.authority {
            Authority::Ephemeral => match &self.settled.system_files.plan.ca {
                Some((certificate, _)) if self.issuing.certificate() != certificate => {
                    InForce::Before
                }
                Some(_) | None => InForce::Current,
            },
            Authority::None | Authority::Kept(_) => InForce::Other,
        };
        if in_force != InForce::Before && self.pending.is_none() {
            self.issuing.forget_before();
        }
        if let Authority::Kept(ca) = &self.settled.authority
            && ca.is_due(clock)
            && self.renewal.may_warn(now)
        {
            tracing::warn!(
                "the CA in files is past two thirds of its life, or not valid by this machine's clock ({}); \
                 proxyctl doctor says how to replace it",
                ca.valid(),
            );
        }
        if self.renewal.must_reload(in_force, now) {
            tracing::info!("reloading, to put the new CA in force");
            let begin = self.reloads.request_by_signal();
            self.reload(begin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m3_a_new_ca_is_brought_to_the_worker_at_once_and_again_while_it_is_missing() {
        let mut renewal = Renewal::default();
        let start = Instant::now();
        assert!(!renewal.must_reload(InForce::Current, start));
        assert!(!renewal.must_reload(InForce::Other, start));
        assert!(renewal.must_reload(InForce::Before, start));
        let soon = start + RETRY_INTERVAL / 2;
        assert!(!renewal.must_reload(InForce::Before, soon));
        // The reload failed, since the configuration is broken.
        let later = start + RETRY_INTERVAL;
        assert!(renewal.must_reload(InForce::Before, later));
        assert!(!renewal.must_reload(InForce::Before, later));
        // The clock was set again.
        renewal.made();
        assert!(renewal.must_reload(InForce::Before, later));
    }

    #[test]
    fn m3_the_log_reports_once_a_day_that_a_ca_in_files_is_old() {
        let mut renewal = Renewal::default();
        let start = Instant::now();
        assert!(renewal.may_warn(start));
        assert!(!renewal.may_warn(start + WARNING_INTERVAL / 2));
        assert!(renewal.may_warn(start + WARNING_INTERVAL));
    }
}
