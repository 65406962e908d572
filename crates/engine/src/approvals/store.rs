//! The questions and answers, with their states and deadlines. Every function gets the time, so that a table of
//! events can be a test. Deadlines are monotonic: a change of the wall clock changes nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use codex_network_config as config;
use codex_network_policy::{Authority, Host, Protocol};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::asker::{Asker, AskerId};
use super::grant::{Grant, GrantTerms};
use super::kept::{Denial, Question, Waiter};
use super::moment::{Moment, later, shown};
use super::question::{
    ApprovalError, Approver, Audience, DirectGrant, GrantInfo, GrantPorts, GrantRequest,
    GrantScope, MAX_GRANT, QuestionInfo, QuestionState,
};
use crate::owner::ConnectionHandle;

/// Most new questions within [`NEW_INTERVAL`] (SPEC Q7).
const MAX_NEW: usize = 10;
/// Most new questions of one user within [`NEW_INTERVAL`], in all of its sessions.
const MAX_NEW_OF_USER: usize = 6;
/// Most new questions of one asker within [`NEW_INTERVAL`].
const MAX_NEW_OF_ASKER: usize = 3;
const NEW_INTERVAL: Duration = Duration::from_secs(1);
/// One user has at most this part of the open questions, in all of its sessions.
const USER_SHARE: usize = 2;
/// One asker has at most this part of the open questions.
const ASKER_SHARE: usize = 4;
/// Closed questions that are kept for lists.
const MAX_CLOSED: usize = 256;
/// Most grants, and the number of denials after which nothing is asked. A denial is never forgotten for another
/// one: a grant for all ports could cover its destination.
const MAX_ANSWERS: usize = 1024;
/// The same for one user, in all of its sessions.
const MAX_ANSWERS_OF_USER: usize = 256;
/// Interval of the search for entries whose time is over, while requests come.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// How long a listener counts after its last call.
const LISTENER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a grant lasts by default for a client without a session.
const DEFAULT_GRANT: Duration = Duration::from_secs(15 * 60);

/// A request that may become a question.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) asker: &'a Asker,
    pub(super) authority: &'a Authority,
    pub(super) protocol: Protocol,
    pub(super) connection: &'a ConnectionHandle,
}

/// The state of a request that may become a question.
#[derive(Debug)]
pub(super) enum Considered {
    Granted(Arc<Grant>),
    Denied(Arc<Denial>),
    /// The request may wait for the answer.
    Open(Waiter),
    /// The question is open, and the request may not wait.
    Unanswered(Arc<str>),
    NotAsked,
}

/// The listeners of one audience.
#[derive(Clone, Copy, Debug, Default)]
struct Listeners {
    count: usize,
    /// Until when they count after the last one left.
    until: Option<Instant>,
}

/// A question of the last moment.
#[derive(Clone, Copy, Debug)]
struct NewQuestion {
    asked: Instant,
    asker: AskerId,
    uid: u32,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    sequence: u64,
    /// Open and closed ones, the oldest first.
    questions: Vec<Question>,
    grants: Vec<Arc<Grant>>,
    denials: Vec<Arc<Denial>>,
    listeners: HashMap<Audience, Listeners>,
    /// The questions of the last [`NEW_INTERVAL`].
    new: VecDeque<NewQuestion>,
    swept: Option<Instant>,
}

impl Store {
    /// The number of the last change.
    pub(super) fn last_change(&self) -> u64 {
        self.sequence
    }

    /// Whether no request can be permitted or become a question.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        !self.has_listener(now) && self.grants.is_empty() && self.denials.is_empty()
    }

    pub(super) fn has_listener(&self, now: Instant) -> bool {
        self.listeners.values().any(|these| these.counts_at(now))
    }

    pub(super) fn enter(&mut self, audience: Audience) {
        self.listeners.entry(audience).or_default().count += 1;
    }

    pub(super) fn leave(&mut self, audience: &Audience, now: Instant) {
        if let Some(these) = self.listeners.get_mut(audience) {
            these.count = these.count.saturating_sub(1);
            these.until = Some(now + LISTENER_TIMEOUT);
        }
        self.listeners.retain(|_, these| these.counts_at(now));
    }

    /// Whether a listener may answer questions of this asker.
    fn is_heard(&self, now: Instant, limits: &config::Approvals, asker: &Asker) -> bool {
        let hears = |audience: &Audience| {
            let these = self.listeners.get(audience);
            these.is_some_and(|these| these.counts_at(now))
        };
        if hears(&Audience::All) {
            return true;
        }
        let Some(session) = &asker.session else {
            return false;
        };
        limits.own && hears(&Audience::SessionsOf(asker.uid))
            || hears(&Audience::Session(Arc::clone(session)))
    }

    pub(super) fn may_permit(
        &self,
        now: Moment,
        limits: &config::Approvals,
        asker: &Asker,
        host: &Host,
    ) -> bool {
        let is_granted =
            |grant: &Arc<Grant>| grant.covers_host(asker, host) && grant.is_live(now.at);
        self.is_heard(now.at, limits, asker) || self.grants.iter().any(is_granted)
    }

    /// The grant that covers a destination, whichever connection uses it.
    pub(super) fn granted(
        &self,
        now: Instant,
        asker: &Asker,
        authority: &Authority,
    ) -> Option<Arc<Grant>> {
        if self.denial(now, asker.id, authority).is_some() {
            return None;
        }
        let covers = |grant: &&Arc<Grant>| grant.covers(asker, authority) && grant.is_live(now);
        self.grants.iter().find(covers).cloned()
    }

    /// Finds an answer, or opens a question, or joins the one that is open.
    pub(super) fn consider(
        &mut self,
        now: Moment,
        limits: &config::Approvals,
        ask: &Ask<'_>,
        new_id: impl FnOnce() -> Option<Arc<str>>,
    ) -> Considered {
        // Answers are checked by themselves. Only a flood of requests comes sooner.
        if self
            .swept
            .is_none_or(|last| last + SWEEP_INTERVAL <= now.at)
        {
            self.sweep(now.at);
        }
        if let Some(answer) = self.answer(now.at, ask) {
            return answer;
        }
        if !self.is_heard(now.at, limits, ask.asker) {
            return Considered::NotAsked;
        }
        let same =
            |question: &Question| question.state == QuestionState::Pending && ask.is_of(question);
        if let Some(open) = self.questions.iter_mut().find(|open| same(open)) {
            if open.waiting() == 0 {
                self.sequence += 1;
                open.awaited_sequence = self.sequence;
            }
            return Considered::waiting(open);
        }
        if !self.has_room(now.at, limits, ask.asker) {
            return Considered::NotAsked;
        }
        let Some(id) = new_id().filter(|id| !self.knows(id)) else {
            return Considered::NotAsked;
        };
        self.new.push_back(NewQuestion {
            asked: now.at,
            asker: ask.asker.id,
            uid: ask.asker.uid,
        });
        self.sequence += 1;
        let question = Question {
            id,
            sequence: self.sequence,
            state: QuestionState::Pending,
            asker: ask.asker.clone(),
            authority: ask.authority.clone(),
            protocol: ask.protocol,
            asked: now.wall,
            expires: now.at + limits.expire,
            expires_wall: later(now.wall, limits.expire),
            settled: CancellationToken::new(),
            waiting: Arc::default(),
            awaited_sequence: 0,
            by: None,
        };
        let waiter = Considered::waiting(&question);
        self.questions.push(question);
        waiter
    }

    /// A request waits no longer. Without another one, that is a change for those who ask a person at that moment.
    pub(super) fn end_wait(&mut self, waiter: Waiter) {
        let id = Arc::clone(&waiter.id);
        drop(waiter);
        let sequence = self.sequence + 1;
        if let Ok(question) = self.find_mut(&id)
            && question.state == QuestionState::Pending
            && question.waiting() == 0
        {
            question.awaited_sequence = sequence;
            self.sequence = sequence;
        }
    }

    /// The answer to a request, if there is one. A denial wins.
    pub(super) fn answer(&self, now: Instant, ask: &Ask<'_>) -> Option<Considered> {
        let (asker, authority) = (ask.asker, ask.authority);
        if let Some(denial) = self.denial(now, asker.id, authority) {
            return Some(Considered::Denied(Arc::clone(denial)));
        }
        let takes = |grant: &&Arc<Grant>| {
            grant.covers(asker, authority) && grant.is_live(now) && grant.claim(ask.connection)
        };
        let grant = self.grants.iter().find(takes);
        grant.map(|grant| Considered::Granted(Arc::clone(grant)))
    }

    /// Whether there may be another question of this asker now (SPEC Q7).
    fn has_room(&mut self, now: Instant, limits: &config::Approvals, asker: &Asker) -> bool {
        while let Some(question) = self.new.front()
            && question.asked + NEW_INTERVAL <= now
        {
            self.new.pop_front();
        }
        let new = self.new.iter();
        let new_of_user = new.clone().filter(|question| question.uid == asker.uid);
        let new_of_asker = new.filter(|question| question.asker == asker.id);
        let pending = |question: &&Question| question.state == QuestionState::Pending;
        let open = self.questions.iter().filter(pending);
        let open_of_user = open
            .clone()
            .filter(|question| question.asker.uid == asker.uid);
        let open_of_asker = open
            .clone()
            .filter(|question| question.asker.id == asker.id);
        let denials_of_user = self.denials.iter().filter(|denial| denial.uid == asker.uid);
        let share = |part: usize| (limits.max_pending / part).max(1);
        self.new.len() < MAX_NEW
            && new_of_user.count() < MAX_NEW_OF_USER
            && new_of_asker.count() < MAX_NEW_OF_ASKER
            && open.count() < limits.max_pending
            && open_of_user.count() < share(USER_SHARE)
            && open_of_asker.count() < share(ASKER_SHARE)
            && self.denials.len() < MAX_ANSWERS
            && denials_of_user.count() < MAX_ANSWERS_OF_USER
    }

    pub(super) fn questions(&mut self, now: Moment) -> Vec<QuestionInfo> {
        self.sweep(now.at);
        let mut infos: Vec<_> = self.questions.iter().map(Question::info).collect();
        infos.sort_by_key(|info| info.sequence);
        infos
    }

    pub(super) fn grants(&mut self, now: Moment) -> Vec<GrantInfo> {
        self.sweep(now.at);
        self.grants.iter().map(|grant| grant.info()).collect()
    }

    pub(super) fn subjects(&self) -> Vec<(Arc<str>, Asker, Authority)> {
        let open = self.questions.iter();
        let open = open.filter(|question| question.state == QuestionState::Pending);
        let open = open.map(|question| (&question.id, &question.asker, &question.authority));
        let grants = self.grants.iter();
        let grants = grants.map(|grant| (&grant.id, &grant.asker, &grant.authority));
        let all = open.chain(grants);
        all.map(|(id, asker, authority)| (Arc::clone(id), asker.clone(), authority.clone()))
            .collect()
    }

    pub(super) fn approve(
        &mut self,
        now: Moment,
        limits: &config::Approvals,
        id: &str,
        request: GrantRequest,
        by: &Approver,
    ) -> Result<GrantInfo, ApprovalError> {
        self.sweep(now.at);
        let question = self.find(id)?;
        if question.state != QuestionState::Pending {
            return Err(question.closed());
        }
        let (id, asker) = (Arc::clone(&question.id), question.asker.clone());
        let authority = question.authority.clone();
        if self.denial(now.at, asker.id, &authority).is_some() {
            return Err(ApprovalError::DeniedBefore(authority.to_string()));
        }
        let scope = request.scope.unwrap_or(match asker.id {
            AskerId::Session(_) => GrantScope::Session,
            // No question is about the others.
            AskerId::User(_) | AskerId::SessionsOf(_) | AskerId::Everyone => {
                GrantScope::For(DEFAULT_GRANT)
            }
        });
        let time = match scope {
            GrantScope::Session if asker.session.is_none() => return Err(ApprovalError::NoSession),
            GrantScope::Session => None,
            GrantScope::Once => Some(limits.expire),
            GrantScope::For(time) => Some(bounded(time)?),
        };
        let terms = GrantTerms {
            id,
            asker,
            authority,
            any_port: request.ports == GrantPorts::Any,
            scope,
        };
        self.add_grant(now, terms, time, by)
    }

    /// Grants all ports of a host for a time, without a question.
    pub(super) fn grant(
        &mut self,
        now: Moment,
        asker: Asker,
        direct: &DirectGrant,
        by: &Approver,
        new_id: impl FnOnce() -> Option<Arc<str>>,
    ) -> Result<GrantInfo, ApprovalError> {
        self.sweep(now.at);
        let time = bounded(direct.time)?;
        let id = new_id().filter(|id| !self.knows(id));
        let id = id.ok_or(ApprovalError::NoId)?;
        let terms = GrantTerms {
            id,
            asker,
            authority: direct.authority(),
            any_port: true,
            scope: GrantScope::For(time),
        };
        self.add_grant(now, terms, Some(time), by)
    }

    /// Whether a question or a grant has this id.
    fn knows(&self, id: &str) -> bool {
        let mut questions = self.questions.iter().map(|question| &question.id);
        let mut grants = self.grants.iter().map(|grant| &grant.id);
        questions.any(|known| **known == *id) || grants.any(|known| **known == *id)
    }

    /// Adds a grant that lasts for a time, else until its session ends. It answers the questions that it covers.
    fn add_grant(
        &mut self,
        now: Moment,
        terms: GrantTerms,
        time: Option<Duration>,
        by: &Approver,
    ) -> Result<GrantInfo, ApprovalError> {
        let (uid, scope) = (terms.asker.uid, terms.scope);
        let of_user = self.grants.iter();
        let of_user = of_user.filter(|grant| grant.asker.uid == uid);
        let of_user = of_user.count();
        if of_user >= MAX_ANSWERS_OF_USER || self.grants.len() >= MAX_ANSWERS {
            return Err(ApprovalError::Full { of_user });
        }
        let by = by.shown();
        let grant = Arc::new(Grant::new(terms, now, time, &by));
        self.sequence += 1;
        self.grants.push(Arc::clone(&grant));
        let is_answered = |question: &Question| {
            let is_it = question.id == grant.id;
            let is_other =
                scope != GrantScope::Once && grant.covers(&question.asker, &question.authority);
            is_it || is_other
        };
        self.settle(QuestionState::Granted, Some(&by), is_answered);
        Ok(grant.info())
    }

    pub(super) fn deny(
        &mut self,
        now: Moment,
        limits: &config::Approvals,
        id: &str,
        by: &Approver,
    ) -> Result<QuestionInfo, ApprovalError> {
        self.sweep(now.at);
        let question = self.find(id)?;
        // An approval at the same time may have come first: the denial wins.
        let is_answerable = [QuestionState::Pending, QuestionState::Granted];
        if !is_answerable.contains(&question.state) {
            return Err(question.closed());
        }
        let (id, client) = (Arc::clone(&question.id), question.asker.clone());
        let (asker, uid, authority) = (client.id, client.uid, question.authority.clone());
        let by = by.shown();
        let (until, lasts) = match asker {
            AskerId::Session(_) => (None, "until the session ends".to_owned()),
            AskerId::User(_) | AskerId::SessionsOf(_) | AskerId::Everyone => {
                let until = shown(later(now.wall, limits.expire));
                (Some(now.at + limits.expire), format!("until {until}"))
            }
        };
        self.denials.push(Arc::new(Denial {
            rule: format!("denial {id} by {by} {lasts}").into(),
            id: Arc::clone(&id),
            asker,
            uid,
            authority: authority.clone(),
            until,
        }));
        // A grant for all ports that another question got ends as a whole. One for everyone goes on for the others.
        self.end_grants(|grant| {
            let is_wider = grant.asker.id == AskerId::Everyone;
            grant.id == id || !is_wider && grant.covers(&client, &authority)
        });
        let is_answered = |question: &Question| {
            question.id == id || question.asker.id == asker && question.authority == authority
        };
        self.settle(QuestionState::Denied, Some(&by), is_answered);
        // The one that was granted before is not open.
        let mut sequence = self.sequence;
        let question = self.find_mut(&id)?;
        if question.state != QuestionState::Denied {
            sequence += 1;
            question.state = QuestionState::Denied;
            question.by = Some(by);
            question.sequence = sequence;
        }
        let info = question.info();
        self.sequence = sequence;
        Ok(info)
    }

    pub(super) fn revoke(&mut self, now: Moment, id: &str) -> Result<GrantInfo, ApprovalError> {
        self.sweep(now.at);
        let found = self.grants.iter().find(|grant| *grant.id == *id).cloned();
        let grant = found.ok_or_else(|| ApprovalError::NoGrant(id.to_owned()))?;
        self.end_grants(|other| other.id == grant.id);
        Ok(grant.info())
    }

    pub(super) fn end_asker(&mut self, asker: AskerId) {
        self.end_grants(|grant| grant.asker.id == asker);
        self.denials.retain(|denial| denial.asker != asker);
        let is_its = |question: &Question| question.asker.id == asker;
        self.settle(QuestionState::Abandoned, None, is_its);
    }

    pub(super) fn close(&mut self, id: &str, state: QuestionState) {
        self.end_grants(|grant| *grant.id == *id);
        let is_it = |question: &Question| *question.id == *id;
        self.settle(state, None, is_it);
    }

    fn denial(&self, now: Instant, asker: AskerId, authority: &Authority) -> Option<&Arc<Denial>> {
        let mut denials = self.denials.iter();
        denials.find(|denial| {
            denial.asker == asker && denial.authority == *authority && denial.is_live(now)
        })
    }

    fn find(&self, id: &str) -> Result<&Question, ApprovalError> {
        let mut questions = self.questions.iter();
        let found = questions.find(|question| *question.id == *id);
        found.ok_or_else(|| ApprovalError::NoQuestion(id.to_owned()))
    }

    fn find_mut(&mut self, id: &str) -> Result<&mut Question, ApprovalError> {
        let mut questions = self.questions.iter_mut();
        let found = questions.find(|question| *question.id == *id);
        found.ok_or_else(|| ApprovalError::NoQuestion(id.to_owned()))
    }

    fn end_grants(&mut self, is_over: impl Fn(&Grant) -> bool) {
        self.grants.retain(|grant| {
            let ends = is_over(grant);
            if ends {
                grant.end();
            }
            !ends
        });
    }

    /// Closes the open questions that `is_closed` selects, and wakes the requests that wait for them.
    fn settle(
        &mut self,
        state: QuestionState,
        by: Option<&Arc<str>>,
        is_closed: impl Fn(&Question) -> bool,
    ) {
        for question in &mut self.questions {
            if question.state == QuestionState::Pending && is_closed(question) {
                self.sequence += 1;
                question.sequence = self.sequence;
                question.state = state;
                question.by = by.cloned();
                question.settled.cancel();
            }
        }
    }

    /// Forgets everything whose time is over.
    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        let is_over = |question: &Question| question.expires <= now;
        self.settle(QuestionState::Expired, None, is_over);
        self.end_grants(|grant| !grant.is_live(now) || grant.is_spent());
        self.denials.retain(|denial| denial.is_live(now));
        let is_closed = |question: &Question| question.state != QuestionState::Pending;
        let closed = self.questions.iter().filter(|question| is_closed(question));
        let mut surplus = closed.count().saturating_sub(MAX_CLOSED);
        if surplus > 0 {
            self.questions.retain(|question| {
                let is_dropped = surplus > 0 && is_closed(question);
                surplus -= usize::from(is_dropped);
                !is_dropped
            });
        }
    }
}

impl Ask<'_> {
    fn is_of(&self, question: &Question) -> bool {
        self.asker.id == question.asker.id
            && *self.authority == question.authority
            && self.protocol == question.protocol
    }
}

impl Considered {
    fn waiting(question: &Question) -> Self {
        match question.wait() {
            Ok(waiter) => Self::Open(waiter),
            Err(id) => Self::Unanswered(id),
        }
    }
}

impl Listeners {
    fn counts_at(&self, now: Instant) -> bool {
        self.count > 0 || self.until.is_some_and(|until| now < until)
    }
}

/// A time for which a grant may be given.
fn bounded(time: Duration) -> Result<Duration, ApprovalError> {
    if time < Duration::from_secs(1) || time > MAX_GRANT {
        return Err(ApprovalError::Duration);
    }
    Ok(time)
}

#[cfg(test)]
mod tests;
