//! The calls, and a caller's connection from its first frame to its end.
//!
//! One task serves one caller: a caller that does anything wrong, or causes a panic, ends only its
//! own connection. `hello` must come first and in time (SPEC K4). Every call is checked against the
//! access that it needs (SPEC K3). A caller that sends calls faster than it reads answers is
//! disconnected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tarpc::ServerError;
use tarpc::context::Context;
use tarpc::server::{BaseChannel, Channel as _, Config as ChannelConfig, Serve};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use crate::access::{Access, needed};
use crate::error::ControlError;
use crate::message::{
    Blocked, BlockedQuery, Ca, CaQuery, Config, ExplainQuery, Explained, ModeChange, ModeInForce,
    Nothing, Patterns, Reloaded, Status,
};
use crate::transport;
use crate::version::{Hello, Welcome};

/// How long a caller may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller may be silent after that.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long pending answers may take when the daemon stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// Calls of one connection that are not answered yet, unread answers included.
const MAX_CALLS: usize = 16;

/// The daemon's calls. `hello` is frozen; calls are only ever added.
#[tarpc::service]
pub trait Control {
    /// Finds the version that both sides speak.
    async fn hello(request: Hello) -> Result<Welcome, ControlError>;
    /// The state of the proxy.
    async fn status(request: Nothing) -> Result<Status, ControlError>;
    /// The mode in force.
    async fn mode(request: Nothing) -> Result<ModeInForce, ControlError>;
    /// Changes the mode: full mode until the next reload, limited mode until it is changed again.
    async fn set_mode(request: ModeChange) -> Result<ModeInForce, ControlError>;
    /// Reads the configuration again and puts all of it in force, or nothing.
    async fn reload(request: Nothing) -> Result<Reloaded, ControlError>;
    /// The last refusals, or the next ones.
    async fn blocked(request: BlockedQuery) -> Result<Blocked, ControlError>;
    /// Both lists.
    async fn patterns(request: Nothing) -> Result<Patterns, ControlError>;
    /// The settings in force.
    async fn config(request: Nothing) -> Result<Config, ControlError>;
    /// The decision of the policy in force on a request.
    async fn explain(request: ExplainQuery) -> Result<Explained, ControlError>;
    /// The CA for interception, without its key.
    async fn ca(request: CaQuery) -> Result<Ca, ControlError>;
}

/// How a connection ended. `Display` is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The caller disconnected, as is normal.
    #[error("the caller hung up")]
    HungUp,
    /// The daemon stops.
    #[error("the proxy stops")]
    Stopped,
    /// No `hello` in time.
    #[error("it did not say hello within {}s", HELLO_TIMEOUT.as_secs())]
    NoHello,
    /// The caller was silent for a long time.
    #[error("it was silent for {}s", IDLE_TIMEOUT.as_secs())]
    Idle,
    /// The caller sent calls and did not read the answers.
    #[error("it has more than {MAX_CALLS} calls open at once")]
    TooManyCalls,
    /// The bytes are not valid messages, or writing failed.
    #[error("{0}")]
    Broken(std::io::Error),
}

impl Ended {
    /// Whether the caller broke a rule.
    pub fn is_the_callers_fault(&self) -> bool {
        match self {
            Self::HungUp | Self::Stopped | Self::Idle => false,
            Self::NoHello | Self::TooManyCalls | Self::Broken(_) => true,
        }
    }
}

/// Serves one caller who has `access`, until it hangs up, breaks a rule, or `stop` resolves.
///
/// Dropping the future ends the connection and its pending calls.
pub async fn serve<S>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    access: Access,
    service: S,
    stop: impl Future<Output = ()>,
) -> Ended
where
    S: Control + Clone,
{
    let config = ChannelConfig {
        pending_response_buffer: MAX_CALLS,
    };
    let transport = transport::of_daemon(stream);
    let requests = BaseChannel::new(config, transport).requests();
    let mut requests = std::pin::pin!(requests);
    let guard = Guard {
        service,
        access,
        greeted: Arc::default(),
    };
    let mut calls = FuturesUnordered::new();
    let mut stop = std::pin::pin!(stop);
    let mut stopping = false;
    let mut until = Instant::now() + HELLO_TIMEOUT;
    loop {
        let waiting = calls.is_empty() || stopping;
        tokio::select! {
            () = &mut stop, if !stopping => {
                if requests.channel().in_flight_requests() == 0 {
                    return Ended::Stopped;
                }
                stopping = true;
                until = Instant::now() + STOP_TIMEOUT;
            }
            Some(()) = calls.next(), if !calls.is_empty() => {
                if !stopping && guard.has_greeted() {
                    until = Instant::now() + IDLE_TIMEOUT;
                }
            }
            request = requests.next() => match request {
                None => return Ended::HungUp,
                Some(Err(error)) => return Ended::of(error),
                Some(Ok(_)) if stopping => return Ended::Stopped,
                Some(Ok(request)) => {
                    if requests.channel().in_flight_requests() > MAX_CALLS {
                        return Ended::TooManyCalls;
                    }
                    calls.push(request.execute(guard.clone()));
                }
            },
            () = sleep_until(until), if waiting => {
                return match (stopping, guard.has_greeted()) {
                    (true, _) => Ended::Stopped,
                    (false, true) => Ended::Idle,
                    (false, false) => Ended::NoHello,
                };
            }
        }
    }
}

impl Ended {
    fn of(error: tarpc::ChannelError<std::io::Error>) -> Self {
        use tarpc::ChannelError::{Close, Flush, Read, Ready, Write};
        let (Read(error) | Ready(error) | Write(error) | Flush(error) | Close(error)) = error;
        if transport::is_hang_up(&error) {
            return Self::HungUp;
        }
        Self::Broken(std::io::Error::new(error.kind(), error.to_string()))
    }
}

/// Checks the calls of one connection.
#[derive(Clone)]
struct Guard<S> {
    service: S,
    access: Access,
    greeted: Arc<AtomicBool>,
}

impl<S> Guard<S> {
    fn has_greeted(&self) -> bool {
        self.greeted.load(Ordering::Acquire)
    }

    /// Why the caller may not make this call now.
    fn check(&self, request: &ControlRequest) -> Result<(), ControlError> {
        if matches!(request, ControlRequest::Hello { .. }) {
            return Ok(());
        }
        if !self.has_greeted() {
            return Err(ControlError::HelloFirst);
        }
        let (call, needed) = needed(request);
        if self.access.covers(needed) {
            return Ok(());
        }
        Err(ControlError::NotPermitted {
            call: call.to_owned(),
            needed,
            has: self.access,
        })
    }
}

impl<S: Control> Serve for Guard<S> {
    type Req = ControlRequest;
    type Resp = ControlResponse;

    async fn serve(
        self,
        context: Context,
        request: ControlRequest,
    ) -> Result<ControlResponse, ServerError> {
        if let Err(error) = self.check(&request) {
            return Ok(refusal(&request, error));
        }
        let answer = self.service.serve().serve(context, request).await?;
        if let ControlResponse::Hello(Ok(_)) = &answer {
            self.greeted.store(true, Ordering::Release);
        }
        Ok(answer)
    }
}

/// An error as the answer that the caller waits for.
fn refusal(request: &ControlRequest, error: ControlError) -> ControlResponse {
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
    }
}
