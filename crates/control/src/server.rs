//! The daemon's side: serves one caller's connection from its first frame to its end.
//!
//! One task serves one caller: a caller that does anything wrong, or causes a panic, ends only its
//! own connection. `hello` must come first and in time (SPEC K4). Every call is checked against the
//! access that it needs (SPEC K3). A caller that sends calls faster than it reads answers is
//! disconnected.

mod calls;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tarpc::context::Context;
use tarpc::server::Serve;
use tarpc::{Request, Response, ServerError};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::calls::{CallerConnection, Event};
use crate::access::Access;
use crate::carrier::Carrier;
use crate::error::ControlError;
use crate::service::{Control, ControlRequest, ControlResponse, refusal, requirement};
use crate::transport;

/// How long a caller may take to send `hello`.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller may make no call after that.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long pending answers may take when the daemon stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// The most unanswered calls of one connection. A call counts until its answer has been written.
const MAX_CALLS: usize = 16;

/// How a connection ended. `Display` is for the log.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionEnd {
    /// The caller disconnected, as is normal.
    #[error("the caller disconnected")]
    Disconnected,
    /// The daemon is stopping.
    #[error("the proxy is stopping")]
    Stopped,
    /// The caller sent no `hello` in time.
    #[error("it sent no hello within {}s", HELLO_TIMEOUT.as_secs())]
    NoHello,
    /// The caller made no call for a long time.
    #[error("it made no call for {}s", IDLE_TIMEOUT.as_secs())]
    Idle,
    /// The caller has too many calls whose answers it has not read.
    #[error("it has more than {MAX_CALLS} unanswered calls")]
    TooManyCalls,
    /// A message was malformed, or writing failed.
    #[error("{0}")]
    Failed(io::Error),
}

impl ConnectionEnd {
    /// Whether the caller violated the protocol or a limit.
    pub fn is_callers_fault(&self) -> bool {
        match self {
            Self::Disconnected | Self::Stopped | Self::Idle => false,
            Self::NoHello | Self::TooManyCalls | Self::Failed(_) => true,
        }
    }

    fn of(error: io::Error) -> Self {
        if transport::is_disconnection(&error) {
            return Self::Disconnected;
        }
        Self::Failed(error)
    }
}

/// Serves one caller who has `access`, until it disconnects, violates the protocol or a limit, or
/// `stop` resolves. Then pending calls have half a second to finish.
///
/// Dropping the future ends the connection and its pending calls.
pub fn serve<S>(
    stream: impl Carrier,
    access: Access,
    service: S,
    stop: impl Future<Output = ()>,
) -> impl Future<Output = ConnectionEnd>
where
    S: Control + Clone,
{
    // All parts are made here, and the future only borrows them: an `async fn` would hold its arguments twice, for
    // the life of a session.
    let mut connection = CallerConnection::new(transport::daemon_side(stream));
    let guard = CallGuard {
        service,
        access,
        done: Arc::default(),
    };
    let mut stop = Box::pin(stop);
    let mut until = Instant::now() + HELLO_TIMEOUT;
    let mut stopping = false;
    async move {
        loop {
            let waiting = (connection.is_at_rest() && !guard.has_session()) || stopping;
            tokio::select! {
                () = &mut stop, if !stopping => {
                    if connection.unanswered() == 0 {
                        return ConnectionEnd::Stopped;
                    }
                    stopping = true;
                    until = Instant::now() + STOP_TIMEOUT;
                }
                event = poll_fn(|cx| connection.poll(cx)) => match event {
                    Err(error) => return ConnectionEnd::of(error),
                    Ok(Event::Answered) => {
                        if !stopping && guard.is_hello_done() {
                            until = Instant::now() + IDLE_TIMEOUT;
                        }
                    }
                    Ok(Event::Request(_)) if stopping => return ConnectionEnd::Stopped,
                    Ok(Event::Request(request)) => {
                        let id = request.id;
                        connection.begin(id, answer(guard.clone(), *request));
                        if connection.unanswered() > MAX_CALLS {
                            return ConnectionEnd::TooManyCalls;
                        }
                    }
                },
                () = rest(until), if waiting => {
                    return match (stopping, guard.is_hello_done()) {
                        (true, _) => ConnectionEnd::Stopped,
                        (false, true) => ConnectionEnd::Idle,
                        (false, false) => ConnectionEnd::NoHello,
                    };
                }
            }
        }
    }
}

/// Waits until then. Boxed: a connection with a session waits without a limit, and would keep the room for it.
async fn rest(until: Instant) {
    Box::pin(sleep_until(until)).await;
}

/// Answers a call. `None`: its deadline is over, so the caller no longer waits.
async fn answer<S: Control>(
    guard: CallGuard<S>,
    request: Request<ControlRequest>,
) -> Option<Response<ControlResponse>> {
    let Request {
        context,
        id: request_id,
        message,
    } = request;
    let until = Instant::from_std(context.deadline);
    let message = timeout_at(until, guard.serve(context, message))
        .await
        .ok()?;
    Some(Response {
        request_id,
        message,
    })
}

/// Checks the calls of one connection.
#[derive(Clone)]
struct CallGuard<S> {
    service: S,
    access: Access,
    done: Arc<Done>,
}

/// The calls of one connection that have succeeded.
#[derive(Default)]
struct Done {
    hello: AtomicBool,
    /// A connection with a session may make no call for as long as the session lives.
    open_session: AtomicBool,
}

impl<S> CallGuard<S> {
    fn is_hello_done(&self) -> bool {
        self.done.hello.load(Ordering::Acquire)
    }

    fn has_session(&self) -> bool {
        self.done.open_session.load(Ordering::Acquire)
    }

    /// Fails if the caller may not make this call now.
    fn check(&self, request: &ControlRequest) -> Result<(), ControlError> {
        if matches!(request, ControlRequest::Hello { .. }) {
            return Ok(());
        }
        if !self.is_hello_done() {
            return Err(ControlError::HelloFirst);
        }
        let (call, needed) = requirement(request);
        let Some(needed) = needed.filter(|needed| !self.access.covers(*needed)) else {
            return Ok(());
        };
        Err(ControlError::NotPermitted {
            call: call.to_owned(),
            needed,
            has: self.access,
        })
    }
}

impl<S: Control> Serve for CallGuard<S> {
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
            self.done.hello.store(true, Ordering::Release);
        }
        if let ControlResponse::OpenSession(Ok(_)) = &answer {
            self.done.open_session.store(true, Ordering::Release);
        }
        Ok(answer)
    }
}
