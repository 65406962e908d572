//! Questions and grants over the control socket: who may see and answer which (SPEC Q5).
//!
//! Administrators may answer all questions. Users may answer those of their own sessions, if the settings permit
//! it. The kernel says who calls. The rights are those of the settings in force, not those of the time when the
//! caller connected.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_network_control::message::{
    Approval, Approvals, ApprovalsQuery, Denied, Explained, Grant, Granted, Grants, MAX_WAIT,
    OpenQuestions, Question, Scope, TemporaryGrant,
};
use codex_network_control::{Access, ControlError};
use codex_network_engine::{
    ApprovalError, Approver, Audience, DirectGrant, Engine, GrantHolder, GrantInfo, GrantPorts,
    GrantRequest, GrantScope, QuestionInfo, QuestionState,
};

use codex_network_policy::{Host, Reason};

use super::peer::Peer;

/// Interval of checks for questions that have expired.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A caller who sees questions, and may answer some.
pub(super) struct Caller<'a> {
    pub(super) engine: &'a Engine,
    pub(super) peer: Peer,
    /// By the settings in force.
    pub(super) access: Option<Access>,
    /// The name of the caller's user.
    pub(super) name: Option<String>,
}

/// The number of open questions, if questions are asked.
pub(super) fn open(engine: &Engine) -> Option<OpenQuestions> {
    let is_enabled = engine.current().settings().daemon.approvals.enabled;
    let approvals = engine.approvals();
    let is_open = |question: &QuestionInfo| question.state == QuestionState::Pending;
    is_enabled.then(|| OpenQuestions {
        open: approvals.questions().into_iter().filter(is_open).count(),
        is_heard: approvals.has_listener(),
    })
}

impl Caller<'_> {
    /// The questions that the caller may see. A call that may wait listens for questions. It ends with a question,
    /// so a listener that does not call again, since it does not read, counts for three seconds more.
    pub(super) async fn list(&self, query: ApprovalsQuery) -> Approvals {
        let approvals = self.engine.approvals();
        let drain = self.engine.drain();
        let audience = self.audience().filter(|_| query.wait > 0);
        let session = query.session.as_deref();
        let audience = match (audience, session) {
            (Some(_), Some(session)) => self.audience_of(session),
            (audience, _) => audience,
        };
        let _listening = audience.map(|audience| approvals.listen(audience));
        let mut changes = approvals.watch();
        let until = Instant::now() + Duration::from_secs(query.wait).min(MAX_WAIT);
        // A number that was never used means: from now on. Otherwise such a call would listen and miss questions.
        let since = query.since.min(last_change(&approvals.questions()));
        loop {
            changes.mark_unchanged();
            let found = self.listed(since, &query);
            let left = until.saturating_duration_since(Instant::now());
            if !found.approvals.is_empty() || found.ending || left.is_zero() {
                return found;
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = drain.begun() => {}
                () = tokio::time::sleep(left.min(EXPIRY_CHECK_INTERVAL)) => {}
            }
        }
    }

    fn listed(&self, since: u64, query: &ApprovalsQuery) -> Approvals {
        let session = query.session.as_deref();
        let questions = self.engine.approvals().questions();
        let last = last_change(&questions);
        let is_new = |question: &QuestionInfo| match since {
            0 => question.state == QuestionState::Pending,
            since => {
                let is_open = question.state == QuestionState::Pending;
                let is_awaited_anew = is_open && question.awaited_sequence > since;
                question.sequence > since || query.awaited && is_awaited_anew
            }
        };
        let questions = questions.into_iter();
        let seen = questions.filter(|question| {
            let is_meant = session.is_none() || question.session.as_deref() == session;
            let may_see = self.may_see(question.uid, question.session.is_some());
            is_new(question) && is_meant && may_see
        });
        Approvals {
            approvals: seen.map(shown).collect(),
            next: last.max(since),
            enabled: self.settings().enabled,
            may_answer: self.audience().is_some(),
            ending: self.engine.drain().has_begun(),
        }
    }

    /// The answer, or the command that gives one, for a request that was judged for `explain`.
    pub(super) fn note(&self, session: Option<&str>, explained: &Explained) -> Option<String> {
        if explained.reason != Reason::NotAllowed.as_str() {
            return None;
        }
        let is_it = |question: &QuestionInfo| {
            question.host.to_string() == explained.host
                && question.port == explained.port
                && question.session.as_deref() == session
                && self.may_see(question.uid, question.session.is_some())
        };
        let questions = self.engine.approvals().questions();
        let last = questions.into_iter().rfind(is_it)?;
        let id = last.id;
        match last.state {
            QuestionState::Pending => Some(format!(
                "a request waits for an answer: `proxyctl approve {id}` allows it, `proxyctl reject {id}` denies it"
            )),
            QuestionState::Denied => {
                let by = last.by.unwrap_or_default();
                Some(format!("{by} has denied it (question {id})"))
            }
            QuestionState::Granted | QuestionState::Expired | QuestionState::Abandoned => None,
        }
    }

    pub(super) fn approve(&self, approval: &Approval) -> Result<Granted, ControlError> {
        self.may_answer_question("approve", &approval.id)?;
        let request = GrantRequest {
            scope: match approval.scope {
                Scope::Default => None,
                Scope::Once => Some(GrantScope::Once),
                Scope::Session => Some(GrantScope::Session),
                Scope::Seconds(seconds) => Some(GrantScope::For(Duration::from_secs(seconds))),
            },
            ports: if approval.any_port {
                GrantPorts::Any
            } else {
                GrantPorts::Asked
            },
        };
        let given = self.engine.approve(&approval.id, request, &self.approver());
        let grant = granted(given.map_err(invalid)?);
        tracing::info!(
            parent: None,
            approval_id = grant.id,
            host = grant.host,
            port = grant.port,
            scope = grant.scope,
            until = grant.until,
            session = grant.session,
            uid = self.peer.user.as_raw(),
            pid = self.peer.pid,
            "a question was approved through the control socket"
        );
        Ok(Granted { grant })
    }

    pub(super) fn deny(&self, id: &str) -> Result<Denied, ControlError> {
        self.may_answer_question("deny", id)?;
        let limits = self.settings();
        let denied = self.engine.approvals().deny(id, &self.approver(), &limits);
        let question = shown(denied.map_err(invalid)?);
        tracing::info!(
            parent: None,
            approval_id = question.id,
            host = question.host,
            port = question.port,
            session = question.session,
            uid = self.peer.user.as_raw(),
            pid = self.peer.pid,
            "a question was denied through the control socket"
        );
        Ok(Denied { question })
    }

    /// Grants a host without a question: for the session that is named, else for everyone that the caller may
    /// answer for.
    pub(super) fn grant(&self, asked: &TemporaryGrant) -> Result<Granted, ControlError> {
        let audience = match (self.audience(), &asked.session) {
            (Some(_), Some(session)) if self.sees_session(session) => self.audience_of(session),
            (Some(_), Some(session)) => {
                return Err(invalid(ApprovalError::UnknownSession(
                    session.as_str().into(),
                )));
            }
            (audience, _) => audience,
        };
        let audience = audience.ok_or_else(|| self.not_permitted("grant"))?;
        let host = Host::parse(&asked.host).map_err(|error| ControlError::Invalid {
            message: format!("{:?} is not one host: {error}", asked.host),
        })?;
        let direct = DirectGrant {
            audience,
            host,
            time: Duration::from_secs(asked.seconds),
        };
        let given = self.engine.grant(&direct, &self.approver());
        let grant = granted(given.map_err(invalid)?);
        tracing::info!(
            parent: None,
            approval_id = grant.id,
            host = grant.host,
            whom = grant.whom,
            until = grant.until,
            session = grant.session,
            uid = self.peer.user.as_raw(),
            pid = self.peer.pid,
            "a host was allowed for a time through the control socket"
        );
        Ok(Granted { grant })
    }

    /// Whether the caller may see an open session.
    fn sees_session(&self, id: &str) -> bool {
        let open = self.engine.sessions();
        let mut open = open.iter().map(|(info, _)| info);
        open.any(|open| *open.id == *id && self.may_see(open.uid, true))
    }

    pub(super) fn grants(&self) -> Grants {
        let grants = self.engine.approvals().grants().into_iter();
        let seen = grants.filter(|grant| self.may_see(grant.uid, is_of_sessions(grant)));
        Grants {
            grants: seen.map(granted).collect(),
        }
    }

    pub(super) fn revoke(&self, id: &str) -> Result<Granted, ControlError> {
        let mut grants = self.engine.approvals().grants().into_iter();
        let seen =
            grants.find(|grant| *grant.id == *id && self.may_see(grant.uid, is_of_sessions(grant)));
        let Some(grant) = seen else {
            return Err(invalid(ApprovalError::NoGrant(id.to_owned())));
        };
        self.may_answer("revoke", grant.uid, is_of_sessions(&grant))?;
        let revoked = self.engine.approvals().revoke(id);
        let grant = granted(revoked.map_err(invalid)?);
        tracing::info!(
            parent: None,
            approval_id = grant.id,
            host = grant.host,
            session = grant.session,
            uid = self.peer.user.as_raw(),
            pid = self.peer.pid,
            "a grant was revoked through the control socket"
        );
        Ok(Granted { grant })
    }

    /// Fails if the caller may not answer this question. A question that the caller may not see does not exist for
    /// it.
    fn may_answer_question(&self, call: &str, id: &str) -> Result<(), ControlError> {
        let mut questions = self.engine.approvals().questions().into_iter();
        let seen = questions.find(|question| {
            *question.id == *id && self.may_see(question.uid, question.session.is_some())
        });
        let Some(question) = seen else {
            return Err(invalid(ApprovalError::NoQuestion(id.to_owned())));
        };
        self.may_answer(call, question.uid, question.session.is_some())
    }

    fn may_answer(&self, call: &str, uid: u32, of_session: bool) -> Result<(), ControlError> {
        let may = match self.audience() {
            Some(Audience::All) => true,
            Some(Audience::SessionsOf(user)) => of_session && uid == user,
            Some(Audience::Session(_)) | None => false,
        };
        if may {
            return Ok(());
        }
        Err(self.not_permitted(call))
    }

    fn not_permitted(&self, call: &str) -> ControlError {
        ControlError::NotPermitted {
            call: call.to_owned(),
            needed: Access::Administer,
            has: self.access.unwrap_or_default(),
        }
    }

    fn may_see(&self, uid: u32, of_session: bool) -> bool {
        let Some(access) = self.access else {
            return false;
        };
        access.covers(Access::Observe) || of_session && uid == self.peer.user.as_raw()
    }

    /// The questions that the caller may answer.
    fn audience(&self) -> Option<Audience> {
        let access = self.access?;
        if access == Access::Administer {
            return Some(Audience::All);
        }
        let own = Audience::SessionsOf(self.peer.user.as_raw());
        (self.settings().own && access.covers(Access::UseSessions)).then_some(own)
    }

    /// The questions of one session, if the caller may answer them.
    fn audience_of(&self, session: &str) -> Option<Audience> {
        let open = self.engine.sessions();
        let mut open = open.iter().map(|(info, _)| info);
        let session = open.find(|open| *open.id == *session)?;
        let may = self.may_answer("approve", session.uid, true).is_ok();
        may.then(|| Audience::Session(Arc::clone(&session.id)))
    }

    fn approver(&self) -> Approver {
        Approver {
            uid: self.peer.user.as_raw(),
            name: self.name.clone(),
        }
    }

    fn settings(&self) -> codex_network_config::Approvals {
        self.engine.current().settings().daemon.approvals
    }
}

/// The number of the last change of any question, and of whether requests wait.
fn last_change(questions: &[QuestionInfo]) -> u64 {
    let numbers = questions.iter();
    let numbers = numbers.map(|question| question.sequence.max(question.awaited_sequence));
    numbers.max().unwrap_or(0)
}

fn shown(question: QuestionInfo) -> Question {
    let text = |text: Option<Arc<str>>| text.map(|text| text.to_string());
    Question {
        id: question.id.to_string(),
        state: question.state.as_str().to_owned(),
        session: text(question.session),
        user: text(question.user),
        uid: question.uid,
        command: text(question.command),
        host: question.host.to_string(),
        port: question.port,
        protocol: question.protocol.to_owned(),
        asked: question.asked,
        expires: question.expires,
        waiting: question.waiting,
        by: text(question.by),
    }
}

fn granted(grant: GrantInfo) -> Grant {
    Grant {
        id: grant.id.to_string(),
        host: grant.host.to_string(),
        port: grant.port,
        scope: grant.scope.as_str().to_owned(),
        by: grant.by.to_string(),
        since: grant.since,
        until: grant.until,
        uses: grant.uses,
        session: grant.session.map(|session| session.to_string()),
        user: grant.user.map(|user| user.to_string()),
        uid: grant.uid,
        whom: grant.whom.as_str().to_owned(),
    }
}

/// Whether a grant is for sessions of its user alone, who may see and end it then.
fn is_of_sessions(grant: &GrantInfo) -> bool {
    matches!(grant.whom, GrantHolder::Session | GrantHolder::Sessions)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn invalid(error: ApprovalError) -> ControlError {
    ControlError::Invalid {
        message: error.to_string(),
    }
}
