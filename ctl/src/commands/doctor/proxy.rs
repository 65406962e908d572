//! The running proxy, asked once for all checks.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use codex_network_control::Client;
use codex_network_control::client::{CallError, ConnectError};
use codex_network_control::message::{Ca, CaQuery, Config, Role, Status};
use nix::unistd::Uid;
use serde_json::Value;

use crate::{Failure, find};

/// How long the proxy has for all of its answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of asking.
#[derive(Debug)]
pub(super) enum Proxy {
    /// No check needs it.
    NotAsked,
    Answers(Box<Answers>),
    /// It is there, and turns this user away.
    TurnsAway(String),
    /// Something is there that gives no proper answer.
    Strange(String),
    /// Nobody is there: what was tried.
    Silent(Vec<String>),
}

/// The proxy's word.
#[derive(Debug)]
pub(super) struct Answers {
    /// The control socket.
    pub(super) socket: PathBuf,
    pub(super) status: Status,
    /// The settings in force; nothing when they were not told.
    pub(super) config: Option<Config>,
    /// The CA, if there is one and it was told.
    pub(super) ca: Option<Ca>,
}

impl Proxy {
    pub(super) fn answers(&self) -> Option<&Answers> {
        match self {
            Self::Answers(answers) => Some(answers),
            _ => None,
        }
    }
}

impl Answers {
    /// The process that keeps the sockets.
    pub(super) fn monitor(&self) -> Option<&Role> {
        self.role("monitor")
    }

    pub(super) fn role(&self, name: &str) -> Option<&Role> {
        self.status.roles.iter().find(|role| role.name == name)
    }

    /// A setting in force, by its path.
    pub(super) fn setting(&self, path: &[&str]) -> Option<&Value> {
        let settings = &self.config.as_ref()?.settings;
        path.iter().try_fold(settings, |value, key| value.get(key))
    }

    /// Whether anything is decrypted (SPEC M1).
    pub(super) fn intercepts(&self) -> bool {
        let is_set = |path: &[&str]| self.setting(path).and_then(Value::as_bool) == Some(true);
        let hooks = self.setting(&["mitm", "hooks"]).and_then(Value::as_object);
        let reason = self.status.mode == "limited"
            || hooks.is_some_and(|hooks| !hooks.is_empty())
            || is_set(&["credential_broker"]);
        is_set(&["mitm", "allowed"]) && reason
    }
}

/// Asks the proxy that the other commands would ask.
pub(super) fn ask(socket: Option<PathBuf>) -> Result<Proxy, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    Ok(runtime.block_on(async {
        match tokio::time::timeout(PATIENCE, find::first(socket)).await {
            Ok(Ok(client)) => question(&client).await,
            Ok(Err(tried)) => nobody(&tried),
            Err(_) => Proxy::Strange("the proxy does not answer in time".to_owned()),
        }
    }))
}

async fn question(client: &Client) -> Proxy {
    let status = match in_time(client.status()).await {
        Ok(status) => status,
        Err(error) => return Proxy::Strange(error.to_string()),
    };
    // An older proxy does not know every call.
    let config = in_time(client.config()).await.ok();
    let ca = in_time(client.ca(CaQuery::default())).await.ok();
    Proxy::Answers(Box::new(Answers {
        socket: client.path().to_owned(),
        status,
        config,
        ca: ca.filter(|ca| !ca.subject.is_empty()),
    }))
}

async fn in_time<T>(call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    let answer = tokio::time::timeout(PATIENCE, call).await;
    answer.unwrap_or(Err(CallError::TimedOut))
}

fn nobody(tried: &[ConnectError]) -> Proxy {
    match tried.iter().find(|error| find::is_refusal(error)) {
        // Root is never turned away: systemd hangs up when the service behind its socket fails.
        Some(ConnectError::HungUp { path }) if Uid::effective().is_root() => Proxy::Strange(
            format!("{}: the proxy hung up before it answered", path.display()),
        ),
        Some(turned @ (ConnectError::Barred { .. } | ConnectError::HungUp { .. })) => {
            Proxy::TurnsAway(turned.to_string())
        }
        Some(strange) => Proxy::Strange(strange.to_string()),
        None => Proxy::Silent(tried.iter().map(ToString::to_string).collect()),
    }
}
