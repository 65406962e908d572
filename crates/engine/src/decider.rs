//! The embedder's decider, which decides about hosts that are on neither list (SPEC P8).
//!
//! It is the embedder's code, and a request waits for it, so it is not trusted to return. It runs in a
//! task of its own, for a bounded time. If it hangs or panics, the request is refused. `enforce.rs` decides what
//! its answer may change.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use codex_network_config::duration_text;
use codex_network_policy::Protocol;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How long a decider may take by default.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest reason that goes into records and answers, in bytes before escaping.
const MAX_REASON: usize = 128;

/// A request to a host that is on neither list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkPolicyRequest {
    /// The protocol of the request. Inside intercepted TLS it is [`Protocol::Https`], and the decider
    /// decides about every request.
    pub protocol: Protocol,
    /// The host in canonical form: a name in lower case and A-labels, or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The client's end of its connection.
    pub client_addr: Option<SocketAddr>,
    /// The HTTP method, `CONNECT` included, if it is known.
    pub method: Option<String>,
    /// The attempt that the client belongs to (SPEC H11).
    pub attempt_id: Option<String>,
    /// The command that started the client: the program of its session, else that of the [`ExecutionContext`].
    pub command: Option<String>,
    /// The execution policy's hint about that command, from the [`ExecutionContext`].
    pub exec_policy_hint: Option<String>,
    /// The execution that the client belongs to, from the [`ExecutionContext`].
    pub execution_id: Option<String>,
    /// The environment in which it takes place, from the [`ExecutionContext`].
    pub environment_id: Option<String>,
    /// Tells when the request no longer waits for the decider.
    pub disconnect: Disconnect,
}

/// Facts about the programs that use an embedder's proxy. Its decider gets them with every request; nothing else
/// depends on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutionContext {
    /// The command that was executed.
    pub command: Option<String>,
    /// The execution policy's hint about the command.
    pub exec_policy_hint: Option<String>,
    /// The embedder's id of the execution.
    pub execution_id: Option<String>,
    /// The embedder's id of the environment.
    pub environment_id: Option<String>,
}

/// Tells when a request no longer waits for the decider: its client has gone, the time limit is over, or the decider
/// has answered. The decider's own future is dropped then; this is for what it started beside, such as a dialog.
///
/// Requests are compared without it.
#[derive(Clone, Debug, Default)]
pub struct Disconnect(CancellationToken);

/// The answer of a decider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkDecision {
    /// The host may be reached, as if it were on the allow list. Addresses that are not public are
    /// still refused, and limited mode and hooks still apply.
    Allow,
    /// The host may not be reached.
    Deny {
        /// The reason for records and answers. An empty reason becomes `policy_denied`.
        reason: String,
    },
    /// The user must decide first. Until then the request is refused, and its record has `ask`.
    Ask,
}

/// Decides about hosts that are on neither list. Every async closure from a request to a decision
/// is a decider.
///
/// Hosts on the deny list, and local and private addresses, stay refused without it.
pub trait NetworkPolicyDecider: Send + Sync + 'static {
    /// Decides. A timeout or a panic refuses.
    fn decide(&self, request: NetworkPolicyRequest) -> BoxFuture<'_, NetworkDecision>;
}

impl<F, D> NetworkPolicyDecider for F
where
    F: Fn(NetworkPolicyRequest) -> D + Send + Sync + 'static,
    D: Future<Output = NetworkDecision> + Send + 'static,
{
    fn decide(&self, request: NetworkPolicyRequest) -> BoxFuture<'_, NetworkDecision> {
        Box::pin(self(request))
    }
}

impl Disconnect {
    /// Resolves when the request no longer waits.
    pub async fn happened(&self) {
        self.0.cancelled().await;
    }
}

impl PartialEq for Disconnect {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Disconnect {}

impl NetworkDecision {
    /// Refuses for a reason.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::Deny {
            reason: reason.into(),
        }
    }
}

/// A decider and how long it may take.
#[derive(Clone)]
pub(crate) struct Decider {
    own: Arc<dyn NetworkPolicyDecider>,
    timeout: Duration,
    context: Arc<ExecutionContext>,
}

impl Decider {
    pub(crate) fn new(
        own: Arc<dyn NetworkPolicyDecider>,
        timeout: Duration,
        context: ExecutionContext,
    ) -> Self {
        Self {
            own,
            timeout,
            context: Arc::new(context),
        }
    }

    /// Runs the decider. Dropping the future ends its task.
    pub(crate) async fn decide(&self, mut request: NetworkPolicyRequest) -> NetworkDecision {
        let context = (*self.context).clone();
        request.command = request.command.or(context.command);
        request.exec_policy_hint = context.exec_policy_hint;
        request.execution_id = context.execution_id;
        request.environment_id = context.environment_id;
        let decider = Arc::clone(&self.own);
        // However this ends: it is dropped when the client has gone.
        let _disconnects = request.disconnect.0.clone().drop_guard();
        let (host, port) = (request.host.clone(), request.port);
        let task = tokio::spawn(async move { decider.decide(request).await });
        let task = AbortOnDropHandle::new(task);
        match tokio::time::timeout(self.timeout, task).await {
            Ok(Ok(decision)) => decision,
            Ok(Err(_)) => {
                tracing::error!(%host, port, "the policy decider panicked, which refuses the request");
                NetworkDecision::deny("")
            }
            Err(_) => {
                let limit = duration_text(self.timeout);
                tracing::error!(%host, port, limit, "the policy decider did not answer in time, which refuses the request");
                NetworkDecision::deny("")
            }
        }
    }
}

impl fmt::Debug for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decider")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A decider's reason as it may stand in a header and in a log line: printable ASCII of bounded
/// length; `None` for an empty one.
pub(crate) fn printable_reason(reason: &str) -> Option<Arc<str>> {
    let reason = reason.trim();
    let end = (0..=reason.len().min(MAX_REASON))
        .rev()
        .find(|end| reason.is_char_boundary(*end))
        .unwrap_or(0);
    let shown = reason.as_bytes()[..end].escape_ascii().to_string();
    (!shown.is_empty()).then(|| Arc::from(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> NetworkPolicyRequest {
        NetworkPolicyRequest {
            protocol: Protocol::Http,
            host: "unlisted.test".to_owned(),
            port: 80,
            client_addr: None,
            method: None,
            attempt_id: None,
            command: None,
            exec_policy_hint: None,
            execution_id: None,
            environment_id: None,
            disconnect: Disconnect::default(),
        }
    }

    fn decider(decider: impl NetworkPolicyDecider) -> Decider {
        Decider::new(
            Arc::new(decider),
            DEFAULT_TIMEOUT,
            ExecutionContext::default(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn p8_a_decider_that_hangs_or_panics_has_refused_without_a_reason() {
        let hangs = decider(|_| std::future::pending());
        assert_eq!(hangs.decide(request()).await, NetworkDecision::deny(""));
        let panics = decider(|request: NetworkPolicyRequest| async move {
            assert_eq!(request.port, 0, "on purpose");
            NetworkDecision::Allow
        });
        assert_eq!(panics.decide(request()).await, NetworkDecision::deny(""));
        let panics_at_once = decider(|request: NetworkPolicyRequest| {
            assert_eq!(request.port, 0, "on purpose");
            std::future::ready(NetworkDecision::Allow)
        });
        assert_eq!(
            panics_at_once.decide(request()).await,
            NetworkDecision::deny("")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn q8_a_task_of_a_decider_learns_that_the_request_no_longer_waits() {
        let (sender, mut gone) = tokio::sync::mpsc::channel(1);
        let asks = decider(move |request: NetworkPolicyRequest| {
            let sender = sender.clone();
            tokio::spawn(async move {
                request.disconnect.happened().await;
                sender.send(()).await
            });
            std::future::pending()
        });
        tokio::select! {
            biased;
            decision = asks.decide(request()) => panic!("{decision:?}"),
            _ = gone.recv() => panic!("the request waits"),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        // The client has gone: the decision is dropped.
        let told = tokio::time::timeout(Duration::from_secs(1), gone.recv()).await;
        assert_eq!(told, Ok(Some(())));
    }

    #[tokio::test]
    async fn q8_a_decider_gets_the_context_of_the_execution_and_a_session_has_its_own_command() {
        let text = |text: &str| Some(text.to_owned());
        let context = ExecutionContext {
            command: text("make"),
            exec_policy_hint: text("prompt"),
            execution_id: text("execution"),
            environment_id: text("environment"),
        };
        let says = |request: NetworkPolicyRequest| {
            let facts = [
                request.command,
                request.exec_policy_hint,
                request.execution_id,
                request.environment_id,
            ];
            std::future::ready(NetworkDecision::deny(
                facts.map(Option::unwrap_or_default).join(" "),
            ))
        };
        let decider = Decider::new(Arc::new(says), DEFAULT_TIMEOUT, context);
        let decision = decider.decide(request()).await;
        assert_eq!(
            decision,
            NetworkDecision::deny("make prompt execution environment")
        );
        let of_session = NetworkPolicyRequest {
            command: text("curl"),
            ..request()
        };
        let decision = decider.decide(of_session).await;
        assert_eq!(
            decision,
            NetworkDecision::deny("curl prompt execution environment")
        );
    }

    #[test]
    fn p8_any_reason_of_a_decider_fits_into_a_header() {
        assert_eq!(printable_reason(""), None);
        assert_eq!(printable_reason(" \n"), None);
        assert_eq!(printable_reason("no_budget").as_deref(), Some("no_budget"));
        assert_eq!(printable_reason("a\r\nb").as_deref(), Some("a\\r\\nb"));
        let long = printable_reason(&"\u{e9}".repeat(500)).expect("a reason");
        assert!(long.is_ascii() && long.len() <= 4 * MAX_REASON, "{long}");
    }
}
