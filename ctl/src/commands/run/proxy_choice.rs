//! The proxy of a session: the service if one answers, else a private one (SPEC J3).

use std::path::PathBuf;

use codex_network_control::Client;
use codex_network_control::client::ConnectError;
use codex_network_control::message::{ApprovalsQuery, ModeChange};
use codex_network_policy::Mode;
use nix::unistd::Uid;
use tokio::runtime::Runtime;

use crate::args::run::{IsolationLevel, RunArgs, SessionMode};
use crate::failure::Failure;
use crate::find::{self, ProxyTrust};
use crate::listener::{AnsweringProxy, user_or_uid};
use crate::private_proxy::{PrivateOptions, PrivateProxy};

/// The chosen proxy.
#[derive(Debug)]
pub(super) enum ChosenProxy {
    /// It answered; the client is taken by [`ChosenProxy::connected`].
    Service(Option<Box<Client>>),
    /// It was started.
    Private(PrivateProxy),
}

/// Whose proxy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyKind {
    Service,
    Private,
}

/// Finds the service, or starts a private proxy. Does not wait for the latter.
pub(super) fn choose(
    runtime: &Runtime,
    socket: Option<PathBuf>,
    args: &RunArgs,
) -> Result<ChosenProxy, Failure> {
    let wants_private = args.private || args.config.is_some() || !args.overrides.is_empty();
    if !wants_private {
        let insists = args.service || socket.is_some();
        match runtime.block_on(find::first(socket, ProxyTrust::ByFlag)) {
            Ok(client) => return Ok(ChosenProxy::Service(Some(Box::new(client)))),
            Err(tried) if insists || tried.iter().any(find::is_refusal) => {
                return Err(refused(&tried));
            }
            Err(_) => {}
        }
    }
    let options = PrivateOptions {
        config: args.config.clone(),
        overrides: args.overrides.clone(),
        asks: args.ask,
    };
    let proxy = PrivateProxy::start(&options).map_err(Failure::NoSession)?;
    Ok(ChosenProxy::Private(proxy))
}

/// Whether the program cannot connect to the control socket of a private proxy. Otherwise it would be an administrator
/// of its own proxy, and answer its own questions.
fn is_out_of_reach(args: &RunArgs) -> bool {
    args.isolation == IsolationLevel::Jail && !args.allow_unix_sockets
}

/// Why the service cannot be used. A proxy that refuses is not replaced by a private one silently.
fn refused(tried: &[ConnectError]) -> Failure {
    let message = match find::failure(tried, ProxyTrust::ByFlag) {
        Failure::NotPermitted(message) => {
            match tried.iter().find(|error| find::is_refusal(error)) {
                Some(
                    closed @ (ConnectError::PermissionDenied { .. }
                    | ConnectError::Disconnected { .. }),
                ) => {
                    let name = user_or_uid(Uid::effective().as_raw());
                    format!(
                        "{closed}\n[daemon.control] users names the users who may open sessions: add {name:?} and reload \
                     the proxy. --private runs a private proxy instead."
                    )
                }
                Some(_) => format!("{message}\n--private runs a private proxy instead."),
                None => message,
            }
        }
        Failure::Unreachable(message) | Failure::Failed(message) => message,
        other => return other,
    };
    Failure::NoSession(message)
}

impl ChosenProxy {
    pub(super) fn kind(&self) -> ProxyKind {
        match self {
            Self::Service(_) => ProxyKind::Service,
            Self::Private(_) => ProxyKind::Private,
        }
    }

    /// The connection that the session lives on. Waits until a private proxy is ready.
    pub(super) fn connected(
        &mut self,
        runtime: &Runtime,
        args: &RunArgs,
    ) -> Result<Client, Failure> {
        match self {
            Self::Service(client) => client.take().map(|client| *client).ok_or_else(|| {
                Failure::NoSession("the connection to the service is in use".to_owned())
            }),
            Self::Private(proxy) => {
                proxy.follow();
                let socket = proxy.socket();
                let connected = runtime.block_on(find::started(&socket, proxy.pid()));
                let client = connected.map_err(|error| {
                    let words = proxy.last_words();
                    let why = if words.is_empty() {
                        find::described(&error)
                    } else {
                        words
                    };
                    Failure::NoSession(format!("the private proxy did not start:\n{why}"))
                })?;
                if !is_out_of_reach(args) {
                    proxy.close_socket().map_err(Failure::NoSession)?;
                }
                Ok(client)
            }
        }
    }

    /// Puts a private proxy into limited mode, if its session shall be limited: then it writes the files that make
    /// programs trust its CA (SPEC M5). A service has other clients, whose mode stays.
    pub(super) fn limit(
        &self,
        runtime: &Runtime,
        client: &Client,
        args: &RunArgs,
    ) -> Result<(), Failure> {
        if let (Self::Private(_), Some(SessionMode::Limited)) = (self, args.mode) {
            let limited = client.set_mode(ModeChange::to(Mode::Limited));
            runtime.block_on(limited).map_err(|error| {
                Failure::NoSession(format!("the private proxy stays in full mode: {error}"))
            })?;
        }
        Ok(())
    }

    /// How questions of a private proxy are answered, if it asks any. A service has people who listen.
    pub(super) fn how_to_answer(
        &self,
        runtime: &Runtime,
        client: &Client,
        args: &RunArgs,
    ) -> Option<String> {
        let Self::Private(proxy) = self else {
            return None;
        };
        let asked = runtime.block_on(client.approvals(ApprovalsQuery::default()));
        if !asked.is_ok_and(|asked| asked.enabled) {
            return None;
        }
        Some(if is_out_of_reach(args) {
            format!(
                "a host that is on no list is a question, which another terminal answers: {}",
                find::command_at(&proxy.socket(), "approvals --follow")
            )
        } else {
            "no other terminal can answer questions: the program can use unix sockets, so the control socket is closed"
                .to_owned()
        })
    }

    /// Which proxy it is, in one line.
    pub(super) fn introduction(&self, client: &Client) -> String {
        match self {
            Self::Service(_) => format!("uses the service of {}", AnsweringProxy::of(client)),
            Self::Private(proxy) => {
                format!("uses a private proxy (process {})", proxy.pid())
            }
        }
    }
}
