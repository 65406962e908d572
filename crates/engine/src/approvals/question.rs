//! Questions, grants and answers as plain data, for those who list and answer them.

use std::sync::Arc;
use std::time::Duration;

use codex_network_config::duration_text;
use codex_network_policy::{Authority, Host};

/// The longest time for which a grant can be given.
pub(super) const MAX_GRANT: Duration = Duration::from_secs(24 * 60 * 60);

/// The state of a question (SPEC Q2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuestionState {
    /// It can be answered.
    Pending,
    /// It was approved.
    Granted,
    /// It was denied.
    Denied,
    /// There was no answer in time.
    Expired,
    /// Its session ended, or the policy no longer leaves it to people.
    Abandoned,
}

/// A question.
#[derive(Clone, Debug)]
pub struct QuestionInfo {
    /// Its id.
    pub id: Arc<str>,
    /// The number of its last change.
    pub sequence: u64,
    /// Its state.
    pub state: QuestionState,
    /// The id of the client's session.
    pub session: Option<Arc<str>>,
    /// The id of the client's user.
    pub uid: u32,
    /// The name of this user, if it is known.
    pub user: Option<Arc<str>>,
    /// The program of the session.
    pub command: Option<Arc<str>>,
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// The protocol, as entries about refusals name it.
    pub protocol: &'static str,
    /// When it was asked, in seconds since 1970 (UTC).
    pub asked: i64,
    /// When it expires, in seconds since 1970 (UTC).
    pub expires: i64,
    /// How many requests wait for the answer.
    pub waiting: usize,
    /// The number of the last change of whether any request waits; 0 if none has left yet. Such a change is not a
    /// change of the question.
    pub awaited_sequence: u64,
    /// Who answered it.
    pub by: Option<Arc<str>>,
}

/// A grant in force.
#[derive(Clone, Debug)]
pub struct GrantInfo {
    /// The id of the question that it answers, or one of its own.
    pub id: Arc<str>,
    /// The host.
    pub host: Host,
    /// The port; `None` for all ports.
    pub port: Option<u16>,
    /// How long it lasts.
    pub scope: GrantScope,
    /// Who gave it.
    pub by: Arc<str>,
    /// When it was given, in seconds since 1970 (UTC).
    pub since: i64,
    /// When it ends, in seconds since 1970 (UTC); `None` if its session or its connection ends it.
    pub until: Option<i64>,
    /// How many attempts it permitted.
    pub uses: u64,
    /// The id of the session that it is for.
    pub session: Option<Arc<str>>,
    /// The id of the user that it is for, or who opened the session.
    pub uid: u32,
    /// The name of this user, if it is known.
    pub user: Option<Arc<str>>,
    /// The clients that it is for.
    pub whom: GrantHolder,
}

/// The clients that a grant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantHolder {
    /// Those of one session.
    Session,
    /// Those of one user, without a session.
    User,
    /// Those of all sessions of one user.
    Sessions,
    /// All. The user is the one who gave it.
    Everyone,
}

/// How long a grant lasts (SPEC Q3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantScope {
    /// For the next connection of a client.
    Once,
    /// Until the session ends.
    Session,
    /// For this long.
    For(Duration),
}

/// The ports of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantPorts {
    /// The port that was asked for.
    Asked,
    /// All ports of the host.
    Any,
}

/// The grant that an approver gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantRequest {
    /// How long it lasts; `None` for the default: the session, else 15 minutes.
    pub scope: Option<GrantScope>,
    /// The ports.
    pub ports: GrantPorts,
}

/// A grant that no question asks for: all ports of a host, for a time (SPEC W3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectGrant {
    /// The clients that it is for.
    pub audience: Audience,
    /// The host.
    pub host: Host,
    /// How long it lasts.
    pub time: Duration,
}

/// A person who answers, as the kernel identifies the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// The user id.
    pub uid: u32,
    /// The name of the user, if it is known.
    pub name: Option<String>,
}

/// The questions that a listener may answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// All of them.
    All,
    /// Those of the session with this id.
    Session(Arc<str>),
    /// Those of the sessions of this user, while `own` is set.
    SessionsOf(u32),
}

/// Why an answer does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApprovalError {
    /// No question has this id.
    #[error("there is no question {0:?}")]
    NoQuestion(String),
    /// No grant has this id.
    #[error("there is no grant {0:?}")]
    NoGrant(String),
    /// The question is closed.
    #[error("the question {id} is no longer open: {}", .state.as_str())]
    Closed {
        /// Its id.
        id: Arc<str>,
        /// Its state.
        state: QuestionState,
    },
    /// The destination was denied before.
    #[error("{0} was denied before, and a denial wins over a later approval")]
    DeniedBefore(String),
    /// The policy does not leave the destination to people.
    #[error("the policy in force does not leave {0} to people, so it cannot be approved")]
    NotAskable(String),
    /// The settings permit no grants.
    #[error(
        "the proxy takes no temporary permissions; `[daemon.approvals] enabled = true` in its configuration permits them"
    )]
    NotEnabled,
    /// The policy allows the destination already.
    #[error("the policy in force allows {0} already")]
    Allowed(String),
    /// No open session has this id.
    #[error("there is no session {0:?}")]
    UnknownSession(Arc<str>),
    /// There is no randomness for an id.
    #[error("the system has no randomness for an id; try again")]
    NoId,
    /// The client has no session.
    #[error("the client has no session; give a time instead (--for)")]
    NoSession,
    /// The time is zero or too long.
    #[error(
        "a grant lasts at least one second and at most {}",
        duration_text(MAX_GRANT)
    )]
    Duration,
    /// There are as many grants as there may be.
    #[error(
        "there is no room for another grant ({of_user} are this user's); end one with `proxyctl revoke ID`"
    )]
    Full {
        /// The grants of the question's user.
        of_user: usize,
    },
}

impl QuestionState {
    /// The word in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Abandoned => "abandoned",
        }
    }
}

impl DirectGrant {
    /// The destination that is judged. The port is that of most requests: no list depends on it.
    pub(crate) fn authority(&self) -> Authority {
        Authority {
            host: self.host.clone(),
            port: 443,
        }
    }
}

impl GrantHolder {
    /// The word in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::User => "user",
            Self::Sessions => "sessions",
            Self::Everyone => "everyone",
        }
    }
}

impl GrantScope {
    /// The word in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Session => "session",
            Self::For(_) => "time",
        }
    }
}

impl Approver {
    /// The name, or else the id, as records show it.
    pub(super) fn shown(&self) -> Arc<str> {
        match &self.name {
            Some(name) => Arc::from(name.as_str()),
            None => Arc::from(self.uid.to_string()),
        }
    }
}
