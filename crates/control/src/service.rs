//! The calls of the control socket, and the access that each needs.
//!
//! tarpc makes the enums of all requests and all responses from the trait. `server` serves the
//! calls, `client` makes them.

use crate::access::Access;
use crate::error::ControlError;
use crate::message::{
    Approval, Approvals, ApprovalsQuery, Blocked, BlockedQuery, Ca, CaQuery, Config, Credentials,
    CredentialsQuery, Decisions, DecisionsQuery, Denied, ExplainQuery, Explained, Granted, Grants,
    ModeChange, ModeInForce, NoArguments, Patterns, QuestionId, ReloadRequest, Reloaded,
    SessionEnd, SessionEnded, SessionId, SessionOpened, SessionReport, SessionRequest, Sessions,
    Status, TemporaryGrant, WantedCredentials,
};
use crate::version::{Hello, Welcome};

/// The daemon's calls. `hello` is frozen; calls are only ever added.
#[tarpc::service]
pub trait Control {
    /// Finds the newest version that both sides support.
    async fn hello(request: Hello) -> Result<Welcome, ControlError>;
    /// The state of the proxy.
    async fn status(request: NoArguments) -> Result<Status, ControlError>;
    /// The mode in force.
    async fn mode(request: NoArguments) -> Result<ModeInForce, ControlError>;
    /// Changes the mode: full mode until the next reload, limited mode until it is changed again.
    async fn set_mode(request: ModeChange) -> Result<ModeInForce, ControlError>;
    /// Reads the configuration again and puts all of it in force, or nothing. A request with an expected change gets
    /// nothing if there are other changes.
    async fn reload(request: ReloadRequest) -> Result<Reloaded, ControlError>;
    /// The last refusals, or the next ones.
    async fn blocked(request: BlockedQuery) -> Result<Blocked, ControlError>;
    /// The patterns of the allow list and the deny list.
    async fn patterns(request: NoArguments) -> Result<Patterns, ControlError>;
    /// The settings in force.
    async fn config(request: NoArguments) -> Result<Config, ControlError>;
    /// The decision of the policy in force on a request.
    async fn explain(request: ExplainQuery) -> Result<Explained, ControlError>;
    /// The CA for interception, without its key.
    async fn ca(request: CaQuery) -> Result<Ca, ControlError>;
    /// The parts of a launcher's environment that a session would use.
    async fn wanted_credentials(
        request: CredentialsQuery,
    ) -> Result<WantedCredentials, ControlError>;
    /// Opens a session. It ends with the connection. The only call that may carry descriptors.
    async fn open_session(request: SessionRequest) -> Result<SessionOpened, ControlError>;
    /// The results of the session of this connection.
    async fn session_report(request: NoArguments) -> Result<SessionReport, ControlError>;
    /// Waits until the session of this connection ends, at most [`MAX_WAIT`](crate::message::MAX_WAIT). Without
    /// a cause in the answer, the session goes on.
    async fn session_end(request: NoArguments) -> Result<SessionEnd, ControlError>;
    /// The sessions that the caller may see: all of them, or its user's.
    async fn sessions(request: NoArguments) -> Result<Sessions, ControlError>;
    /// The credentials of the sessions that the caller may see.
    async fn credentials(request: NoArguments) -> Result<Credentials, ControlError>;
    /// Ends a session: one of the caller's user, or any for an administrator.
    async fn end_session(request: SessionId) -> Result<SessionEnded, ControlError>;
    /// The questions that the caller may see, or the next ones.
    async fn approvals(request: ApprovalsQuery) -> Result<Approvals, ControlError>;
    /// Grants what a question asks for.
    async fn approve(request: Approval) -> Result<Granted, ControlError>;
    /// Denies what a question asks for.
    async fn deny(request: QuestionId) -> Result<Denied, ControlError>;
    /// Grants a host without a question.
    async fn grant(request: TemporaryGrant) -> Result<Granted, ControlError>;
    /// The grants that the caller may see.
    async fn grants(request: NoArguments) -> Result<Grants, ControlError>;
    /// Ends a grant.
    async fn revoke(request: QuestionId) -> Result<Granted, ControlError>;
    /// The decisions that the caller may see, since its last call.
    async fn decisions(request: DecisionsQuery) -> Result<Decisions, ControlError>;
}

/// The name of a call and the access that it needs, or `None` if every caller may make it (SPEC K3). A new
/// call does not compile without a row here.
///
/// The daemon shows a caller who may only use sessions nothing but its own ones.
pub(crate) fn requirement(request: &ControlRequest) -> (&'static str, Option<Access>) {
    match request {
        ControlRequest::Hello { .. } => ("hello", None),
        ControlRequest::Status { .. } => ("status", Some(Access::Observe)),
        ControlRequest::Mode { .. } => ("mode", Some(Access::Observe)),
        ControlRequest::SetMode { .. } => ("set_mode", Some(Access::Administer)),
        ControlRequest::Reload { .. } => ("reload", Some(Access::Administer)),
        ControlRequest::Blocked { .. } => ("blocked", None),
        ControlRequest::Patterns { .. } => ("patterns", Some(Access::Observe)),
        ControlRequest::Config { .. } => ("config", Some(Access::Observe)),
        ControlRequest::Explain { .. } => ("explain", None),
        ControlRequest::Ca { .. } => ("ca", Some(Access::Observe)),
        ControlRequest::WantedCredentials { .. } => {
            ("wanted_credentials", Some(Access::UseSessions))
        }
        ControlRequest::OpenSession { .. } => ("open_session", Some(Access::UseSessions)),
        ControlRequest::SessionReport { .. } => ("session_report", None),
        ControlRequest::SessionEnd { .. } => ("session_end", None),
        ControlRequest::Sessions { .. } => ("sessions", None),
        ControlRequest::Credentials { .. } => ("credentials", None),
        ControlRequest::EndSession { .. } => ("end_session", None),
        ControlRequest::Approvals { .. } => ("approvals", None),
        ControlRequest::Approve { .. } => ("approve", None),
        ControlRequest::Deny { .. } => ("deny", None),
        ControlRequest::Grant { .. } => ("grant", None),
        ControlRequest::Grants { .. } => ("grants", None),
        ControlRequest::Revoke { .. } => ("revoke", None),
        ControlRequest::Decisions { .. } => ("decisions", None),
    }
}

/// The response that gives this error to the caller of this request.
pub(crate) fn refusal(request: &ControlRequest, error: ControlError) -> ControlResponse {
    match request {
        ControlRequest::Hello { .. } => ControlResponse::Hello(Err(error)),
        ControlRequest::Status { .. } => ControlResponse::Status(Err(error)),
        ControlRequest::Mode { .. } => ControlResponse::Mode(Err(error)),
        ControlRequest::SetMode { .. } => ControlResponse::SetMode(Err(error)),
        ControlRequest::Reload { .. } => ControlResponse::Reload(Err(error)),
        ControlRequest::Blocked { .. } => ControlResponse::Blocked(Err(error)),
        ControlRequest::Patterns { .. } => ControlResponse::Patterns(Err(error)),
        ControlRequest::Config { .. } => ControlResponse::Config(Err(error)),
        ControlRequest::Explain { .. } => ControlResponse::Explain(Err(error)),
        ControlRequest::Ca { .. } => ControlResponse::Ca(Err(error)),
        ControlRequest::WantedCredentials { .. } => ControlResponse::WantedCredentials(Err(error)),
        ControlRequest::OpenSession { .. } => ControlResponse::OpenSession(Err(error)),
        ControlRequest::SessionReport { .. } => ControlResponse::SessionReport(Err(error)),
        ControlRequest::SessionEnd { .. } => ControlResponse::SessionEnd(Err(error)),
        ControlRequest::Sessions { .. } => ControlResponse::Sessions(Err(error)),
        ControlRequest::Credentials { .. } => ControlResponse::Credentials(Err(error)),
        ControlRequest::EndSession { .. } => ControlResponse::EndSession(Err(error)),
        ControlRequest::Approvals { .. } => ControlResponse::Approvals(Err(error)),
        ControlRequest::Approve { .. } => ControlResponse::Approve(Err(error)),
        ControlRequest::Deny { .. } => ControlResponse::Deny(Err(error)),
        ControlRequest::Grant { .. } => ControlResponse::Grant(Err(error)),
        ControlRequest::Grants { .. } => ControlResponse::Grants(Err(error)),
        ControlRequest::Revoke { .. } => ControlResponse::Revoke(Err(error)),
        ControlRequest::Decisions { .. } => ControlResponse::Decisions(Err(error)),
    }
}
