//! How a permitted attempt ends, for its event (SPEC R5).

use std::borrow::Cow;
use std::time::Duration;

use codex_network_config::duration_text;
use codex_network_policy::Reason;

/// How an attempt ended: the value of `network.flow.outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowOutcome {
    /// The attempt came to its own end.
    Completed,
    /// The client went away, or its side broke.
    ClientGone,
    /// The upstream could not be reached, or its side broke.
    UpstreamFailed,
    /// The permitted name did not resolve.
    DnsFailed,
    /// A later decision ended it.
    Forbidden,
    /// The connection was idle too long, or another client needed its slot.
    Idle,
    /// The proxy ended.
    Drained,
}

/// The party at fault for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client sent something that cannot be served.
    Client,
    /// The origin, or the way to it.
    Upstream,
    /// The upstream proxy, or the way to it.
    UpstreamProxy,
    /// A unix socket, or the program that should listen on it.
    UnixSocket,
    /// This proxy, or the machine it runs on.
    Proxy,
}

/// Whether the log has a line about a failure in addition to the failure's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    /// It has a record or a line of its own.
    Already,
    /// The event is the only line.
    HereOnly,
}

/// The end of a permitted attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) outcome: FlowOutcome,
    /// The party at fault.
    pub(crate) fault: Option<Fault>,
    /// Why the policy forbids it now, if it does.
    pub(crate) reason: Option<Reason>,
    /// The reason in words. The client gets the same words, if it gets any.
    pub(crate) cause: Option<Cow<'static, str>>,
    /// The texts of the error's sources, for the log only.
    pub(crate) detail: Option<String>,
    pub(crate) logged: Logged,
}

impl FlowOutcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientGone => "client_gone",
            Self::UpstreamFailed => "upstream_failed",
            Self::DnsFailed => "dns_failed",
            Self::Forbidden => "forbidden",
            Self::Idle => "idle",
            Self::Drained => "drained",
        }
    }
}

impl Fault {
    /// The word in the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "host",
            Self::UpstreamProxy => "upstream proxy",
            Self::UnixSocket => "unix socket",
            Self::Proxy => "proxy",
        }
    }
}

impl Ending {
    /// An end without a cause.
    pub(crate) fn plain(outcome: FlowOutcome) -> Self {
        Self {
            outcome,
            fault: None,
            reason: None,
            cause: None,
            detail: None,
            logged: Logged::HereOnly,
        }
    }

    pub(crate) fn because(outcome: FlowOutcome, cause: impl Into<Cow<'static, str>>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::plain(outcome)
        }
    }

    /// A change of the settings forbids it (SPEC P11).
    pub(crate) fn forbidden(reason: Reason) -> Self {
        let cause = format!("the policy no longer permits it ({reason})");
        Self {
            reason: Some(reason),
            ..Self::because(FlowOutcome::Forbidden, cause)
        }
    }

    pub(crate) fn idle(limit: Duration) -> Self {
        Self::because(
            FlowOutcome::Idle,
            format!("nothing flowed for {}", duration_text(limit)),
        )
    }

    /// The connection makes room for another one.
    pub(crate) fn gives_way() -> Self {
        Self::because(
            FlowOutcome::Idle,
            "another client needed its connection slot",
        )
    }

    /// Whether it is logged at level `info` even if completed attempts are not. A client may go away
    /// at any time, so that is not a failure.
    pub(crate) fn is_failure(&self) -> bool {
        match self.outcome {
            FlowOutcome::UpstreamFailed | FlowOutcome::DnsFailed | FlowOutcome::Forbidden => {
                self.logged == Logged::HereOnly
            }
            FlowOutcome::Completed
            | FlowOutcome::ClientGone
            | FlowOutcome::Idle
            | FlowOutcome::Drained => false,
        }
    }
}
