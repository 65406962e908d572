//! Questions about hosts that the policy merely does not allow, and the answers (SPEC Q).
//!
//! A request whose host is on neither list becomes a question that people answer while the request waits for a
//! moment. A permission is a [`grant::Grant`]. `enforce` decides what may be asked, and applies an answer
//! within the policy. This module keeps questions and answers, and decides nothing.
//!
//! - `store`, with its entries in `kept`: the questions and answers. It has no clock of its own.
//! - `grant`: a permission, and its end.
//! - `question`: plain data about questions and answers, for lists.

mod asker;
mod grant;
mod kept;
mod moment;
mod question;
mod store;

use std::sync::Arc;

use codex_network_config as config;
use codex_network_policy::{Authority, Host, Protocol};
use parking_lot::{Mutex, MutexGuard};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

pub(crate) use self::asker::Asker;
use self::asker::AskerId;
pub(crate) use self::grant::Grant;
use self::kept::{Denial, Waiter};
use self::moment::Moment;
pub use self::question::{
    ApprovalError, Approver, Audience, DirectGrant, GrantHolder, GrantInfo, GrantPorts,
    GrantRequest, GrantScope, QuestionInfo, QuestionState,
};
use self::store::{Ask, Considered, Store};
use crate::client::Client;
use crate::clock::Clock;
use crate::owner::Owners;
use crate::session::{Session, SessionNumber};

/// The questions and answers of one engine.
pub struct Approvals {
    store: Mutex<Store>,
    /// The number of the last change.
    changed: watch::Sender<u64>,
    owners: Arc<Owners>,
    clock: Arc<dyn Clock>,
    /// Whom a client counts for that has no session and no known user.
    otherwise: Option<Asker>,
}

/// The result of asking.
#[derive(Debug)]
pub(crate) enum QuestionOutcome {
    Granted(Arc<Grant>),
    Denied(Arc<Denial>),
    /// There is no answer yet to the question with this id.
    Unanswered(Arc<str>),
    /// It cannot be asked: no user who may answer listens, or there are too many questions.
    NotAsked,
}

/// A request that waits for an answer, until this is dropped.
struct Wait<'a> {
    approvals: &'a Approvals,
    waiter: Option<Waiter>,
}

/// Listens for questions until it is dropped, and for a moment longer: calls that wait follow one another.
pub struct AudienceGuard {
    approvals: Arc<Approvals>,
    audience: Audience,
}

impl Approvals {
    /// `otherwise` stands for the clients that have no session and no known user. `None`: nothing is asked about
    /// these.
    pub(crate) fn new(
        owners: Arc<Owners>,
        clock: Arc<dyn Clock>,
        otherwise: Option<Asker>,
    ) -> Arc<Self> {
        Arc::new(Self {
            store: Mutex::default(),
            changed: watch::Sender::new(0),
            owners,
            clock,
            otherwise,
        })
    }

    /// Whether there is a listener who may answer a question of some client.
    pub fn has_listener(&self) -> bool {
        self.lock().has_listener(Instant::now())
    }

    /// Whether every question would be refused at once, for any client.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().is_idle(Instant::now())
    }

    /// Whether a request of a session to this host may be permitted: by a grant, or by an answer.
    pub(crate) fn may_permit(
        &self,
        client: &Client,
        host: &Host,
        limits: &config::Approvals,
    ) -> bool {
        let Some(asker) = client.session().map(Asker::of_session) else {
            return false;
        };
        self.lock().may_permit(self.now(), limits, &asker, host)
    }

    /// The grant that covers requests of this session to this host and port, if there is one. Without a session, a grant
    /// for everyone: who the client is, is not known.
    pub(crate) fn granted(
        &self,
        session: Option<&Arc<Session>>,
        authority: &Authority,
    ) -> Option<Arc<Grant>> {
        let asker = session.map_or_else(|| Asker::of_everyone(0), Asker::of_session);
        self.lock().granted(Instant::now(), &asker, authority)
    }

    /// Finds an answer, or asks and waits for one. That takes at most [`hold`](config::Approvals::hold), the search
    /// for the client's user included. If the caller no longer waits, the question stays open.
    pub(crate) async fn ask(
        &self,
        limits: &config::Approvals,
        client: &Client,
        authority: &Authority,
        protocol: Protocol,
    ) -> QuestionOutcome {
        if self.is_idle() {
            return QuestionOutcome::NotAsked;
        }
        let deadline = Instant::now() + limits.hold;
        let Ok(Some(asker)) = timeout_at(deadline, self.asker(client)).await else {
            return QuestionOutcome::NotAsked;
        };
        let ask = Ask {
            asker: &asker,
            authority,
            protocol,
            connection: &client.connection,
        };
        let now = self.now();
        let considered = self.change(|store| store.consider(now, limits, &ask, random_id));
        let waiter = match considered {
            Considered::Granted(grant) => return QuestionOutcome::Granted(grant),
            Considered::Denied(denial) => return QuestionOutcome::Denied(denial),
            Considered::Unanswered(id) => return QuestionOutcome::Unanswered(id),
            Considered::NotAsked => return QuestionOutcome::NotAsked,
            Considered::Open(waiter) => waiter,
        };
        let (id, settled) = (Arc::clone(&waiter.id), waiter.settled.clone());
        let wait = Wait {
            approvals: self,
            waiter: Some(waiter),
        };
        let _ = timeout_at(deadline, settled.cancelled()).await;
        drop(wait);
        match self.lock().answer(Instant::now(), &ask) {
            Some(Considered::Granted(grant)) => QuestionOutcome::Granted(grant),
            Some(Considered::Denied(denial)) => QuestionOutcome::Denied(denial),
            _ => QuestionOutcome::Unanswered(id),
        }
    }

    /// The session of a client, or its user, or whom all others count for. `None` if none is known.
    async fn asker(&self, client: &Client) -> Option<Asker> {
        if let Some(session) = client.session() {
            return Some(Asker::of_session(session));
        }
        let connection = std::slice::from_ref(&client.connection);
        self.owners.look_up(connection).await;
        let user = client.connection.user().map(Asker::of_user);
        user.or_else(|| self.otherwise.clone())
    }

    /// Listens for questions.
    pub fn listen(self: &Arc<Self>, audience: Audience) -> AudienceGuard {
        self.lock().enter(audience.clone());
        AudienceGuard {
            approvals: Arc::clone(self),
            audience,
        }
    }

    /// Resolves at every change after the call, with the number of the change.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The open questions and the last closed ones, those that changed longest ago first.
    pub fn questions(&self) -> Vec<QuestionInfo> {
        let now = self.now();
        self.change(|store| store.questions(now))
    }

    /// The grants in force, the oldest first.
    pub fn grants(&self) -> Vec<GrantInfo> {
        let now = self.now();
        self.change(|store| store.grants(now))
    }

    /// Grants what a question asks for. `expire` bounds the first use of a grant for one connection.
    pub(crate) fn approve(
        &self,
        id: &str,
        request: GrantRequest,
        by: &Approver,
        limits: &config::Approvals,
    ) -> Result<GrantInfo, ApprovalError> {
        let now = self.now();
        self.change(|store| store.approve(now, limits, id, request, by))
    }

    /// Grants a host without a question.
    pub(crate) fn grant(
        &self,
        asker: Asker,
        direct: &DirectGrant,
        by: &Approver,
    ) -> Result<GrantInfo, ApprovalError> {
        let now = self.now();
        self.change(|store| store.grant(now, asker, direct, by, random_id))
    }

    /// Denies what a question asks for. A grant that the question had ends.
    ///
    /// # Errors
    ///
    /// Returns an error if the question is neither open nor granted.
    pub fn deny(
        &self,
        id: &str,
        by: &Approver,
        limits: &config::Approvals,
    ) -> Result<QuestionInfo, ApprovalError> {
        let now = self.now();
        self.change(|store| store.deny(now, limits, id, by))
    }

    /// Ends a grant, and the connections that it permitted.
    ///
    /// # Errors
    ///
    /// Returns an error if no grant in force has this id.
    pub fn revoke(&self, id: &str) -> Result<GrantInfo, ApprovalError> {
        let now = self.now();
        self.change(|store| store.revoke(now, id))
    }

    /// Ends the grants of a session, and closes its questions.
    pub(crate) fn end_session(&self, session: SessionNumber) {
        self.change(|store| store.end_asker(AskerId::Session(session)));
    }

    /// The id, client and destination of each open question and each grant.
    pub(crate) fn subjects(&self) -> Vec<(Arc<str>, Asker, Authority)> {
        self.lock().subjects()
    }

    /// Closes an open question with this state, or ends a grant, since the policy does not leave it to people any
    /// more.
    pub(crate) fn close(&self, id: &str, state: QuestionState) {
        self.change(|store| store.close(id, state));
    }

    fn now(&self) -> Moment {
        Moment {
            at: Instant::now(),
            wall: self.clock.now().unix_timestamp(),
        }
    }

    /// Changes the store, and notifies those that wait if there was a change.
    fn change<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.lock();
        let result = change(&mut store);
        let last = store.last_change();
        self.changed.send_if_modified(|seen| {
            let is_new = *seen != last;
            *seen = last;
            is_new
        });
        drop(store);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock()
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            self.approvals.change(|store| store.end_wait(waiter));
        }
    }
}

impl Drop for AudienceGuard {
    fn drop(&mut self) {
        self.approvals.lock().leave(&self.audience, Instant::now());
    }
}

impl std::fmt::Debug for Approvals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Approvals").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for AudienceGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AudienceGuard")
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// An id for a question. It is no secret. It is random, so that an id of an earlier worker does not stand for
/// another question of the next one.
fn random_id() -> Option<Arc<str>> {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(format!("{:08x}", u32::from_be_bytes(bytes)).into())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::clock::SystemClock;
    use crate::owner::{ClientOwner, ConnectionHandle, SocketPair};
    use crate::session::SessionInfo;

    const LIMITS: config::Approvals = config::Approvals {
        enabled: true,
        own: false,
        hold: Duration::from_secs(5),
        expire: Duration::from_secs(600),
        max_pending: 64,
    };

    fn approvals() -> Arc<Approvals> {
        Approvals::new(Arc::new(Owners::new(None)), Arc::new(SystemClock), None)
    }

    fn client(in_session: bool) -> Client {
        let info = SessionInfo {
            id: "s".into(),
            uid: 7,
            user: None,
            command: "curl".into(),
            pid: 1,
            isolation: "env",
            profile: None,
            since: 0,
        };
        let session = Arc::new(Session::new(SessionNumber(1), info));
        let session = in_session.then_some(&session);
        let address = SocketAddr::from(([127, 0, 0, 1], 5));
        Client {
            address,
            attempt: None,
            connection: ConnectionHandle::at_door(address, address, session),
        }
    }

    async fn ask(approvals: &Approvals, client: &Client) -> QuestionOutcome {
        ask_within(approvals, client, &LIMITS).await
    }

    async fn ask_within(
        approvals: &Approvals,
        client: &Client,
        limits: &config::Approvals,
    ) -> QuestionOutcome {
        let authority = Authority {
            host: Host::parse("a.test").expect("a host"),
            port: 443,
        };
        let protocol = Protocol::HttpConnect;
        approvals.ask(limits, client, &authority, protocol).await
    }

    #[tokio::test(start_paused = true)]
    async fn q2_a_request_waits_for_hold_and_the_question_outlives_it() {
        let (approvals, client) = (approvals(), client(true));
        assert!(matches!(
            ask(&approvals, &client).await,
            QuestionOutcome::NotAsked
        ));
        let _listening = approvals.listen(Audience::All);
        let begun = Instant::now();
        assert!(matches!(
            ask(&approvals, &client).await,
            QuestionOutcome::Unanswered(_)
        ));
        assert_eq!(begun.elapsed(), LIMITS.hold);
        let [question] = &approvals.questions()[..] else {
            panic!("one question");
        };
        assert_eq!(question.state, QuestionState::Pending);
        // A request that is given up leaves it open too.
        let changes = approvals.watch();
        let before = approvals.questions()[0].awaited_sequence;
        let gives_up = tokio::time::timeout(Duration::from_secs(1), ask(&approvals, &client));
        assert!(gives_up.await.is_err());
        assert_eq!(approvals.questions().len(), 1);
        assert_eq!(approvals.questions()[0].waiting, 0);
        // It came, and it left.
        assert_eq!(approvals.questions()[0].awaited_sequence, before + 2);
        assert!(changes.has_changed().expect("the sender lives"));
    }

    #[tokio::test(start_paused = true)]
    async fn q2_a_request_that_waits_gets_the_answer_when_it_is_given() {
        let (approvals, client) = (approvals(), client(true));
        let _listening = approvals.listen(Audience::All);
        let mut changes = approvals.watch();
        let answers = async {
            changes.changed().await.expect("a question");
            let id = approvals.questions()[0].id.clone();
            let by = Approver { uid: 0, name: None };
            let request = GrantRequest {
                scope: None,
                ports: GrantPorts::Asked,
            };
            approvals
                .approve(&id, request, &by, &LIMITS)
                .expect("a grant")
        };
        let begun = Instant::now();
        let (asked, given) = tokio::join!(ask(&approvals, &client), answers);
        let QuestionOutcome::Granted(grant) = asked else {
            panic!("{asked:?}");
        };
        assert!(begun.elapsed() < LIMITS.hold);
        assert!(
            grant
                .rule()
                .starts_with(&format!("grant {} by 0 ", given.id))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn q1_a_client_without_a_session_and_without_a_known_user_is_not_asked_about() {
        let approvals = approvals();
        let _listening = approvals.listen(Audience::All);
        let asked = ask(&approvals, &client(false)).await;
        assert!(matches!(asked, QuestionOutcome::NotAsked), "{asked:?}");
        assert!(approvals.questions().is_empty());
    }

    /// Finds every user, after a while.
    struct SlowOwner(Duration);

    impl ClientOwner for SlowOwner {
        fn owners<'a>(&'a self, ends: &'a [SocketPair]) -> BoxFuture<'a, Vec<Option<u32>>> {
            Box::pin(async {
                tokio::time::sleep(self.0).await;
                vec![Some(7); ends.len()]
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn q2_the_search_for_the_user_is_part_of_the_wait() {
        for (search, is_asked) in [(1, true), (4, false)] {
            let owner = Arc::new(SlowOwner(Duration::from_millis(500 * search)));
            let owners = Arc::new(Owners::new(Some(owner)));
            let approvals = Approvals::new(owners, Arc::new(SystemClock), None);
            let _listening = approvals.listen(Audience::All);
            let limits = config::Approvals {
                hold: Duration::from_secs(1),
                ..LIMITS
            };
            let begun = Instant::now();
            let asked = ask_within(&approvals, &client(false), &limits).await;
            assert_eq!(begun.elapsed().as_millis() / 10, 100, "{asked:?}");
            let is_unanswered = matches!(asked, QuestionOutcome::Unanswered(_));
            assert_eq!(is_unanswered, is_asked, "{asked:?}");
        }
    }
}
