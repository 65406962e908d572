//! Questions about hosts that the policy merely does not allow, and the grants of people (SPEC Q).

use serde::{Deserialize, Serialize};

/// Which questions to return.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApprovalsQuery {
    /// Only questions that changed after this number, in any state. 0: the open ones.
    pub since: u64,
    /// If there are none, how many seconds to wait for the next one; at most [`MAX_WAIT`](super::MAX_WAIT). A call
    /// that may wait listens for questions: without a listener who may answer, nothing is asked.
    pub wait: u64,
    /// Only questions of the session with this id. A call that waits listens for no others. An older daemon returns
    /// all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Also open questions for which the first request waits again, or none any more, after the number `since`. An
    /// older daemon returns none for this reason.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub awaited: bool,
}

/// The questions that the caller may see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Approvals {
    /// Those that changed longest ago first.
    pub approvals: Vec<Question>,
    /// The value of `since` that returns later changes.
    pub next: u64,
    /// Whether questions are asked at all (`[daemon.approvals] enabled`).
    pub enabled: bool,
    /// Whether the caller may answer.
    pub may_answer: bool,
    /// Whether the proxy is stopping: there are no more questions.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

/// A question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Question {
    /// Its id.
    pub id: String,
    /// `pending`, `granted`, `denied`, `expired` or `abandoned`.
    pub state: String,
    /// The id of the client's session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The name of the client's user, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The id of this user.
    pub uid: u32,
    /// The program of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The host in canonical form, with A-labels.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `http`, `http-connect`, `https`, `socks5` or `transparent`.
    pub protocol: String,
    /// When it was asked.
    pub asked: i64,
    /// When it expires.
    pub expires: i64,
    /// How many requests wait for the answer.
    pub waiting: usize,
    /// Who answered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The approval of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Approval {
    /// The id of the question.
    pub id: String,
    /// How long the grant lasts.
    pub scope: Scope,
    /// Whether it covers all ports of the host.
    pub any_port: bool,
}

/// How long a grant lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Until the session ends, or for 15 minutes if the client has no session.
    #[default]
    Default,
    /// For one connection.
    Once,
    /// Until the session ends.
    Session,
    /// For this many seconds.
    Seconds(u64),
}

/// A permission for a host without a question, for all of its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TemporaryGrant {
    /// The host: a name or an address.
    pub host: String,
    /// How long it lasts.
    pub seconds: u64,
    /// The id of the session that it is for. Without one: every client for an administrator, and for others all
    /// sessions of the caller's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// A question or a grant by its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuestionId {
    /// The id.
    pub id: String,
}

/// A question that was denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Denied {
    /// The question.
    pub question: Question,
}

/// A grant that was given, or ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Granted {
    /// The grant.
    pub grant: Grant,
}

/// The grants that the caller may see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grants {
    /// The oldest first.
    pub grants: Vec<Grant>,
}

/// A grant in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grant {
    /// The id of the question that it answers, or one of its own.
    pub id: String,
    /// The host in canonical form, with A-labels.
    pub host: String,
    /// The port; absent for all ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `once`, `session` or `time`.
    pub scope: String,
    /// Who gave it.
    pub by: String,
    /// When it was given.
    pub since: i64,
    /// When it ends; absent if the session ends it. A grant for one connection must be used before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// How many attempts it permitted.
    pub uses: u64,
    /// The id of the session that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The clients that it is for: `session`, `user` (without a session), `sessions` (all of the user) or `everyone`.
    pub whom: String,
    /// The name of the user that it is for, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The id of this user. Of a grant for everyone, the user who gave it.
    pub uid: u32,
}
