//! The running proxy, queried once for all checks.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use codex_network_control::Client;
use codex_network_control::client::{CallError, ConnectError};
use codex_network_control::message::{Ca, CaQuery, Config, Role, Status};
use nix::unistd::Uid;
use serde_json::Value;

use crate::failure::Failure;
use crate::find;
use crate::find::ProxyTrust;
use crate::listener::AnsweringProxy;

/// Time limit for all answers of the proxy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The listeners by name, each with the key of its address in the settings.
const LISTENERS: [(&str, &str); 3] = [
    ("http", "proxy_url"),
    ("socks5", "socks_url"),
    ("admin", "admin_url"),
];

/// The result of querying the proxy.
#[derive(Debug)]
pub(super) enum Proxy {
    /// No check needs it.
    NotAsked,
    Running(Box<RunningProxy>),
    /// It runs, and refuses this user.
    Refuses(String),
    /// A process answers, but not as a proxy does.
    Invalid(String),
    /// No trusted proxy answers. The sockets that were tried, and why each failed.
    NotFound(Vec<String>),
}

/// A proxy that answers, and what it reports.
#[derive(Debug)]
pub(super) struct RunningProxy {
    /// The control socket.
    pub(super) socket: PathBuf,
    /// Whether it is a proxy of root.
    pub(super) is_of_root: bool,
    pub(super) status: Status,
    /// The settings in force; `None` if the proxy did not return them.
    pub(super) config: Option<Config>,
    /// The CA, if there is one and the proxy returned it.
    pub(super) ca: Option<Ca>,
}

impl Proxy {
    pub(super) fn running(&self) -> Option<&RunningProxy> {
        match self {
            Self::Running(answers) => Some(answers),
            _ => None,
        }
    }
}

impl RunningProxy {
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

    /// The addresses of its TCP listeners, by name.
    pub(super) fn listener_addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        LISTENERS
            .iter()
            .filter_map(|(name, _)| {
                let mut listeners = self.status.listeners.iter();
                let listener = listeners.find(|listener| listener.name == *name)?;
                Some((*name, listener.address.parse().ok()?))
            })
            .collect()
    }

    /// The listeners that the settings ask for and that the proxy does not have: it runs without a
    /// listener whose address another program has.
    pub(super) fn missing_listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let open = self.listener_addresses();
        LISTENERS
            .iter()
            .filter(|_| self.status.enabled)
            .filter(|(name, _)| open.iter().all(|(open, _)| open != name))
            .filter_map(|(name, key)| {
                let url = self.setting(&[key])?.as_str()?;
                let (_, address) = url.split_once("://")?;
                Some((*name, address.parse().ok()?))
            })
            .collect()
    }

    /// Whether any connection is decrypted (SPEC M1).
    pub(super) fn intercepts(&self) -> bool {
        let is_set = |path: &[&str]| self.setting(path).and_then(Value::as_bool) == Some(true);
        let hooks = self.setting(&["mitm", "hooks"]).and_then(Value::as_object);
        let reason = self.status.mode == "limited"
            || hooks.is_some_and(|hooks| !hooks.is_empty())
            || is_set(&["credential_broker"]);
        is_set(&["mitm", "allowed"]) && reason
    }
}

/// Queries the proxy that the other commands would use.
pub(super) fn ask(socket: Option<PathBuf>) -> Result<Proxy, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    Ok(runtime.block_on(async {
        match tokio::time::timeout(ANSWER_TIMEOUT, find::first(socket, ProxyTrust::ByFlag)).await {
            Ok(Ok(client)) => query(&client).await,
            Ok(Err(tried)) => not_running(&tried),
            Err(_) => Proxy::Invalid("the proxy does not answer in time".to_owned()),
        }
    }))
}

async fn query(client: &Client) -> Proxy {
    let status = match in_time(client.status()).await {
        Ok(status) => status,
        Err(error) => return Proxy::Invalid(error.to_string()),
    };
    // An older proxy does not know every call.
    let config = in_time(client.config()).await.ok();
    let ca = in_time(client.ca(CaQuery::default())).await.ok();
    Proxy::Running(Box::new(RunningProxy {
        socket: client.path().to_owned(),
        is_of_root: AnsweringProxy::of(client).is_of_root(),
        status,
        config,
        ca: ca.filter(|ca| !ca.subject.is_empty()),
    }))
}

async fn in_time<T>(call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, call).await;
    answer.unwrap_or(Err(CallError::TimedOut))
}

fn not_running(tried: &[ConnectError]) -> Proxy {
    match tried.iter().find(|error| find::is_refusal(error)) {
        // Root is never refused, but systemd closes the connection when the service behind its
        // socket fails.
        Some(ConnectError::Disconnected { path }) if Uid::effective().is_root() => {
            Proxy::Invalid(format!(
                "{}: the proxy closed the connection before it answered",
                path.display()
            ))
        }
        Some(
            refusal @ (ConnectError::PermissionDenied { .. } | ConnectError::Disconnected { .. }),
        ) => Proxy::Refuses(refusal.to_string()),
        Some(other) => Proxy::Invalid(other.to_string()),
        None => Proxy::NotFound(tried.iter().map(find::described).collect()),
    }
}

#[cfg(test)]
mod tests {
    use codex_network_control::message::Listener;
    use serde_json::json;

    use super::*;

    #[test]
    fn l9_a_listener_that_is_on_and_not_open_is_missing() {
        let mut answers = RunningProxy {
            socket: PathBuf::new(),
            is_of_root: true,
            status: Status {
                enabled: true,
                listeners: vec![Listener {
                    name: "http".to_owned(),
                    address: "127.0.0.1:3128".to_owned(),
                    origin: "bound".to_owned(),
                }],
                ..Status::default()
            },
            config: Some(Config {
                settings: json!({
                    "proxy_url": "http://127.0.0.1:3128",
                    "socks_url": "socks5h://127.0.0.1:8081",
                    "admin_url": null,
                }),
                ..Config::default()
            }),
            ca: None,
        };
        let address = |text: &str| text.parse().expect("an address");
        assert_eq!(
            answers.listener_addresses(),
            [("http", address("127.0.0.1:3128"))]
        );
        assert_eq!(
            answers.missing_listeners(),
            [("socks5", address("127.0.0.1:8081"))]
        );
        answers.status.enabled = false;
        assert!(answers.missing_listeners().is_empty());
    }
}
