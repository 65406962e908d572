//! The caller's side: connects, sends `hello`, makes calls.

mod approvals;
mod decisions;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tarpc::client::{Config as ChannelConfig, NewClient, RpcError};
use tarpc::context::Context;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::carrier::ControlStream;
use crate::error::ControlError;
use crate::listener::{ListenerOwner, TrustedListeners};
use crate::message::{
    Blocked, BlockedQuery, Ca, CaQuery, Config, Credentials, CredentialsQuery, ExpectedChange,
    ExplainQuery, Explained, MAX_WAIT, ModeChange, ModeInForce, NoArguments, Patterns,
    ReloadRequest, Reloaded, SessionEnd, SessionEnded, SessionId, SessionOpened, SessionReport,
    SessionRequest, Sessions, Status, WantedCredentials,
};
use crate::service::ControlClient;
use crate::transport;
use crate::version::{self, Hello, Welcome};

/// How long connecting, `hello`, and calls that only read may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a reload may take. Lists may be long and disks slow.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(120);
/// The time limit of a call that looks names up. The settings may permit lookups as long as this.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection to a daemon that has answered `hello`. Use it inside a tokio runtime.
#[derive(Debug)]
pub struct Client {
    calls: ControlClient,
    welcome: Welcome,
    path: PathBuf,
    owner: ListenerOwner,
    trusted: TrustedListeners,
    /// Closes when the connection ends.
    ended: watch::Receiver<()>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No process answers at the path.
    #[error("{}: {}", path.display(), described(source))]
    Unreachable {
        /// The socket that was tried.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file's permissions do not let this user connect.
    #[error("{}: this user may not connect to it", path.display())]
    PermissionDenied {
        /// The socket that was tried.
        path: PathBuf,
    },
    /// The listener belongs to a user whom the caller does not trust. Nothing was sent.
    #[error("{}: its listener ({owner}) is not trusted", path.display())]
    Untrusted {
        /// The socket that was tried.
        path: PathBuf,
        /// The listener's owner.
        owner: ListenerOwner,
    },
    /// The daemon closed the connection before it answered. It does that to users without access.
    #[error("{}: the proxy closed the connection without an answer, as it does for users without access", path.display())]
    Disconnected {
        /// The socket that was tried.
        path: PathBuf,
    },
    /// The program that listens there uses another protocol.
    #[error("{}: another program than codex-network-proxy answers there ({why})", path.display())]
    NotAProxy {
        /// The socket that was tried.
        path: PathBuf,
        /// The unexpected answer.
        why: String,
    },
    /// The daemon refused `hello`.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The socket that was tried.
        path: PathBuf,
        /// The daemon's reason.
        reason: ControlError,
    },
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The daemon refused.
    #[error(transparent)]
    Refused(#[from] ControlError),
    /// The connection ended before the answer came.
    #[error("the proxy closed the connection before it answered; has it been stopped?")]
    Disconnected,
    /// The daemon did not answer in time.
    #[error("the proxy did not answer in time")]
    TimedOut,
    /// The answer is malformed.
    #[error("the answer is malformed: {0}")]
    Malformed(String),
    /// The daemon is older than the call.
    #[error(
        "the proxy is older (version {version}) and cannot do that; restart it on this version"
    )]
    TooOld {
        /// The version of the daemon's program.
        version: String,
    },
}

impl Client {
    /// Connects to a socket and sends `hello`. Before that it asks the kernel for the owner of the
    /// listener, and sends nothing unless `trusted` includes that user. `program` is the caller's
    /// name and version, for the daemon's log.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no connection, or no common version.
    #[expect(
        clippy::disallowed_methods,
        reason = "the caller's own connection to the daemon, not a client's through it"
    )]
    pub async fn connect(
        path: &Path,
        trusted: TrustedListeners,
        program: &str,
    ) -> Result<Self, ConnectError> {
        let path = path.to_path_buf();
        let stream = match tokio::time::timeout(CALL_TIMEOUT, UnixStream::connect(&path)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(ConnectError::PermissionDenied { path });
            }
            Ok(Err(source)) => return Err(ConnectError::Unreachable { path, source }),
            Err(_) => {
                let source = io::ErrorKind::TimedOut.into();
                return Err(ConnectError::Unreachable { path, source });
            }
        };
        let owner = match ListenerOwner::of(&stream) {
            Ok(owner) => owner,
            Err(source) => return Err(ConnectError::Unreachable { path, source }),
        };
        if !trusted.permit(&stream, owner) {
            return Err(ConnectError::Untrusted { path, owner });
        }
        let stream = transport::caller_side(ControlStream::from(stream));
        let NewClient {
            client: calls,
            dispatch,
        } = ControlClient::new(ChannelConfig::default(), stream);
        let (open, ended) = watch::channel(());
        tokio::spawn(async move {
            // The calls under way have the error.
            let _ = dispatch.await;
            drop(open);
        });
        let welcome = settle(calls.hello(within(CALL_TIMEOUT), Hello::of(program)).await);
        match welcome {
            Ok(welcome) => Ok(Self {
                calls,
                welcome,
                path,
                owner,
                trusted,
                ended,
            }),
            Err(CallError::Refused(reason)) => Err(ConnectError::Refused { path, reason }),
            Err(CallError::Disconnected) => Err(ConnectError::Disconnected { path }),
            Err(
                error @ (CallError::TimedOut | CallError::Malformed(_) | CallError::TooOld { .. }),
            ) => {
                let why = error.to_string();
                Err(ConnectError::NotAProxy { path, why })
            }
        }
    }

    /// Connects again to the same socket, under the same trust.
    ///
    /// # Errors
    ///
    /// The same as [`connect`](Self::connect).
    pub async fn reconnect(&self, program: &str) -> Result<Self, ConnectError> {
        Self::connect(&self.path, self.trusted, program).await
    }

    /// The daemon's answer to `hello`.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The owner of the socket's listener.
    pub fn listener_owner(&self) -> ListenerOwner {
        self.owner
    }

    /// The state of the proxy.
    ///
    /// # Errors
    ///
    /// Returns a [`CallError`], like every call.
    pub async fn status(&self) -> Result<Status, CallError> {
        settle(
            self.calls
                .status(within(CALL_TIMEOUT), NoArguments {})
                .await,
        )
    }

    /// The mode in force.
    ///
    /// # Errors
    ///
    /// Returns a [`CallError`], like every call.
    pub async fn mode(&self) -> Result<ModeInForce, CallError> {
        settle(self.calls.mode(within(CALL_TIMEOUT), NoArguments {}).await)
    }

    /// Changes the mode: full mode until the next reload, limited mode until it is changed again.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotPermitted`] for a caller that may only observe,
    /// [`ControlError::ConstraintViolation`] when the mode is managed; otherwise as every call.
    pub async fn set_mode(&self, change: ModeChange) -> Result<ModeInForce, CallError> {
        settle(self.calls.set_mode(within(CALL_TIMEOUT), change).await)
    }

    /// Reloads.
    ///
    /// # Errors
    ///
    /// [`ControlError::ReloadFailed`] with every problem when nothing was changed,
    /// [`ControlError::NotPermitted`] for a caller that may only observe; otherwise as every call.
    pub async fn reload(&self) -> Result<Reloaded, CallError> {
        settle(
            self.calls
                .reload(within(RELOAD_TIMEOUT), ReloadRequest::default())
                .await,
        )
    }

    /// Reloads, if the configuration has this change and no other that is not in force.
    ///
    /// # Errors
    ///
    /// [`ControlError::OtherChanges`] when there are others, [`CallError::TooOld`] when the daemon cannot tell; otherwise as
    /// [`reload`](Self::reload).
    pub async fn reload_only(&self, change: ExpectedChange) -> Result<Reloaded, CallError> {
        self.require_protocol(version::GUARDED_RELOADS)?;
        let request = ReloadRequest { only: Some(change) };
        settle(self.calls.reload(within(RELOAD_TIMEOUT), request).await)
    }

    /// The refused requests. Waits for one if the query says so.
    ///
    /// # Errors
    ///
    /// Returns a [`CallError`], like every call.
    pub async fn blocked(&self, query: BlockedQuery) -> Result<Blocked, CallError> {
        let deadline = CALL_TIMEOUT.saturating_add(Duration::from_secs(query.wait));
        settle(self.calls.blocked(within(deadline), query).await)
    }

    /// The patterns of the allow list and the deny list.
    ///
    /// # Errors
    ///
    /// Returns a [`CallError`], like every call.
    pub async fn patterns(&self) -> Result<Patterns, CallError> {
        settle(
            self.calls
                .patterns(within(CALL_TIMEOUT), NoArguments {})
                .await,
        )
    }

    /// The settings in force.
    ///
    /// # Errors
    ///
    /// Returns a [`CallError`], like every call.
    pub async fn config(&self) -> Result<Config, CallError> {
        settle(
            self.calls
                .config(within(CALL_TIMEOUT), NoArguments {})
                .await,
        )
    }

    /// The decision of the policy in force on a request.
    ///
    /// # Errors
    ///
    /// [`ControlError::Invalid`] for a text that is not a destination, or a request that the proxy
    /// would reject as malformed; [`CallError::TooOld`] when the daemon does not support header
    /// fields or lookups; otherwise as every call.
    pub async fn explain(&self, query: ExplainQuery) -> Result<Explained, CallError> {
        let timeout = if query.resolve {
            RESOLVE_TIMEOUT
        } else {
            CALL_TIMEOUT
        };
        if query.resolve || !query.headers.is_empty() {
            self.require_protocol(3)?;
        }
        if query.session.is_some() {
            self.require_protocol(version::SESSIONS)?;
        }
        settle(self.calls.explain(within(timeout), query).await)
    }

    /// The CA for interception, without its key.
    ///
    /// # Errors
    ///
    /// [`CallError::TooOld`] when the daemon has no such call; otherwise as every call.
    pub async fn ca(&self, query: CaQuery) -> Result<Ca, CallError> {
        self.require_protocol(2)?;
        settle(self.calls.ca(within(CALL_TIMEOUT), query).await)
    }

    /// The parts of a launcher's environment that a session would use.
    ///
    /// # Errors
    ///
    /// [`ControlError::Invalid`] for a profile that the caller may not use; [`CallError::TooOld`] when the
    /// daemon has no credentials; otherwise as every call.
    pub async fn wanted_credentials(
        &self,
        query: CredentialsQuery,
    ) -> Result<WantedCredentials, CallError> {
        self.require_protocol(version::CREDENTIALS)?;
        settle(
            self.calls
                .wanted_credentials(within(CALL_TIMEOUT), query)
                .await,
        )
    }

    /// Opens a session, which ends with this connection. The descriptors of the request go to the daemon,
    /// and are closed here.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotPermitted`] for a caller who may not use sessions, [`ControlError::Invalid`] for
    /// a request or descriptors that are not acceptable, [`ControlError::Failed`] at a limit;
    /// [`CallError::TooOld`] when the daemon has no sessions; otherwise as every call.
    pub async fn open_session(&self, request: SessionRequest) -> Result<SessionOpened, CallError> {
        // An older daemon would open one without what it does not know.
        self.require_protocol(if request.narrowing.report {
            version::LEARNING
        } else if request.credentials.is_empty() {
            version::SESSIONS
        } else {
            version::CREDENTIALS
        })?;
        settle(self.calls.open_session(within(CALL_TIMEOUT), request).await)
    }

    /// The results so far of the session that was opened over this connection.
    ///
    /// # Errors
    ///
    /// [`ControlError::Invalid`] without a session; otherwise as every call.
    pub async fn session_report(&self) -> Result<SessionReport, CallError> {
        self.require_protocol(version::SESSIONS)?;
        settle(
            self.calls
                .session_report(within(CALL_TIMEOUT), NoArguments {})
                .await,
        )
    }

    /// Waits until the session that was opened over this connection ends, and says why. `None`: it goes on.
    ///
    /// # Errors
    ///
    /// [`ControlError::Invalid`] without a session; otherwise as every call.
    pub async fn session_end(&self) -> Result<Option<String>, CallError> {
        self.require_protocol(version::SESSIONS)?;
        let deadline = CALL_TIMEOUT.saturating_add(MAX_WAIT);
        let end: SessionEnd = settle(
            self.calls
                .session_end(within(deadline), NoArguments {})
                .await,
        )?;
        Ok(end.why)
    }

    /// The sessions that the caller may see.
    ///
    /// # Errors
    ///
    /// [`CallError::TooOld`] when the daemon has no sessions; otherwise as every call.
    pub async fn sessions(&self) -> Result<Sessions, CallError> {
        self.require_protocol(version::SESSIONS)?;
        settle(
            self.calls
                .sessions(within(CALL_TIMEOUT), NoArguments {})
                .await,
        )
    }

    /// The credentials of the sessions that the caller may see.
    ///
    /// # Errors
    ///
    /// [`CallError::TooOld`] when the daemon has no credentials; otherwise as every call.
    pub async fn credentials(&self) -> Result<Credentials, CallError> {
        self.require_protocol(version::CREDENTIALS)?;
        settle(
            self.calls
                .credentials(within(CALL_TIMEOUT), NoArguments {})
                .await,
        )
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// [`ControlError::Invalid`] if the caller sees no session of this name; otherwise as every call.
    pub async fn end_session(&self, session: SessionId) -> Result<SessionEnded, CallError> {
        self.require_protocol(version::SESSIONS)?;
        settle(self.calls.end_session(within(CALL_TIMEOUT), session).await)
    }

    /// Resolves when the connection has ended, and with it the session that was opened over it.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // Nothing is ever sent: it resolves when the sender is dropped.
        while ended.changed().await.is_ok() {}
    }

    /// Fails if the daemon does not support a call. It would close the connection.
    fn require_protocol(&self, protocol: u32) -> Result<(), CallError> {
        if self.welcome.protocol >= protocol {
            return Ok(());
        }
        Err(CallError::TooOld {
            version: self.welcome.version.clone(),
        })
    }
}

/// A context whose deadline is this far from now.
fn within(timeout: Duration) -> Context {
    let mut context = tarpc::context::current();
    context.deadline = Instant::now() + timeout.min(transport::MAX_DEADLINE);
    context
}

/// The answer of a call, or why it failed.
fn settle<T>(answer: Result<Result<T, ControlError>, RpcError>) -> Result<T, CallError> {
    use tarpc::ChannelError::{Close, Flush, Read, Ready, Write};
    match answer {
        Ok(answer) => Ok(answer?),
        Err(RpcError::DeadlineExceeded) => Err(CallError::TimedOut),
        Err(RpcError::Shutdown) => Err(CallError::Disconnected),
        Err(RpcError::Server(error)) => Err(CallError::Malformed(error.detail)),
        Err(RpcError::Send(error)) => Err(transport_failure(&*error)),
        Err(RpcError::Channel(
            Read(error) | Ready(error) | Write(error) | Flush(error) | Close(error),
        )) => Err(transport_failure(&*error)),
    }
}

/// A failed call for a transport error.
fn transport_failure(error: &(dyn std::error::Error + Send + Sync + 'static)) -> CallError {
    match error.downcast_ref::<io::Error>() {
        Some(error) if transport::is_disconnection(error) => CallError::Disconnected,
        _ => CallError::Malformed(error.to_string()),
    }
}

/// An error in words. The usual ones are clearer than the text of the errno.
fn described(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "no process listens on it".to_owned(),
        io::ErrorKind::InvalidInput => {
            "the path is too long for a unix socket, or has a NUL in it".to_owned()
        }
        io::ErrorKind::TimedOut => "the connection was not accepted in time".to_owned(),
        _ => error.to_string(),
    }
}
