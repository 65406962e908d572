//! Leaves for intercepted hosts, requested over the channel to the monitor (SPEC M4).
//!
//! The number of pending requests is limited. A request is pending until it is answered, even if
//! its caller has gone. No caller waits for long, and when the channel ends all of them get an
//! error.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use codex_network_config::CaCertificate;
use codex_network_engine::{IssueError, IssuedLeaf, LeafIssuer};
use codex_network_policy::Host;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard, RwLock};
use rustls_pki_types::CertificateDer;
use tokio::sync::oneshot;

use super::link::Link;
use crate::ca::certificate::fingerprint;
use crate::ca::{Leaf, PublicKey};
use crate::privsep::message::{MAX_LEAVES_REQUESTED, NoLeaf, ToMonitor};
use crate::privsep::ticket::{QuestionId, QuestionIds};

/// How long an answer may take.
const ISSUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests leaves from the monitor.
#[derive(Debug)]
pub(super) struct MonitorIssuer {
    link: Arc<Link>,
    /// The CA of the settings in force.
    ca: RwLock<Option<CurrentCa>>,
    questions: QuestionIds,
    waiting: Mutex<PendingQuestions>,
}

#[derive(Clone, Debug)]
struct CurrentCa {
    certificate: CertificateDer<'static>,
    fingerprint: [u8; 32],
}

#[derive(Debug, Default)]
struct PendingQuestions {
    callers: HashMap<QuestionId, oneshot::Sender<Result<Leaf, NoLeaf>>>,
    channel: Channel,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Channel {
    #[default]
    Open,
    /// The monitor is gone.
    Ended,
}

impl MonitorIssuer {
    pub(super) fn new(link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self {
            link,
            ca: RwLock::default(),
            questions: QuestionIds::default(),
            waiting: Mutex::default(),
        })
    }

    /// Requests leaves of this CA from now on.
    pub(super) fn use_ca(&self, ca: Option<&CaCertificate>) {
        let authority = ca.map(|ca| CurrentCa {
            certificate: CertificateDer::from(ca.der.to_vec()),
            fingerprint: fingerprint(&ca.der),
        });
        *self.ca.write() = authority;
    }

    /// An answer came.
    pub(super) fn answered(&self, question: QuestionId, outcome: Result<Leaf, NoLeaf>) {
        if let Some(caller) = self.waiting().callers.remove(&question) {
            // A caller that has gone needs no answer.
            let _ = caller.send(outcome);
        }
    }

    /// No more answers will come.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting();
        waiting.channel = Channel::Ended;
        waiting.callers.clear();
    }

    async fn ask(
        &self,
        host: &Host,
        public_key: &PublicKey,
        user: Option<u32>,
    ) -> Result<IssuedLeaf, IssueError> {
        let refused = |why: &str| IssueError::Refused(why.to_owned());
        if matches!(host, Host::V6(host) if host.scope().is_some()) {
            return Err(refused("a certificate cannot name an address with a scope"));
        }
        let ca = self.ca.read().clone();
        let ca = ca.ok_or_else(|| refused("there is no CA, since interception is off"))?;
        let question = self.questions.next();
        let (caller, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            if waiting.channel == Channel::Ended {
                return Err(IssueError::Gone);
            }
            if waiting.callers.len() >= MAX_LEAVES_REQUESTED {
                return Err(IssueError::Busy);
            }
            waiting.callers.insert(question, caller);
        }
        self.link.send(ToMonitor::IssueLeaf {
            question,
            authority: ca.fingerprint,
            public_key: *public_key,
            name: host.to_string(),
            user,
        });
        match answer.await {
            Ok(Ok(leaf)) => Ok(IssuedLeaf {
                chain: vec![CertificateDer::from(leaf.certificate), ca.certificate],
                not_before: leaf.not_before,
                not_after: leaf.not_after,
            }),
            Ok(Err(NoLeaf::Busy)) => Err(IssueError::Busy),
            Ok(Err(NoLeaf::TooManyHosts)) => Err(IssueError::TooManyHosts),
            Ok(Err(NoLeaf::OtherCa)) => Err(refused("the CA has just been replaced")),
            Ok(Err(NoLeaf::NotValidNow)) => Err(refused(
                "the CA has expired, or is not valid yet, by this machine's clock",
            )),
            Ok(Err(NoLeaf::NotListed)) => Err(refused(
                "the settings in force do not permit intercepting this host",
            )),
            Ok(Err(NoLeaf::Failed)) => Err(refused("signing failed")),
            Err(_) => Err(IssueError::Gone),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, PendingQuestions> {
        self.waiting.lock()
    }
}

impl LeafIssuer for MonitorIssuer {
    fn issue<'a>(
        &'a self,
        host: &'a Host,
        public_key: &'a PublicKey,
    ) -> BoxFuture<'a, Result<IssuedLeaf, IssueError>> {
        self.issue_for(host, public_key, None)
    }

    fn issue_for<'a>(
        &'a self,
        host: &'a Host,
        public_key: &'a PublicKey,
        user: Option<u32>,
    ) -> BoxFuture<'a, Result<IssuedLeaf, IssueError>> {
        async move {
            tokio::time::timeout(ISSUE_TIMEOUT, self.ask(host, public_key, user))
                .await
                .unwrap_or(Err(IssueError::Gone))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
